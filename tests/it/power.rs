//! The power is cut: a broker is started on what a disk may hold then, and what was acknowledged is
//! there.
//!
//! SIGKILL is no power cut, because what the process had written is in the kernel. So a broker plays a
//! story while a library, loaded before all others, writes down what it does to the files of its store
//! (`journal.c`). From that any moment is built again: what was synced, and all, none or some of the
//! rest.

mod after;
mod disk;
mod story;

use std::path::Path;
use std::process::Command;
use std::thread;

use crate::durable::Mortal;
use crate::harness::fresh_dir;
use disk::{Journal, Unsynced};
use story::View;

/// Before and after each fsync; more seeds with `MQTTZOO_POWER_SEEDS`.
#[test]
fn nothing_acknowledged_is_lost_when_the_power_is_cut() {
    let directory = fresh_dir("power");
    let (library, path) = (directory.join("journal.so"), directory.join("journal"));
    build(&library);
    let preload = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("MQTTZOO_TEST_JOURNAL", path.to_str().unwrap()),
    ];
    let mut mortal = Mortal::start_in(&preload);
    let seen = story::play(&mut mortal, &path);
    let journal = Journal::read(&path);
    let cuts = cuts(&journal);
    let (journal, seen, unique) = (&journal, &*seen, &*mortal.stage.unique);
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let mine = cuts.iter().skip(worker).step_by(WORKERS);
            scope.spawn(move || {
                for (steps, unsynced) in mine {
                    let view = View::at(seen, journal.end_of(*steps));
                    after::check((journal, *steps, *unsynced), &view, unique);
                }
            });
        }
    });
    std::fs::remove_dir_all(directory).unwrap();
}

/// Every moment with one fate of what was not synced, in turn, and with some of it by each seed that is
/// asked for.
fn cuts(journal: &Journal) -> Vec<(usize, Unsynced)> {
    let seeds = std::env::var("MQTTZOO_POWER_SEEDS").map_or(0, |count| count.parse().unwrap());
    let boundaries = journal.boundaries();
    assert!(boundaries.len() > 50, "only {} moments: are calls written down?", boundaries.len());
    let mut cuts = Vec::new();
    for (place, steps) in (0..).zip(boundaries) {
        let unsynced = match (place / 2) % 3 {
            0 => Unsynced::Some(place),
            1 => Unsynced::Lost,
            _ => Unsynced::Kept,
        };
        cuts.push((steps, unsynced));
        cuts.extend((0..seeds).map(|seed| (steps, Unsynced::Some(place << 32 | seed))));
    }
    cuts
}

/// The compiler is there: SQLite was built with it.
fn build(library: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/power/journal.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(library).arg(source);
    assert!(compiler.status().unwrap().success(), "{compiler:?}");
}

/// Brokers at a time.
const WORKERS: usize = 4;
