//! A client of the ensemble as a test wants it: it asks, and waits for the answer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mqttzoo::coordination::{Digest, Options, ZooKeeper};
use mqttzoo::ports::coordination::{
    ChangeKind, Coordination, CoordinationError, CoordinationEvent, Reply, Request, Ticket,
};
use mqttzoo::runtime::{Background, Clock};
use tokio::sync::mpsc;

use super::contract::Tree;

/// How long an event may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// The adapter, with a runtime of its own.
pub(crate) struct Client {
    zookeeper: Option<ZooKeeper>,
    events: mpsc::Receiver<CoordinationEvent>,
    /// Heard while something else was waited for.
    heard: VecDeque<CoordinationEvent>,
    next_ticket: u64,
    background: Option<Background>,
}

impl Client {
    /// A client whose session outlives what is done to it, and which is connected.
    pub(crate) fn connect(servers: &str) -> Self {
        Self::connect_for(servers, LONG)
    }

    /// A client whose session lives so long, and which is connected.
    pub(super) fn connect_for(servers: &str, session_timeout: Duration) -> Self {
        let mut client = Self::start(options(servers, session_timeout));
        client.wait_for_session(true);
        client
    }

    /// A client that is a user of the ensemble, and which is connected.
    pub(crate) fn connect_as(servers: &str, user: &str, password: &str) -> Self {
        let digest = Digest { user: user.to_owned(), password: password.to_owned() };
        let options = options(servers, LONG);
        let mut client = Self::start(Options { digest: Some(digest), ..options });
        client.wait_for_session(true);
        client
    }

    /// A client that tries to connect.
    pub(super) fn start(options: Options) -> Self {
        let background = Background::start(2).unwrap();
        let (sender, events) = mpsc::channel(EVENTS);
        let started = ZooKeeper::start(options, Clock::start(), sender, &background.handle());
        Self {
            zookeeper: Some(started.unwrap()),
            events,
            heard: VecDeque::new(),
            next_ticket: 0,
            background: Some(background),
        }
    }

    pub(super) fn zookeeper(&self) -> &ZooKeeper {
        self.zookeeper.as_ref().expect("it was not closed")
    }

    /// Submits a request and does not wait.
    pub(crate) fn submit(&mut self, request: Request) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.zookeeper().submit(ticket, request);
        ticket
    }

    /// The next event, whatever it is.
    #[track_caller]
    pub(super) fn next_event(&mut self) -> CoordinationEvent {
        self.heard.pop_front().unwrap_or_else(|| self.receive())
    }

    /// The first event that is `wanted`; the others stay for later.
    #[track_caller]
    pub(super) fn wait_for<T>(&mut self, wanted: impl Fn(&CoordinationEvent) -> Option<T>) -> T {
        if let Some(place) = self.heard.iter().position(|event| wanted(event).is_some()) {
            return self.heard.remove(place).and_then(|event| wanted(&event)).unwrap();
        }
        loop {
            let event = self.receive();
            match wanted(&event) {
                Some(found) => return found,
                None => self.heard.push_back(event),
            }
        }
    }

    /// The answer to a request.
    #[track_caller]
    pub(crate) fn answer(&mut self, to: Ticket) -> Result<Reply, CoordinationError> {
        self.wait_for(|event| {
            let CoordinationEvent::Answered { ticket, outcome } = event else { return None };
            (*ticket == to).then(|| outcome.clone())
        })
    }

    /// Waits for a session; its number.
    #[track_caller]
    pub(super) fn wait_for_session(&mut self, new: bool) -> i64 {
        self.wait_for(|event| {
            let CoordinationEvent::Connected { session, is_new } = event else { return None };
            (*is_new == new).then_some(*session)
        })
    }

    /// Waits until `is_so`.
    #[track_caller]
    pub(super) fn wait_until(&self, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "it did not come to that: {:?}", self.heard);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the session, and waits until the ensemble knows.
    pub(crate) fn close(mut self) {
        drop(self.zookeeper.take());
        let background = self.background.take().expect("it is taken here only");
        background.block_on(background.join_tasks(PATIENCE)).unwrap();
        background.stop(PATIENCE);
    }

    #[track_caller]
    fn receive(&mut self) -> CoordinationEvent {
        let background = self.background.as_ref().expect("it was not closed");
        let event =
            background.block_on(async { tokio::time::timeout(PATIENCE, self.events.recv()).await });
        let event = event.unwrap_or_else(|_| panic!("no event came; heard: {:?}", self.heard));
        let event = event.expect("the task lives as long as its handle");
        if event == CoordinationEvent::Expired {
            self.zookeeper().note_expired();
        }
        event
    }
}

impl Tree for Client {
    #[track_caller]
    fn ask(&mut self, request: Request) -> Result<Reply, CoordinationError> {
        let ticket = self.submit(request);
        self.answer(ticket)
    }

    #[track_caller]
    fn next_change(&mut self) -> (String, ChangeKind) {
        self.wait_for(|event| {
            let CoordinationEvent::Changed { path, kind } = event else { return None };
            Some((path.clone(), *kind))
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.zookeeper.take());
        if let Some(background) = self.background.take() {
            background.stop(Duration::from_secs(5));
        }
    }
}

pub(super) fn options(servers: &str, session_timeout: Duration) -> Options {
    let servers = servers.parse().unwrap();
    Options { servers, session_timeout, digest: None, tls: None }
}

/// As long as a session may live.
const LONG: Duration = Duration::from_secs(60);
/// Fewer than many of the tests make wait.
const EVENTS: usize = 64;
