//! The order of topics in which everything below a level stands together.
//!
//! Byte by byte, but '/' comes before every other byte: `a`, `a/b`, `a/c`, `a!`, `b`. In the plain
//! order of bytes `a!` would stand between `a` and `a/b`, and no range would hold `a/#`. U+0000
//! occurs in no topic, so '/' can take its place.

use std::borrow::Borrow;
use std::cmp::Ordering;

use crate::mqtt::TopicName;

/// A Topic Name in this order.
#[derive(Clone, Debug)]
pub(crate) struct OrderedTopic(pub(crate) TopicName);

/// What can be looked up among [`OrderedTopic`]s without making one: any bytes.
pub(super) trait Probe {
    fn topic_bytes(&self) -> &[u8];
}

impl Probe for OrderedTopic {
    fn topic_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Probe for &[u8] {
    fn topic_bytes(&self) -> &[u8] {
        self
    }
}

impl<'a> Borrow<dyn Probe + 'a> for OrderedTopic {
    fn borrow(&self) -> &(dyn Probe + 'a) {
        self
    }
}

impl Ord for dyn Probe + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.topic_bytes(), other.topic_bytes())
    }
}

impl PartialOrd for dyn Probe + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Probe + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.topic_bytes() == other.topic_bytes()
    }
}

impl Eq for dyn Probe + '_ {}

impl Ord for OrderedTopic {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.topic_bytes(), other.topic_bytes())
    }
}

impl PartialOrd for OrderedTopic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for OrderedTopic {
    fn eq(&self, other: &Self) -> bool {
        self.topic_bytes() == other.topic_bytes()
    }
}

impl Eq for OrderedTopic {}

/// Compares two topics, or beginnings of topics.
pub(super) fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let same_len = same_words_len(one, other);
    let (one, other) = (one.get(same_len..), other.get(same_len..));
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    let differing = one.iter().zip(other).find(|(byte, other_byte)| byte != other_byte);
    differing.map_or_else(
        || one.len().cmp(&other.len()),
        |(&byte, &other_byte)| rank(byte).cmp(&rank(other_byte)),
    )
}

/// How many bytes are the same at the beginning, in words of eight: topics mostly differ late.
fn same_words_len(one: &[u8], other: &[u8]) -> usize {
    let (words, _) = one.as_chunks::<8>();
    let (other_words, _) = other.as_chunks::<8>();
    8 * words.iter().zip(other_words).take_while(|(word, other_word)| word == other_word).count()
}

fn rank(byte: u8) -> u8 {
    if byte == b'/' { 0 } else { byte }
}

/// Makes `bytes`, a topic or the beginning of one up to the end of a level, the first place after
/// everything below it: no byte of a topic comes between '/' and U+0001.
pub(super) fn leave_subtree(bytes: &mut Vec<u8>) {
    bytes.push(1);
}

/// Makes `bytes`, a topic, the first place after it: it may have something below it.
pub(super) fn enter_subtree(bytes: &mut Vec<u8>) {
    bytes.push(b'/');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_level_stands_together() {
        let mut topics = ["b", "a!", "a/c", "a", "a/b!", "a/", "a/b/c", "/", "a/b", "a\u{1}"];
        topics.sort_by(|one, other| compare(one.as_bytes(), other.as_bytes()));
        assert_eq!(topics, ["/", "a", "a/", "a/b", "a/b/c", "a/b!", "a/c", "a\u{1}", "a!", "b"]);
    }
}
