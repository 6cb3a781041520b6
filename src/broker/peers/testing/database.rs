//! The one database of all brokers of a story, and each broker's way there.
//!
//! It carries out what gets there in the order in which it comes. A way may be closed to some
//! batches: before they get there, or when the answer comes back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use super::Cluster;
use crate::broker::durable::{Durable, Registrar};
use crate::broker::options::BrokerOptions;
use crate::cluster::slot_record::Home;
use crate::mqtt::{QoS, SubscriptionOptions, TopicFilter};
use crate::ports::auth::SessionUser;
use crate::ports::clock::Tick;
use crate::ports::store::{
    Batch, Completion, Epoch, Full, Operation, OwnerId, SessionId, SessionLife, SessionRef, Store,
    StoreError, StoreHealth, StoredSubscription, Submitter, Ticket,
};
use crate::store::MemoryStore;

/// The way of one broker to the database.
#[derive(Clone, Default)]
pub(crate) struct Way {
    database: MemoryStore,
    traffic: Arc<Mutex<Traffic>>,
}

#[derive(Default)]
struct Traffic {
    /// What becomes of batches in which there is such an operation; the others pass.
    closed: Option<(Closed, Kind)>,
    wakers: Vec<Waker>,
}

/// Whether an operation is meant.
pub(crate) type Kind = fn(&Operation) -> bool;

/// What becomes of a batch that does not pass.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Closed {
    /// It waits, and is not carried out.
    Unreached,
    /// It is carried out, and the answer waits.
    Unheard,
    /// It is not carried out, and the broker is told so.
    Failing,
}

/// The end of a submitter that a broker has.
struct Door {
    way: Way,
    /// To the database itself.
    inner: Box<dyn Submitter>,
    waiting: VecDeque<Batch>,
    /// Whether each is of a kind whose answer waited when it was carried out, and the answer.
    answers: VecDeque<(Vec<Operation>, Completion)>,
    submitted: u64,
    answered: u64,
}

impl Way {
    /// From now on such batches do not pass.
    pub(crate) fn close(&self, closed: Closed, kind: Kind) {
        self.change(Some((closed, kind)));
    }

    /// Everything passes, also what has waited.
    pub(crate) fn open(&self) {
        self.change(None);
    }

    fn change(&self, closed: Option<(Closed, Kind)>) {
        self.traffic.lock().closed = closed;
        self.wake();
    }

    fn wake(&self) {
        let wakers = std::mem::take(&mut self.traffic.lock().wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn closed_to(&self, operations: &[Operation]) -> Option<Closed> {
        let closed = self.traffic.lock().closed;
        closed.filter(|(_, kind)| operations.iter().any(kind)).map(|(closed, _)| closed)
    }

    /// A broker that nobody knows any more has left a Session of alice there, with this Subscription, which
    /// ends at this time.
    pub(crate) fn leave_session(&self, client_id: &str, filter: &str, expires_at_millis: u64) {
        let filter = TopicFilter::parse(filter).unwrap();
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() };
        let subscription = StoredSubscription { filter, options, id: None };
        let expires_at_millis = Some(expires_at_millis);
        let session = SessionRef { id: SessionId(99), epoch: Epoch::default() };
        let operations = vec![
            Operation::Register { root: None },
            Operation::PutSession {
                session,
                client_id: Arc::from(client_id),
                user: SessionUser::Known(Some(Arc::from("alice"))),
                slot: 0,
                life: SessionLife { expiry_interval_secs: 600, expires_at_millis },
                sent_below: None,
            },
            Operation::PutSubscription { session, subscription },
        ];
        self.run_elsewhere(operations);
    }

    /// Somebody whom nobody knows takes a Session, under a later claim than any.
    pub(crate) fn take_away(&self, client_id: &str) {
        let epoch = Epoch { era: 9, slots: 0, counter: 0 };
        let take = Operation::TakeSession { client_id: Arc::from(client_id), epoch };
        self.run_elsewhere(vec![Operation::Register { root: None }, take]);
    }

    /// Somebody declares a broker dead, which is still to hear of it.
    pub(crate) fn declare_dead(&self, owner: OwnerId) {
        self.run_elsewhere(vec![Operation::Register { root: None }, Operation::DeclareDead(owner)]);
    }

    fn run_elsewhere(&self, operations: Vec<Operation>) {
        let mut door = self.database.submitter();
        let batch = Batch { owner: OwnerId(99), now_millis: 0, operations };
        door.submit(batch).expect("it is the first one");
        let answer = door.poll(Waker::noop()).expect("it answers at once");
        assert!(answer.outcome.is_ok_and(|done| done.fenced.is_empty()));
    }
}

impl Store for Way {
    fn submitter(&self) -> Box<dyn Submitter> {
        Box::new(Door {
            way: self.clone(),
            inner: self.database.submitter(),
            waiting: VecDeque::new(),
            answers: VecDeque::new(),
            submitted: 0,
            answered: 0,
        })
    }

