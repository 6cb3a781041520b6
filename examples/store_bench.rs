//! How many messages a second the store takes for one persistent Session, and what they cost.
//!
//! ```text
//! cargo run --release --example store_bench -- sqlite DIRECTORY [MESSAGES]
//! cargo run --release --example store_bench -- postgres "host=... user=... dbname=..." [MESSAGES]
//! ```
//!
//! DIRECTORY and database hold nothing yet. 200,000 messages unless it is said otherwise, and half
//! as many Sessions.
//!
//! 256 bytes each, 1,000 in flight, a batch each, as if each were a PUBLISH of its own; every message
//! is acknowledged by the receiver 1,000 later, so that the queue stays as it is. Then the same with
//! a receiver that is away, and a start with that many sleeping Sessions.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "it measures, prints, and ends when something is wrong"
)]

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mqttzoo::mqtt::{QoS, TopicName};
use mqttzoo::ports::auth::SessionUser;
use mqttzoo::ports::message::MessageId;
use mqttzoo::ports::store::{
    Batch, Completion, Epoch, Operation, OwnerId, Pointer, Reply, SessionId, SessionLife,
    SessionRef, Store, StoredMessage, StoredSubscription, Submitter,
};
use mqttzoo::runtime::Background;
use mqttzoo::store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, StoreCounters};

const IN_FLIGHT: u64 = 1_000;
const MESSAGES: u64 = 200_000;
/// Made in one batch.
const SESSIONS_EACH: u64 = 100;

struct Bench {
    messages: u64,
    door: Box<dyn Submitter>,
    counters: Arc<StoreCounters>,
    waker: Waker,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(kind), Some(place)) = (arguments.next(), arguments.next()) else {
        panic!("store_bench sqlite DIRECTORY | postgres CONNECTION-STRING");
    };
    let messages = arguments.next().map_or(MESSAGES, |count| count.parse().expect("a number"));
    assert!(messages >= 2 * SESSIONS_EACH, "too few to say anything");
    let background = Background::start(1).unwrap();
    let open = || -> (Box<dyn Store>, Arc<StoreCounters>) {
        if kind == "sqlite" {
            std::fs::create_dir_all(&place).unwrap();
            let patience = Duration::from_secs(30);
            let options = SqliteOptions { directory: place.clone().into(), patience, hook: None };
            let store = SqliteStore::start(options).unwrap();
            let counters = store.counters();
            (Box::new(store), counters)
        } else {
            let options = PostgresOptions::parse(&place).unwrap();
            let store = PostgresStore::start(options, &background.handle());
            let counters = store.counters();
            (Box::new(store), counters)
        }
    };
    let (store, counters) = open();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut bench = Bench { messages, door: store.submitter(), counters, waker };
    bench.ask(vec![Operation::Register { root: None }]);
    bench.messages("receiver present", 1, 0, true);
    bench.messages("receiver away", 2, messages, false);
    bench.drain(2);
    bench.sessions();
    drop((bench, store));
    let started = Instant::now();
    let (store, counters) = open();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut bench = Bench { messages, door: store.submitter(), counters, waker };
    bench.list(started);
}

impl Bench {
    fn messages(&mut self, what: &str, session: u64, first_id: u64, is_acknowledged: bool) {
        let ours = SessionRef { id: SessionId(session), epoch: Epoch::default() };
        let life = SessionLife { expiry_interval_secs: 3_600, expires_at_millis: None };
        let client_id = format!("client {session}").into();
        self.ask(vec![Operation::PutSession {
            session: ours,
            client_id,
            user: SessionUser::Unknown,
            slot: 0,
            life,
            sent_below: None,
        }]);
        let groups = self.counters.groups();
        let started = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        let mut times = std::collections::VecDeque::new();
        let mut longest = Vec::new();
        while answered < self.messages {
            while sent < self.messages && sent - answered < IN_FLIGHT {
                sent += 1;
                let mut operations = vec![enqueue(ours, sent, first_id + sent)];
                if is_acknowledged && sent > IN_FLIGHT {
                    let sequence = sent - IN_FLIGHT;
                    let message = MessageId(first_id + sequence);
                    operations.push(Operation::Acknowledge { session: ours, sequence, message });
                }
                times.push_back(Instant::now());
                self.submit(operations);
            }
            assert!(self.next().outcome.is_ok());
            longest.push(times.pop_front().expect("it was sent").elapsed());
            answered += 1;
        }
        let took = started.elapsed();
        longest.sort_unstable();
        let p99 = longest[longest.len() * 99 / 100];
        println!(
            "{what}: {:.0} acknowledged messages/s, {:.0} a commit, p99 {:.1} ms",
            self.messages as f64 / took.as_secs_f64(),
            self.messages as f64 / (self.counters.groups() - groups) as f64,
            p99.as_secs_f64() * 1_000.0,
        );
    }

