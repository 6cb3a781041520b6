//! Sends what was collected, without waiting between the statements.

use std::future::Future;
use std::pin::Pin;

use futures_util::future::join_all;

use super::group::Group;
use crate::store::retry::Failure;

/// What follows the statements.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Then {
    /// More of the same transaction.
    GoOn,
    /// Its end.
    Commit,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send + 'a>>;

impl Group<'_> {
    /// Sends everything that is pending. The server answers in order, so the first error is the one
    /// that counts; a commit behind it rolls back.
    pub(super) async fn flush(&mut self, then: Then) -> Result<(), Failure> {
        let client = &self.link().client;
        let mut statements = Vec::new();
        for (sql, params) in self.pending.take() {
            statements.push((self.link().statement(sql).await?, params));
        }
        let mut running: Vec<Running<'_>> = Vec::with_capacity(statements.len() + 1);
        for (statement, params) in statements {
            running.push(Box::pin(async move {
                client.execute_raw(&statement, params).await.map(drop)
            }));
        }
        if then == Then::Commit {
            running.push(Box::pin(client.batch_execute("COMMIT")));
        }
        debug_assert!(running.len() <= IN_ORDER_MAX, "more are polled in no particular order");
        join_all(running).await.into_iter().collect::<Result<(), _>>()?;
        Ok(())
    }
}

/// As many futures are polled one behind the other.
const IN_ORDER_MAX: usize = 30;
