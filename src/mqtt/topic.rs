//! Topic Names and Topic Filters.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytestring::ByteString;

/// A Topic Name: at least one byte, at most 65,535, no wildcard character and no U+0000
/// [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3]. Compared byte by byte
/// [MQTT-4.7.3-4].
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TopicName(ByteString);

impl TopicName {
    /// Parses a Topic Name.
    ///
    /// # Errors
    ///
    /// Says which rule of section 4.7 the string breaks.
    pub fn parse(name: ByteString) -> Result<Self, TopicError> {
        check_length(&name)?;
        if has_nul_or_wildcard(name.as_bytes()) {
            return Err(name_fault(&name));
        }
        Ok(Self(name))
    }

    /// Takes a string that was checked when its packet was decoded.
    pub(crate) fn from_checked(name: ByteString) -> Self {
        debug_assert!(!name.is_empty() && !has_nul_or_wildcard(name.as_bytes()));
        Self(name)
    }

    /// The name.
    #[must_use]
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as the shared bytes it is.
    #[must_use]
    #[inline]
    pub fn as_byte_string(&self) -> &ByteString {
        &self.0
    }

    /// The topic levels, in order; empty ones count.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.as_str().split('/')
    }

    /// A copy in an exact buffer of its own, for keeping: the original keeps a whole read buffer.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(self.as_str().to_owned().into())
    }
}

impl Deref for TopicName {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl TryFrom<&str> for TopicName {
    type Error = TopicError;

    fn try_from(name: &str) -> Result<Self, TopicError> {
        Self::parse(ByteString::from(name))
    }
}

/// A Topic Filter whose wildcards stand where they may [MQTT-4.7.1-1] [MQTT-4.7.1-2] and whose
/// share part, if it has one, is well-formed [MQTT-4.8.2-1] [MQTT-4.8.2-2].
///
/// It is kept for as long as a Subscription lasts, and there may be a million: a buffer of its own,
/// and no more than its address and length.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TopicFilter(Box<str>);

/// The two parts of the Topic Filter of a Shared Subscription.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share<'a> {
    /// The Share Name.
    pub name: &'a str,
    /// The Topic Filter the members share.
    pub filter: &'a str,
}

impl TopicFilter {
    /// Parses a Topic Filter.
    ///
    /// # Errors
    ///
    /// Says which rule of sections 4.7 and 4.8.2 the string breaks.
    pub fn parse(filter: &str) -> Result<Self, TopicError> {
        check_length(filter)?;
        if has_nul(filter.as_bytes()) {
            return Err(TopicError::Nul);
        }
        check_share(filter)?;
        check_wildcards(matcher_of(filter))?;
        Ok(Self(Box::from(filter)))
    }

    /// The whole filter, with its share part.
    #[must_use]
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A copy as the shared bytes that packets are made of.
    #[must_use]
    pub fn to_byte_string(&self) -> ByteString {
        ByteString::from(self.as_str())
    }

    /// The Share Name and the filter after it, if this is the filter of a Shared Subscription.
    #[must_use]
    pub fn share(&self) -> Option<Share<'_>> {
        let (name, filter) = self.strip_prefix(SHARE_PREFIX)?.split_once('/')?;
        Some(Share { name, filter })
    }

    /// What Topic Names are matched against: the filter without the share part.
    #[must_use]
    pub fn matcher(&self) -> &str {
        matcher_of(self)
    }

    /// Whether a level is a wildcard.
    #[must_use]
    pub fn has_wildcards(&self) -> bool {
        self.matcher().bytes().any(|byte| byte == b'+' || byte == b'#')
    }

    /// Whether the filter matches `topic`: the plain reading of section 4.7, which the index is
    /// tested against. A wildcard in the first level matches no `$` topic [MQTT-4.7.2-1].
    #[must_use]
    pub fn matches(&self, topic: &TopicName) -> bool {
        let mut filter_levels = self.matcher().split('/');
        let mut topic_levels = topic.levels();
        if topic.starts_with('$') && self.matcher().starts_with(['+', '#']) {
            return false;
        }
        loop {
            match (filter_levels.next(), topic_levels.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(_)) => {}
                (Some(filter_level), Some(topic_level)) if filter_level == topic_level => {}
                (Some(_) | None, Some(_)) | (Some(_), None) => return false,
            }
        }
    }
}

