//! What holds for every frame, and for every sequence of bytes.

mod arbitrary;

use arbitrary::{control, hello, kind, publish, welcome};
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::cluster::frame::{
    ControlFrame, Cursors, PublishFrame, RefusalCode, StreamKind, Welcome,
};
use crate::cluster::identity::BootId;
use crate::cluster::slot_record::{Home, SlotRecord};

proptest! {
    #[test]
    fn messages_that_are_written_are_read_again(
        frames in vec(publish(), 1..20), first_seq in 1..u64::from(u32::MAX),
    ) {
        let mut bytes = BytesMut::new();
        for frame in &frames {
            let len_before = bytes.len();
            encode_publish(&PublishParts::from(frame), &mut bytes);
            prop_assert_eq!(PublishParts::from(frame).encoded_len(), bytes.len() - len_before);
        }
        let batch = batch(StreamKind::Data, first_seq, frames.len(), &bytes);
        let read: Vec<_> = batch.frames().map(|raw| raw.and_then(RawFrame::publish)).collect();
        prop_assert_eq!(read, frames.into_iter().map(Ok).collect::<Vec<_>>());
        let seqs: Vec<_> = batch.frames().map(|raw| raw.map(|raw| raw.seq)).collect();
        prop_assert_eq!(seqs, (first_seq..=batch.last_seq()).map(Ok).collect::<Vec<_>>());
    }

    #[test]
    fn control_frames_that_are_written_are_read_again(frames in vec(control(), 1..8)) {
        let mut bytes = BytesMut::new();
        for frame in &frames {
            encode_control(frame, &mut bytes);
        }
        let batch = batch(StreamKind::Control, 1, frames.len(), &bytes);
        let read: Vec<_> = batch.frames().map(|raw| raw.and_then(RawFrame::control)).collect();
        prop_assert_eq!(read, frames.into_iter().map(Ok).collect::<Vec<_>>());
    }

    /// Wherever a connection cuts the bytes, the start of a batch asks for more and says how much.
    #[test]
    fn the_start_of_a_batch_asks_for_more(frames in vec(publish(), 1..5)) {
        let bytes = whole(StreamKind::Data, 1, frames.len(), &encoded(&frames));
        for len in 0..bytes.len() {
            let header = BatchHeader::peek(&bytes[..len], FRAME_BYTES_MAX)?;
            prop_assert_eq!(header.is_some(), len >= BATCH_HEADER_BYTES);
            prop_assert!(header.is_none_or(|header| header.batch_len == bytes.len()));
        }
    }

    #[test]
    fn any_bytes_are_frames_or_an_error(
        kind in kind(), count in 1_u32..9, body in vec(any::<u8>(), 18..200),
    ) {
        check_bytes(kind, count, &body);
    }

    /// Bytes that are almost frames reach deeper than any bytes do.
    #[test]
    fn damaged_frames_are_frames_or_an_error(
        messages in vec(publish(), 1..4),
        controls in vec(control(), 1..4),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Index>(),
    ) {
        let messages = encoded(&messages);
        let mut control_bytes = BytesMut::new();
        for frame in &controls {
            encode_control(frame, &mut control_bytes);
        }
        for (kind, bytes) in [(StreamKind::Data, messages), (StreamKind::Control, control_bytes)] {
            let mut damaged = bytes.to_vec();
            for (at, byte) in &damage {
                let at = at.index(damaged.len());
                damaged[at] = *byte;
            }
            for count in 1..4 {
                check_bytes(kind, count, &damaged);
                check_bytes(kind, count, &bytes[..cut.index(bytes.len())]);
            }
        }
    }

    #[test]
    fn the_handshake_that_is_written_is_read_again(
        nonce in any::<Nonce>(), proof in any::<Proof>(), hello in hello(), welcome in welcome(),
    ) {
        let greeting = challenge(&nonce);
        prop_assert_eq!(decode_challenge(greeting[..].try_into().unwrap()), Ok(nonce));
        for body in [encode_hello(&nonce, &hello), encode_welcome(&welcome)] {
            let letter = Letter { body, proof };
            let mut bytes = BytesMut::new();
            letter.encode(&mut bytes);
            let bytes = bytes.freeze();
            for len in 0..bytes.len() {
                let size = Letter::peek(&bytes[..len])?;
                prop_assert!(size.is_none_or(|size| size == bytes.len()));
                prop_assert!(Letter::decode(&bytes.slice(..len)).is_err());
            }
            prop_assert_eq!(Letter::decode(&bytes), Ok(letter));
        }
        prop_assert_eq!(decode_hello(&encode_hello(&nonce, &hello)), Ok((nonce, hello)));
        prop_assert_eq!(decode_welcome(&encode_welcome(&welcome)), Ok(welcome));
    }

    #[test]
    fn received_that_is_written_is_read_again(control in any::<u64>(), data in any::<u64>()) {
        let cursors = Cursors { control, data };
        prop_assert_eq!(decode_received(&encode_received(cursors)), cursors);
    }
}

