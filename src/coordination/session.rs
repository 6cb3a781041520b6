//! A session with the ensemble, from its first connection to its end.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
use zookeeper_client as zk;

use super::call::{Outcome, call};
use super::pending::{Asked, Asker, Pending};
use super::watches::Watches;
use crate::ports::coordination::{ChangeKind, CoordinationError, Reply, Request, Ticket};

/// A session, and what hangs on it.
pub(super) struct Session {
    client: zk::Client,
    acls: zk::Acls<'static>,
    /// How long the client lets a server be silent, where it may be let be so for longer.
    silence: Option<Duration>,
    /// When servers were last left since they were silent, at most [`SILENCES_MAX`] times.
    silences: VecDeque<Instant>,
    states: zk::StateWatcher,
    is_connected: bool,
    /// Since when the client has looked for a server in vain.
    lost_at: Option<Instant>,
    /// How many turns the connection has taken.
    turns: u64,
    /// Watches that do not stand again yet since the last turn.
    missing: usize,
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
    pub(super) fn new(
        client: zk::Client,
        acls: zk::Acls<'static>,
        silence: Option<Duration>,
    ) -> Self {
        let states = client.state_watcher();
        Self {
            client,
            acls,
            silence,
            silences: VecDeque::new(),
            states,
            // A loss that came sooner than this was seen by nobody, or will be told again.
            is_connected: true,
            lost_at: None,
            turns: 0,
            missing: 0,
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
        self.turns += 1;
        self.missing = 0;
        let was_connected = self.is_connected;
        self.is_connected = match state {
            zk::SessionState::SyncConnected | zk::SessionState::ConnectedReadOnly => true,
            zk::SessionState::Disconnected => false,
            zk::SessionState::AuthFailed | zk::SessionState::Expired | zk::SessionState::Closed => {
                return Turn::Over;
            }
        };
        if was_connected && !self.is_connected {
            self.note_silence();
        }
        self.lost_at = if self.is_connected { None } else { self.lost_at.or(Some(Instant::now())) };
        match (was_connected, self.is_connected) {
            (_, false) => Turn::Disconnected,
            (false, true) => Turn::Reconnected,
            (true, true) => Turn::Blinked,
        }
    }

    /// A server was lost: one that ended or was cut off is no slow one, and owed no answer for
    /// long.
    fn note_silence(&mut self) {
        let (now, Some(silence)) = (Instant::now(), self.silence) else { return };
        let has_waited = |at: Instant| now.saturating_duration_since(at) >= silence / 2;
        if self.pending.oldest().is_some_and(has_waited) {
            self.silences.truncate(SILENCES_MAX - 1);
            self.silences.push_front(now);
        }
    }

    /// Whether one server after the other is too slow for the patience of this session.
    pub(super) fn is_hasty(&self) -> bool {
        let first = self.silences.get(SILENCES_MAX - 1);
        first.is_some_and(|at| at.elapsed() < self.timeout() * 2)
    }

    /// Waits until the client has been without a server for so long that another session is made
    /// sooner. It doubles the wait between its attempts without a bound, up to the end of the session:
    /// the ensemble may be back, and other brokers have it, for as long as it was away.
    ///
    /// It does not always tell that it has no server: one that was lost before its first word is
    /// noticed by an answer that does not come, later than the client lets any server be silent.
    pub(super) fn outlasted(&self) -> impl Future<Output = ()> + use<> {
        let lost = self.lost_at.map(|at| at + self.timeout() / 3);
        let unanswered = self.pending.oldest().map(|at| at + self.timeout() / 2);
        let until = lost.into_iter().chain(unanswered).min();
        async move {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Sends a request.
    pub(super) fn send(&mut self, ticket: Ticket, at_micros: u64, request: Request) {
        let answer: BoxFuture<'static, Outcome> = if self.has_room_for(&request) {
            call(&self.client, self.acls, request)
        } else {
            let text = format!("more than {WATCHES_MAX} watches");
            Box::pin(async { Outcome::Reply(Err(CoordinationError::Other(text))) })
        };
        let asked = Asked { by: Asker::Caller(ticket), turns: self.turns, at_micros };
        self.pending.send(asked, answer);
    }

    /// Asks the new server to watch what the last one did, or just for an answer; how many requests
    /// that are.
    ///
    /// The client means to do that itself, and sends a list that lacks the persistent watches
    /// (0.11.2, `WatchManager::resend_watches`). It still knows them, so that a second one makes
    /// the first one whole and can be dropped.
    ///
    /// It says that it is connected before it has heard an answer, and when that server is lost it
    /// does not say so before it has reached another one: who owes no answer is never missed.
    pub(super) fn watch_again(&mut self, at_micros: u64) -> usize {
        let watch = |path: &str| (Asker::Session, Request::Watch(path.to_owned()));
        let mut requests: Vec<_> = self.watches.paths().map(watch).collect();
        if requests.is_empty() {
            requests.push((Asker::Probe, Request::Get("/".to_owned())));
        }
        self.missing = requests.len();
        for (by, request) in requests {
            let answer = call(&self.client, self.acls, request);
            self.pending.send(Asked { by, turns: self.turns, at_micros }, answer);
        }
        self.missing
    }

    /// A watch stands that a caller asked for. Should the connection have turned since, it may be
    /// with the server before, and nobody asked the next one for it.
    pub(super) fn watch_stands(
        &mut self,
        asked: Asked,
        path: String,
        watcher: zk::PersistentWatcher,
    ) -> Result<Reply, CoordinationError> {
        if asked.turns != self.turns {
            return Err(CoordinationError::ConnectionLost);
        }
        self.watches.insert(path, watcher);
        Ok(Reply::Done)
    }

    /// A watch stands again; whether all do now.
    pub(super) fn watch_stands_again(&mut self, asked: Asked) -> bool {
        if asked.turns != self.turns || self.missing == 0 {
            return false;
        }
        self.missing -= 1;
        self.missing == 0
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
/// As many servers in a row, within two session timeouts, are no single one that hangs.
const SILENCES_MAX: usize = 3;
const CLOSE_MAX: Duration = Duration::from_secs(2);
