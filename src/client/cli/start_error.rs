//! Why a program does not even start.

use super::exit::Exit;
use crate::client::tls::TlsFilesError;

/// Something is wrong before the first packet.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The files for TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFilesError),
}

impl StartError {
    /// A mistake on the command line.
    pub(super) fn usage(words: impl Into<String>) -> Self {
        Self::Usage(shortened(&words.into()))
    }

    /// What the program ends with.
    #[must_use]
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Tls(TlsFilesError::HalfIdentity) => Exit::Usage,
            Self::File { .. } | Self::Tls(_) => Exit::File,
        }
    }
}

/// One line that a person can read, also where a whole file was pasted into the command line.
fn shortened(words: &str) -> String {
    let is_long = words.chars().nth(2 * SHOWN_CHARS).is_some();
    if !is_long {
        return words.to_owned();
    }
    let head: String = words.chars().take(SHOWN_CHARS).collect();
    let tail = words.char_indices().rev().nth(SHOWN_CHARS - 1).map_or(0, |(at, _)| at);
    format!("{head}...{}", words.get(tail..).unwrap_or_default())
}

/// Characters at either end of a line that is too long.
const SHOWN_CHARS: usize = 200;
