//! The task that owns the session.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::backoff::wait_after;
use super::call::Outcome;
use super::complaint::Complaint;
use super::connect::{ATTEMPT_MAX, ConnectError, Connector, Patience};
use super::counters::ZooKeeperCounters;
use super::intake::{Input, Intake};
use super::outbox::{Changed, Outbox};
use super::pending::{Asked, Asker};
use super::session::{News, Session, Turn};
use crate::ports::coordination::{
    ChangeKind, CoordinationError, CoordinationEvent, Reply, Request, Ticket,
};
use crate::runtime::Clock;

/// Makes a session, serves it until it ends, and makes another.
pub(super) struct Driver {
    connector: Connector,
    clock: Clock,
    intake: Intake,
    outbox: Outbox,
    counters: Arc<ZooKeeperCounters>,
    unreachable: Complaint,
    sessions: u64,
    /// Of the next session that is made.
    patience: Patience,
    /// Whether a connection was told of, and its end was not.
    is_told_connected: bool,
}

/// Why a session is no longer served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// It is over; there must be another.
    Expired,
    /// It has had no server for too long; another one is made.
    Outlasted,
    /// Nobody asks, or nobody listens, any more.
    Stopped,
}

impl Driver {
    pub(super) fn new(
        connector: Connector,
        clock: Clock,
        intake: Intake,
        events: mpsc::Sender<CoordinationEvent>,
        counters: Arc<ZooKeeperCounters>,
    ) -> Self {
        Self {
            connector,
            clock,
            intake,
            outbox: Outbox::new(events),
            counters,
            unreachable: Complaint::default(),
            sessions: 0,
            patience: Patience::Short,
            is_told_connected: false,
        }
    }

    /// Runs until the handle is dropped or nobody listens.
    pub(super) async fn run(mut self) {
        while let Some(mut session) = self.establish().await {
            let end = self.serve(&mut session).await;
            self.patience = if session.is_hasty() { Patience::Long } else { Patience::Short };
            match end {
                End::Expired => {
                    self.bury(&mut session, LAST_WORDS_MAX).await;
                    session.close().await;
                }
                End::Outlasted => {
                    // Its client goes on, and answers nothing until it has a server: then it ends the
                    // session. Until then, or until the ensemble ends it, what is ephemeral stays.
                    self.bury(&mut session, Duration::ZERO).await;
                    drop(session);
                }
                End::Stopped => {
                    self.outbox.deliver_what_fits();
                    session.close().await;
                    return;
                }
            }
        }
    }

    /// Makes a session, however long it takes; nothing when we are to stop.
    async fn establish(&mut self) -> Option<Session> {
        let mut failures = 0;
        loop {
            // Where all are tried in vain, they may be slow.
            let patience = if failures == 0 { self.patience } else { Patience::Long };
            let connecting = timeout(ATTEMPT_MAX, self.connector.clone().connect(patience));
            let error = match self.without_session(connecting).await? {
                Ok(Ok(session)) if patience == self.patience => return Some(self.begin(session)),
                Ok(Ok(session)) => {
                    let session = self.hasten(session).await?;
                    return Some(self.begin(session));
                }
                Ok(Err(error)) => error,
                Err(_elapsed) => ConnectError::NoServer(zookeeper_client::Error::Timeout),
            };
            failures += 1;
            self.complain(&error);
            let chance = getrandom::u32().unwrap_or_default();
            let session_timeout = self.connector.options().session_timeout;
            self.without_session(sleep(wait_after(failures, session_timeout, chance))).await?;
        }
    }

    /// A session was made with more patience than the last one needed, for the ensemble may have
    /// been coming up: another is made with less in its place, if it can be had at once. Nothing
    /// when we are to stop.
    async fn hasten(&mut self, patient: Session) -> Option<Session> {
        let connecting = timeout(ATTEMPT_MAX, self.connector.clone().connect(self.patience));
        match self.without_session(connecting).await? {
            // The other one ends when it is dropped; nothing hangs on it.
            Ok(Ok(session)) => Some(session),
            Ok(Err(_)) | Err(_) => Some(patient),
        }
    }

