//! Rows on the disk, while the database is away for longer than the ring lasts.
//!
//! Segments in a directory, each of one start of the broker, appended to and read in the order of the
//! numbers, and removed when their rows are written. A frame is flushed to the disk before it counts as
//! kept, so that neither `kill -9` nor a power cut takes it. What cannot be read is set aside, one file
//! at most; the numbers tell what is missing. The bytes are bounded, whoever wrote them.

mod segment;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::portion::{Missing, Portion, Start};
use super::row::Row;
use segment::{Reader, SegmentError};

/// The spool of a data directory.
pub(super) struct Spool {
    directory: PathBuf,
    bytes_max: u64,
    start: Arc<Start>,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The last segment, as long as it is appended to.
    open: Option<File>,
    /// The first segment, as long as it is read, and what was read of it last.
    reading: Option<Reading>,
    /// Whether rows may be missing in front of the next ones.
    is_torn: bool,
    damaged: u64,
}

struct Reading {
    reader: Reader,
    /// What was read last, as long as it is not done with.
    portion: Option<Portion>,
    /// Whether it is the first of its segment.
    is_first: bool,
}

struct Segment {
    path: PathBuf,
    bytes: u64,
    is_ours: bool,
}

/// What became of rows that were to be kept.
#[derive(Debug)]
pub(super) enum Kept {
    /// They are on the disk.
    Yes,
    /// They would be too many.
    NoRoom,
    /// The disk does not take them.
    Failed(io::Error),
}

impl Spool {
    /// The spool of a directory, with what earlier starts have left there. This one leaves its mark at
    /// once: should it be killed before anybody hears of it, the next one knows that it was there.
    pub(super) fn open(directory: PathBuf, bytes_max: u64, start: Arc<Start>) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut segments = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let (path, bytes) =
                entry.and_then(|entry| Ok((entry.path(), entry.metadata()?.len())))?;
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                segments.push(Segment { path, bytes, is_ours: false });
            }
        }
        // Names are in the order of starts and numbers.
        segments.sort_by(|one, other| one.path.cmp(&other.path));
        let segments = segments.into();
        let (open, reading, is_torn, damaged) = Default::default();
        let mut spool =
            Self { directory, bytes_max, start, segments, open, reading, is_torn, damaged };
        spool.begin_segment(0)?;
        Ok(spool)
    }

    /// Keeps rows behind all that is there.
    pub(super) fn append(&mut self, rows: &[Row]) -> Kept {
        let Some((first, last)) = rows.first().zip(rows.last()) else { return Kept::Yes };
        let frame = segment::rows_frame(&(first.number..=last.number), rows);
        if self.bytes() + frame.len() as u64 > self.bytes_max {
            return Kept::NoRoom;
        }
        match self.write(first.number, &frame) {
            Ok(()) => Kept::Yes,
            Err(error) => {
                // What was written of it is taken for damage, should anybody see it.
                self.open = None;
                Kept::Failed(error)
            }
        }
    }

    fn write(&mut self, first: i64, frame: &[u8]) -> io::Result<()> {
        let is_long = self.segments.back().is_some_and(|segment| segment.bytes >= SEGMENT_BYTES);
        if self.open.is_none() || is_long {
            self.begin_segment(first)?;
        }
        let (file, segment) =
            self.open.as_mut().zip(self.segments.back_mut()).expect("a segment was begun");
        if let Err(error) = file.write_all(frame).and_then(|()| file.sync_data()) {
            let _torn = file.set_len(segment.bytes);
            return Err(error);
        }
        let bytes = frame.len() as u64;
        segment.bytes += bytes;
        if self.segments.len() == 1
            && let Some(reading) = &mut self.reading
        {
            reading.reader.note_appended(bytes);
        }
        Ok(())
    }

    fn begin_segment(&mut self, first: i64) -> io::Result<()> {
        let Start { boot, since_millis, .. } = *self.start;
        let name = format!("{since_millis:014}-{boot:016x}-{first:020}.{EXTENSION}");
        let path = self.directory.join(name);
        // A directory that was removed under us is made anew.
        fs::create_dir_all(&self.directory)?;
        let head = segment::head_frame(&self.start);
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.set_len(0)?;
        file.write_all(&head)?;
        // Its name is flushed as well.
        File::open(&self.directory)?.sync_all()?;
        // After a failure the same name may be there already.
        self.segments.retain(|segment| segment.path != path);
        self.segments.push_back(Segment { path, bytes: head.len() as u64, is_ours: true });
        self.open = Some(file);
        Ok(())
    }

    /// The oldest rows, the same until somebody says that they are done with. There may be none of a
    /// start that has left its mark alone.
    pub(super) fn front(&mut self) -> Option<Portion> {
        while let Some(path) = self.segments.front().map(|segment| segment.path.clone()) {
            match self.read_front(&path) {
                Ok(Some(portion)) => return Some(portion),
                Ok(None) => self.remove_front(),
                Err(error) => self.set_front_aside(&path, &error),
            }
        }
        None
    }

    fn read_front(&mut self, path: &Path) -> Result<Option<Portion>, SegmentError> {
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => Reading { reader: Reader::open(path)?, portion: None, is_first: true },
        };
        if reading.portion.is_none() {
            let rows = reading.reader.rows()?;
            let is_first = std::mem::take(&mut reading.is_first);
            let rows = rows.or_else(|| is_first.then(Arc::default));
            let before = if self.is_torn { Missing::Damaged } else { Missing::NoRoom };
            let start = Arc::clone(&reading.reader.start);
            reading.portion = rows.map(|rows| Portion { start, rows, told: 0, before });
        }
        let portion = reading.portion.clone();
        self.reading = Some(reading);
        Ok(portion)
    }

    /// The oldest rows are done with.
    pub(super) fn advance(&mut self) {
        let is_any = |reading: &Reading| reading.portion.as_ref().is_some_and(|it| it.last() > 0);
        self.is_torn &= !self.reading.as_ref().is_some_and(is_any);
        if let Some(reading) = &mut self.reading {
            reading.portion = None;
        }
        // A segment that was read to its end goes at once, so that empty means empty.
        let _next = self.front();
    }

    fn remove_front(&mut self) {
        self.reading = None;
        let Some(segment) = self.segments.pop_front() else { return };
        if self.segments.is_empty() {
            self.open = None;
        }
        if let Err(error) = fs::remove_file(&segment.path) {
            tracing::debug!(%error, path = %segment.path.display(), "a written segment stays");
        }
    }

    fn set_front_aside(&mut self, path: &Path, error: &SegmentError) {
        let aside = self.directory.join(ASIDE);
        tracing::warn!(
            segment = %path.display(),
            aside = %aside.display(),
            why = %error,
            "a segment of the activity log is damaged: what could be read of it is written, and \
             the rest is missing"
        );
        self.damaged += 1;
        self.is_torn = true;
        if let Err(error) = fs::rename(path, &aside) {
            tracing::debug!(%error, "a damaged segment cannot be set aside");
        }
        self.remove_front();
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether there is something that an earlier start has left.
    pub(super) fn has_former(&self) -> bool {
        self.segments.iter().any(|segment| !segment.is_ours)
    }

    /// Bytes on the disk, but for what was set aside.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Segments that could not be read to their end.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }
}

/// When a segment is this long the next one begins.
const SEGMENT_BYTES: u64 = 4 << 20;
const EXTENSION: &str = "rows";
/// The last damaged one, for whoever wants to look at it.
const ASIDE: &str = "segment.damaged";

#[cfg(test)]
mod tests;
