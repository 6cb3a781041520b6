//! A primary and a synchronous standby behind one broker that knows both: what was acknowledged outlives
//! the one that goes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::killed_under_load::publish_through;
use super::{DATABASE, Mortal, take};
use crate::conformance::{Stage, Target, Version, ack, kind};
use crate::harness::Postgres;

/// A primary that waits for its standby.
fn pair() -> Option<(Postgres, Postgres)> {
    let primary = Postgres::start()?;
    let standby = primary.standby();
    primary.set("synchronous_standby_names", "*");
    wait_until_followed(&primary);
    Some((primary, standby))
}

fn wait_until_followed(primary: &Postgres) {
    let streaming = "SELECT count(*) FROM pg_stat_replication
        WHERE sync_state = 'sync' AND state = 'streaming'";
    wait_until("the standby follows", || primary.query("postgres", streaming) == "1");
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not come to: {what}");
        thread::yield_now();
    }
}

fn over(primary: &Postgres, standby: &Postgres) -> Mortal {
    let both = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=mqtt dbname=postgres \
         target_session_attrs=read-write",
        primary.port(),
        standby.port()
    );
    DATABASE.set(Some(both));
    let mortal = Mortal::start(&["--admin-port", "0", "--store-wait-secs", "60"]);
    DATABASE.set(None);
    let mut sleeper = mortal.keeper("sleeper");
    sleeper.subscribe("t/#", 2).unwrap();
    sleeper.leave().unwrap();
    mortal
}

/// Two publishers, one for each QoS, and how far they are.
struct Load {
    is_over: Arc<AtomicBool>,
    acked: [Arc<AtomicU64>; 2],
    publishers: [JoinHandle<()>; 2],
}

impl Load {
    fn begin(mortal: &Mortal) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let acked: [Arc<AtomicU64>; 2] = Default::default();
        let publishers = [publish_once as fn(&_, &_, &_, &_), publish_through];
        let publishers = [0, 1].map(|index| {
            let (target, unique) = (mortal.stage.target.clone(), mortal.stage.unique.clone());
            let (is_over, acked) = (Arc::clone(&is_over), Arc::clone(&acked[index]));
            let publish = publishers[index];
            thread::spawn(move || publish(&target, &unique, &is_over, &acked))
        });
        Self { is_over, acked, publishers }
    }

    fn wait_for(&self, more: u64) {
        for acked in &self.acked {
            let enough = acked.load(Ordering::Relaxed) + more;
            wait_until("more is acknowledged", || acked.load(Ordering::Relaxed) >= enough);
        }
    }

    fn end(self) -> [u64; 2] {
        self.is_over.store(true, Ordering::Relaxed);
        for publisher in self.publishers {
            publisher.join().unwrap();
        }
        self.acked.map(|acked| acked.load(Ordering::Relaxed))
    }
}

/// The same as [`publish_through`] with QoS 1.
fn publish_once(target: &Target, unique: &str, is_over: &AtomicBool, acked: &AtomicU64) {
    let mut stage = Stage::new(target.clone(), Version::V5);
    unique.clone_into(&mut stage.unique);
    let connect = stage.connect("once").kept();
    let mut number = 0_u64;
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut client) = stage.enter(&connect) else { continue };
        client.set_patience(Duration::from_secs(5));
        while !is_over.load(Ordering::Relaxed) {
            let id = u16::try_from(number % 60_000).unwrap() + 1;
            client.send(&stage.message("t/once", number.to_string()).qos(1, id).bytes());
            if !client.expect_ack(kind::PUBACK, id).is_ok_and(|answer| answer.code < 0x80) {
                break;
            }
            number += 1;
            acked.store(number, Ordering::Relaxed);
        }
    }
}

/// All that was acknowledged is in the queue, in order, and of QoS 2 nothing twice.
fn expect_all(mortal: &Mortal, [once, through]: [u64; 2]) {
    mortal.stage.client("last").unwrap().publish("t/last", "", 2).unwrap();
    let mut sleeper = mortal.keeper("sleeper");
    assert!(sleeper.connack.session_present);
    let (mut firsts, mut exactly) = (Vec::new(), Vec::new());
    let mut known = HashSet::new();
    let mut is_over = false;
    while !is_over {
        for message in take(&mut sleeper, 1) {
            let number = || String::from_utf8_lossy(&message.payload).parse::<u64>().unwrap();
            match &*String::from_utf8_lossy(&message.topic) {
                "t/once" if known.insert(number()) => firsts.push(number()),
                "t/once" => {}
                "t/n" => exactly.push(number()),
                _ => is_over = true,
            }
        }
    }
    // One more of each may be there, whose publisher has not heard of it.
    for (numbers, acked) in [(firsts, once), (exactly, through)] {
        let count = numbers.len() as u64;
        assert!([acked, acked + 1].contains(&count), "{count} of {acked}");
        assert!(numbers.into_iter().eq(0..count), "of {acked}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_primary_is_killed_and_the_standby_promoted() {
    let Some((mut primary, standby)) = pair() else { return };
    let mut mortal = over(&primary, &standby);
    mortal.broker.wait_for_log("a failover to a synchronous standby: 1 of them there");
    let (_, ready) = mortal.broker.ask_admin("GET", "/readyz").unwrap();
    assert!(ready.contains("\"promise\":\"what is acknowledged outlives"), "{ready}");
    let load = Load::begin(&mortal);
    load.wait_for(100);
    primary.kill_hard();
    standby.promote();
    load.wait_for(100);
    let acked = load.end();
    mortal.broker.wait_for_log("not a failover: there is no synchronous standby");
    mortal.die_and_rise();
    expect_all(&mortal, acked);
}

/// Such a server takes connections, and says nothing to them: whoever tries it first stays there.
#[test]
fn a_primary_that_hangs_is_left_for_the_one_that_was_promoted() {
    let Some((mut primary, standby)) = pair() else { return };
    let mut mortal = over(&primary, &standby);
    let load = Load::begin(&mortal);
    load.wait_for(20);
    primary.freeze();
    standby.promote();
    load.wait_for(20);
    let acked = load.end();
    primary.kill_hard();
    mortal.die_and_rise();
    expect_all(&mortal, acked);
}

/// Nothing would outlive a failover now, so nothing is acknowledged, and the broker says why.
#[test]
fn without_its_standby_a_server_acknowledges_nothing_and_the_broker_says_so() {
    let Some((primary, mut standby)) = pair() else { return };
    let mortal = over(&primary, &standby);
    let mut publisher = mortal.stage.client("publisher").unwrap();
    publisher.publish("t/x", "before", 1).unwrap();
    standby.kill();
    publisher.send(&mortal.stage.message("t/x", "meanwhile").qos(1, 9).bytes());
    mortal.broker.wait_for_log("of which none is there: nothing that is stored is acknowledged");
    publisher.ping().unwrap();
    let (_, ready) = mortal.broker.ask_admin("GET", "/readyz").unwrap();
    assert!(ready.contains("degraded") && ready.contains("none is there"), "{ready}");
    standby.start_again();
    wait_until_followed(&primary);
    publisher.expect_ack(kind::PUBACK, 9).unwrap();
    let mut sleeper = mortal.keeper("sleeper");
    for payload in ["before", "meanwhile"] {
        let message = sleeper.packet().unwrap().publish().unwrap();
        assert_eq!(message.payload, payload.as_bytes());
        sleeper.send(&ack(kind::PUBACK, message.id));
    }
}
