//! What stands below `/relay/<name>`: what a broker has read, and the windows of what it writes.
//!
//! ```text
//! header: u8 format | u128 boot id | varint count | count times
//!           u128 boot id | u64 run | u64 part | u64 control | u64 data | u8 whether it is stuck
//! window: u8 format | u128 boot id | any number of parts
//! part:   u128 addressee | u64 run | u64 number | u8 kind |
//!           a beginning: u64 control | u64 data
//!           a piece:     u32 offset | u32 bytes of the whole batch | varint length | bytes
//! ```

use bytes::{Bytes, BytesMut};

use crate::cluster::frame::Cursors;
use crate::cluster::identity::BootId;
use crate::cluster::wire::WireError;
use crate::cluster::wire::primitive::{Length, Reader, Sink, varint_len};

/// What a broker says of what it has read: the content of `/relay/<name>`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayHeader {
    /// Whose windows are below it.
    pub boot_id: BootId,
    /// One for each broker whose windows it reads.
    pub acks: Vec<RelayAck>,
}

/// How far a broker is with what another one relays to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RelayAck {
    /// Who relays.
    pub of: BootId,
    /// The run that it reads; a new one begins when frames are sent again.
    pub run: u64,
    /// The last part of that run that it has read.
    pub part: u64,
    /// What it has received, by whatever lane.
    pub received: Cursors,
    /// The run makes no sense to it: another one is to begin.
    pub is_stuck: bool,
}

/// A part of what is relayed to one broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayPart {
    /// To whom.
    pub to: BootId,
    /// Goes up when frames are sent again.
    pub run: u64,
    /// From 1 on, in each run.
    pub number: u64,
    /// What it is.
    pub content: RelayContent,
}

/// The content of a [`RelayPart`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RelayContent {
    /// The first part of a run: what cannot be sent again, as in `Hello`.
    Beginning {
        /// Up to here.
        gone: Cursors,
    },
    /// A piece of a batch.
    Piece {
        /// Where in the batch it stands.
        offset: u32,
        /// The bytes of the whole batch.
        total: u32,
        /// The piece.
        bytes: Bytes,
    },
}

/// Writes a header.
#[must_use]
pub fn encode_relay_header(header: &RelayHeader) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + header.acks.len() * ACK_BYTES);
    out.u8(FORMAT);
    out.boot_id(header.boot_id);
    out.list(&header.acks, |out, ack| {
        out.boot_id(ack.of);
        out.u64(ack.run);
        out.u64(ack.part);
        cursors(out, ack.received);
        out.boolean(ack.is_stuck);
    });
    out.freeze()
}

/// Reads a header.
///
/// # Errors
///
/// When it is none.
pub fn decode_relay_header(bytes: &Bytes) -> Result<RelayHeader, WireError> {
    let mut reader = Reader::new(bytes);
    let boot_id = read_owner(&mut reader)?;
    let acks = reader.list(|reader| {
        Ok(RelayAck {
            of: reader.boot_id()?,
            run: reader.u64()?,
            part: reader.u64()?,
            received: read_cursors(reader)?,
            is_stuck: reader.boolean()?,
        })
    })?;
    reader.finish()?;
    Ok(RelayHeader { boot_id, acks })
}

/// Writes a window, of parts that were written with [`encode_relay_part`].
#[must_use]
pub fn encode_relay_window<'a>(boot_id: BootId, parts: impl Iterator<Item = &'a Bytes>) -> Bytes {
    let mut out = BytesMut::new();
    out.u8(FORMAT);
    out.boot_id(boot_id);
    parts.for_each(|part| out.bytes(part));
    out.freeze()
}

/// Reads a window: whose it is, and the parts that are for `to`.
///
/// # Errors
///
/// When it is none.
pub fn decode_relay_window(
    bytes: &Bytes,
    to: BootId,
) -> Result<(BootId, Vec<RelayPart>), WireError> {
    let mut reader = Reader::new(bytes);
    let boot_id = read_owner(&mut reader)?;
    let mut parts = Vec::new();
    while !reader.is_empty() {
        let part = read_part(&mut reader)?;
        if part.to == to {
            parts.push(part);
        }
    }
    Ok((boot_id, parts))
}

/// Writes a part.
#[must_use]
pub fn encode_relay_part(part: &RelayPart) -> Bytes {
    let mut length = Length(0);
    write_part(part, &mut length);
    let mut out = BytesMut::with_capacity(length.0);
    write_part(part, &mut out);
    out.freeze()
}

/// The bytes that a piece of `len` bytes takes in a window.
#[must_use]
pub const fn relay_piece_len(len: usize) -> usize {
    PIECE_HEAD_BYTES + varint_len(len) + len
}

