//! The one database of all simulated brokers, and each broker's way there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};

use parking_lot::Mutex;

use crate::ports::store::{
    Batch, Completion, Full, Operation, Reply, Store, StoreError, StoreHealth, Submitter, Ticket,
};
use crate::sim::cluster::verdict::Plant;

/// What is the same for all: the real store, and what is on its way there.
pub(super) struct Database {
    store: Arc<dyn Store>,
    desk: Arc<Desk>,
    ways: Vec<Way>,
    plant: Plant,
    /// Until then nothing is answered.
    pub(super) down_until: u64,
    /// Until then everything takes this much longer.
    pub(super) slow: (u64, u64),
    /// Until then one COMMIT of so many is in doubt.
    pub(super) doubtful: (u64, u64),
}

/// What brokers have handed over and the world has not taken.
#[derive(Default)]
struct Desk {
    handed: Mutex<VecDeque<Handed>>,
    doors: Mutex<Vec<Arc<Door>>>,
}

/// A batch on its way.
pub(super) struct Handed {
    pub(super) door: usize,
    ticket: Ticket,
    batch: Batch,
    pub(super) since: u64,
}

/// The end of a submitter that a broker has.
struct Door {
    node: usize,
    process: u32,
    answers: Mutex<VecDeque<Completion>>,
    /// The last batch that was handed over.
    last: AtomicU64,
}

/// The other end of it.
struct Way {
    submitter: Box<dyn Submitter>,
    waiting: VecDeque<Handed>,
    /// A batch was given up, and its process has not heard of it.
    has_given_up: bool,
    /// What was handed over before it heard was given up as well.
    given_up_through: u64,
    /// Nothing of it comes any more: its process is gone.
    is_cut: bool,
    /// Order holds on the way there and back.
    pub(super) there_at: u64,
    pub(super) back_at: u64,
}

/// The database as one process sees it.
pub(super) struct Connected {
    pub(super) node: usize,
    pub(super) process: u32,
    desk: Arc<Desk>,
}

struct Client {
    door: usize,
    own: Arc<Door>,
    desk: Arc<Desk>,
}

struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

impl Store for Connected {
    fn submitter(&self) -> Box<dyn Submitter> {
        let mut doors = self.desk.doors.lock();
        let (answers, last) = Default::default();
        let own = Arc::new(Door { node: self.node, process: self.process, answers, last });
        doors.push(Arc::clone(&own));
        let (door, desk) = (doors.len() - 1, Arc::clone(&self.desk));
        Box::new(Client { door, own, desk })
    }

    fn health(&self) -> StoreHealth {
        StoreHealth::Good
    }
}

impl Submitter for Client {
    fn submit(&mut self, batch: Batch) -> Result<Ticket, Full> {
        let last = self.own.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (ticket, since) = (Ticket(last), 0);
        self.desk.handed.lock().push_back(Handed { door: self.door, ticket, batch, since });
        Ok(ticket)
    }

    /// The world gives a process a turn when there is an answer: nobody is woken.
    fn poll(&mut self, _waker: &Waker) -> Option<Completion> {
        self.own.answers.lock().pop_front()
    }
}

/// What the database makes of a batch.
pub(super) enum Fate {
    Stored,
    /// The answer to COMMIT was lost: it is done again as it is.
    StoredTwice,
    /// It was not stored, and is given up.
    GivenUp,
}

impl Database {
    pub(super) fn new(store: Arc<dyn Store>, plant: Plant) -> Self {
        let (desk, ways) = (Arc::default(), Vec::new());
        Self { store, desk, ways, plant, down_until: 0, slow: (0, 0), doubtful: (0, 0) }
    }

    /// The way there of a process that starts.
    pub(super) fn connect(&self, node: usize, process: u32) -> Connected {
        Connected { node, process, desk: Arc::clone(&self.desk) }
    }

    /// What has been handed over since this was last asked.
    pub(super) fn take_handed(&mut self) -> Vec<Handed> {
        let handed: Vec<_> = self.desk.handed.lock().drain(..).collect();
        let doors = self.desk.doors.lock().len();
        while self.ways.len() < doors {
            let (submitter, waiting) = (self.store.submitter(), VecDeque::new());
            self.ways.push(Way {
                submitter,
                waiting,
                has_given_up: false,
                given_up_through: 0,
                is_cut: false,
                there_at: 0,
                back_at: 0,
            });
        }
        handed
    }

