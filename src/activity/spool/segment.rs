//! A file of the spool: who wrote it, then frames of rows.
//!
//! A frame is its length, its checksum, the range of its numbers, and its rows. What was cut off or
//! changed is found out by the first frame that does not add up; all in front of it is good.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _};
use xxhash_rust::xxh3::xxh3_64;

use super::super::codec::{self, DecodeError};
use super::super::portion::Start;
use super::super::row::Row;
use crate::runtime::background::give_way;

/// Why a segment cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub(super) enum SegmentError {
    /// It does not come from the disk, or ends in the middle of a frame.
    #[error("cannot be read")]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("the checksum is wrong")]
    Checksum,
    /// It is, and nobody can tell what it means.
    #[error("a frame cannot be understood")]
    Frame(#[from] DecodeError),
    /// It is no segment, or one of another version.
    #[error("it is no segment")]
    Foreign,
}

/// A segment that is read from its beginning.
pub(super) struct Reader {
    file: BufReader<File>,
    left: u64,
    pub(super) start: Arc<Start>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, SegmentError> {
        let file = File::open(path)?;
        let left = file.metadata()?.len();
        let nobody = Start { boot: 0, since_millis: 0, broker: "".into() };
        let mut reader = Self { file: BufReader::new(file), left, start: nobody.into() };
        let head = reader.frame()?.ok_or(SegmentError::Foreign)?;
        reader.start = Arc::new(start_of(&head)?);
        Ok(reader)
    }

    /// The next rows; nothing at the end.
    pub(super) fn rows(&mut self) -> Result<Option<Arc<[Row]>>, SegmentError> {
        self.frame()?.map(|frame| rows_of(&frame)).transpose()
    }

    /// What was appended since it was opened can be read as well.
    pub(super) fn note_appended(&mut self, bytes: u64) {
        self.left += bytes;
    }

    fn frame(&mut self) -> Result<Option<Vec<u8>>, SegmentError> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut lead = [0; LEAD_BYTES];
        self.read(&mut lead)?;
        let mut lead = &lead[..];
        let (length, checksum) = (u64::from(lead.get_u32()), lead.get_u64());
        // No more memory than there is file.
        if length > self.left {
            return Err(SegmentError::Checksum);
        }
        let mut body = vec![0; usize::try_from(length).map_err(|_| SegmentError::Checksum)?];
        self.read(&mut body)?;
        if xxh3_64(&body) != checksum {
            return Err(SegmentError::Checksum);
        }
        Ok(Some(body))
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), SegmentError> {
        self.file.read_exact(into)?;
        self.left = self.left.saturating_sub(into.len() as u64);
        Ok(())
    }
}

/// The frame that a segment begins with.
pub(super) fn head_frame(start: &Start) -> Vec<u8> {
    frame_of(|body| {
        body.put_slice(MAGIC);
        body.put_i64(start.boot);
        body.put_u64(start.since_millis);
        body.put_slice(start.broker.as_bytes());
    })
}

/// A frame of these rows.
pub(super) fn rows_frame(range: &RangeInclusive<i64>, rows: &[Row]) -> Vec<u8> {
    frame_of(|body| {
        body.put_i64(*range.start());
        body.put_i64(*range.end());
        for rows in rows.chunks(ROWS_AT_ONCE) {
            give_way();
            for row in rows {
                codec::encode(row, body);
            }
        }
    })
}

fn frame_of(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = vec![0; LEAD_BYTES];
    fill(&mut frame);
    let body = frame.split_off(LEAD_BYTES);
    frame.clear();
    frame.put_u32(u32::try_from(body.len()).expect("the ring is smaller"));
    frame.put_u64(xxh3_64(&body));
    frame.extend_from_slice(&body);
    frame
}

fn start_of(head: &[u8]) -> Result<Start, SegmentError> {
    let mut rest = head.strip_prefix(MAGIC).ok_or(SegmentError::Foreign)?;
    let boot = rest.try_get_i64().map_err(DecodeError::from)?;
    let since_millis = rest.try_get_u64().map_err(DecodeError::from)?;
    let broker = std::str::from_utf8(rest).map_err(DecodeError::from)?;
    Ok(Start { boot, since_millis, broker: broker.into() })
}

fn rows_of(frame: &[u8]) -> Result<Arc<[Row]>, SegmentError> {
    let mut rest = frame;
    let first = rest.try_get_i64().map_err(DecodeError::from)?;
    let last = rest.try_get_i64().map_err(DecodeError::from)?;
    let mut rows = Vec::new();
    while !rest.is_empty() {
        rows.push(codec::decode(&mut rest)?);
    }
    let range = rows.first().zip(rows.last()).map(|(from, to)| (from.number, to.number));
    if range != Some((first, last)) {
        return Err(SegmentError::Foreign);
    }
    Ok(rows.into())
}

/// Rows that are encoded in some tens of microseconds.
const ROWS_AT_ONCE: usize = 64;
/// Length and checksum.
const LEAD_BYTES: usize = 4 + 8;
/// The last sign is the version of the format.
const MAGIC: &[u8] = b"mqttlog1";
