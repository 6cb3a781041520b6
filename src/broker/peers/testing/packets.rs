//! What clients send, in short, and what they are sent.

use std::num::NonZeroU32;

use bytes::Bytes;

use crate::mqtt::{
    Connect, ConnectProperties, Frame, Packet, PacketId, ProtocolVersion, Publish, QoS, Sender,
    Subscribe, SubscribeFilter, SubscriptionOptions,
};
use crate::session::outbox::Outbox;

/// CONNECT of a client of 5.0; an expiry of 0 starts a Session anew that ends with the connection.
pub(crate) fn connect(id: &str, expiry_secs: u32) -> Connect {
    Connect {
        protocol_version: ProtocolVersion::V5,
        clean_start: expiry_secs == 0,
        keep_alive_secs: 0,
        client_id: id.into(),
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties {
            session_expiry_interval_secs: NonZeroU32::new(expiry_secs).map(NonZeroU32::get),
            ..ConnectProperties::default()
        },
    }
}

/// PUBLISH; `id` is 0 with QoS 0.
pub(crate) fn publish(topic: &str, payload: &str, qos: QoS, id: u16) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.into(),
        packet_id: PacketId::new(id),
        topic_alias: None,
        subscription_ids: smallvec::SmallVec::new(),
        properties: None,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    })
}

/// The same with RETAIN.
#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is made")]
pub(crate) fn retained(topic: &str, payload: &str, qos: QoS, id: u16) -> Packet {
    match publish(topic, payload, qos, id) {
        Packet::Publish(publish) => Packet::Publish(Publish { retain: true, ..publish }),
        other => unreachable!("a PUBLISH was made, not {other:?}"),
    }
}

/// SUBSCRIBE to one filter.
pub(crate) fn subscribe(filter: &str, options: SubscriptionOptions) -> Packet {
    Packet::Subscribe(Subscribe {
        packet_id: PacketId::MIN,
        subscription_id: None,
        user_properties: Vec::new(),
        filters: vec![SubscribeFilter { filter: filter.into(), options }],
    })
}

/// The options of a Subscription of this QoS.
pub(crate) fn at(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, ..SubscriptionOptions::default() }
}

/// The payloads of the messages among `packets`.
pub(crate) fn payloads(packets: &[Packet]) -> Vec<String> {
    let text = |packet: &Packet| {
        let Packet::Publish(publish) = packet else { return None };
        Some(String::from_utf8(publish.payload.to_vec()).unwrap())
    };
    packets.iter().filter_map(text).collect()
}

pub(super) fn decode(version: ProtocolVersion, outbox: &Outbox) -> Vec<Packet> {
    let mut slices = vec![std::io::IoSlice::new(&[]); 4_096];
    let count = outbox.slices(&mut slices);
    let mut bytes =
        Bytes::from(slices[..count].iter().flat_map(|one| one.to_vec()).collect::<Vec<u8>>());
    let mut packets = Vec::new();
    while let Some(frame) = Frame::peek(&bytes, usize::MAX).unwrap() {
        let whole = bytes.split_to(frame.total_len);
        packets.push(Packet::decode(version, Sender::Server, &whole).unwrap());
    }
    packets
}
