//! Where a Topic Filter matches next in an ordered set of topics.
//!
//! The cursor is the filter and the first place not yet looked at. Shown a topic at or after that
//! place, it says whether the topic matches and moves the place behind it; where the topic shows
//! that no match can follow soon, far behind it. So a filter costs the topics that match and, for
//! each value of a `+`, a seek or two, and not a walk over the whole set.

use std::cmp::Ordering;

use super::level_order::{compare, enter_subtree, leave_subtree};
use crate::mqtt::TopicFilter;

/// A position in the retained messages that match a filter. It holds no reference: the messages
/// may change between two batches.
#[derive(Clone, Debug)]
pub struct RetainedCursor {
    filter: TopicFilter,
    /// The first place not looked at, as the beginning of a topic.
    place: Vec<u8>,
    is_done: bool,
}

/// How a topic and the filter relate. `plus_end` is where the topic's last level ends that a `+`
/// stands for, `wanted` what the filter's next levels say up to a wildcard.
enum Relation<'a> {
    /// It is a `$` topic and the filter begins with a wildcard [MQTT-4.7.2-1].
    Hidden,
    /// It matches, and so does everything below it.
    MatchesWithSubtree,
    /// It matches, and nothing below it does.
    Matches { plus_end: Option<usize> },
    /// All its levels match, and a match needs more of them.
    TooShort { wanted: &'a str },
    /// The level after the first `parent_len` bytes comes before the filter's.
    Before { parent_len: usize, wanted: &'a str },
    /// A level comes after the filter's, or there are too many.
    Passed { plus_end: Option<usize> },
}

impl RetainedCursor {
    /// At the first match of `filter`. A share part counts for nothing.
    #[must_use]
    pub fn new(filter: TopicFilter) -> Self {
        let place = leading_names(filter.matcher()).as_bytes().to_vec();
        Self { filter, place, is_done: false }
    }

    /// Where another cursor for `filter` was.
    #[must_use]
    pub fn resume(filter: TopicFilter, place: &[u8]) -> Self {
        Self { filter, place: place.to_vec(), is_done: false }
    }

    /// What is looked for.
    #[must_use]
    pub fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// Whether every match has been seen.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Notes that there is no topic at or after the place.
    pub(super) fn finish(&mut self) {
        self.is_done = true;
    }

    /// Looks at the first topic at or after the place, and moves the place behind it. Says whether
    /// the topic matches.
    pub(super) fn show(&mut self, topic: &str) -> bool {
        debug_assert!(!self.is_before_place(topic), "{topic} was passed already");
        self.place.clear();
        let is_match = self.advance(topic);
        debug_assert!(self.is_done || self.is_before_place(topic), "{topic} would be shown again");
        is_match
    }

    /// Whether `topic` stands before the place: nothing to be shown.
    pub(super) fn is_before_place(&self, topic: &str) -> bool {
        compare(topic.as_bytes(), &self.place) == Ordering::Less
    }

    /// The first place not looked at.
    #[must_use]
    pub fn place(&self) -> &[u8] {
        &self.place
    }

    fn advance(&mut self, topic: &str) -> bool {
        match relation(self.filter.matcher(), topic) {
            Relation::MatchesWithSubtree => {
                self.place.extend_from_slice(topic.as_bytes());
                enter_subtree(&mut self.place);
                return true;
            }
            Relation::Matches { plus_end } => {
                self.leave_last_plus(topic, plus_end);
                return true;
            }
            Relation::Passed { plus_end } => self.leave_last_plus(topic, plus_end),
            Relation::Hidden => self.place.extend_from_slice(AFTER_HIDDEN_TOPICS),
            Relation::Before { parent_len, wanted } => {
                self.place.extend_from_slice(beginning(topic, parent_len));
                self.place.extend_from_slice(wanted.as_bytes());
            }
            Relation::TooShort { wanted } => {
                self.place.extend_from_slice(topic.as_bytes());
                enter_subtree(&mut self.place);
                self.place.extend_from_slice(wanted.as_bytes());
            }
        }
        false
    }

    /// Goes behind everything that begins with these levels up to the last `+`; without one there
    /// is nothing more.
    fn leave_last_plus(&mut self, topic: &str, plus_end: Option<usize>) {
        let Some(plus_end) = plus_end else {
            self.is_done = true;
            return;
        };
        self.place.extend_from_slice(beginning(topic, plus_end));
        leave_subtree(&mut self.place);
    }
}

fn relation<'a>(filter: &'a str, topic: &str) -> Relation<'a> {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return Relation::Hidden;
    }
    let mut topic_levels = topic.split('/');
    let (mut rest, mut parent_len, mut plus_end) = (Some(filter), 0, None);
    while let Some(filter_left) = rest {
        let (filter_level, after) = match filter_left.split_once('/') {
            Some((level, after)) => (level, Some(after)),
            None => (filter_left, None),
        };
        if filter_level == "#" {
            return Relation::MatchesWithSubtree;
        }
        let Some(level) = topic_levels.next() else {
            return Relation::TooShort { wanted: leading_names(filter_left) };
        };
        if filter_level == "+" {
            plus_end = Some(parent_len + level.len());
        } else {
            match level.cmp(filter_level) {
                Ordering::Less => {
                    return Relation::Before { parent_len, wanted: leading_names(filter_left) };
                }
                Ordering::Greater => return Relation::Passed { plus_end },
                Ordering::Equal => {}
            }
        }
        (rest, parent_len) = (after, parent_len + level.len() + 1);
    }
    if topic_levels.next().is_some() {
        return Relation::Passed { plus_end };
    }
    Relation::Matches { plus_end }
}

