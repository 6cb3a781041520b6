//! Where in the tree a topic stands.
//!
//! `/topics/<hh>/<name>`: `hh` is the low byte of the hash of the topic, so that a parent holds one
//! part in 256 of them; `name` is the topic, percent-encoded, in the one form that
//! [`TopicPath::of`] makes.

use crate::cluster::hash::wire_hash;
use crate::cluster::paths::TOPICS;

/// How many parts there are.
pub(super) const PARTS: usize = 256;

/// A topic that may be registered, and its encoded name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct TopicPath {
    pub(super) part: u8,
    name: String,
}

/// Why a topic is not registered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unregistered {
    /// It begins with `$`: it belongs to a broker.
    System,
    /// Its encoded name is longer than a name in the tree may be.
    TooLong,
}

impl TopicPath {
    pub(super) fn of(topic: &str) -> Result<Self, Unregistered> {
        if topic.starts_with('$') {
            return Err(Unregistered::System);
        }
        if topic.len() > NAME_BYTES_MAX {
            return Err(Unregistered::TooLong);
        }
        let name = encode(topic);
        if name.len() > NAME_BYTES_MAX {
            return Err(Unregistered::TooLong);
        }
        Ok(Self { part: part_of(topic), name })
    }

    /// The whole path.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", part_path(self.part), self.name)
    }

    /// What the name adds to the cost of a znode.
    pub(super) fn name_len(&self) -> usize {
        self.name.len()
    }
}

/// Which part a topic belongs to.
pub(super) fn part_of(topic: &str) -> u8 {
    let [.., low] = wire_hash(topic.as_bytes()).to_be_bytes();
    low
}

pub(super) fn part_path(part: u8) -> String {
    format!("{TOPICS}/{part:02x}")
}

/// The topic behind a path, if it is one that [`TopicPath`] makes.
pub(super) fn topic_of_path(path: &str) -> Option<String> {
    let (part, name) = path.strip_prefix(TOPICS)?.strip_prefix('/')?.split_once('/')?;
    let topic = topic_of_name(name)?;
    (part == format!("{:02x}", part_of(&topic))).then_some(topic)
}

/// The topic behind a name, if it is one that [`TopicPath`] makes.
pub(super) fn topic_of_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    let topic = String::from_utf8(bytes).ok()?;
    TopicPath::of(&topic).is_ok_and(|path| path.name == name).then_some(topic)
}

/// ZooKeeper takes neither a slash nor control characters nor the names `.` and `..`.
fn encode(topic: &str) -> String {
    let is_dots = matches!(topic, "." | "..");
    let mut name = String::with_capacity(topic.len() + topic.len() / 4);
    for &byte in topic.as_bytes() {
        let is_plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'~')
            || (byte == b'.' && !is_dots);
        if is_plain {
            name.push(char::from(byte));
        } else {
            name.push('%');
            name.extend([byte >> 4, byte & 0xF].map(digit));
        }
    }
    name
}

fn digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase()
}

const NAME_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_found_again_behind_its_path() {
        for topic in ["a", "a/b", "/", ".", "..", "a..b", " ", "%2F", "\u{e4}/\u{1F600}", "~-_"] {
            let path = TopicPath::of(topic).unwrap().path();
            assert_eq!(topic_of_path(&path).as_deref(), Some(topic), "{path}");
            assert_eq!(path.matches('/').count(), 3, "{path}");
        }
        assert_eq!(TopicPath::of("a/b").unwrap().name, "a%2Fb");
        assert_eq!(TopicPath::of("..").unwrap().name, "%2E%2E");
    }

    #[test]
    fn a_name_that_nobody_makes_is_no_topic() {
        for name in ["a%2fb", "%61", "%", "%4", "%FF", "%24SYS", "", "a b"] {
            assert_eq!(topic_of_name(name), None, "{name}");
        }
        let path = TopicPath::of("a").unwrap().path();
        let elsewhere = path.replace(&format!("{:02x}", part_of("a")), "zz");
        assert_eq!(topic_of_path(&elsewhere), None);
        assert_eq!(topic_of_path("/topics/00"), None);
        assert_eq!(topic_of_path("/topicsX/00/a"), None);
    }

    #[test]
    fn system_topics_and_long_names_are_not_registered() {
        assert_eq!(TopicPath::of("$SYS/a"), Err(Unregistered::System));
        assert!(TopicPath::of(&"a".repeat(512)).is_ok());
        assert_eq!(TopicPath::of(&"a".repeat(513)), Err(Unregistered::TooLong));
        assert_eq!(TopicPath::of(&"/".repeat(171)), Err(Unregistered::TooLong));
    }
}
