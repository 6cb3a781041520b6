//! A log that cannot be written.

use std::fs::OpenOptions;
use std::process::Command;

use crate::conformance::Version;
use crate::harness::Broker;

/// Story: whoever read the log had stopped, the pipe was full, and the broker waited for its last
/// line to be written before it ended: for ever.
#[test]
fn a_log_that_nobody_reads_does_not_keep_the_broker_from_ending() {
    let mut reader = None;
    let mut broker = Broker::start_with(|directory| {
        let pipe = directory.join("log.pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        reader = Some(OpenOptions::new().read(true).write(true).open(&pipe).unwrap());
        vec!["--log-file".to_owned(), pipe.display().to_string()]
    });
    // A pipe holds 64 KiB; a connection is two lines of more than a hundred bytes.
    for _ in 0..600 {
        broker.stage(Version::V5).client("a").unwrap().leave().unwrap();
    }
    assert!(broker.terminate().success());
    drop(reader);
}
