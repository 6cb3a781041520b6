//! The high-water mark of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::conformance::Version;
use crate::harness::Broker;

/// Above the mark publishers wait, and nobody else does; below it they go on. One per cent of the
/// machine is filled with retained messages and given back.
///
/// Publishers once did not go on: the timer that had gone off counted as one that was still armed,
/// so that the second wait for memory had none, and ended with the keep alive.
#[test]
fn above_the_high_water_mark_publishers_wait() {
    let bounds = "--admin-port=0 --memory-high-water-percent=1 --retained-bytes-max=16GiB \
                  --packet-bytes-max=16MiB";
    let broker = Broker::start(&bounds.split_whitespace().collect::<Vec<_>>());
    let s = broker.stage(Version::V5);
    let (mut other, mut publisher) = (s.client("other").unwrap(), s.client("publisher").unwrap());
    let is_enough = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_enough);
    let payload = "x".repeat(8 << 20);
    let messages: Vec<_> = (0..1_000).map(|n| s.message(format!("r/{n}"), "")).collect();
    let filling = thread::spawn(move || {
        for mut message in messages {
            if flag.load(Ordering::Relaxed) {
                break;
            }
            message.payload = payload.clone().into_bytes();
            message.retain = true;
            publisher.send(&message.bytes());
        }
        publisher
    });
    broker.wait_for_metric("memory_short", |is_short| is_short == 1);
    broker.wait_for_metric("reads_deferred_by_memory_total", |count| count > 0);
    other.ping().unwrap();
    other.subscribe("t", 0).unwrap();
    is_enough.store(true, Ordering::Relaxed);

    // A client that has not published yet is read once.
    let mut cleaner = s.client("cleaner").unwrap();
    let deletions = (0..120).flat_map(|n| s.message(format!("r/{n}"), "").retained().bytes());
    cleaner.send(&deletions.collect::<Vec<u8>>());
    broker.wait_for_metric("memory_short", |is_short| is_short == 0);
    let mut publisher = filling.join().unwrap();
    publisher.ping().unwrap();
    cleaner.publish("t", "on we go", 0).unwrap();
    other.receive("t", "on we go", 0).unwrap();
    broker.wait_for_log("memory and its high-water mark");
}
