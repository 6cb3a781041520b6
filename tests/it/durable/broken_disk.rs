//! A disk that does not write any more: it became read-only, is broken, or is full. Root may write to what
//! is read-only, so a library that is loaded before all others says no in its place (`broken_disk.c`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use rustix::io::Errno;

use super::Mortal;
use super::trouble::{begin, carry_on, connack, take_until, wait_for_readiness, wait_until_good};
use crate::conformance::{Version, kind};
use crate::harness::fresh_dir;

struct Disk {
    directory: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let directory = fresh_dir("broken-disk");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/durable/broken_disk.c");
        let library = directory.join("broken_disk.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(library).arg(source);
        assert!(compiler.status().unwrap().success(), "{compiler:?}");
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// A broker on it, with `sleeper`, which wants `t/#`.
    fn start(&self, wait_secs: &str) -> Mortal {
        let (library, fault) = (self.path("broken_disk.so"), self.path("fault"));
        let mortal = Mortal::start_in(&[
            ("LD_PRELOAD", &library),
            ("MQTTZOO_TEST_FAULT", &fault),
            ("MQTTZOO_ADMIN_PORT", "0"),
            ("MQTTZOO_STORE_WAIT_SECS", wait_secs),
        ]);
        let mut sleeper = mortal.keeper("sleeper");
        sleeper.subscribe("t/#", 1).unwrap();
        sleeper.leave().unwrap();
        mortal
    }

    /// Nothing is written any more, for this reason.
    fn fail(&self, why: Errno) {
        // At once: who reads it has all of it, or nothing.
        let (new, fault) = (self.path("new"), self.path("fault"));
        fs::write(&new, why.raw_os_error().to_string()).unwrap();
        fs::rename(new, fault).unwrap();
    }

    fn mend(&self) {
        fs::remove_file(self.path("fault")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn a_disk_that_does_not_write_keeps_only_those_who_need_it_and_loses_nothing() {
    let disk = Disk::new();
    for (why, words) in
        [(Errno::ROFS, "readonly"), (Errno::IO, "disk I/O error"), (Errno::NOSPC, "disk is full")]
    {
        let mut mortal = disk.start("1");
        mortal.stage.client("publisher").unwrap().publish("t/x", "before", 1).unwrap();
        disk.fail(why);
        let mut returning = begin(&mortal, "sleeper", Version::V5);
        let mut old = begin(&mortal, "old", Version::V4);
        let mut publisher = mortal.stage.client("publisher").unwrap();
        publisher.send(&mortal.stage.message("t/x", "unanswered").qos(1, 1).bytes());
        wait_for_readiness(&mortal, "degraded");
        carry_on(&mortal);
        assert_eq!(connack(&mut returning), (0x88, false));
        assert_eq!(connack(&mut old), (3, false));
        publisher.refused(&[0x89]).unwrap();
        mortal.broker.wait_until(words, |broker| broker.log().contains(words));
        carry_on(&mortal);
        disk.mend();
        wait_until_good(&mortal);
        mortal.stage.client("publisher").unwrap().publish("t/x", "after", 1).unwrap();
        mortal.die_and_rise();
        let mut sleeper = mortal.keeper("sleeper");
        assert!(sleeper.connack.session_present);
        let taken = take_until(&mut sleeper, b"after", b"unanswered");
        assert_eq!(taken, [b"before".to_vec(), b"after".to_vec()]);
        assert_eq!(mortal.broker.count_in_log("set aside"), 0, "nothing is damaged");
    }
}

/// It goes on where it was, within the time that there is.
#[test]
fn who_waits_for_a_broken_disk_goes_on_when_it_is_mended() {
    let disk = Disk::new();
    for why in [Errno::ROFS, Errno::IO, Errno::NOSPC] {
        let mortal = disk.start("20");
        let mut publisher = mortal.stage.client("publisher").unwrap();
        disk.fail(why);
        publisher.send(&mortal.stage.message("t/x", "kept").qos(1, 1).bytes());
        mortal.broker.wait_for_metric("store_retries_total", |retries| retries > 1);
        disk.mend();
        publisher.expect_ack(kind::PUBACK, 1).unwrap();
        let mut sleeper = mortal.keeper("sleeper");
        sleeper.receive("t/x", "kept", 1).unwrap();
    }
}

/// Pages are overwritten under a broker that runs: it sets the file aside, says so, and goes on.
#[test]
fn a_file_that_is_damaged_under_a_running_broker_is_replaced() {
    let disk = Disk::new();
    let mortal = disk.start("20");
    let mut publisher = mortal.stage.client("publisher").unwrap();
    publisher.publish("t/x", "before", 1).unwrap();
    let file = mortal.broker.directory().join("store.sqlite");
    disk.fail(Errno::IO);
    // Whoever opens it next finds what is on the disk.
    publisher.send(&mortal.stage.message("t/x", "meanwhile").qos(1, 1).bytes());
    mortal.broker.wait_for_metric("store_retries_total", |retries| retries > 0);
    let checkpoint = Connection::open(&file).unwrap();
    let _busy = checkpoint.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    drop(checkpoint);
    let mut bytes = fs::read(&file).unwrap();
    bytes[4_096..].fill(0xff);
    fs::write(&file, bytes).unwrap();
    disk.mend();
    mortal.broker.wait_for_log("the store is damaged: it is set aside");
    mortal.broker.wait_for_log("what could be read of the damaged store has been taken over");
    wait_until_good(&mortal);
    carry_on(&mortal);
    // What was in it is lost, and its client is told so: it subscribes again, and what comes is kept.
    mortal.broker.wait_until("the Session is let go", |broker| {
        broker.metrics().value("sessions_fenced_total") > 0
    });
    let mut sleeper = mortal.keeper("sleeper");
    assert!(!sleeper.connack.session_present);
    sleeper.subscribe("t/#", 1).unwrap();
    sleeper.leave().unwrap();
    mortal.stage.client("other").unwrap().publish("t/x", "kept", 1).unwrap();
    let mut sleeper = mortal.keeper("sleeper");
    assert!(sleeper.connack.session_present);
    sleeper.receive("t/x", "kept", 1).unwrap();
}
