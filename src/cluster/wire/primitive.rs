//! Fields: numbers, strings, lists. A form is described once and run over two sinks, one that counts
//! and one that writes, so that the length told is the length written.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use crate::cluster::identity::BootId;
use crate::cluster::version::Version;
use crate::cluster::wire::WireError;
use crate::mqtt::{QoS, TopicFilter, TopicName};

/// Where fields go. Numbers are big-endian.
pub(super) trait Sink {
    fn bytes(&mut self, bytes: &[u8]);

    fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.bytes(&value.to_be_bytes());
    }

    fn boolean(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    fn boot_id(&mut self, value: BootId) {
        self.bytes(&value.0.to_be_bytes());
    }

    fn version(&mut self, value: Version) {
        self.u64(value.time);
        self.boot_id(value.boot_id);
    }

    /// Seven bits a byte, the lowest first; all but the last with the highest bit set.
    fn varint(&mut self, value: usize) {
        let mut rest = u32::try_from(value).expect("lengths and counts are below 2^32");
        while rest > 0x7F {
            self.u8(low_seven_bits(rest) | 0x80);
            rest >>= 7;
        }
        self.u8(low_seven_bits(rest));
    }

    fn string(&mut self, string: &str) {
        let len = u16::try_from(string.len()).expect("a string has at most 65,535 bytes");
        self.u16(len);
        self.bytes(string.as_bytes());
    }

    /// A string for people, cut where it is too long.
    fn words(&mut self, words: &str) {
        let mut len = words.len().min(WORDS_BYTES_MAX);
        while !words.is_char_boundary(len) {
            len -= 1;
        }
        self.string(words.split_at(len).0);
    }

    /// A list: how many, then each of them.
    fn list<T>(&mut self, list: &[T], mut each: impl FnMut(&mut Self, &T))
    where
        Self: Sized,
    {
        assert!(list.len() <= ENTRIES_MAX, "whoever makes a list keeps it short");
        self.varint(list.len());
        for entry in list {
            each(self, entry);
        }
    }
}

impl Sink for BytesMut {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

/// Room that is known to be enough.
impl Sink for &mut [u8] {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

/// A sink that only counts.
pub(super) struct Length(pub(super) usize);

impl Sink for Length {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// The bytes that [`Sink::varint`] writes.
#[inline]
pub(super) const fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        0x20_0000..=0xFFF_FFFF => 4,
        _ => 5,
    }
}

#[inline]
const fn low_seven_bits(value: u32) -> u8 {
    (value & 0x7F) as u8
}

/// A position in a frame. Every read either moves it forward or fails.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    /// What `rest` is a part of, for slices that share it.
    whole: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn new(whole: &'a Bytes) -> Self {
        Self { whole, rest: whole }
    }

    /// The next `len` bytes, to be read on their own.
    #[inline]
    pub(super) fn part(&mut self, len: usize) -> Result<Self, WireError> {
        Ok(Self { whole: self.whole, rest: self.take(len)? })
    }

    #[inline]
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that nothing follows.
    #[inline]
    pub(super) fn finish(&self) -> Result<(), WireError> {
        if self.is_empty() { Ok(()) } else { Err(WireError::TrailingBytes(self.rest.len())) }
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Value("truth value")),
        }
    }

    pub(super) fn boot_id(&mut self) -> Result<BootId, WireError> {
        self.array().map(u128::from_be_bytes).map(BootId)
    }

    pub(super) fn version(&mut self) -> Result<Version, WireError> {
        Ok(Version { time: self.u64()?, boot_id: self.boot_id()? })
    }

    pub(super) fn qos(&mut self) -> Result<QoS, WireError> {
        QoS::from_bits(self.u8()?).ok_or(WireError::Value("QoS"))
    }

    /// A variable-length number below 2^32. A longer form than needed is taken.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, WireError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            let bits = u32::from(byte & 0x7F);
            if shift == 28 && bits > 0x0F {
                return Err(WireError::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Varint)
    }

    /// A length that fits into what is left.
    #[inline]
    pub(super) fn len(&mut self) -> Result<usize, WireError> {
        usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)
    }

    /// The length of a list.
    pub(super) fn count(&mut self) -> Result<usize, WireError> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(count) if count <= ENTRIES_MAX => Ok(count),
            Ok(_) | Err(_) => Err(WireError::TooManyEntries(count)),
        }
    }

    /// A list. It grows with the bytes that are read, not with the count that is told.
    pub(super) fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.count()?;
        let mut list = Vec::with_capacity(count.min(self.remaining() / SMALLEST_ENTRY_BYTES));
        for _ in 0..count {
            list.push(each(self)?);
        }
        Ok(list)
    }

    #[inline]
    pub(super) fn string(&mut self) -> Result<ByteString, WireError> {
        let len = usize::from(self.u16()?);
        let bytes = self.take(len)?;
        ByteString::try_from(self.whole.slice_ref(bytes)).map_err(|_| WireError::IllFormedUtf8)
    }

    /// A string of its own, for what is kept.
    pub(super) fn owned_string(&mut self) -> Result<String, WireError> {
        let len = usize::from(self.u16()?);
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| WireError::IllFormedUtf8)?;
        Ok(text.to_owned())
    }

    #[inline]
    pub(super) fn topic(&mut self) -> Result<TopicName, WireError> {
        TopicName::parse(self.string()?).map_err(WireError::Topic)
    }

    /// The same; when it is that of the frame before, it was checked then.
    #[inline]
    pub(super) fn topic_after(&mut self, last: Option<&TopicName>) -> Result<TopicName, WireError> {
        let before = self.rest;
        let len = usize::from(self.u16()?);
        let bytes = self.take(len)?;
        if let Some(last) = last.filter(|last| last.as_str().as_bytes() == bytes) {
            return Ok(last.clone());
        }
        self.rest = before;
        self.topic()
    }

    pub(super) fn filter(&mut self) -> Result<TopicFilter, WireError> {
        TopicFilter::parse(&self.string()?).map_err(WireError::Topic)
    }

    /// The next `len` bytes, sharing the buffer.
    #[inline]
    pub(super) fn slice(&mut self, len: usize) -> Result<Bytes, WireError> {
        let bytes = self.take(len)?;
        Ok(self.whole.slice_ref(bytes))
    }

    /// What is left, sharing the buffer.
    #[inline]
    pub(super) fn rest(&mut self) -> Bytes {
        self.whole.slice_ref(std::mem::take(&mut self.rest))
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// Entries of one list in one frame: filters, outcomes, Client Identifiers, groups.
pub const ENTRIES_MAX: usize = 4_096;
/// No entry of a list takes less on the wire; that bounds what a lying count can make us allocate.
const SMALLEST_ENTRY_BYTES: usize = 3;
const WORDS_BYTES_MAX: usize = 1_024;
