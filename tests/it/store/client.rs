//! One broker, as the store sees it: submits, and waits for the answer.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mqttzoo::ports::store::{
    Batch, Completion, Done, Operation, OwnerId, Registered, Reply, Store, StoreError, Submitter,
    Ticket,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    door: Box<dyn Submitter>,
    pub(crate) owner: OwnerId,
    pub(crate) now_millis: u64,
}

impl Client {
    /// A broker that has not registered.
    pub(crate) fn new(store: &dyn Store, owner: u128) -> Self {
        Self { door: store.submitter(), owner: OwnerId(owner), now_millis: 1_000_000 }
    }

    /// A broker that has.
    pub(crate) fn registered(store: &dyn Store, owner: u128) -> Self {
        let mut client = Self::new(store, owner);
        client.register(None);
        client
    }

    pub(crate) fn register(&mut self, root: Option<i64>) -> Registered {
        match self.ask(Operation::Register { root }) {
            Reply::Registered(registered) => registered,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn batch(&self, operations: impl IntoIterator<Item = Operation>) -> Batch {
        let (owner, now_millis) = (self.owner, self.now_millis);
        Batch { owner, now_millis, operations: operations.into_iter().collect() }
    }

    /// Submits, and waits for the answer.
    pub(crate) fn run(
        &mut self,
        operations: impl IntoIterator<Item = Operation>,
    ) -> Result<Done, StoreError> {
        let ticket = self.submit(self.batch(operations));
        let completion = self.next();
        assert_eq!(completion.ticket, ticket);
        completion.outcome
    }

    /// The same for what must work, for all Sessions.
    pub(crate) fn must(&mut self, operations: impl IntoIterator<Item = Operation>) -> Vec<Reply> {
        let done = self.run(operations).expect("it can be stored");
        assert_eq!(done.fenced, []);
        done.replies
    }

    /// The answer to one operation.
    pub(crate) fn ask(&mut self, operation: Operation) -> Reply {
        self.must([operation]).pop().expect("it has an answer")
    }

    pub(crate) fn submit(&mut self, batch: Batch) -> Ticket {
        self.door.submit(batch).expect("there is room")
    }

    /// The next answer.
    pub(crate) fn next(&mut self) -> Completion {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(completion) = self.door.poll(&waker) {
                return completion;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no answer within {PATIENCE:?}");
            thread::park_timeout(left);
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
