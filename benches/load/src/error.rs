//! Why a row could not be run to its end.

use std::io;

/// Why the load gave up.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A socket, file or program could not be used.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The broker closed a connection.
    #[error("the broker closed a connection while {0}")]
    Closed(&'static str),
    /// The broker's bytes made no sense.
    #[error(transparent)]
    Malformed(#[from] crate::frames::Malformed),
    /// The broker answered with a refusal.
    #[error("the broker refused: {0}")]
    Refused(String),
    /// Something took longer than its bound.
    #[error("out of time while {0}")]
    OutOfTime(&'static str),
    /// The person at the terminal asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl LoadError {
    /// Turns a system error into one of ours, for `map_err`.
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        use io::ErrorKind as Kind;
        move |source| {
            let kind = source.kind();
            if [Kind::WouldBlock, Kind::TimedOut].contains(&kind) {
                return Self::OutOfTime(doing);
            }
            if [Kind::UnexpectedEof, Kind::ConnectionReset, Kind::BrokenPipe].contains(&kind) {
                return Self::Closed(doing);
            }
            Self::Io { doing, source }
        }
    }
}
