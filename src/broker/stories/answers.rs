//! What clients are answered.

use super::*;
use crate::mqtt::Unsubscribe;

fn unsubscribe(filter: &'static str) -> Packet {
    Packet::Unsubscribe(Unsubscribe {
        packet_id: PacketId::MIN,
        user_properties: Vec::new(),
        filters: vec![filter.into()],
    })
}

/// SUBACK said why a filter was refused, UNSUBACK did not.
#[test]
fn an_unsuback_says_why_a_filter_is_refused() {
    for expiry_secs in [0, 600] {
        let mut stage = Stage::new(BrokerOptions::default());
        let (mut client, _) = stage.connect("a", ProtocolVersion::V5, expiry_secs);
        for (filter, says_why) in [("a#", true), ("not/there", false)] {
            let answers = stage.send(&mut client, &unsubscribe(filter));
            let [Packet::Unsuback(unsuback)] = &answers[..] else { panic!("{answers:?}") };
            assert_eq!(unsuback.reason_string.is_some(), says_why, "{unsuback:?}");
        }
    }
}