impl Deref for TopicFilter {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for TopicFilter {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl TryFrom<&str> for TopicFilter {
    type Error = TopicError;

    fn try_from(filter: &str) -> Result<Self, TopicError> {
        Self::parse(filter)
    }
}

/// Why a string is not a Topic Name or not a Topic Filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TopicError {
    /// At least one character is needed [MQTT-4.7.3-1].
    #[error("a topic has at least one character")]
    Empty,
    /// More bytes than a length of two bytes can say [MQTT-4.7.3-3].
    #[error("a topic has at most 65,535 bytes")]
    TooLong,
    /// U+0000 must not occur [MQTT-4.7.3-2].
    #[error("a topic does not contain the null character U+0000")]
    Nul,
    /// Wildcards belong to Topic Filters [MQTT-4.7.0-1].
    #[error("a Topic Name does not contain the wildcard characters '+' and '#'")]
    WildcardInName,
    /// `#` is alone in the last level [MQTT-4.7.1-1].
    #[error("'#' occupies the whole last level of a Topic Filter")]
    MultiLevelWildcard,
    /// `+` is alone in its level [MQTT-4.7.1-2].
    #[error("'+' occupies a whole level of a Topic Filter")]
    SingleLevelWildcard,
    /// A Share Name has a character at least and none of `/`, `+`, `#` [MQTT-4.8.2-1].
    #[error("a Share Name has at least one character and no '+' or '#'")]
    ShareName,
    /// A filter follows the Share Name [MQTT-4.8.2-2].
    #[error("a Share Name is followed by '/' and a Topic Filter")]
    ShareFilter,
}

/// Whether `bytes` has a byte that no Topic Name has.
#[inline]
pub(crate) fn has_nul_or_wildcard(bytes: &[u8]) -> bool {
    has_marked(bytes, |word| {
        zero_bytes(word)
            | zero_bytes(word ^ (EACH_BYTE * u64::from(b'+')))
            | zero_bytes(word ^ (EACH_BYTE * u64::from(b'#')))
    })
}

/// Whether `bytes` has U+0000.
#[inline]
pub(crate) fn has_nul(bytes: &[u8]) -> bool {
    has_marked(bytes, zero_bytes)
}

/// Whether `marks` finds something in eight of the `bytes`. Every PUBLISH pays for it, and topics
/// are short: looked at by vectors, with the rest byte by byte, this took a quarter of the
/// instructions of decoding one. The last word overlaps the one before it.
#[inline]
fn has_marked(bytes: &[u8], marks: impl Fn(u64) -> u64) -> bool {
    let (words, _) = bytes.as_chunks::<8>();
    let Some(&last) = bytes.last_chunk::<8>() else {
        return bytes.iter().any(|&byte| marks(EACH_BYTE * u64::from(byte)) != 0);
    };
    let last_marks = marks(u64::from_ne_bytes(last));
    words.iter().fold(last_marks, |found, &word| found | marks(u64::from_ne_bytes(word))) != 0
}

/// Marks in the high bits, none exactly if no byte is zero: a borrow starts at a zero byte only.
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(EACH_BYTE) & !word & (EACH_BYTE << 7)
}

fn name_fault(name: &str) -> TopicError {
    if has_nul(name.as_bytes()) { TopicError::Nul } else { TopicError::WildcardInName }
}

fn check_length(topic: &str) -> Result<(), TopicError> {
    match topic.len() {
        0 => Err(TopicError::Empty),
        1..=TOPIC_BYTES_MAX => Ok(()),
        _ => Err(TopicError::TooLong),
    }
}

