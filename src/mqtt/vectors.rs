//! Tables of packets and their bytes: the notation of a row, and what is checked of it.
//!
//! Bytes are written as pairs of hexadecimal digits. `'abc'` stands for these bytes, `s'abc'` for
//! the UTF-8 Encoded String (two bytes of length before it), and `[ ... ]` for what it encloses
//! with its length before it as a Variable Byte Integer. None of it uses the code under test.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::{
    DecodeError, Frame, PACKET_SIZE_MAX, Packet, ProtocolVersion, ReasonCode, Sender, UserProperty,
};

/// Checks that each row means its packet, and that the packet is written as these very bytes.
pub(crate) fn check_both_ways(sender: Sender, rows: &[(ProtocolVersion, &str, Packet)]) {
    for (version, notation, packet) in rows {
        check_meaning(*version, sender, notation, packet);
        let mut written = BytesMut::new();
        packet.encode(*version, &mut written);
        assert_eq!(written, parse(notation), "{version} {} from {notation}", packet.name());
        assert_eq!(packet.encoded_len(*version), written.len(), "{version} {notation}");
    }
}

/// Checks that each row, though not what we would write, means its packet.
pub(crate) fn check_one_way(sender: Sender, rows: &[(ProtocolVersion, &str, Packet)]) {
    for (version, notation, packet) in rows {
        check_meaning(*version, sender, notation, packet);
    }
}

/// Checks that each row is refused with its error, which is answered with this Reason Code.
pub(crate) fn check_refused(
    sender: Sender,
    reason_code: ReasonCode,
    rows: &[(ProtocolVersion, &str, DecodeError)],
) {
    for &(version, notation, error) in rows {
        let seen = Packet::decode(version, sender, &parse(notation));
        assert_eq!(seen, Err(error), "{version} {notation}");
        assert_eq!(error.reason_code(), reason_code, "{version} {notation}");
    }
}

/// The bytes a row stands for.
pub(crate) fn parse(notation: &str) -> Bytes {
    let mut groups = vec![Vec::new()];
    let mut rest = notation;
    while let Some(symbol) = rest.chars().next() {
        rest = &rest[symbol.len_utf8()..];
        match symbol {
            ' ' | '\n' => {}
            '[' => groups.push(Vec::new()),
            ']' => {
                let group = groups.pop().expect("a group is open");
                let outer = groups.last_mut().expect("groups are balanced");
                outer.extend(varint(group.len()));
                outer.extend(group);
            }
            '\'' | 's' => {
                let opened = rest.strip_prefix('\'').filter(|_| symbol == 's').unwrap_or(rest);
                let (text, after) = opened.split_once('\'').expect("a quote");
                let group = groups.last_mut().expect("groups are balanced");
                if symbol == 's' {
                    group.extend(u16::try_from(text.len()).expect("a short text").to_be_bytes());
                }
                group.extend(text.bytes());
                rest = after;
            }
            digit => {
                let pair = format!("{digit}{}", &rest[..1]);
                rest = &rest[1..];
                let byte = u8::from_str_radix(&pair, 16).expect("a pair of digits");
                groups.last_mut().expect("groups are balanced").push(byte);
            }
        }
    }
    assert_eq!(groups.len(), 1, "groups are balanced in {notation}");
    groups.remove(0).into()
}

pub(crate) fn text(text: &str) -> ByteString {
    ByteString::from(text)
}

pub(crate) fn user_property(name: &str, value: &str) -> UserProperty {
    UserProperty { name: text(name), value: text(value) }
}

fn check_meaning(version: ProtocolVersion, sender: Sender, notation: &str, packet: &Packet) {
    let bytes = parse(notation);
    let seen = Packet::decode(version, sender, &bytes);
    assert_eq!(seen.as_ref(), Ok(packet), "{version} {notation}");
    for len in 0..bytes.len() {
        let frame = Frame::peek(&bytes[..len], PACKET_SIZE_MAX).expect("the start of a packet");
        assert!(frame.is_none_or(|frame| frame.total_len == bytes.len()), "{notation}");
    }
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(value % 128).expect("seven bits");
        value /= 128;
        bytes.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return bytes;
        }
    }
}

#[test]
fn the_notation_stands_for_these_bytes() {
    assert_eq!(parse("30 [ s'a' 'bc' s'' [ FF ] ]"), &b"\x30\x09\x00\x01abc\0\0\x01\xFF"[..]);
}
