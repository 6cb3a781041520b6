//! Messages of QoS 2 that their publishers send again.

use super::*;
use crate::ports::clock::Tick;

fn is_pubrec(packet: &Packet) -> bool {
    matches!(packet, Packet::Pubrec(pubrec) if !pubrec.reason_code.is_error())
}

/// *A process stood still with a message in its hands that a client had sent again, until it was declared
/// dead* (simulated seed 2444). It had been taken before, and PUBREC was sent whatever the lease said.
#[test]
fn a_message_that_comes_again_is_not_acknowledged_past_the_lease() {
    let mut cluster = Cluster::new(2);
    let writer = open(&mut cluster, 0, "writer", 600);
    cluster.send(writer, &publish("t", "one", QoS::ExactlyOnce, 1));
    cluster.pump();
    assert!(matches!(&cluster.received(writer)[..], [Packet::Pubrec(_)]));
    cluster.lose(writer);
    let writer = open(&mut cluster, 0, "writer", 600);
    cluster.broker(0).peers().unwrap().set_lease(Tick::ZERO);
    cluster.send(writer, &publish("t", "one", QoS::ExactlyOnce, 1));
    cluster.pump();
    assert_eq!(cluster.received(writer), [], "others may have gone on");
    cluster.broker(0).peers().unwrap().set_lease(Tick::from_millis(u64::MAX));
    cluster.pump();
    assert_eq!(count(&cluster.received(writer), is_pubrec), 1);
}