fn check_share(filter: &str) -> Result<(), TopicError> {
    let Some(rest) = filter.strip_prefix(SHARE_PREFIX) else { return Ok(()) };
    let (name, filter) = rest.split_once('/').ok_or(TopicError::ShareFilter)?;
    if name.is_empty() || name.contains(['+', '#']) {
        return Err(TopicError::ShareName);
    }
    if filter.is_empty() { Err(TopicError::ShareFilter) } else { Ok(()) }
}

fn check_wildcards(matcher: &str) -> Result<(), TopicError> {
    let mut levels = matcher.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(TopicError::MultiLevelWildcard);
        }
        if level.contains('+') && level != "+" {
            return Err(TopicError::SingleLevelWildcard);
        }
    }
    Ok(())
}

fn matcher_of(filter: &str) -> &str {
    let shared = filter.strip_prefix(SHARE_PREFIX).and_then(|rest| rest.split_once('/'));
    shared.map_or(filter, |(_, matcher)| matcher)
}

/// A byte, multiplied by this, is in each of the eight bytes.
const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
const SHARE_PREFIX: &str = "$share/";
const TOPIC_BYTES_MAX: usize = u16::MAX as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names() {
        let too_long = "a".repeat(65_536);
        let rows: &[(&str, Result<(), TopicError>)] = &[
            ("a", Ok(())),
            ("/", Ok(())),
            ("a//b/", Ok(())),
            ("$SYS/x", Ok(())),
            (" ", Ok(())),
            ("\u{FEFF}", Ok(())),
            (&too_long[1..], Ok(())),
            (&too_long, Err(TopicError::TooLong)),
            ("", Err(TopicError::Empty)),
            ("a/+", Err(TopicError::WildcardInName)),
            ("a#", Err(TopicError::WildcardInName)),
            ("a\0#", Err(TopicError::Nul)),
        ];
        for &(name, expected) in rows {
            assert_eq!(TopicName::try_from(name).map(|_| ()), expected, "{name:?}");
        }
    }

    #[test]
    fn topic_filters() {
        let rows: &[(&str, Result<(), TopicError>)] = &[
            ("#", Ok(())),
            ("+", Ok(())),
            ("a/#", Ok(())),
            ("/#", Ok(())),
            ("+/a/+/#", Ok(())),
            ("/+", Ok(())),
            ("$share/g/a", Ok(())),
            ("$share/g//", Ok(())),
            ("$share/g/#", Ok(())),
            ("$share", Ok(())),
            ("$shared/+", Ok(())),
            ("", Err(TopicError::Empty)),
            ("a\0", Err(TopicError::Nul)),
            ("a#", Err(TopicError::MultiLevelWildcard)),
            ("#/a", Err(TopicError::MultiLevelWildcard)),
            ("a/#/", Err(TopicError::MultiLevelWildcard)),
            ("##", Err(TopicError::MultiLevelWildcard)),
            ("a+", Err(TopicError::SingleLevelWildcard)),
            ("a/+b/c", Err(TopicError::SingleLevelWildcard)),
            ("++", Err(TopicError::SingleLevelWildcard)),
            ("$share/", Err(TopicError::ShareFilter)),
            ("$share/g", Err(TopicError::ShareFilter)),
            ("$share/g/", Err(TopicError::ShareFilter)),
            ("$share//a", Err(TopicError::ShareName)),
            ("$share/+/a", Err(TopicError::ShareName)),
            ("$share/g#/a", Err(TopicError::ShareName)),
            ("$share/g/a#", Err(TopicError::MultiLevelWildcard)),
        ];
        for &(filter, expected) in rows {
            assert_eq!(TopicFilter::try_from(filter).map(|_| ()), expected, "{filter:?}");
        }
    }

    #[test]
    fn a_refused_byte_is_found_wherever_it_is() {
        for len in 0..40 {
            for other in [1_u8, b'"', b'$', b'*', b',', 0x80, 0xA3, 0xAB, 0xFF] {
                let clean = vec![other; len];
                assert!(!has_nul(&clean) && !has_nul_or_wildcard(&clean), "{len} x {other}");
                for (at, refused) in (0..len).flat_map(|at| [0, b'+', b'#'].map(|byte| (at, byte)))
                {
                    let mut bytes = clean.clone();
                    bytes[at] = refused;
                    assert!(has_nul_or_wildcard(&bytes), "{refused} at {at} of {len} x {other}");
                    assert_eq!(has_nul(&bytes), refused == 0, "{refused} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn a_share_has_a_name_and_a_filter() {
        let filter = TopicFilter::try_from("$share/g/a/+").unwrap();
        assert_eq!(filter.share(), Some(Share { name: "g", filter: "a/+" }));
        assert_eq!(filter.matcher(), "a/+");
        assert!(filter.has_wildcards());
        let filter = TopicFilter::try_from("a/b").unwrap();
        assert_eq!(filter.share(), None);
        assert_eq!(filter.matcher(), "a/b");
        assert!(!filter.has_wildcards());
    }

    /// The examples of sections 4.7.1 to 4.7.3, and what lies beside them.
    #[test]
    fn filters_match() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            (
                "sport/tennis/player1/#",
                &[
                    "sport/tennis/player1",
                    "sport/tennis/player1/ranking",
                    "sport/tennis/player1/score/wimbledon",
                ],
                &["sport/tennis/player10", "sport/tennis"],
            ),
            ("sport/#", &["sport", "sport/", "sport/a/b"], &["sports", "/sport", "a/sport"]),
            ("#", &["a", "/", "a/b/c", "a/$b"], &["$SYS", "$SYS/a", "$"]),
            ("+/#", &["a", "/", "a/b"], &["$SYS/a"]),
            ("sport/tennis/+", &["sport/tennis/player1"], &["sport/tennis/player1/ranking"]),
            ("sport/+", &["sport/", "sport/a"], &["sport", "sport/a/b"]),
            ("+/tennis/#", &["a/tennis", "/tennis/b"], &["tennis", "$a/tennis"]),
            ("+/+", &["/finance", "a/b"], &["finance", "$SYS/a", "a/b/c"]),
            ("/+", &["/finance", "/"], &["finance", "/a/b"]),
            ("+", &["finance"], &["/finance", "$SYS"]),
            ("$SYS/#", &["$SYS", "$SYS/a"], &["SYS/a"]),
            ("$SYS/monitor/+", &["$SYS/monitor/Clients"], &["$SYS/monitor"]),
            ("a", &["a"], &["A", "a/", "/a", "b"]),
            ("a//b", &["a//b"], &["a/b", "a/x/b"]),
            ("a/+/b", &["a//b", "a/x/b"], &["a/b", "a/x/y/b"]),
            ("$share/g/a/+", &["a/b"], &["$share/g/a/b", "a"]),
            ("$share/g/#", &["a"], &["$SYS/a"]),
        ];
        for &(filter, matched, unmatched) in rows {
            let parsed = TopicFilter::try_from(filter).unwrap();
            for &topic in matched {
                assert!(parsed.matches(&topic.try_into().unwrap()), "{filter} {topic}");
            }
            for &topic in unmatched {
                assert!(!parsed.matches(&topic.try_into().unwrap()), "{filter} {topic}");
            }
        }
    }

    #[test]
    fn detached_copies() {
        let buffer = ByteString::from("a/b/c");
        let name = TopicName::parse(buffer.slice_ref(&buffer[..3])).unwrap();
        assert_eq!(name.as_ptr(), buffer.as_ptr());
        let detached = name.detached();
        assert_eq!(detached, name);
        assert_ne!(detached.as_ptr(), buffer.as_ptr());
        assert_eq!(detached.levels().collect::<Vec<_>>(), ["a", "b"]);
    }
}
