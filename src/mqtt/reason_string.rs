//! Reason Strings: why, for people.

use std::fmt;
use std::ops::Deref;

use bytestring::ByteString;

/// A Reason String. One that we write is cut to what somebody reads, whatever the client had a part
/// in: no string of the standard has more than 65,535 bytes, and a longer one cannot be encoded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReasonString(ByteString);

impl ReasonString {
    /// One that a packet brought.
    pub(crate) fn from_wire(string: ByteString) -> Self {
        Self(string)
    }
}

impl From<&str> for ReasonString {
    /// As much of `reason` as fits, in whole characters.
    fn from(reason: &str) -> Self {
        let mut end = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self(ByteString::from(reason.get(..end).unwrap_or_default()))
    }
}

impl Deref for ReasonString {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReasonString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

const REASON_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_one_is_cut_between_characters() {
        assert_eq!(&*ReasonString::from("why"), "why");
        let shown = ReasonString::from(&*"\u{fffd}".repeat(100_000));
        assert_eq!(shown.len(), 1_023, "whole characters only");
    }
}