fn write_part(part: &RelayPart, out: &mut impl Sink) {
    out.boot_id(part.to);
    out.u64(part.run);
    out.u64(part.number);
    match &part.content {
        RelayContent::Beginning { gone } => {
            out.u8(BEGINNING);
            cursors(out, *gone);
        }
        RelayContent::Piece { offset, total, bytes } => {
            out.u8(PIECE);
            out.bytes(&offset.to_be_bytes());
            out.bytes(&total.to_be_bytes());
            out.varint(bytes.len());
            out.bytes(bytes);
        }
    }
}

fn read_part(reader: &mut Reader<'_>) -> Result<RelayPart, WireError> {
    let (to, run, number) = (reader.boot_id()?, reader.u64()?, reader.u64()?);
    let content = match reader.u8()? {
        BEGINNING => RelayContent::Beginning { gone: read_cursors(reader)? },
        PIECE => {
            let (offset, total) = (reader.u32()?, reader.u32()?);
            let len = reader.len()?;
            RelayContent::Piece { offset, total, bytes: reader.slice(len)? }
        }
        other => return Err(WireError::UnknownFrame(other)),
    };
    Ok(RelayPart { to, run, number, content })
}

fn cursors(out: &mut impl Sink, cursors: Cursors) {
    out.u64(cursors.control);
    out.u64(cursors.data);
}

fn read_cursors(reader: &mut Reader<'_>) -> Result<Cursors, WireError> {
    Ok(Cursors { control: reader.u64()?, data: reader.u64()? })
}

fn read_owner(reader: &mut Reader<'_>) -> Result<BootId, WireError> {
    match reader.u8()? {
        FORMAT => reader.boot_id(),
        _ => Err(WireError::Value("format of a window")),
    }
}

/// The bytes of a window before its parts.
pub const RELAY_WINDOW_HEAD_BYTES: usize = 1 + 16;
const FORMAT: u8 = 1;
const BEGINNING: u8 = 0;
const PIECE: u8 = 1;
/// Addressee, run, number, kind, offset and total.
const PIECE_HEAD_BYTES: usize = 16 + 8 + 8 + 1 + 4 + 4;
const ACK_BYTES: usize = 16 + 8 + 8 + 16 + 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn part(to: u128, number: u64, content: RelayContent) -> RelayPart {
        RelayPart { to: BootId(to), run: 7, number, content }
    }

    #[test]
    fn a_window_is_read_by_each_addressee_for_itself() {
        let gone = Cursors { control: 3, data: u64::MAX };
        let piece = |len: usize| {
            let bytes = Bytes::from(vec![0xA5; len]);
            RelayContent::Piece { offset: 4, total: 99, bytes }
        };
        let parts = [
            part(1, 1, RelayContent::Beginning { gone }),
            part(2, 9, piece(200)),
            part(1, 2, piece(0)),
        ];
        let encoded: Vec<_> = parts.iter().map(encode_relay_part).collect();
        assert_eq!(encoded[1].len(), relay_piece_len(200));
        let window = encode_relay_window(BootId(5), encoded.iter());
        let total: usize = encoded.iter().map(Bytes::len).sum();
        assert_eq!(window.len(), RELAY_WINDOW_HEAD_BYTES + total);
        let (owner, mine) = decode_relay_window(&window, BootId(1)).unwrap();
        assert_eq!((owner, mine), (BootId(5), vec![parts[0].clone(), parts[2].clone()]));
        assert_eq!(decode_relay_window(&window, BootId(3)).unwrap().1, []);
    }

    #[test]
    fn a_window_that_is_cut_anywhere_is_none_or_ends_with_a_whole_part() {
        let content =
            RelayContent::Piece { offset: 0, total: 3, bytes: Bytes::from_static(b"abc") };
        let encoded = encode_relay_part(&part(1, 1, content));
        let window = encode_relay_window(BootId(5), [&encoded, &encoded].into_iter());
        for len in 0..window.len() {
            let read = decode_relay_window(&window.slice(..len), BootId(1));
            let whole = len.checked_sub(RELAY_WINDOW_HEAD_BYTES);
            match whole.filter(|len| len % encoded.len() == 0) {
                Some(len) => assert_eq!(read.unwrap().1.len(), len / encoded.len()),
                None => assert!(read.is_err(), "{len}"),
            }
        }
    }

    #[test]
    fn a_header_that_is_written_is_read_again_and_nothing_else_is() {
        let ack = |of| RelayAck {
            of: BootId(of),
            run: 1,
            part: 2,
            received: Cursors { control: 3, data: 4 },
            is_stuck: of == 8,
        };
        let header = RelayHeader { boot_id: BootId(9), acks: vec![ack(7), ack(8)] };
        let bytes = encode_relay_header(&header);
        assert_eq!(decode_relay_header(&bytes), Ok(header));
        for len in 0..bytes.len() {
            assert!(decode_relay_header(&bytes.slice(..len)).is_err(), "{len}");
        }
        assert!(decode_relay_header(&Bytes::from_static(b"something else, in any case")).is_err());
    }
}