#[test]
fn a_header_that_makes_no_sense_is_refused() {
    let header = |batch_len, first_seq, count| BatchHeader {
        batch_len,
        kind: StreamKind::Data,
        first_seq,
        count,
    };
    let too_large = |size, maximum| Err(WireError::TooLarge { size, maximum });
    let mut unknown_stream = header(19, 1, 1).to_bytes();
    unknown_stream[4] = 2;
    let mut short = header(19, 1, 1).to_bytes();
    short[3] = 12;
    let rows = [
        (header(19, 1, 1).to_bytes(), Ok(())),
        (unknown_stream, Err(WireError::UnknownStream(2))),
        (short, Err(WireError::BatchHeader)),
        (header(19, 0, 1).to_bytes(), Err(WireError::BatchHeader)),
        (header(19, 1, 0).to_bytes(), Err(WireError::BatchHeader)),
        (header(20, 1, 2).to_bytes(), Err(WireError::BatchHeader)),
        (header(18, 1, 1).to_bytes(), Err(WireError::BatchHeader)),
        (header(19, u64::MAX, 1).to_bytes(), Err(WireError::BatchHeader)),
        (header(1_017, 1, 1).to_bytes(), Ok(())),
        (header(1_018, 1, 1).to_bytes(), too_large(1_018, 1_000)),
        (header(BATCH_BYTES_MAX + 17, 1, 2).to_bytes(), Ok(())),
        (
            header(BATCH_BYTES_MAX + 18, 1, 2).to_bytes(),
            too_large(BATCH_BYTES_MAX + 18, BATCH_BYTES_MAX),
        ),
    ];
    for (bytes, expected) in rows {
        assert_eq!(BatchHeader::peek(&bytes, 1_000).map(|_| ()), expected, "{bytes:?}");
    }
}

#[test]
fn malformed_messages_are_refused() {
    // Flags, publisher, then what the flags say.
    let head = |flags: u8| [vec![flags], vec![0; 8]].concat();
    let rows: &[(Vec<u8>, WireError)] = &[
        (head(0), WireError::Truncated),
        ([head(0), b"\0\x02a".to_vec()].concat(), WireError::Truncated),
        ([&[3, 3], &[0; 8][..], b"\0\x01a"].concat(), WireError::Value("QoS")),
        ([&[3, 8], &[0; 8][..], b"\0\x01a"].concat(), WireError::Value("flags")),
        ([head(0), b"\0\x01\xFF".to_vec()].concat(), WireError::IllFormedUtf8),
        (
            [head(0), b"\0\x01#".to_vec()].concat(),
            WireError::Topic(crate::mqtt::TopicError::WildcardInName),
        ),
        ([head(0), b"\0\0".to_vec()].concat(), WireError::Topic(crate::mqtt::TopicError::Empty)),
        ([head(16), vec![0; 7]].concat(), WireError::Truncated),
        ([head(8), b"\0\x01a\x05\x01".to_vec()].concat(), WireError::Truncated),
        (
            [head(8), b"\0\x01a\x01\x26".to_vec()].concat(),
            WireError::Properties(crate::mqtt::DecodeError::Truncated),
        ),
        ([head(128), b"\0\x01a\x81\x20".to_vec()].concat(), WireError::TooManyEntries(4_097)),
        ([head(128), b"\0\x01a\xFF\xFF\xFF\xFF\x1F".to_vec()].concat(), WireError::Varint),
    ];
    for (body, expected) in rows {
        assert_eq!(read_one(StreamKind::Data, body), Err(*expected), "{body:?}");
    }
}

