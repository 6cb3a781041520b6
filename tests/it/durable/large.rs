//! A queue that is larger than the memory its broker may grow by when the client returns.

use super::Mortal;
use crate::conformance::kind;

const MESSAGES: u32 = 1_000;
const BYTES: usize = 250_000;
/// What SQLite keeps of its file (`cache_size`), pages on their way, and the allocator's slack.
const GROWTH_MAX: u64 = 128 << 20;

#[test]
fn a_client_returns_to_a_queue_larger_than_memory_in_bounded_memory() {
    let limits = ["--queue-bytes-max", "1 GiB", "--memory-high-water-percent", "100"];
    let mut mortal = Mortal::start(&[&limits[..], &["--admin-port", "0"]].concat());
    let mut sleeper = mortal.keeper("sleeper");
    sleeper.subscribe("t", 1).unwrap();
    sleeper.leave().unwrap();
    let mut publisher = mortal.stage.client("publisher").unwrap();
    let payload = |number: u32| {
        let mut payload = vec![b'x'; BYTES];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        payload
    };
    let ids: Vec<u16> = (1..=10).collect();
    for first in (0..MESSAGES).step_by(ids.len()) {
        for (number, id) in (first..).zip(&ids) {
            publisher.send(&mortal.stage.message("t", payload(number)).qos(1, *id).bytes());
        }
        for id in &ids {
            assert!(publisher.expect_ack(kind::PUBACK, *id).unwrap().code < 0x80);
        }
    }
    mortal.die_and_rise();
    mortal.broker.wait_for_log("accepts connections");
    let resident = || mortal.broker.metrics().value("resident_bytes");
    let (before, mut most) = (resident(), 0);
    let mut sleeper = mortal.keeper("sleeper");
    for number in 0..MESSAGES {
        let message = sleeper.message().unwrap();
        assert_eq!(message.payload[..4], number.to_be_bytes());
        sleeper.settle(&message).unwrap();
        if number % 20 == 0 {
            most = most.max(resident());
        }
    }
    let grown = most.saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes more than {before}, of {MESSAGES} x {BYTES}");
    const { assert!(GROWTH_MAX < MESSAGES as u64 * BYTES as u64 * 2 / 3) };
}