    fn health(&self) -> StoreHealth {
        StoreHealth::Good
    }
}

impl Submitter for Door {
    fn submit(&mut self, batch: Batch) -> Result<Ticket, Full> {
        self.waiting.push_back(batch);
        self.submitted += 1;
        self.way.wake();
        Ok(Ticket(self.submitted))
    }

    fn poll(&mut self, waker: &Waker) -> Option<Completion> {
        self.go_there();
        let is_heard = |(operations, _): &(Vec<Operation>, Completion)| {
            self.way.closed_to(operations) != Some(Closed::Unheard)
        };
        if self.answers.front().is_some_and(is_heard) {
            return self.answers.pop_front().map(|(_, completion)| completion);
        }
        self.way.traffic.lock().wakers.push(waker.clone());
        None
    }
}

impl Door {
    fn go_there(&mut self) {
        while let Some(batch) = self.waiting.front() {
            let closed = self.way.closed_to(&batch.operations);
            if closed == Some(Closed::Unreached) {
                return;
            }
            let Some(batch) = self.waiting.pop_front() else { return };
            let operations = batch.operations.clone();
            let outcome = if closed == Some(Closed::Failing) {
                Err(StoreError::Transient("it is down".to_owned()))
            } else {
                self.inner.submit(batch).expect("it is asked one thing after the other");
                self.inner.poll(Waker::noop()).expect("it answers at once").outcome
            };
            self.answered += 1;
            let completion = Completion { ticket: Ticket(self.answered), outcome };
            self.answers.push_back((operations, completion));
        }
    }
}

impl Cluster {
    /// So many brokers over one database, and the way of each there.
    pub(crate) fn over_database(count: usize) -> (Self, Vec<Way>) {
        Self::over_database_with(count, &BrokerOptions::default())
    }

    /// The same, of brokers with other bounds.
    pub(crate) fn over_database_with(count: usize, options: &BrokerOptions) -> (Self, Vec<Way>) {
        let mut cluster = Self::with_options(count, options);
        let database = MemoryStore::new();
        let ways = (0..count).map(|node| cluster.connect_to(&database, node)).collect();
        cluster.pump();
        (cluster, ways)
    }

    /// A broker has its Sessions in this database from now on, which knows it.
    pub(crate) fn connect_to(&mut self, database: &MemoryStore, node: usize) -> Way {
        let way = Way { database: database.clone(), ..Way::default() };
        self.give_store(node, Arc::new(way.clone()));
        let durable = self.broker(node).durable().map(Arc::clone).expect("it was given one");
        register(durable);
        way
    }
}

fn register(durable: Arc<Durable>) {
    let mut registrar = Registrar::new(durable);
    for _asked_and_answered in 0..2 {
        registrar.poll(Tick::ZERO, Some(Home::default()), Waker::noop());
    }
    assert!(registrar.is_done());
}
