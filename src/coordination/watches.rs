//! The watches of a session.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use zookeeper_client as zk;

use super::translate;
use crate::ports::coordination::ChangeKind;

/// Recursive watches, each of another path.
#[derive(Debug, Default)]
pub(super) struct Watches {
    watches: Vec<Watch>,
    /// The client panics when a watch is read after the end of its session was.
    is_over: bool,
}

#[derive(Debug)]
struct Watch {
    path: String,
    watcher: zk::PersistentWatcher,
}

impl Watches {
    /// Adds a watch; a second one of the same path is dropped, for the first one stands.
    pub(super) fn insert(&mut self, path: String, watcher: zk::PersistentWatcher) {
        if !self.paths().any(|watched| watched == path) {
            self.watches.push(Watch { path, watcher });
        }
    }

    /// What is watched.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.watches.iter().map(|watch| watch.path.as_str())
    }

    /// The next change; none when nothing is watched.
    pub(super) async fn next(&mut self) -> (String, ChangeKind) {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(String, ChangeKind)> {
        for watch in &mut self.watches {
            while !self.is_over {
                let Poll::Ready(event) = pin!(watch.watcher.changed()).poll(context) else { break };
                if let Some(kind) = translate::change_kind(event.event_type) {
                    return Poll::Ready((event.path, kind));
                }
                self.is_over = event.session_state.is_terminated();
            }
        }
        Poll::Pending
    }
}
