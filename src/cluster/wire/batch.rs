//! Batches: what travels on a lane, whatever lane it is.
//!
//! ```text
//! u32 length of what follows | u8 stream | u64 first sequence number | u32 count | count frames
//! ```
//!
//! A frame begins with its length. A batch has at least one frame and at most [`BATCH_BYTES_MAX`]
//! bytes, unless it is one large frame.

use bytes::{BufMut, Bytes};

use crate::cluster::frame::{ControlFrame, PublishFrame, StreamKind};
use crate::cluster::wire::WireError;
use crate::cluster::wire::control::decode_control;
use crate::cluster::wire::primitive::Reader;
use crate::cluster::wire::publish::decode_publish;
use crate::mqtt::TopicName;

/// The first bytes of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchHeader {
    /// All bytes of the batch, the header included.
    pub batch_len: usize,
    /// The stream.
    pub kind: StreamKind,
    /// The sequence number of the first frame.
    pub first_seq: u64,
    /// How many frames there are, with sequence numbers in a row.
    pub count: u32,
}

/// One batch as it was received. Its frames are read when they are asked for.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The stream.
    pub kind: StreamKind,
    /// The sequence number of the first frame.
    pub first_seq: u64,
    /// How many frames there are: at least one.
    pub count: u32,
    frames: Bytes,
}

/// The frames of a [`Batch`], in order. Ends behind the first error.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    reader: Reader<'a>,
    next_seq: u64,
    left: u32,
}

/// One frame that has not been read yet.
#[derive(Clone, Debug)]
pub struct RawFrame<'a> {
    /// Its sequence number.
    pub seq: u64,
    body: Reader<'a>,
}

impl BatchHeader {
    /// Reads the header of the batch that `bytes` begin with; `None` when that takes more bytes.
    ///
    /// # Errors
    ///
    /// When there is no such batch, or it is larger than a frame may be.
    pub fn peek(bytes: &[u8], frame_bytes_max: usize) -> Result<Option<Self>, WireError> {
        let Some(header) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else { return Ok(None) };
        let header = Bytes::copy_from_slice(header);
        let mut reader = Reader::new(&header);
        let rest_len = usize::try_from(reader.u32()?).map_err(|_| WireError::BatchHeader)?;
        let batch_len = rest_len.saturating_add(LENGTH_BYTES);
        let kind = stream_of(reader.u8()?)?;
        let (first_seq, count) = (reader.u64()?, reader.u32()?);
        let maximum = if count == 1 { frame_bytes_max } else { BATCH_BYTES_MAX };
        if batch_len > maximum.saturating_add(BATCH_HEADER_BYTES) {
            return Err(WireError::TooLarge { size: batch_len, maximum });
        }
        let frames_len = batch_len.checked_sub(BATCH_HEADER_BYTES);
        let frames_len = frames_len.ok_or(WireError::BatchHeader)? as u64;
        // A frame has a length and at least one byte.
        let is_sound = count > 0
            && frames_len >= 2 * u64::from(count)
            && first_seq > 0
            && first_seq.checked_add(u64::from(count)).is_some();
        if !is_sound {
            return Err(WireError::BatchHeader);
        }
        Ok(Some(Self { batch_len, kind, first_seq, count }))
    }

    /// The bytes of the header.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BATCH_HEADER_BYTES] {
        let rest_len = u32::try_from(self.batch_len - LENGTH_BYTES);
        let mut bytes = [0; BATCH_HEADER_BYTES];
        let mut room = &mut bytes[..];
        room.put_u32(rest_len.expect("a batch is below 4 GiB"));
        room.put_u8(match self.kind {
            StreamKind::Control => CONTROL,
            StreamKind::Data => DATA,
        });
        room.put_u64(self.first_seq);
        room.put_u32(self.count);
        bytes
    }
}

impl Batch {
    /// Takes the bytes of one whole batch, whose header was read from them.
    ///
    /// # Errors
    ///
    /// When there are more or fewer bytes than the header says.
    pub fn new(header: BatchHeader, mut bytes: Bytes) -> Result<Self, WireError> {
        if bytes.len() != header.batch_len {
            return Err(WireError::BatchHeader);
        }
        let frames = bytes.split_off(BATCH_HEADER_BYTES);
        let BatchHeader { kind, first_seq, count, .. } = header;
        Ok(Self { kind, first_seq, count, frames })
    }

    /// The sequence number of the last frame.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count) - 1
    }

    /// The bytes of the frames.
    #[must_use]
    pub fn frames_len(&self) -> usize {
        self.frames.len()
    }

    /// The frames, in order. Those that are known are passed over with `skip`.
    #[must_use]
    pub fn frames(&self) -> Frames<'_> {
        Frames { reader: Reader::new(&self.frames), next_seq: self.first_seq, left: self.count }
    }
}

impl<'a> Frames<'a> {
    #[inline]
    fn read(&mut self) -> Result<RawFrame<'a>, WireError> {
        let len = self.reader.len()?;
        let body = self.reader.part(len)?;
        if self.left == 0 {
            self.reader.finish()?;
        }
        Ok(RawFrame { seq: self.next_seq, body })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<RawFrame<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let frame = self.read();
        self.next_seq += 1;
        if frame.is_err() {
            self.left = 0;
        }
        Some(frame)
    }
}

impl RawFrame<'_> {
    /// Reads it as a frame of the data stream.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn publish(self) -> Result<PublishFrame, WireError> {
        self.publish_after(None)
    }

    /// The same, behind a message of `last_topic`: one of the same topic shares its name.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    #[inline]
    pub fn publish_after(
        mut self,
        last_topic: Option<&TopicName>,
    ) -> Result<PublishFrame, WireError> {
        decode_publish(&mut self.body, last_topic)
    }

    /// Reads it as a frame of the control stream.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn control(mut self) -> Result<ControlFrame, WireError> {
        decode_control(&mut self.body)
    }
}

fn stream_of(byte: u8) -> Result<StreamKind, WireError> {
    match byte {
        CONTROL => Ok(StreamKind::Control),
        DATA => Ok(StreamKind::Data),
        other => Err(WireError::UnknownStream(other)),
    }
}

/// The bytes before the frames of a batch.
pub const BATCH_HEADER_BYTES: usize = LENGTH_BYTES + 1 + 8 + 4;
/// The bytes of the frames of one batch, unless it is one large frame.
pub const BATCH_BYTES_MAX: usize = 256 * 1_024;
const LENGTH_BYTES: usize = 4;
const CONTROL: u8 = 0;
const DATA: u8 = 1;