/// What a filter says up to its first wildcard. Before a `#` the last '/' does not count: `a/#`
/// matches `a`, too.
fn leading_names(filter: &str) -> &str {
    let names = filter.split(['+', '#']).next().unwrap_or_default();
    if filter.ends_with('#') && names.len() + 1 == filter.len() {
        return names.strip_suffix('/').unwrap_or(names);
    }
    names
}

fn beginning(topic: &str, len: usize) -> &[u8] {
    topic.as_bytes().get(..len).expect("levels end within their topic")
}

/// What comes after every topic that begins with '$'.
const AFTER_HIDDEN_TOPICS: &[u8] = b"%";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_moves_the_place_as_far_as_it_shows() {
        check("a/b", "a/b", "match, done");
        check("a/b", "a/c", "no match, done");
        check("a/b", "a/a", "no match, a/b");
        check("a/b", "a", "no match, a/b");
        check("a/#", "a", "match, a/");
        check("a/#", "a/x", "match, a/x/");
        check("a/#", "a!", "no match, done");
        check("a/b/#", "a", "no match, a/b");
        check("#", "x", "match, x/");
        check("#", "$SYS/x", "no match, %");
        check("+/x", "$SYS/x", "no match, %");
        check("$SYS/+", "$SYS/x", "match, $SYS/x\u{1}");
        check("+/x", "p", "no match, p/x");
        check("+/x", "p/a/b", "no match, p/x");
        check("+/x", "p/x", "match, p\u{1}");
        check("+/x", "p/x/y", "no match, p\u{1}");
        check("+/x", "p/y", "no match, p\u{1}");
        check("a/+/c/+/e", "a/1/c/2/f", "no match, a/1/c/2\u{1}");
        check("a/+/c/+/e", "a/1/d", "no match, a/1\u{1}");
        check("a/+/c/+/e", "a/1", "no match, a/1/c/");
        check("a/+/c/+/e", "a/1/c/2", "no match, a/1/c/2/e");
        check("+/+", "/", "match, /\u{1}");
        check("+/#", "", "match, /");
    }

    fn check(filter: &str, topic: &str, expected: &str) {
        let mut cursor = RetainedCursor::new(TopicFilter::try_from(filter).unwrap());
        cursor.place.clear();
        let matched = if cursor.show(topic) { "match" } else { "no match" };
        let place = String::from_utf8(cursor.place.clone()).unwrap();
        let place = if cursor.is_done() { "done" } else { &place };
        assert_eq!(format!("{matched}, {place}"), expected, "{filter} shown {topic}");
    }
}
