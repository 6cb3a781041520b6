//! Files whose pages are not what was written, one after the other: the broker starts on each, says what
//! it has found, and keeps what comes then.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::Mortal;
use crate::conformance::{Outcome, Stage, Version, ensure};
use crate::harness::{Broker, fresh_dir};

const SLEEPERS: usize = 20;
const PAGE: usize = 4_096;
/// Brokers at a time.
const WORKERS: usize = 4;

/// What becomes of a page.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Ones,
    Zeroes,
    /// A few bytes of it, here and there.
    Bits(usize),
}

/// Each page with one fate; with each of them where `MQTTZOO_DAMAGE=all`.
#[test]
fn whatever_page_is_damaged_the_broker_starts_and_keeps_what_comes() {
    let directory = fresh_dir("damage");
    let unique = fill(&directory);
    let whole = fs::read(directory.join("store.sqlite")).unwrap();
    let pages = whole.len() / PAGE;
    assert!((40..200).contains(&pages), "{pages} pages");
    let of_page =
        |page| [Damage::Ones, Damage::Zeroes, Damage::Bits(page)].map(|damage| (page, damage));
    let all: Vec<_> = (0..pages).flat_map(of_page).collect();
    let found = AtomicUsize::new(0);
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (all, whole, unique, found) = (&all, &whole, &unique, &found);
            scope.spawn(move || {
                for (page, damage) in all.iter().skip(worker).step_by(WORKERS) {
                    let mut bytes = whole.clone();
                    damage.strike(&mut bytes[page * PAGE..][..PAGE]);
                    let there = check(&bytes, unique, &format!("page {page}, {damage:?}"));
                    found.fetch_add(there, Ordering::Relaxed);
                }
            });
        }
    });
    // One page costs what is on it, and no more.
    let (found, wanted) = (found.load(Ordering::Relaxed), all.len() * SLEEPERS);
    assert!(found * 10 > wanted * 8, "{found} Sessions of {wanted}");
    fs::remove_dir_all(directory).unwrap();
}

impl Damage {
    fn strike(self, page: &mut [u8]) {
        match self {
            Self::Ones => page.fill(0xff),
            Self::Zeroes => page.fill(0),
            Self::Bits(seed) => {
                let mut at = seed * 37 % 16;
                while at < PAGE {
                    page[at] ^= 1 << (at % 8);
                    at += 61 + (seed + at) % 97;
                }
            }
        }
    }
}

/// What a broker leaves that has sleepers with messages, and retained ones; their common name.
fn fill(directory: &Path) -> String {
    let mut mortal = Mortal::start(&[]);
    for sleeper in 0..SLEEPERS {
        let mut client = mortal.keeper(&format!("s{sleeper}"));
        client.subscribe(&format!("t/{sleeper}"), 1).unwrap();
        client.subscribe("t/all", 1).unwrap();
        client.leave().unwrap();
    }
    let mut publisher = mortal.stage.client("publisher").unwrap();
    for number in 0..SLEEPERS * 5 {
        let topic = format!("t/{}", number % SLEEPERS);
        publisher.publish(&topic, &"x".repeat(500), 1).unwrap();
    }
    for number in 0..40 {
        publisher.publish("t/all", &number.to_string(), 2).unwrap();
        publisher.retain(&format!("r/{number}"), &"y".repeat(300)).unwrap();
    }
    publisher.leave().unwrap();
    assert!(mortal.broker.terminate().success());
    for name in ["store.sqlite", "store.sqlite-wal"] {
        let from = mortal.broker.directory().join(name);
        if from.exists() {
            fs::copy(from, directory.join(name)).unwrap();
        }
    }
    assert!(!directory.join("store.sqlite-wal").exists(), "all is in the file");
    mortal.stage.unique.clone()
}

/// How many of the sleepers a broker has that is started on these bytes.
fn check(bytes: &[u8], unique: &str, what: &str) -> usize {
    let mut broker = Broker::start_with(|directory| {
        fs::write(directory.join("store.sqlite"), bytes).unwrap();
        Vec::new()
    });
    let there = use_it(&broker, unique, 1).unwrap_or_else(|wrong| {
        panic!("{what}: {wrong:?}\n{}", broker.log());
    });
    broker.kill();
    broker.start_again();
    let again = use_it(&broker, unique, 2).unwrap_or_else(|wrong| {
        panic!("{what}, the second time: {wrong:?}\n{}", broker.log());
    });
    assert_eq!(again, SLEEPERS, "{what}: what came then is kept\n{}", broker.log());
    let aside = broker.count_in_log("the store is damaged: it is set aside");
    assert!(aside <= 1, "{what}: {aside} times\n{}", broker.log());
    there
}

/// Has every sleeper come, and a message stored and fetched; how many of them were known.
fn use_it(broker: &Broker, unique: &str, starts: usize) -> Outcome<usize> {
    broker.wait_until("it takes clients", |broker| {
        broker.count_in_log("accepts connections") == starts
    });
    let mut stage = broker.stage(Version::V5);
    unique.clone_into(&mut stage.unique);
    let mut there = 0;
    for number in 0..SLEEPERS {
        there += usize::from(is_there(&stage, &format!("s{number}"))?);
    }
    let new = stage.connect("new").kept();
    if starts == 1 {
        let mut client = stage.enter(&new)?;
        client.subscribe("new", 1)?;
        client.leave()?;
        stage.client("publisher")?.publish("new", "kept", 1)?;
    } else {
        let mut client = stage.enter(&new)?;
        ensure!(client.connack.session_present, "what came then is not kept");
        client.receive("new", "kept", 1)?;
    }
    Ok(there)
}

/// Who finds out that the store has lost its Session loses its connection, and comes again.
fn is_there(stage: &Stage, name: &str) -> Outcome<bool> {
    let try_once = || {
        let client = stage.enter(&stage.connect(name).kept())?;
        let is_known = client.connack.session_present;
        client.leave().map(|()| is_known)
    };
    try_once().or_else(|_lost| try_once())
}
