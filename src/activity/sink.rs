//! Where rows go: a server, or a file.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio_postgres::Client;

use super::file::File;
use super::portion::{Portion, Start};
use super::server::Link;

/// Makes a connection to the database; the error says why there is none.
pub type Connect = Box<dyn Fn() -> BoxFuture<'static, Result<Client, String>> + Send + Sync>;

/// Where the log is kept.
pub enum Place {
    /// In PostgreSQL.
    Server(Connect),
    /// In this file.
    File(PathBuf),
}

/// Why something is not written.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The place is not to be had, or takes nothing for now.
    Absent(String),
    /// It is there and will not have it.
    Refused(String),
}

/// The place, with what is open of it.
pub(super) struct Sink {
    start: Arc<Start>,
    opened: Opened,
}

enum Opened {
    Server { connect: Connect, link: Option<Link> },
    File(File),
}

impl Sink {
    pub(super) fn new(place: Place, start: Arc<Start>) -> Self {
        let opened = match place {
            Place::Server(connect) => Opened::Server { connect, link: None },
            Place::File(path) => Opened::File(File::new(path)),
        };
        Self { start, opened }
    }

    /// Whatever it has begun ends with it; the next write opens it anew.
    pub(super) fn close(&mut self) {
        match &mut self.opened {
            Opened::Server { link, .. } => *link = None,
            Opened::File(file) => file.close(),
        }
    }

    /// Writes rows, all or none.
    pub(super) async fn write(&mut self, portion: &Portion) -> Result<(), Trouble> {
        let Self { start, opened } = self;
        match opened {
            Opened::Server { connect, link } => {
                if link.is_none() {
                    let client = connect().await.map_err(Trouble::Absent)?;
                    *link = Some(Link::open(client, start).await?);
                }
                let link = link.as_mut().expect("it was opened");
                link.write(portion).await
            }
            // The runtime beside the shards may wait for a disk.
            Opened::File(file) => tokio::task::block_in_place(|| file.write(portion)),
        }
    }

    /// Nothing is to come of earlier starts: what they have not said is missing.
    pub(super) async fn settle(&mut self) -> Result<(), Trouble> {
        match &mut self.opened {
            Opened::Server { link: Some(link), .. } => link.settle(&self.start).await,
            Opened::Server { link: None, .. } | Opened::File(_) => Ok(()),
        }
    }

    /// Removes what is older; `true` when there may be more of it.
    pub(super) async fn forget_before(&mut self, oldest_day: u64) -> Result<bool, Trouble> {
        match &mut self.opened {
            Opened::Server { link: Some(link), .. } => {
                link.forget_before(oldest_day).await.map(|()| false)
            }
            Opened::Server { link: None, .. } => Ok(false),
            Opened::File(file) => tokio::task::block_in_place(|| file.forget_before(oldest_day)),
        }
    }
}
