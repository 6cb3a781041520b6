//! A request, handed to the client.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use zookeeper_client as zk;

use super::translate;
use crate::ports::coordination::{Change, CoordinationError, Reply, Request};

/// What comes of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An answer.
    Reply(Result<Reply, CoordinationError>),
    /// A watch stands.
    Watching {
        /// Of what.
        path: String,
        /// Where its news come.
        watcher: zk::PersistentWatcher,
    },
}

/// The request as a future. The client sends when the future is first polled.
pub(super) fn call(
    client: &zk::Client,
    acls: zk::Acls<'static>,
    request: Request,
) -> BoxFuture<'static, Outcome> {
    let size = translate::size(&request);
    if size > REQUEST_BYTES_MAX {
        let text = format!("{size} bytes are more than the ensemble takes in one request");
        return Box::pin(async { Outcome::Reply(Err(CoordinationError::Other(text))) });
    }
    let client = client.clone();
    Box::pin(async move {
        match request {
            Request::Change(made) => Outcome::Reply(
                change(&client, acls, &made)
                    .await
                    .map_err(|error| translate::error_of_change(&error, &made)),
            ),
            Request::All(changes) => Outcome::Reply(all(&client, acls, &changes).await),
            Request::Get(path) => Outcome::Reply(get(&client, &path).await),
            Request::List(path) => Outcome::Reply(list(&client, &path).await),
            Request::Watch(path) => watch(&client, path).await,
        }
    })
}

async fn change(
    client: &zk::Client,
    acls: zk::Acls<'static>,
    change: &Change,
) -> Result<Reply, zk::Error> {
    match change {
        Change::Check { path, version } => {
            // The protocol has no check by itself.
            let mut alone = client.new_multi_writer();
            alone.add_check_version(path, *version)?;
            alone.commit().await?;
            Ok(Reply::Done)
        }
        Change::Create { path, data, mode } => {
            let options = translate::create_options(*mode, acls);
            let (stat, sequence) = client.create(path, data, &options).await?;
            let is_numbered = sequence.into_i64() >= 0;
            let path = if is_numbered { format!("{path}{sequence}") } else { path.clone() };
            Ok(Reply::Created { path, stat: translate::stat(&stat) })
        }
        Change::Set { path, data, version } => {
            let stat = client.set_data(path, data, *version).await?;
            Ok(Reply::Changed(translate::stat(&stat)))
        }
        Change::Delete { path, version } => {
            client.delete(path, *version).await?;
            Ok(Reply::Done)
        }
    }
}

async fn all(
    client: &zk::Client,
    acls: zk::Acls<'static>,
    changes: &[Change],
) -> Result<Reply, CoordinationError> {
    let mut writer = client.new_multi_writer();
    for (part, change) in changes.iter().enumerate() {
        add(&mut writer, acls, change).map_err(|error| in_part(part, change, &error))?;
    }
    match writer.commit().await {
        Ok(_stats_are_not_to_be_trusted) => Ok(Reply::Done),
        Err(zk::MultiWriteError::RequestFailed { source }) => Err(translate::error(&source)),
        Err(zk::MultiWriteError::OperationFailed { index, source }) => match changes.get(index) {
            Some(change) => Err(in_part(index, change, &source)),
            None => Err(CoordinationError::Other(source.to_string())),
        },
    }
}

fn add(
    writer: &mut zk::MultiWriter<'_>,
    acls: zk::Acls<'static>,
    change: &Change,
) -> Result<(), zk::Error> {
    match change {
        Change::Check { path, version } => writer.add_check_version(path, *version),
        Change::Create { path, data, mode } => {
            writer.add_create(path, data, &translate::create_options(*mode, acls))
        }
        Change::Set { path, data, version } => writer.add_set_data(path, data, *version),
        Change::Delete { path, version } => writer.add_delete(path, *version),
    }
}

fn in_part(part: usize, change: &Change, error: &zk::Error) -> CoordinationError {
    let error = Box::new(translate::error_of_change(error, change));
    CoordinationError::Part { part, error }
}

async fn get(client: &zk::Client, path: &str) -> Result<Reply, CoordinationError> {
    let (data, stat) = client.get_data(path).await.map_err(|error| translate::error(&error))?;
    Ok(Reply::Data { data: Bytes::from(data), stat: translate::stat(&stat) })
}

async fn list(client: &zk::Client, path: &str) -> Result<Reply, CoordinationError> {
    let children = client.list_children(path).await;
    children.map(Reply::Children).map_err(|error| translate::error(&error))
}

async fn watch(client: &zk::Client, path: String) -> Outcome {
    match client.watch(&path, zk::AddWatchMode::PersistentRecursive).await {
        Ok(watcher) => Outcome::Watching { path, watcher },
        Err(error) => Outcome::Reply(Err(translate::error(&error))),
    }
}

/// A server takes 1,048,575 bytes and closes the connection on more, every time it is tried.
const REQUEST_BYTES_MAX: usize = 1_000_000;
