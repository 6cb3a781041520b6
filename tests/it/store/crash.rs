//! The process is killed at every step of the writing thread, one after the other, and what is in the
//! file afterwards is what was answered and perhaps a little more: never less, never half a batch,
//! and nothing twice when the rest is submitted again.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use mqttzoo::ports::message::MessageId;
use mqttzoo::ports::store::{
    Batch, Operation, OwnerId, QueuedMessage, RetainedRecord, SessionRecord, Store,
};
use mqttzoo::store::{MemoryStore, SqliteOptions, SqliteStore, Step};

use super::client::Client;
use super::contract::sqlite;
use super::words::{
    acknowledge, all_retained, enqueue, message, packet, pointer, put_session, queue, release,
    repeatable, retained, session, sessions, subscribe, will,
};
use crate::harness::fresh_dir;

/// Where the child works, and at which step it dies.
const DIRECTORY: &str = "MQTTZOO_TEST_STORE_DIRECTORY";
const DIES_AT: &str = "MQTTZOO_TEST_STORE_DIES_AT";
/// The name by which the test binary is asked to be the child.
const CHILD: &str = "store::crash::a_broker_that_is_killed";

#[test]
fn a_kill_at_any_step_loses_nothing_that_was_answered() {
    let parent = fresh_dir("store-crash");
    let mut seen = BTreeSet::new();
    for dies_at in 1.. {
        let directory = parent.join(dies_at.to_string());
        std::fs::create_dir_all(&directory).unwrap();
        let (answered, died_at, status) = run_child(&directory, dies_at);
        verify(&directory, answered);
        if status.success() {
            assert_eq!(answered, story().len());
            break;
        }
        seen.insert(died_at.expect("it said where it was going to die"));
        std::fs::remove_dir_all(directory).unwrap();
    }
    let all = [Step::Opened, Step::Begun, Step::Written, Step::Committed, Step::Answered];
    assert_eq!(seen, all.map(|step| format!("{step:?}")).into());
    std::fs::remove_dir_all(parent).unwrap();
}

/// The child; by itself it is a broker that nobody kills.
#[test]
fn a_broker_that_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        let directory = fresh_dir("store-crash-child");
        act(&directory, u64::MAX);
        verify(&directory, story().len());
        std::fs::remove_dir_all(directory).unwrap();
        return;
    };
    let dies_at = std::env::var(DIES_AT).expect("it comes with the directory");
    act(Path::new(&directory), dies_at.parse().expect("a number"));
}

/// Plays the story, and dies on the way.
fn act(directory: &Path, dies_at: u64) {
    let mut steps = 0;
    let hook = move |step: Step| {
        steps += 1;
        if steps == dies_at {
            say(&format!("dies at {step:?}"));
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        }
    };
    let options = SqliteOptions {
        directory: directory.to_owned(),
        patience: Duration::from_secs(30),
        hook: Some(Box::new(hook)),
    };
    tell(&SqliteStore::start(options).unwrap());
}

/// Submits the story, two batches at a time, and says which have been answered.
pub(super) fn tell(store: &dyn Store) {
    let mut broker = Client::new(store, 1);
    for pair in story().chunks(2) {
        for batch in pair {
            broker.submit(batch.clone());
        }
        for _ in pair {
            let completion = broker.next();
            assert!(completion.outcome.is_ok(), "{completion:?}");
            say(&format!("answered {}", completion.ticket.0));
        }
    }
}

/// A line that is out before anything else happens.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// How many batches were answered, and where it died.
fn run_child(directory: &Path, dies_at: u64) -> (usize, Option<String>, ExitStatus) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture"])
        .env(DIRECTORY, directory)
        .env(DIES_AT, dies_at.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut answered, mut died_at) = (0, None);
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if line.contains("answered ") {
            answered += 1;
        }
        if let Some((_, step)) = line.split_once("dies at ") {
            died_at = Some(step.to_owned());
        }
    }
    (answered, died_at, child.wait().unwrap())
}

/// All that can be seen.
#[derive(Debug, PartialEq)]
struct Snapshot {
    sessions: Vec<SessionRecord>,
    queues: Vec<Vec<QueuedMessage>>,
    retained: Vec<RetainedRecord>,
}

fn verify(directory: &Path, answered: usize) {
    verify_in(&sqlite(directory), answered);
}

/// What is in a store afterwards is what was answered, and perhaps what comes next.
pub(super) fn verify_in(store: &dyn Store, answered: usize) {
    let story = story();
    let found = snapshot(store);
    let stored = (answered..=story.len()).find(|stored| snapshot_after(&story[..*stored]) == found);
    let Some(_) = stored else { panic!("{answered} were answered, and there is {found:?}") };
    // The fate of the rest is not known to whoever submitted it: it comes again as it is.
    let mut broker = Client::new(store, 1);
    for batch in &story[answered..] {
        broker.submit(batch.clone());
        assert!(broker.next().outcome.is_ok());
    }
    assert_eq!(snapshot(store), snapshot_after(&story));
}

fn snapshot_after(batches: &[Batch]) -> Snapshot {
    let memory = MemoryStore::new();
    let mut broker = Client::new(&memory, 1);
    for batch in batches {
        broker.submit(batch.clone());
        assert!(broker.next().outcome.is_ok());
    }
    snapshot(&memory)
}

fn snapshot(store: &dyn Store) -> Snapshot {
    let mut reader = Client::registered(store, 1);
    let queues = (1..=2).map(|id| queue(&mut reader, id)).collect();
    Snapshot { sessions: sessions(&mut reader), queues, retained: all_retained(&mut reader) }
}

/// Two Sessions live: they subscribe, get messages, acknowledge, and one ends.
pub(super) fn story() -> Vec<Batch> {
    let (one, other) = (session(1, 1), session(2, 1));
    let (packet_id, incoming) = (packet(1), MessageId(20));
    let batches = vec![
        vec![Operation::Register { root: None }, put_session(one, "one")],
        vec![put_session(other, "other"), subscribe(one, "a/#"), subscribe(other, "a/b")],
        vec![enqueue(&message(1), vec![pointer(one, 1), pointer(other, 1)])],
        vec![enqueue(&message(2), vec![repeatable(one, 2)]), acknowledge(one, 1, 1)],
        vec![
            Operation::PutIncoming { session: other, packet_id, message: message(20) },
            enqueue(&message(20), vec![pointer(one, 3)]),
            Operation::RouteIncoming { session: other, packet_id, message: incoming },
        ],
        vec![release(one, 3, 20), Operation::PutRetained(retained("a/b", 1, Some(message(3))))],
        vec![Operation::RemoveIncoming { session: other, packet_id, message: incoming }],
        vec![
            Operation::PutWill { session: one, will: will(4, None) },
            Operation::PutRetained(retained("a/b", 2, None)),
            acknowledge(one, 2, 2),
        ],
        vec![acknowledge(one, 3, 20), enqueue(&message(2), vec![repeatable(one, 4)])],
        vec![Operation::EndSession(other), enqueue(&message(5), vec![pointer(one, 5)])],
    ];
    let of = |operations| Batch { owner: OwnerId(1), now_millis: 1_000_000, operations };
    batches.into_iter().map(of).collect()
}
