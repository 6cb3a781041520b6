//! Why bytes are not what a peer would have written.

use crate::mqtt::{DecodeError, TopicError};

/// The rule that received bytes break. The connection they came by is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// A field reaches beyond the end of its frame.
    #[error("a frame ends in the middle of a field")]
    Truncated,
    /// Bytes follow the last field of a frame, or the last frame of a batch.
    #[error("{0} bytes too many")]
    TrailingBytes(usize),
    /// A batch or a frame is larger than we take.
    #[error("{size} bytes are more than the {maximum} that are taken")]
    TooLarge {
        /// As announced.
        size: usize,
        /// The most we take.
        maximum: usize,
    },
    /// A list is longer than we take.
    #[error("a list of {0} entries is too long")]
    TooManyEntries(u32),
    /// The header of a batch contradicts itself.
    #[error("the header of a batch makes no sense")]
    BatchHeader,
    /// There is no such stream.
    #[error("stream {0} does not exist")]
    UnknownStream(u8),
    /// There is no such frame in this version, or not in this stream.
    #[error("frame type {0} does not exist")]
    UnknownFrame(u8),
    /// A field has a value it cannot have.
    #[error("the {0} has a value that does not exist")]
    Value(&'static str),
    /// A variable-length number takes more bytes than it may.
    #[error("a number takes more than five bytes")]
    Varint,
    /// A string is not UTF-8.
    #[error("a string is not well-formed UTF-8")]
    IllFormedUtf8,
    /// A Topic Name or Topic Filter is none.
    #[error("a topic breaks a rule")]
    Topic(#[source] TopicError),
    /// The properties of a message are wrong.
    #[error("the properties of a message break a rule")]
    Properties(#[source] DecodeError),
    /// Whoever is at the other end speaks another protocol.
    #[error("this is not the link of a broker")]
    NotALink,
}
