//! Bytes into the links: they never panic, and what is read is written as bytes that read the same.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use mqttzoo::cluster::frame::StreamKind;
use mqttzoo::cluster::wire::{
    BATCH_HEADER_BYTES, Batch, BatchHeader, FRAME_BYTES_MAX, Letter, PublishParts, RawFrame,
    decode_challenge, decode_hello, decode_welcome, encode_control, encode_hello, encode_publish,
    encode_welcome,
};

fuzz_target!(|input: &[u8]| {
    let bytes = Bytes::copy_from_slice(input);
    handshake(&bytes);
    batches(bytes);
});

fn handshake(bytes: &Bytes) {
    if let Some(challenge) = bytes.first_chunk() {
        let _ = decode_challenge(challenge);
    }
    let _ = Letter::peek(bytes);
    if let Ok(letter) = Letter::decode(bytes) {
        let mut written = BytesMut::new();
        letter.encode(&mut written);
        assert_eq!(*bytes, written);
    }
    if let Ok((nonce, hello)) = decode_hello(bytes)
        && hello.cluster.len().max(hello.name.len()) <= 1_024
    {
        assert_eq!(decode_hello(&encode_hello(&nonce, &hello)), Ok((nonce, hello)));
    }
    if let Ok(welcome) = decode_welcome(bytes)
        && bytes.len() <= 1_024
    {
        assert_eq!(decode_welcome(&encode_welcome(&welcome)), Ok(welcome));
    }
}

fn batches(mut bytes: Bytes) {
    while let Ok(Some(header)) = BatchHeader::peek(&bytes, FRAME_BYTES_MAX) {
        assert!(header.to_bytes() == bytes[..header.to_bytes().len()]);
        if header.batch_len > bytes.len() {
            return;
        }
        let batch = Batch::new(header, bytes.split_to(header.batch_len)).expect("it is whole");
        for raw in batch.frames() {
            let Ok(raw) = raw else { return };
            frame(&batch, raw);
        }
    }
}

fn frame(batch: &Batch, raw: RawFrame<'_>) {
    let mut written = BytesMut::new();
    match batch.kind {
        StreamKind::Data => {
            let Ok(frame) = raw.publish() else { return };
            encode_publish(&PublishParts::from(&frame), &mut written);
            assert_eq!(PublishParts::from(&frame).encoded_len(), written.len());
            let batch = alone(batch.kind, &written);
            assert_eq!(only(&batch).publish(), Ok(frame));
        }
        StreamKind::Control => {
            let Ok(frame) = raw.control() else { return };
            if matches!(&frame, mqttzoo::cluster::frame::ControlFrame::ClaimRefused { reason, .. }
                if reason.len() > 1_024)
            {
                return;
            }
            encode_control(&frame, &mut written);
            let batch = alone(batch.kind, &written);
            assert_eq!(only(&batch).control(), Ok(frame));
        }
    }
}

fn alone(kind: StreamKind, frame: &[u8]) -> Batch {
    let batch_len = BATCH_HEADER_BYTES + frame.len();
    let header = BatchHeader { batch_len, kind, first_seq: 1, count: 1 };
    let bytes = [&header.to_bytes()[..], frame].concat();
    Batch::new(header, bytes.into()).expect("it is whole")
}

fn only(batch: &Batch) -> RawFrame<'_> {
    batch.frames().next().expect("there is one").expect("it was written just now")
}
