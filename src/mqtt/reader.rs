//! Reads fields out of a received frame, keeping slices of it.

use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;

use super::topic::{has_nul, has_nul_or_wildcard};
use super::{DecodeError, PacketId, ReasonCode};

/// A position in a frame. Every read either moves it forward or fails.
pub(crate) struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    /// Reads `frame` from byte `at` on.
    #[inline]
    pub(crate) fn new(frame: &'a Bytes, at: usize) -> Self {
        debug_assert!(at <= frame.len());
        Self { frame, at, end: frame.len() }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        self.array().and_then(PacketId::from_wire)
    }

    /// A Variable Byte Integer of at most four bytes. A longer form than needed is taken: the
    /// duty to use the shortest one [MQTT-1.5.5-1] binds the sender.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VariableByteInteger)
    }

    /// Binary Data (section 1.5.6).
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.u16()?;
        let range = self.take(usize::from(len))?;
        Ok(self.frame.slice(range))
    }

    /// A UTF-8 Encoded String (section 1.5.4): well-formed [MQTT-1.5.4-1], without U+0000
    /// [MQTT-1.5.4-2], and with U+FEFF where it was [MQTT-1.5.4-3].
    #[inline]
    pub(crate) fn string(&mut self) -> Result<ByteString, DecodeError> {
        let string = self.utf8()?;
        if has_nul(string.as_bytes()) {
            return Err(DecodeError::NulInString);
        }
        Ok(string)
    }

    /// A string that must be a Topic Name if it is not empty [MQTT-3.3.2-2].
    #[inline]
    pub(crate) fn topic_name_or_empty(&mut self) -> Result<ByteString, DecodeError> {
        let topic = self.utf8()?;
        if has_nul_or_wildcard(topic.as_bytes()) {
            if has_nul(topic.as_bytes()) {
                return Err(DecodeError::NulInString);
            }
            return Err(DecodeError::WildcardInTopicName);
        }
        Ok(topic)
    }

    /// Skips a Property Length of zero, if that is what is next.
    #[inline]
    pub(crate) fn skip_no_properties(&mut self) -> bool {
        let is_zero = !self.is_empty() && self.frame.get(self.at) == Some(&0);
        self.at += usize::from(is_zero);
        is_zero
    }

    /// A Reason Code, if it is among those that are `allowed` here.
    pub(crate) fn reason_code(
        &mut self,
        allowed: &[ReasonCode],
    ) -> Result<ReasonCode, DecodeError> {
        let byte = self.u8()?;
        let known = ReasonCode::from_u8(byte).filter(|code| allowed.contains(code));
        known.ok_or(DecodeError::ReasonCodeNotAllowed(byte))
    }

    /// What is left.
    #[inline]
    pub(crate) fn rest(&mut self) -> Bytes {
        let range = self.at..self.end;
        self.at = self.end;
        self.frame.slice(range)
    }

    /// The next `len` bytes, to be read on their own.
    #[inline]
    pub(crate) fn part(&mut self, len: usize) -> Result<Self, DecodeError> {
        let range = self.take(len)?;
        Ok(Self { frame: self.frame, at: range.start, end: range.end })
    }

    /// The number of bytes left.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.end - self.at
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// Checks that nothing follows.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }

    #[inline]
    fn utf8(&mut self) -> Result<ByteString, DecodeError> {
        ByteString::try_from(self.binary()?).map_err(|_| DecodeError::IllFormedUtf8)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let range = self.take(N)?;
        let bytes = self.frame.get(range).and_then(|bytes| bytes.first_chunk());
        bytes.copied().ok_or(DecodeError::Truncated)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<Range<usize>, DecodeError> {
        if len > self.remaining() {
            return Err(DecodeError::Truncated);
        }
        let start = self.at;
        self.at += len;
        Ok(start..self.at)
    }
}
