//! A server that is there and takes nothing: full, read-only, without a place for another connection.

use std::path::PathBuf;
use std::process::Command;

use mqttzoo::runtime::Background;
use mqttzoo::store::PostgresOptions;
use rustix::process::Signal;

use super::trouble::{begin, carry_on, connack, take_until, wait_for_readiness, wait_until_good};
use super::{DATABASE, Mortal};
use crate::conformance::{Event, Version, kind};
use crate::harness::{Postgres, server_directory, server_user};

/// A broker with `sleeper`, which wants `t/#`.
fn over(database: String, store_wait_secs: &str) -> Mortal {
    DATABASE.set(Some(database));
    let mortal = Mortal::start(&["--admin-port", "0", "--store-wait-secs", store_wait_secs]);
    DATABASE.set(None);
    let mut sleeper = mortal.keeper("sleeper");
    sleeper.subscribe("t/#", 1).unwrap();
    sleeper.leave().unwrap();
    mortal
}

/// A publish that must be stored waits until the trouble ends, and comes; nobody else notices.
fn outlive(mortal: &Mortal, words: &str, end: impl FnOnce()) {
    let mut publisher = mortal.stage.client("publisher").unwrap();
    publisher.send(&mortal.stage.message("t/x", "kept").qos(1, 1).bytes());
    wait_for_readiness(mortal, words);
    carry_on(mortal);
    end();
    publisher.expect_ack(kind::PUBACK, 1).unwrap();
    wait_until_good(mortal);
    let mut sleeper = mortal.keeper("sleeper");
    assert!(sleeper.connack.session_present);
    sleeper.receive("t/x", "kept", 1).unwrap();
}

#[test]
fn a_server_that_may_not_be_written_to_keeps_only_those_who_need_it() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let name = database.rsplit_once("dbname=").unwrap().1.to_owned();
    let set = |word: &str| {
        let sql = format!("ALTER DATABASE {name} SET default_transaction_read_only = {word}");
        server.query("postgres", &sql);
    };
    let mortal = over(database, "60");
    set("on");
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}'"
    );
    server.query("postgres", &end);
    outlive(&mortal, "25006", || set("off"));
}

/// For longer than anybody waits: a minute is as good as a second then.
#[test]
fn a_server_that_is_frozen_for_too_long_keeps_only_those_who_need_it_and_loses_nothing() {
    let Some(server) = Postgres::start() else { return };
    let mut mortal = over(server.database("postgres"), "1");
    mortal.stage.client("publisher").unwrap().publish("t/x", "before", 1).unwrap();
    server.freeze();
    let mut returning = begin(&mortal, "sleeper", Version::V5);
    let mut newcomer = begin(&mortal, "newcomer", Version::V5);
    let mut old = begin(&mortal, "old", Version::V4);
    let mut publisher = mortal.stage.client("publisher").unwrap();
    publisher.send(&mortal.stage.message("t/x", "unanswered").qos(1, 1).bytes());
    wait_for_readiness(&mortal, "degraded");
    carry_on(&mortal);
    assert_eq!(connack(&mut returning), (0x88, false));
    assert_eq!(connack(&mut newcomer), (0x88, false));
    assert_eq!(connack(&mut old), (3, false));
    publisher.refused(&[0x89]).unwrap();
    carry_on(&mortal);
    server.thaw();
    wait_until_good(&mortal);
    mortal.stage.client("publisher").unwrap().publish("t/x", "after", 1).unwrap();
    mortal.die_and_rise();
    let mut sleeper = mortal.keeper("sleeper");
    assert!(sleeper.connack.session_present);
    let taken = take_until(&mut sleeper, b"after", b"unanswered");
    assert_eq!(taken, [b"before".to_vec(), b"after".to_vec()]);
}

#[test]
fn a_server_without_a_place_for_us_keeps_only_those_who_need_it() {
    let Some(mut server) = Postgres::start() else { return };
    let database = server.database("postgres");
    for (setting, value) in [("max_connections", "4"), ("superuser_reserved_connections", "0")] {
        server.set(setting, value);
    }
    let mortal = over(database.clone(), "60");
    // Others take every place while the broker is not looking.
    mortal.broker.signal(Signal::STOP);
    server.kill();
    server.start_again();
    let background = Background::start(1).unwrap();
    let options = PostgresOptions::parse(&database).unwrap();
    let handle = background.handle();
    let mut others = Vec::new();
    let why = loop {
        match background.block_on(options.connect(&handle)) {
            Ok(other) => others.push(other),
            Err(why) => break why,
        }
    };
    assert!(others.len() == 4 && why.contains("53300"), "{} and {why}", others.len());
    mortal.broker.signal(Signal::CONT);
    outlive(&mortal, "53300", || drop(others));
}

/// A file system of a few MiB, in which a database lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Nothing, with a line, for those who may not mount.
    fn mount(mib: u32) -> Option<Self> {
        let (user, group) = server_user()?;
        let disk = Self(server_directory("small-disk"));
        let options = format!("size={mib}m,uid={user},gid={group},mode=700");
        let is_mounted = disk.is_done("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"]);
        if !is_mounted {
            eprintln!("skipped: no file system can be mounted here");
        }
        is_mounted.then_some(disk)
    }

    fn grow(&self, mib: u32) {
        assert!(self.is_done("mount", &["-o", &format!("remount,size={mib}m")]));
    }

    fn is_done(&self, program: &str, arguments: &[&str]) -> bool {
        let ended = Command::new(program).args(arguments).arg(&self.0).status();
        ended.is_ok_and(|status| status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.is_done("umount", &["-l"]);
        let _gone = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_disk_of_the_server_is_full() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let Some(server) = Postgres::start() else { return };
    let place = format!("CREATE TABLESPACE small LOCATION '{}'", disk.0.display());
    server.query("postgres", &place);
    server.query("postgres", "CREATE DATABASE small TABLESPACE small");
    let mortal = over(server.database("small"), "1");
    let payload = |number: u16| {
        // What does not repeat is not compressed away.
        let mut state = u32::from(number);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..100_000).map(|_| next()).collect::<Vec<u8>>()
    };
    let (mut acknowledged, mut unanswered) = (Vec::new(), Vec::new());
    let mut publisher = mortal.stage.client("publisher").unwrap();
    for number in 1..400 {
        let message = mortal.stage.message("t/x", payload(number));
        publisher.send(&message.qos(1, number).bytes());
        match publisher.event().unwrap() {
            Event::Packet(packet) if packet.kind() == kind::PUBACK => {
                acknowledged.push(payload(number));
            }
            Event::Packet(_) | Event::Closed => {
                unanswered = payload(number);
                break;
            }
        }
    }
    assert!(!unanswered.is_empty() && acknowledged.len() > 10, "{} fit", acknowledged.len());
    wait_for_readiness(&mortal, "53100");
    carry_on(&mortal);
    disk.grow(200);
    wait_until_good(&mortal);
    mortal.stage.client("publisher").unwrap().publish("t/x", "end", 1).unwrap();
    let mut sleeper = mortal.keeper("sleeper");
    assert!(sleeper.connack.session_present);
    acknowledged.push(b"end".to_vec());
    let taken = take_until(&mut sleeper, b"end", &unanswered);
    assert!(taken == acknowledged, "{} came of {}", taken.len(), acknowledged.len());
}