    /// Waits for `done`; meanwhile whoever asks learns that there is no session. Nothing when we
    /// are to stop.
    async fn without_session<T>(&mut self, done: impl Future<Output = T>) -> Option<T> {
        let mut done = pin!(done);
        loop {
            let has_room = self.has_room();
            tokio::select! {
                biased;
                outcome = &mut done => return Some(outcome),
                delivered = self.outbox.deliver(), if !self.outbox.is_empty() => delivered.ok()?,
                input = self.intake.next(has_room) => match input {
                    Input::Request(ticket, _) | Input::Outdated(ticket) => {
                        self.answer(ticket, Err(CoordinationError::SessionExpired));
                    }
                    Input::Refused(ticket) => self.answer(ticket, Err(CoordinationError::Busy)),
                    Input::Stop => return None,
                },
            }
        }
    }

    fn begin(&mut self, session: Session) -> Session {
        self.unreachable.end();
        self.sessions += 1;
        self.counters.note_session(session.timeout());
        self.is_told_connected = true;
        self.outbox.connected(session.id(), true);
        let asked = self.connector.options().session_timeout;
        tracing::info!(
            session = format!("{:#x}", session.id()),
            servers = %self.connector.options().servers,
            timeout_millis = session.timeout().as_millis(),
            "{}",
            if self.sessions == 1 { "ZooKeeper session made" } else { "ZooKeeper session rebuilt" }
        );
        if session.timeout() != asked {
            tracing::warn!(
                asked_millis = asked.as_millis(),
                granted_millis = session.timeout().as_millis(),
                "ZooKeeper grants another session timeout than was asked for: the lease, heartbeats \
                 and the time after which a silent broker is dead follow what it grants; \
                 minSessionTimeout and maxSessionTimeout of zoo.cfg set the limits"
            );
        }
        session
    }

    fn complain(&mut self, error: &ConnectError) {
        self.counters.note_failed_attempt();
        if self.unreachable.is_due(self.clock.now()) {
            tracing::warn!(
                servers = %self.connector.options().servers,
                error = chain(error),
                "no ZooKeeper session can be made: keeps trying"
            );
        }
    }

