//! Where the payloads of `mqtt_pub` come from.

use std::{
    io::{self, BufRead, IsTerminal, Read},
    os::unix::ffi::OsStrExt,
    thread,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    json_lines::{self, Draft},
    pub_options::{MessageOptions, PayloadOptions},
    start_error::StartError,
};

/// Payloads, one after the other.
#[derive(Debug)]
pub(super) enum Source {
    /// The same payload several times.
    Fixed { payload: Bytes, left: u64 },
    /// Lines of the standard input.
    Lines { lines: mpsc::Receiver<io::Result<Vec<u8>>>, kind: LineKind, number: u64 },
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    /// A payload.
    Payload,
    /// A payload typed by a person; an empty one ends it.
    Typed,
    /// A JSON object.
    Json,
}

/// The next thing a source gives.
#[derive(Debug)]
pub(super) enum Item {
    Draft(Draft),
    /// There is no more.
    Finished,
    /// What came next cannot be sent.
    Failed(String),
}

impl Source {
    /// Opens what the options name; files are read here.
    pub(super) fn open(
        payload: &PayloadOptions,
        message: &MessageOptions,
    ) -> Result<Self, StartError> {
        if let Some(kind) = line_kind(payload) {
            if message.repeat.is_some() {
                let words = "--repeat goes with -m, -f, -s, -n or --size, not with lines";
                return Err(StartError::usage(words));
            }
            return Ok(Self::Lines { lines: read_lines(), kind, number: 0 });
        }
        Ok(Self::Fixed { payload: fixed(payload)?, left: message.repeat.unwrap_or(1) })
    }

    /// How many messages there will be, if that is known.
    pub(super) fn total(&self) -> Option<u64> {
        match self {
            Self::Fixed { left, .. } => Some(*left),
            Self::Lines { .. } => None,
        }
    }

    /// The length of a payload, if it is known.
    pub(super) fn payload_len(&self) -> u64 {
        match self {
            Self::Fixed { payload, .. } => payload.len() as u64,
            Self::Lines { .. } => 0,
        }
    }

    /// Whether a person is typing.
    pub(super) fn is_typed(&self) -> bool {
        matches!(self, Self::Lines { kind: LineKind::Typed, .. })
    }

    /// The next item. Cancel safe.
    pub(super) async fn next(&mut self) -> Item {
        match self {
            Self::Fixed { .. } => self.take_fixed(),
            Self::Lines { lines, kind, number } => {
                let line = lines.recv().await;
                *number += 1;
                digest(line, *kind, *number)
            }
        }
    }

    /// The next item if it is there already.
    pub(super) fn try_next(&mut self) -> Option<Item> {
        match self {
            Self::Fixed { .. } => Some(self.take_fixed()),
            Self::Lines { lines, kind, number } => {
                let line = lines.try_recv().ok()?;
                *number += 1;
                Some(digest(Some(line), *kind, *number))
            }
        }
    }

    fn take_fixed(&mut self) -> Item {
        match self {
            Self::Fixed { payload, left: left @ 1.. } => {
                *left -= 1;
                Item::Draft(Draft::new(payload.clone()))
            }
            Self::Fixed { .. } | Self::Lines { .. } => Item::Finished,
        }
    }
}

/// Lines are asked for, or are what is left without any payload option.
fn line_kind(options: &PayloadOptions) -> Option<LineKind> {
    if options.json_lines {
        return Some(LineKind::Json);
    }
    if options.stdin_line {
        return Some(LineKind::Payload);
    }
    let is_fixed = options.message.is_some()
        || options.file.is_some()
        || options.stdin_file
        || options.null_message
        || options.size.is_some();
    if is_fixed {
        return None;
    }
    Some(if io::stdin().is_terminal() { LineKind::Typed } else { LineKind::Payload })
}

fn fixed(options: &PayloadOptions) -> Result<Bytes, StartError> {
    if let Some(text) = &options.message {
        return Ok(Bytes::copy_from_slice(text.as_bytes()));
    }
    if let Some(path) = &options.file {
        let failed = |source| StartError::File { path: path.display().to_string(), source };
        return Ok(std::fs::read(path).map_err(failed)?.into());
    }
    if options.stdin_file {
        let mut bytes = Vec::new();
        let failed = |source| StartError::File { path: "the standard input".to_owned(), source };
        io::stdin().lock().read_to_end(&mut bytes).map_err(failed)?;
        return Ok(bytes.into());
    }
    if let Some(size) = options.size {
        return Ok(ALPHABET.iter().copied().cycle().take(size).collect::<Vec<_>>().into());
    }
    Ok(Bytes::new())
}

/// A thread of its own reads the standard input: a terminal cannot be read without blocking.
fn read_lines() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (tx, lines) = mpsc::channel(LINES_AHEAD);
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            match stdin.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => {
                    line.pop_if(|last| *last == b'\n');
                    if tx.blocking_send(Ok(line)).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // Nobody listening any more is as good as told.
                    let _ = tx.blocking_send(Err(error));
                    return;
                }
            }
        }
    });
    lines
}

fn digest(line: Option<io::Result<Vec<u8>>>, kind: LineKind, number: u64) -> Item {
    match (line, kind) {
        (None, _) => Item::Finished,
        (Some(Err(error)), _) => Item::Failed(format!("cannot read the standard input: {error}")),
        (Some(Ok(line)), LineKind::Typed) if line.is_empty() => Item::Finished,
        (Some(Ok(line)), LineKind::Typed | LineKind::Payload) => {
            Item::Draft(Draft::new(line.into()))
        }
        (Some(Ok(line)), LineKind::Json) => match json_lines::parse(&line) {
            Ok(draft) => Item::Draft(draft),
            Err(reason) => Item::Failed(format!("line {number}: {reason}")),
        },
    }
}

/// Lines read before they can be sent.
const LINES_AHEAD: usize = 64;
/// The longest line: no packet could carry more.
const LINE_BYTES_MAX: u64 = 268_435_455;
/// What `--size` fills its payload with.
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
