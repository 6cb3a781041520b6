//! Where the payloads of `mqtt_pub` come from.

use std::{
    io::{self, BufRead, IsTerminal, Read, StdinLock},
    os::{fd::AsFd, unix::ffi::OsStrExt},
    thread,
};

use bytes::Bytes;
use rustix::termios::{LocalModes, tcgetattr};
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
    /// A line that a ctrl-d ended: the cursor still stands behind it.
    Unended(Draft),
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
            return Ok(Self::Lines { lines: read_lines(kind), kind, number: 0 });
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
fn read_lines(kind: LineKind) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (tx, lines) = mpsc::channel(LINES_AHEAD);
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let line = match kind {
                LineKind::Typed => read_typed(&mut stdin),
                LineKind::Payload | LineKind::Json => read_line(&mut stdin),
            };
            // Nobody listening any more is as good as told.
            let goes_on = match line {
                Ok(line) if line.is_empty() => return,
                line => line.is_ok() & tx.blocking_send(line).is_ok(),
            };
            if !goes_on {
                return;
            }
        }
    });
    lines
}

/// A line with its end, or what is left; nothing at the end.
fn read_line(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// What a person typed until a newline or a ctrl-d; nothing for a ctrl-d alone. A terminal that
/// edits lines gives one of them a read, and its end is not there for a second read to find.
fn read_typed(stdin: &mut StdinLock<'_>) -> io::Result<Vec<u8>> {
    if !edits_lines(&*stdin) {
        return read_line(stdin);
    }
    loop {
        let piece = match stdin.fill_buf() {
            Ok(piece) => piece,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let len = piece.iter().position(|byte| *byte == b'\n').map_or(piece.len(), |end| end + 1);
        let line = piece.get(..len).unwrap_or_default().to_vec();
        stdin.consume(len);
        return Ok(line);
    }
}

/// Whether the terminal gathers a line before it gives it away.
fn edits_lines(terminal: impl AsFd) -> bool {
    tcgetattr(terminal).is_ok_and(|modes| modes.local_modes.contains(LocalModes::ICANON))
}

fn digest(line: Option<io::Result<Vec<u8>>>, kind: LineKind, number: u64) -> Item {
    let (line, is_ended) = match line {
        None => return Item::Finished,
        Some(Err(error)) => {
            return Item::Failed(format!("cannot read the standard input: {error}"));
        }
        Some(Ok(mut line)) => {
            let end = line.pop_if(|last| *last == b'\n');
            (line, end.is_some())
        }
    };
    match kind {
        LineKind::Typed if line.is_empty() => Item::Finished,
        LineKind::Typed if !is_ended => Item::Unended(Draft::new(line.into())),
        LineKind::Typed | LineKind::Payload => Item::Draft(Draft::new(line.into())),
        LineKind::Json => match json_lines::parse(&line) {
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