    /// Serves a session until its end or ours.
    async fn serve(&mut self, session: &mut Session) -> End {
        loop {
            if session.is_hasty() {
                tracing::warn!(
                    "ZooKeeper answers slowly: another session is made, which waits longer"
                );
                return End::Outlasted;
            }
            let outlasted = session.outlasted();
            let is_full = session.pending.len() >= OUTSTANDING_MAX || !self.has_room();
            let takes = session.is_connected() && !is_full;
            let end = tokio::select! {
                biased;
                delivered = self.outbox.deliver(), if !self.outbox.is_empty() => {
                    delivered.err().map(|_unheard| End::Stopped)
                }
                news = session.next() => self.told(session, news),
                input = self.intake.next(takes) => self.asked(session, input),
                () = outlasted => Some(End::Outlasted),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn asked(&mut self, session: &mut Session, input: Input) -> Option<End> {
        match input {
            Input::Request(ticket, request) => self.send(session, ticket, request),
            Input::Refused(ticket) => self.answer(ticket, Err(CoordinationError::Busy)),
            Input::Outdated(ticket) => self.answer(ticket, Err(CoordinationError::SessionExpired)),
            Input::Stop => return Some(End::Stopped),
        }
        None
    }

    fn told(&mut self, session: &mut Session, news: News) -> Option<End> {
        match news {
            News::Turn(Turn::Over) => return Some(End::Expired),
            News::Turn(turn) => self.turned(session, turn),
            News::Change(path, kind) => self.changed(path, kind),
            News::Answer(asked, outcome) => return self.answered(session, asked, outcome),
        }
        None
    }

    fn changed(&mut self, path: String, kind: ChangeKind) {
        self.counters.note_change();
        if self.outbox.changed(path, kind) == Changed::DroppedAll {
            tracing::warn!("too many changes of znodes wait to be told: all are listed again");
            self.counters.note_gap();
        }
    }

    fn send(&mut self, session: &mut Session, ticket: Ticket, request: Request) {
        self.counters.note_sent();
        session.send(ticket, self.clock.micros(), request);
    }

    fn turned(&mut self, session: &mut Session, turn: Turn) {
        if matches!(turn, Turn::Disconnected | Turn::Blinked) {
            tracing::debug!("the connection to ZooKeeper is lost; the session may live on");
            self.lost_connection();
        }
        if matches!(turn, Turn::Reconnected | Turn::Blinked) {
            tracing::debug!("the ZooKeeper session has another connection");
            self.counters.note_reconnect();
            let asked = session.watch_again(self.clock.micros());
            (0..asked).for_each(|_| self.counters.note_sent());
        }
    }

    /// Tells of another connection. It has answered, and all watches stand again: what changes from now
    /// on is told.
    fn has_connection(&mut self, session: &Session) {
        self.is_told_connected = true;
        self.outbox.connected(session.id(), false);
    }

    fn lost_connection(&mut self) {
        // One that was lost again before it was told of is not told at all.
        if std::mem::take(&mut self.is_told_connected) {
            self.outbox.disconnected();
        }
    }

    fn answered(&mut self, session: &mut Session, asked: Asked, outcome: Outcome) -> Option<End> {
        self.counters.note_answered(self.clock.micros().saturating_sub(asked.at_micros));
        let reply = match outcome {
            Outcome::Reply(reply) => reply,
            Outcome::Watching { path, watcher } => session.watch_stands(asked, path, watcher),
        };
        match (asked.by, reply) {
            (Asker::Caller(ticket), reply) => self.answer(ticket, reply),
            // The next connection, or the next session, makes it good.
            (
                Asker::Session | Asker::Probe,
                Err(CoordinationError::ConnectionLost | CoordinationError::SessionExpired),
            ) => {}
            // To a probe any answer will do.
            (Asker::Session, Ok(_)) | (Asker::Probe, _) => {
                if session.watch_stands_again(asked) {
                    self.has_connection(session);
                }
            }
            (Asker::Session, Err(error)) => {
                tracing::warn!(%error, "ZooKeeper does not watch again: makes another session");
                return Some(End::Expired);
            }
        }
        None
    }

    /// Answers everything that was asked of a session that is over, and says that it is. The answers of
    /// the client are waited for so long; without one it is open whether the request is carried out.
    async fn bury(&mut self, session: &mut Session, last_words_max: Duration) {
        tracing::warn!(
            session = format!("{:#x}", session.id()),
            "ZooKeeper session lost, and with it what was ephemeral: makes another"
        );
        self.counters.note_expired();
        // For all of them together: until they are answered nobody learns that the session is over.
        let until = Instant::now() + last_words_max;
        while session.pending.len() > 0 {
            // The client answers everything at the end of a session. Should it not, we do.
            let (asked, reply) = match timeout_at(until, session.pending.next()).await {
                Ok((asked, Outcome::Reply(reply))) => (Some(asked), reply),
                Ok((asked, Outcome::Watching { .. })) => (Some(asked), Ok(Reply::Done)),
                Err(_) => (session.pending.give_up(), Err(CoordinationError::ConnectionLost)),
            };
            let Some(asked) = asked else { continue };
            self.counters.note_answered(self.clock.micros().saturating_sub(asked.at_micros));
            if let Asker::Caller(ticket) = asked.by {
                self.answer(ticket, reply);
            }
        }
        while let Some(ticket) = self.intake.take_waiting() {
            self.answer(ticket, Err(CoordinationError::SessionExpired));
        }
        self.intake.end_session();
        self.outbox.expired();
    }

    fn answer(&mut self, ticket: Ticket, outcome: Result<Reply, CoordinationError>) {
        if let Err(error) = &outcome {
            self.counters.note_error(error);
        }
        self.outbox.answer(ticket, outcome);
    }

    fn has_room(&self) -> bool {
        self.outbox.len() < UNHEARD_MAX
    }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// The client's queues have no bound; this is theirs.
const OUTSTANDING_MAX: usize = 500;
/// Events nobody has heard yet, beyond which no request is taken.
const UNHEARD_MAX: usize = 20_000;
/// How long the client may take to answer what was asked of a session that is over.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
