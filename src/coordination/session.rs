//! A session with the ensemble, from its first connection to its end.

use std::time::Duration;

use futures_util::future::BoxFuture;
use zookeeper_client as zk;

use super::call::{Outcome, call};
use super::pending::{Asked, Pending};
use super::watches::Watches;
use crate::ports::coordination::{ChangeKind, CoordinationError, Request};

/// A session, and what hangs on it.
pub(super) struct Session {
    client: zk::Client,
    acls: zk::Acls<'static>,
    states: zk::StateWatcher,
    is_connected: bool,
    pub pending: Pending,
    pub watches: Watches,
}

/// What a session has to tell.
#[derive(Debug)]
pub(super) enum News {
    /// Of its connection.
    Turn(Turn),
    /// Of a watched znode.
    Change(String, ChangeKind),
    /// An answer.
    Answer(Asked, Outcome),
}

/// What became of the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// It is gone.
    Disconnected,
    /// There is another one.
    Reconnected,
    /// It was gone, and before we knew there was another one.
    Blinked,
    /// The session is over.
    Over,
}

impl Session {
    /// The session of `client`, which is connected.
    pub(super) fn new(client: zk::Client, acls: zk::Acls<'static>) -> Self {
        let states = client.state_watcher();
        Self {
            client,
            acls,
            states,
            // A loss that came sooner than this was seen by nobody, or will be told again.
            is_connected: true,
            pending: Pending::default(),
            watches: Watches::default(),
        }
    }

    /// Its number.
    pub(super) fn id(&self) -> i64 {
        self.client.session_id().0
    }

    /// How long the ensemble lets it live without a word from us.
    pub(super) fn timeout(&self) -> Duration {
        self.client.session_timeout()
    }

    /// Whether there is a connection, as far as we know.
    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// What comes next. A change is told before an answer that came behind it.
    pub(super) async fn next(&mut self) -> News {
        tokio::select! {
            biased;
            state = self.states.changed() => News::Turn(self.turned(state)),
            (path, kind) = self.watches.next() => News::Change(path, kind),
            (asked, outcome) = self.pending.next() => News::Answer(asked, outcome),
        }
    }

    fn turned(&mut self, state: zk::SessionState) -> Turn {
        let was_connected = self.is_connected;
        self.is_connected = match state {
            zk::SessionState::SyncConnected | zk::SessionState::ConnectedReadOnly => true,
            zk::SessionState::Disconnected => false,
            zk::SessionState::AuthFailed | zk::SessionState::Expired | zk::SessionState::Closed => {
                return Turn::Over;
            }
        };
        match (was_connected, self.is_connected) {
            (_, false) => Turn::Disconnected,
            (false, true) => Turn::Reconnected,
            (true, true) => Turn::Blinked,
        }
    }

    /// Sends a request.
    pub(super) fn send(&mut self, asked: Asked, request: Request) {
        let answer: BoxFuture<'static, Outcome> = if self.has_room_for(&request) {
            call(&self.client, self.acls, request)
        } else {
            let text = format!("more than {WATCHES_MAX} watches");
            Box::pin(async { Outcome::Reply(Err(CoordinationError::Other(text))) })
        };
        self.pending.send(asked, answer);
    }

    /// Asks the new server to watch what the last one did.
    ///
    /// The client means to do that itself, and sends a list that lacks the persistent watches
    /// (0.11.2, `WatchManager::resend_watches`). It still knows them, so that a second one makes
    /// the first one whole and can be dropped.
    pub(super) fn watch_again(&mut self, at_micros: u64) {
        let paths: Vec<_> = self.watches.paths().map(ToOwned::to_owned).collect();
        for path in paths {
            let answer = call(&self.client, self.acls, Request::Watch(path));
            self.pending.send(Asked { ticket: None, at_micros }, answer);
        }
    }

    /// Tells the ensemble that the session is over, and waits until it knows.
    pub(super) async fn close(self) {
        let Self { client, mut states, pending, watches, .. } = self;
        // The client goes with its last copy; each request holds one.
        drop((client, pending, watches));
        // An end that was told is not told again.
        if states.peek_state().is_terminated() {
            return;
        }
        let closed = async { while !states.changed().await.is_terminated() {} };
        if tokio::time::timeout(CLOSE_MAX, closed).await.is_err() {
            tracing::debug!("the ensemble did not take the end of the session in time");
        }
    }

    fn has_room_for(&self, request: &Request) -> bool {
        let Request::Watch(path) = request else { return true };
        self.watches.paths().count() < WATCHES_MAX || self.watches.paths().any(|it| it == path)
    }
}

/// A broker needs about four, and one for each peer that it has no link to.
const WATCHES_MAX: usize = 300;
const CLOSE_MAX: Duration = Duration::from_secs(2);
