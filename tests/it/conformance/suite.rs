//! The suite against our broker, against silence, and against Mosquitto.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Outcome, Stage, Target, Verdict, Version, all, runner};
use crate::harness::{Mosquitto, SilentServer, shared};

/// Our broker as a target.
pub(crate) fn our_target() -> Target {
    let ports = shared().ports();
    Target { ws_port: ports.ws.first().copied(), ..Target::local(shared().port()) }
}

/// Plays one script against our broker, which may not skip any.
pub(crate) fn judge_ours(version: Version, script: fn(&Stage) -> Outcome) {
    match script(&Stage::new(our_target(), version)) {
        Ok(()) => {}
        Err(Verdict::Differs(what)) => panic!("{what}"),
        Err(Verdict::Skipped(why)) => panic!("our broker must not lack anything: {why}"),
    }
}

/// A script that passes against a server that says nothing would pass against anything.
#[test]
fn every_script_fails_against_silence() {
    let server = SilentServer::start();
    let target = Target {
        ws_port: Some(server.port()),
        patience: Duration::from_millis(300),
        ..Target::local(server.port())
    };
    let passed = Mutex::new(Vec::new());
    runner::play_all(&target, &all(), 32, |script, outcome| {
        if !matches!(outcome, Err(Verdict::Differs(_))) {
            passed.lock().push(script.name());
        }
    });
    assert!(passed.lock().is_empty(), "these did not fail: {:#?}", passed.lock());
}

/// The committed table names each script Mosquitto 2.0.11 fails and what it does instead. If it
/// failed fewer than ten, the suite would be too weak; if it fails another one, either a script has
/// become wrong or Mosquitto's fault was not known. Where the second column says `sometimes`, it
/// depends on the phase of Mosquitto's timers.
#[test]
fn mosquitto_differs_where_the_table_says() {
    let Some(version) = Mosquitto::version() else { return };
    if version != "2.0.11" {
        assert!(std::env::var_os("CI").is_none(), "CI needs Mosquitto 2.0.11, not {version}");
        eprintln!("skipped: the table is for Mosquitto 2.0.11, this is {version}");
        return;
    }
    let table: BTreeMap<&str, &str> = include_str!("mosquitto-2.0.11.tsv")
        .lines()
        .skip(1)
        .map(|line| line.split_once('\t').expect("a line has three columns"))
        .collect();
    let (always, sometimes): (BTreeMap<_, _>, BTreeMap<_, _>) =
        table.into_iter().partition(|(_, how)| how.starts_with("always\t"));
    let mosquitto = Mosquitto::start();
    let target = Target { ws_port: Some(mosquitto.ws_port), ..Target::local(mosquitto.port) };
    let failed = Mutex::new(BTreeMap::new());
    runner::play_all(&target, &all(), 8, |script, outcome| {
        if let Err(Verdict::Differs(what)) = outcome {
            failed.lock().insert(script.name(), what);
        }
    });
    let failed = failed.into_inner();
    let is_known = |name: &str| always.contains_key(name) || sometimes.contains_key(name);
    let new: Vec<_> = failed.iter().filter(|(name, _)| !is_known(name)).collect();
    let gone: Vec<_> = always.keys().filter(|name| !failed.contains_key(**name)).collect();
    assert!(new.is_empty() && gone.is_empty(), "not in the table: {new:#?}\npassed: {gone:#?}");
    assert!(failed.len() >= 10, "a suite in which Mosquitto fails only {failed:?} is too weak");
}