#[test]
fn malformed_control_frames_are_refused() {
    let rows: &[(&[u8], WireError)] = &[
        (b"\0", WireError::UnknownFrame(0)),
        (b"\x7F", WireError::UnknownFrame(127)),
        (b"\x01\x01", WireError::TrailingBytes(1)),
        (b"\x05\0\0\0\0\0\0\0", WireError::Truncated),
        (b"\x06\x01\0\0\0\0\0\0\0\0\x01\0", WireError::Value("range of an outcome")),
        (b"\x06\x01\0\0\0\0\0\0\0\x01\0\0", WireError::Value("range of an outcome")),
        (b"\x06\x01\0\0\0\0\0\0\0\x01\x01\x05", WireError::Value("fate")),
        (b"\x06\x01\0\0\0\0\0\0\0\x01\x01\x03\x03", WireError::Value("Reason Code")),
        (b"\x06\xFF\xFF\x03", WireError::TooManyEntries(65_535)),
        (b"\x09\0\0\0\0\0\0\0\x01\0\0\x02", WireError::Value("truth value")),
        (b"\x02\0\0\0\0\0\0\0\x01\x01\x03\x01\0\x01a", WireError::Value("QoS")),
        (b"\x2C\0\0\0\0\0\0\0", WireError::Truncated),
        (b"\x2C\0\0\0\0\0\0\0\x01\0", WireError::TrailingBytes(1)),
        (b"\x2D\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0", WireError::Truncated),
    ];
    for (body, expected) in rows {
        assert_eq!(read_one(StreamKind::Control, body), Err(*expected), "{body:?}");
    }
}

/// Version 2 of the wire: what these frames are, byte by byte.
#[test]
fn frames_about_slot_maps_are_written_like_this() {
    let written = |frame: &ControlFrame| {
        let mut bytes = BytesMut::new();
        encode_control(frame, &mut bytes);
        bytes.to_vec()
    };
    let wanted = ControlFrame::SlotsWanted { after: 0x0102 };
    assert_eq!(written(&wanted), b"\x09\x2C\0\0\0\0\0\0\x01\x02");
    let home = Home { czxid: 3, ctime_millis: 4 };
    let record = SlotRecord { home, mzxid: 5, content: Bytes::from_static(b"map") };
    assert_eq!(
        written(&ControlFrame::Slots(record)),
        b"\x1C\x2D\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05map"
    );
}

#[test]
fn malformed_handshakes_are_refused() {
    assert_eq!(decode_challenge(&[b'H'; CHALLENGE_BYTES]), Err(WireError::NotALink));
    let too_long = Letter::peek(&[0xFF, 0xFF]);
    assert_eq!(too_long, Err(WireError::TooLarge { size: 65_569, maximum: LETTER_BYTES_MAX }));
    let unknown = Bytes::from_static(&[2]);
    assert_eq!(decode_welcome(&unknown), Err(WireError::Value("welcome")));
    assert_eq!(decode_hello(&Bytes::from_static(&[0; 31])), Err(WireError::Truncated));
}

#[test]
fn a_batch_has_as_many_frames_as_it_says() {
    let rows: &[(&[u8], usize, WireError)] = &[
        (b"\x01\x01\x00", 1, WireError::TrailingBytes(1)),
        (b"\x01\x01\x02\x01", 2, WireError::Truncated),
        (b"\x03\x01\x01\x01", 2, WireError::Truncated),
    ];
    for &(bytes, count, expected) in rows {
        let batch = batch(StreamKind::Control, 1, count, bytes);
        let last = batch.frames().last().unwrap();
        assert_eq!(last.map(|raw| raw.seq), Err(expected), "{bytes:?}");
    }
    let header = BatchHeader { batch_len: 20, kind: StreamKind::Data, first_seq: 1, count: 1 };
    let short = Batch::new(header, Bytes::from_static(&[0; 19]));
    assert_eq!(short.map(|_| ()), Err(WireError::BatchHeader));
}