    fn way(&mut self, door: usize) -> &mut Way {
        self.ways.get_mut(door).expect("doors are numbered")
    }

    /// When something gets there that needs until `at`.
    pub(super) fn there(&mut self, door: usize, at: u64) -> u64 {
        let way = self.way(door);
        way.there_at = way.there_at.max(at);
        way.there_at
    }

    /// The same for the way back.
    pub(super) fn back(&mut self, door: usize, at: u64) -> u64 {
        let way = self.way(door);
        way.back_at = way.back_at.max(at);
        way.back_at
    }

    /// The machine and the process at a door.
    pub(super) fn owner(&self, door: usize) -> Option<(usize, u32)> {
        let doors = self.desk.doors.lock();
        doors.get(door).map(|door| (door.node, door.process))
    }

    /// A batch has come.
    pub(super) fn arrive(&mut self, handed: Handed) {
        let way = self.way(handed.door);
        if !way.is_cut && handed.ticket.0 > way.given_up_through {
            way.waiting.push_back(handed);
        }
    }

    /// Its process is gone: nothing of it comes any more.
    pub(super) fn cut(&mut self, door: usize) {
        let way = self.way(door);
        way.is_cut = true;
        way.waiting.clear();
    }

    /// The next batch of a door that waits. None behind one that was given up.
    pub(super) fn take_waiting(&mut self, door: usize) -> Option<Handed> {
        let way = self.way(door);
        if way.has_given_up { None } else { way.waiting.pop_front() }
    }

    /// It is not its time yet.
    pub(super) fn put_back(&mut self, handed: Handed) {
        self.way(handed.door).waiting.push_front(handed);
    }

    /// Carries a batch out.
    pub(super) fn carry_out(&mut self, handed: Handed, fate: &Fate) -> Completion {
        let Handed { door, ticket, batch, .. } = handed;
        self.way(door).has_given_up |= matches!(fate, Fate::GivenUp);
        let outcome = match fate {
            Fate::GivenUp => Err(StoreError::Transient("it is down".to_owned())),
            Fate::Stored => self.apply(door, batch),
            Fate::StoredTwice => {
                let _lost = self.apply(door, batch.clone());
                self.apply(door, batch)
            }
        };
        Completion { ticket, outcome }
    }

    fn apply(
        &mut self,
        door: usize,
        mut batch: Batch,
    ) -> Result<crate::ports::store::Done, StoreError> {
        self.spoil(&mut batch);
        let is_lost = self.plant == Plant::SessionLost
            && batch.operations.iter().any(|one| matches!(one, Operation::TakeSession { .. }));
        let way = self.way(door);
        let _ticket = way.submitter.submit(batch).expect("it is asked one thing after the other");
        let waker = Waker::from(Arc::new(Nobody));
        let completion = way.submitter.poll(&waker).expect("it answers at once");
        let mut outcome = completion.outcome;
        if let Ok(done) = &mut outcome
            && is_lost
        {
            done.replies = vec![Reply::Session(None)];
            done.fenced.clear();
        }
        outcome
    }

    /// Breaks a rule of the store.
    fn spoil(&self, batch: &mut Batch) {
        if self.plant != Plant::StoreForgets {
            return;
        }
        for operation in &mut batch.operations {
            if let Operation::Enqueue { pointers, .. } = operation {
                for pointer in pointers {
                    pointer.may_repeat = false;
                }
            }
        }
    }

    /// An answer has come back. One that says that a batch was given up says it of all behind it.
    pub(super) fn answer(&mut self, door: usize, completion: Completion) {
        let Some(own) = self.desk.doors.lock().get(door).cloned() else { return };
        let (first, outcome) = (completion.ticket.0, completion.outcome.clone());
        let mut answers = own.answers.lock();
        answers.push_back(completion);
        if !matches!(outcome, Err(StoreError::Transient(_))) {
            return;
        }
        let last = own.last.load(Ordering::Relaxed);
        for number in first + 1..=last {
            answers.push_back(Completion { ticket: Ticket(number), outcome: outcome.clone() });
        }
        let way = self.way(door);
        way.has_given_up = false;
        way.given_up_through = last;
        way.waiting.retain(|handed| handed.ticket.0 > last);
    }
}

/// How long the database is tried before a batch is given up.
pub(super) const PATIENCE_MILLIS: u64 = 4_000;
