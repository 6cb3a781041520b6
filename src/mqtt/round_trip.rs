//! What holds for every packet, and for every sequence of bytes.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::arbitrary::{packet, sender, version};
use super::vectors::parse;
use super::*;

const VERSIONS: [ProtocolVersion; 3] =
    [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];

proptest! {
    #[test]
    fn a_packet_that_is_written_is_read_again((version, sender, packet) in sent_packet()) {
        let bytes = encoded(version, &packet);
        prop_assert_eq!(packet.encoded_len(version), bytes.len());
        prop_assert_eq!(Packet::decode(version, sender, &bytes), Ok(packet));
    }

    #[test]
    fn the_start_of_a_packet_asks_for_more((version, _, packet) in sent_packet()) {
        let bytes = encoded(version, &packet);
        for len in 0..bytes.len() {
            let frame = Frame::peek(&bytes[..len], PACKET_SIZE_MAX)?;
            prop_assert!(frame.is_none_or(|frame| frame.total_len == bytes.len()));
        }
        let frame = Frame::peek(&bytes, bytes.len())?.expect("a whole packet");
        prop_assert_eq!(frame.total_len, bytes.len());
        let too_large = Frame::peek(&bytes, bytes.len() - 1).map_err(DecodeError::reason_code);
        prop_assert_eq!(too_large, Err(ReasonCode::PacketTooLarge));
    }

    #[test]
    fn any_bytes_are_a_packet_or_an_error(first in any::<u8>(), body in vec(any::<u8>(), 0..120)) {
        check_bytes(&framed(first, &body));
    }

    /// Bytes that are almost a packet reach deeper than any bytes do.
    #[test]
    fn a_damaged_packet_is_a_packet_or_an_error(
        (version, _, packet) in sent_packet(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encoded(version, &packet);
        let header = Frame::peek(&bytes, PACKET_SIZE_MAX)?.expect("a whole packet");
        let mut body = bytes[header.header_len..].to_vec();
        for (index, byte) in damage.iter().filter(|_| !body.is_empty()).collect::<Vec<_>>() {
            let at = index.index(body.len());
            body[at] = *byte;
        }
        check_bytes(&framed(bytes[0], &body));
        check_bytes(&framed(bytes[0], &body[..cut.index(body.len() + 1)]));
    }
}

#[test]
fn what_is_small_on_the_wire_is_small_in_memory() {
    let times = 20_000;
    let rows = [
        (0x82, format!("000A 00 {}", "0000 00 ".repeat(times))),
        (0xA2, format!("000A 00 {}", "0000 ".repeat(times))),
        (0xA2, format!("000A [ {} ] 0000", "26 0000 0000 ".repeat(times))),
        (0x30, format!("s'a' [ {} ]", "26 0000 0000 ".repeat(times))),
        (0x30, format!("s'a' [ {} ]", "0B 01 ".repeat(times))),
        (0x90, format!("000A 00 {}", "00 ".repeat(times))),
        (0x40, format!("000A 00 [ {} ]", "26 0000 0000 ".repeat(times))),
    ];
    for (first_byte, body) in rows {
        let frame = framed(first_byte, &parse(&body));
        let readings = [Sender::Client, Sender::Server]
            .map(|sender| Packet::decode(ProtocolVersion::V5, sender, &frame));
        assert!(readings.iter().any(Result::is_ok), "0x{first_byte:02X}");
        check_bytes(&frame);
    }
}

fn sent_packet() -> impl Strategy<Value = (ProtocolVersion, Sender, Packet)> {
    (version(), sender())
        .prop_flat_map(|(version, sender)| (Just(version), Just(sender), packet(version, sender)))
}

/// Whatever decodes is written and read again as the same, and takes memory in proportion.
fn check_bytes(frame: &Bytes) {
    for version in VERSIONS {
        for sender in [Sender::Client, Sender::Server] {
            let Ok(packet) = Packet::decode(version, sender, frame) else { continue };
            let bytes = encoded(version, &packet);
            assert_eq!(packet.encoded_len(version), bytes.len());
            assert!(heap_bytes(&packet) <= 512 + 32 * frame.len(), "{frame:02X?}");
            assert_eq!(Packet::decode(version, sender, &bytes), Ok(packet), "{frame:02X?}");
        }
    }
    let _ = connect_version(frame);
}

fn encoded(version: ProtocolVersion, packet: &Packet) -> Bytes {
    let mut out = BytesMut::new();
    packet.encode(version, &mut out);
    out.freeze()
}

fn framed(first_byte: u8, body: &[u8]) -> Bytes {
    let mut frame = vec![first_byte];
    let mut rest = body.len();
    while rest > 0x7F {
        frame.push(u8::try_from(rest & 0x7F).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    frame.push(u8::try_from(rest).expect("seven bits"));
    frame.extend_from_slice(body);
    frame.into()
}

/// The memory a packet holds beside the frame, apart from its box.
fn heap_bytes(packet: &Packet) -> usize {
    let own = |properties: &Vec<UserProperty>| properties.capacity() * size_of::<UserProperty>();
    match packet {
        Packet::Connect(packet) => own(&packet.properties.user_properties),
        Packet::Connack(packet) => own(&packet.properties.user_properties),
        Packet::Publish(packet) => {
            let message = packet.properties.as_ref();
            let ids = packet.subscription_ids.capacity() * size_of::<u32>();
            ids + message.map_or(0, |message| own(&message.user_properties))
        }
        Packet::Puback(packet) => own(&packet.user_properties),
        Packet::Pubrec(packet) => own(&packet.user_properties),
        Packet::Pubrel(packet) => own(&packet.user_properties),
        Packet::Pubcomp(packet) => own(&packet.user_properties),
        Packet::Subscribe(packet) => {
            let filters = packet.filters.capacity() * size_of::<SubscribeFilter>();
            filters + own(&packet.user_properties)
        }
        Packet::Suback(packet) => packet.reason_codes.capacity() + own(&packet.user_properties),
        Packet::Unsubscribe(packet) => {
            let filters = packet.filters.capacity() * size_of::<bytestring::ByteString>();
            filters + own(&packet.user_properties)
        }
        Packet::Unsuback(packet) => packet.reason_codes.capacity() + own(&packet.user_properties),
        Packet::Pingreq | Packet::Pingresp => 0,
        Packet::Disconnect(packet) => own(&packet.user_properties),
        Packet::Auth(packet) => own(&packet.user_properties),
    }
}