    /// The receiver is back and reads everything.
    fn drain(&mut self, session: u64) {
        let started = Instant::now();
        let (mut after, mut count) = (0, 0);
        loop {
            let session = SessionId(session);
            let read = Operation::ReadQueue { session, after, limit: 1_000, bytes_max: 1 << 20 };
            let Reply::Queue(page) = self.ask(vec![read]) else { panic!("not a queue") };
            let Some(last) = page.last() else { break };
            after = last.sequence;
            count += page.len();
        }
        println!("read back: {:.0} messages/s", count as f64 / started.elapsed().as_secs_f64());
    }

    fn sessions(&mut self) {
        let started = Instant::now();
        let count = self.messages / 2 / SESSIONS_EACH * SESSIONS_EACH;
        for first in (0..count / SESSIONS_EACH).map(|batch| batch * SESSIONS_EACH) {
            let mut operations = Vec::new();
            for id in first..first + SESSIONS_EACH {
                let session = SessionRef { id: SessionId(1_000 + id), epoch: Epoch::default() };
                let life = SessionLife { expiry_interval_secs: 3_600, expires_at_millis: None };
                let client_id = format!("sleeper {id}").into();
                operations.push(Operation::PutSession {
                    session,
                    client_id,
                    user: SessionUser::Unknown,
                    slot: 0,
                    life,
                    sent_below: None,
                });
                let filter = format!("sleepers/{id}/#").as_str().try_into().expect("a filter");
                let options = mqttzoo::mqtt::SubscriptionOptions::default();
                let subscription = StoredSubscription { filter, options, id: None };
                operations.push(Operation::PutSubscription { session, subscription });
            }
            self.ask(operations);
        }
        println!("{count} Sessions made in {:.1} s", started.elapsed().as_secs_f64());
    }

    fn list(&mut self, started: Instant) {
        let (mut after, mut count, mut filters) = (None, 0, 0);
        loop {
            let list = Operation::ListSessions { claim: None, after, limit: 1_000 };
            let Reply::Sessions(page) = self.ask(vec![list]) else { panic!("not sessions") };
            count += page.len();
            filters += page.iter().map(|it| it.subscriptions.len()).sum::<usize>();
            after = page.last().map(|last| last.session.id);
            if page.len() < 1_000 {
                break;
            }
        }
        let took = started.elapsed().as_secs_f64();
        println!("{count} Sessions with {filters} Subscriptions read at the start in {took:.2} s");
    }

    fn ask(&mut self, operations: Vec<Operation>) -> Reply {
        self.submit(operations);
        let mut done = self.next().outcome.expect("it is stored");
        assert!(done.fenced.is_empty());
        done.replies.pop().unwrap_or(Reply::Count(0))
    }

    fn submit(&mut self, operations: Vec<Operation>) {
        let batch = Batch { owner: OwnerId(1), now_millis: 1_000, operations };
        self.door.submit(batch).expect("there is room");
    }

    fn next(&mut self) -> Completion {
        loop {
            match self.door.poll(&self.waker) {
                Some(completion) => return completion,
                None => thread::park(),
            }
        }
    }
}

fn enqueue(session: SessionRef, sequence: u64, id: u64) -> Operation {
    let message = Arc::new(StoredMessage {
        id: MessageId(id),
        publisher: 1,
        topic: TopicName::parse("bench/topic".into()).expect("a topic"),
        payload: vec![b'x'; 256].into(),
        properties: None,
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at_millis: None,
    });
    let (qos, retain, tag, may_repeat) = (QoS::AtLeastOnce, false, None, false);
    let pointers = vec![Pointer { session, sequence, qos, retain, tag, may_repeat }];
    Operation::Enqueue { message, pointers }
}