/// A lying count makes us allocate no more than the bytes there are justify.
#[test]
fn a_count_is_not_believed() {
    let body = [b"\x02\0\0\0\0\0\0\0\x01\x80\x20".to_vec(), vec![0; 30]].concat();
    assert!(read_one(StreamKind::Control, &body).is_err());
    let words = "\u{E4}".repeat(2_000);
    let refusal = Welcome::Refused { reason: words, boot_id: BootId(1), code: RefusalCode::Other };
    let body = encode_welcome(&refusal);
    assert!(body.len() <= 1 + 2 + 1_024 + 16 + 1, "what is said to people is cut");
    assert!(decode_welcome(&body).is_ok(), "between two characters");
}

/// A broker that writes no code is understood, and one that does is by those who know of none: they pass
/// over what stands behind the boot id.
#[test]
fn a_refusal_without_a_code_says_mistrust_by_naming_nobody() {
    for (boot_id, code) in [(NOBODY, RefusalCode::Mistrust), (BootId(7), RefusalCode::Other)] {
        let refusal = Welcome::Refused { reason: "no".to_owned(), boot_id, code };
        let mut body = encode_welcome(&refusal);
        body.truncate(body.len() - 1);
        assert_eq!(decode_welcome(&body), Ok(refusal.clone()), "as of before");
        let of_later = [&body[..], &[0xff]].concat().into();
        let code = RefusalCode::Other;
        let unknown = Welcome::Refused { reason: "no".to_owned(), boot_id, code };
        assert_eq!(decode_welcome(&of_later), Ok(unknown));
    }
}

/// Reads the one frame whose body this is; only the error counts.
fn read_one(kind: StreamKind, body: &[u8]) -> Result<(), WireError> {
    let mut frame = vec![u8::try_from(body.len()).unwrap()];
    frame.extend_from_slice(body);
    let batch = batch(kind, 1, 1, &frame);
    let raw = batch.frames().next().unwrap();
    match kind {
        StreamKind::Data => raw?.publish().map(|_| ()),
        StreamKind::Control => raw?.control().map(|_| ()),
    }
}

/// What is read from `body` is written as bytes that read the same.
fn check_bytes(kind: StreamKind, count: u32, body: &[u8]) {
    if body.len() < 2 * usize::try_from(count).unwrap() {
        return;
    }
    let batch = batch(kind, 1, usize::try_from(count).unwrap(), body);
    for raw in batch.frames() {
        let Ok(raw) = raw else { return };
        let mut written = BytesMut::new();
        match kind {
            StreamKind::Data => {
                let Ok(frame) = raw.publish() else { continue };
                encode_publish(&PublishParts::from(&frame), &mut written);
                let again = self::batch(kind, 1, 1, &written);
                let again = again.frames().next().unwrap().unwrap().publish();
                assert_eq!(again, Ok(frame));
            }
            StreamKind::Control => {
                let Ok(frame) = raw.control() else { continue };
                encode_control(&frame, &mut written);
                let again = self::batch(kind, 1, 1, &written);
                let again = again.frames().next().unwrap().unwrap().control();
                assert_eq!(again, Ok(frame));
            }
        }
    }
}

fn encoded(frames: &[PublishFrame]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for frame in frames {
        encode_publish(&PublishParts::from(frame), &mut bytes);
    }
    bytes
}

fn whole(kind: StreamKind, first_seq: u64, count: usize, frames: &[u8]) -> Bytes {
    let count = u32::try_from(count).unwrap();
    let batch_len = BATCH_HEADER_BYTES + frames.len();
    let header = BatchHeader { batch_len, kind, first_seq, count };
    [&header.to_bytes()[..], frames].concat().into()
}

fn batch(kind: StreamKind, first_seq: u64, count: usize, frames: &[u8]) -> Batch {
    let bytes = whole(kind, first_seq, count, frames);
    let header = BatchHeader::peek(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
    Batch::new(header, bytes).unwrap()
}
