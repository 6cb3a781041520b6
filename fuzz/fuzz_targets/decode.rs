//! Bytes into the decoder: it never panics, and what decodes is written as bytes that decode to
//! the same packet, in every version and from either side.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use mqttzoo::mqtt::{Frame, PACKET_SIZE_MAX, Packet, ProtocolVersion, Sender, connect_version};

const VERSIONS: [ProtocolVersion; 3] =
    [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];

fuzz_target!(|input: &[u8]| {
    let _ = connect_version(input);
    let mut stream = Bytes::copy_from_slice(input);
    while let Ok(Some(frame)) = Frame::peek(&stream, PACKET_SIZE_MAX) {
        if frame.total_len > stream.len() {
            return;
        }
        let packet = stream.split_to(frame.total_len);
        for version in VERSIONS {
            check(version, Sender::Client, &packet);
            check(version, Sender::Server, &packet);
        }
    }
});

fn check(version: ProtocolVersion, sender: Sender, bytes: &Bytes) {
    let Ok(packet) = Packet::decode(version, sender, bytes) else { return };
    let mut written = BytesMut::new();
    packet.encode(version, &mut written);
    assert_eq!(packet.encoded_len(version), written.len());
    assert_eq!(Packet::decode(version, sender, &written.freeze()), Ok(packet));
}
