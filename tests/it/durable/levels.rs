//! What acknowledgements wait for, as it is configured: for all, for a listener, for topics.

use std::fs;

use super::trouble::{Lock, wait_until_good};
use super::{Mortal, take};
use crate::conformance::{Client, Stage, Target, Version, kind};
use crate::harness::Broker;

/// Two listeners, the second of which does not wait for the store.
const CONFIG: &str = "
admin_port = 0
store_wait_secs = 60
acknowledge_topics = [\"t/slow=durable\", \"t/fast/#=accepted\", \"t/queued=enqueued\"]
[[listener]]
port = 0
[[listener]]
port = 0
acknowledge = \"accepted\"
";

fn start() -> Mortal {
    let broker = Broker::start_with(|directory| {
        let file = directory.join("broker.toml");
        fs::write(&file, CONFIG).unwrap();
        vec!["--config".to_owned(), file.display().to_string()]
    });
    let stage = broker.stage(Version::V5);
    Mortal { broker, stage }
}

/// A publisher at the listener of this number.
fn at(mortal: &Mortal, listener: usize, name: &str) -> Client {
    let target = Target { port: mortal.broker.ports().tcp[listener], ..mortal.broker.target() };
    let mut stage = Stage::new(target, Version::V5);
    stage.unique.clone_from(&mortal.stage.unique);
    stage.client(name).unwrap()
}

fn send(client: &mut Client, mortal: &Mortal, topic: &str, qos: u8, id: u16) {
    client.send(&mortal.stage.message(topic, topic).qos(qos, id).bytes());
}

#[test]
fn listeners_and_topics_say_what_an_acknowledgement_waits_for() {
    let mortal = start();
    let mut sleeper = mortal.keeper("sleeper");
    sleeper.subscribe("t/#", 2).unwrap();
    sleeper.leave().unwrap();
    let (mut strict, mut topics) = (at(&mortal, 0, "strict"), at(&mortal, 0, "topics"));
    let (mut lax, mut special) = (at(&mortal, 1, "lax"), at(&mortal, 1, "special"));

    let lock = Lock::on(&mortal);
    send(&mut strict, &mortal, "t/x", 1, 1);
    send(&mut special, &mortal, "t/slow", 1, 1);
    for (id, topic) in [(1, "t/fast/x"), (2, "t/queued")] {
        send(&mut topics, &mortal, topic, 1, id);
        topics.expect_ack(kind::PUBACK, id).unwrap();
    }
    send(&mut lax, &mortal, "t/x", 1, 1);
    lax.expect_ack(kind::PUBACK, 1).unwrap();
    send(&mut lax, &mortal, "t/x", 2, 2);
    lax.expect_ack(kind::PUBREC, 2).unwrap();
    // The store had everything to say no to by now, and nobody was told that it had said yes.
    mortal.broker.wait_for_metric("store_retries_total", |retries| retries > 0);
    strict.ping().unwrap();
    special.ping().unwrap();

    lock.let_go();
    strict.expect_ack(kind::PUBACK, 1).unwrap();
    special.expect_ack(kind::PUBACK, 1).unwrap();
    wait_until_good(&mortal);
    let mut sleeper = mortal.keeper("sleeper");
    assert!(sleeper.connack.session_present);
    let taken = take(&mut sleeper, 6).into_iter();
    let mut topics: Vec<_> = taken.map(|it| String::from_utf8(it.payload).unwrap()).collect();
    topics.sort();
    assert_eq!(topics, ["t/fast/x", "t/queued", "t/slow", "t/x", "t/x", "t/x"]);
    sleeper.quiet().unwrap();
}
