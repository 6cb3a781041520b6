//! Deletions of retained messages, remembered so that an older value does not come back.
//!
//! A deletion of what nobody here retains is remembered as well: another broker may have the value,
//! or it may be on its way, from there or from the tree of znodes. But a client can make up as many
//! such topics as it likes; so these give way first.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::cluster::version::Version;
use crate::mqtt::TopicName;
use crate::ports::clock::Tick;
use crate::routing::OrderedTopic;

/// One for each topic at most, within bounds.
#[derive(Default)]
pub(super) struct Tombstones {
    by_topic: BTreeMap<OrderedTopic, Tombstone>,
    /// The first gives way first: of each kind the oldest.
    places: BTreeMap<Place, TopicName>,
    buried: u64,
    bytes: usize,
}

struct Tombstone {
    version: Version,
    forgotten_at: Tick,
    place: Place,
}

#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
struct Place {
    grounds: Grounds,
    number: u64,
}

/// What is known of the topic whose value was deleted.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Grounds {
    /// Nothing: others may have had a value.
    Hearsay,
    /// There was a value.
    Known,
}

impl Tombstones {
    /// Remembers a deletion in the place of an earlier one of the topic.
    pub(super) fn bury(
        &mut self,
        topic: &TopicName,
        version: Version,
        grounds: Grounds,
        now: Tick,
    ) {
        // The version that is known may be no more than that of the deletion before.
        let grounds = self.lift(topic).map_or(grounds, |former| former.place.grounds);
        let place = Place { grounds, number: self.buried };
        self.buried += 1;
        self.bytes += bytes_of(topic);
        self.places.insert(place, topic.clone());
        let forgotten_at = now.plus_millis(TOMBSTONE_MILLIS);
        let tombstone = Tombstone { version, forgotten_at, place };
        self.by_topic.insert(OrderedTopic(topic.clone()), tombstone);
    }

    /// The topic has a value again.
    pub(super) fn note_value(&mut self, topic: &TopicName) {
        self.lift(topic);
    }

    /// Forgets one deletion too many, if there is one: the topic of which no version is known now.
    pub(super) fn forget_excess(&mut self) -> Option<TopicName> {
        let is_within = self.by_topic.len() <= TOMBSTONES_MAX && self.bytes <= BYTES_MAX;
        let topic = self.places.values().next().filter(|_| !is_within)?.clone();
        self.lift(&topic);
        Some(topic)
    }

    /// Forgets one deletion of which everybody has heard by now, if there is one.
    pub(super) fn forget_due(&mut self, now: Tick) -> Option<TopicName> {
        let kinds = [Grounds::Hearsay, Grounds::Known];
        let topic = kinds.into_iter().find_map(|grounds| self.due(grounds, now))?;
        self.lift(&topic);
        Some(topic)
    }

    /// Whether the version of this topic is that of a deletion.
    pub(super) fn has(&self, topic: &TopicName) -> bool {
        self.by_topic.contains_key(&OrderedTopic(topic.clone()))
    }

    /// Up to `max` deletions behind the topic `after`, in the order of retained messages. Fewer
    /// than `max` mean that there are no more.
    pub(super) fn page(
        &self,
        after: Option<&TopicName>,
        max: usize,
    ) -> impl Iterator<Item = (TopicName, Version)> {
        let from = after.map(|after| OrderedTopic(after.clone()));
        let from = from.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.by_topic.range((from, Bound::Unbounded)).take(max);
        behind.map(|(topic, tombstone)| (topic.0.clone(), tombstone.version))
    }

    fn due(&self, grounds: Grounds, now: Tick) -> Option<TopicName> {
        let first = Place { grounds, number: 0 };
        let last = Place { grounds, number: u64::MAX };
        let (_, topic) = self.places.range(first..=last).next()?;
        let tombstone = self.by_topic.get(&OrderedTopic(topic.clone()))?;
        (tombstone.forgotten_at <= now).then(|| topic.clone())
    }

    fn lift(&mut self, topic: &TopicName) -> Option<Tombstone> {
        let tombstone = self.by_topic.remove(&OrderedTopic(topic.clone()))?;
        self.places.remove(&tombstone.place);
        self.bytes -= bytes_of(topic);
        Some(tombstone)
    }
}

/// What a deletion of this topic costs.
pub(super) fn bytes_of(topic: &TopicName) -> usize {
    topic.as_str().len() + TOMBSTONE_BYTES
}

/// How long a deletion is remembered.
pub(super) const TOMBSTONE_MILLIS: u64 = 10 * 60 * 1_000;
/// Deletions remembered at most, and their bytes.
const TOMBSTONES_MAX: usize = 100_000;
const BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// What each costs besides the name of its topic.
const TOMBSTONE_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::identity::BootId;

    fn topic(number: usize, bytes: usize) -> TopicName {
        TopicName::try_from(format!("{number:0bytes$}").as_str()).unwrap()
    }

    fn bury(tombstones: &mut Tombstones, topic: &TopicName, time: u64, grounds: Grounds) {
        let version = Version { time, boot_id: BootId(1) };
        tombstones.bury(topic, version, grounds, Tick::from_millis(time));
    }

    #[test]
    fn a_topic_has_one_and_it_is_the_last() {
        let mut tombstones = Tombstones::default();
        let once = topic(1, 10);
        for time in 0..1_000 {
            bury(&mut tombstones, &once, time, Grounds::Hearsay);
        }
        assert_eq!((tombstones.by_topic.len(), tombstones.places.len()), (1, 1));
        assert_eq!(tombstones.bytes, bytes_of(&once));
        let told: Vec<_> = tombstones.page(None, 10).map(|(_, version)| version.time).collect();
        assert_eq!(told, [999]);
        assert!(tombstones.has(&once));
        tombstones.note_value(&once);
        assert!(!tombstones.has(&once));
        assert_eq!((tombstones.places.len(), tombstones.bytes), (0, 0));
    }

    /// Bounded by their number alone, deletions of long topics had 6.5 GB.
    #[test]
    fn bytes_are_bounded_and_what_was_made_up_gives_way_first() {
        let mut tombstones = Tombstones::default();
        let real = topic(0, 60_000);
        bury(&mut tombstones, &real, 0, Grounds::Known);
        let mut forgotten = Vec::new();
        for number in 1..=1_000 {
            bury(&mut tombstones, &topic(number, 60_000), 1, Grounds::Hearsay);
            forgotten.extend(tombstones.forget_excess());
            assert!(tombstones.bytes <= BYTES_MAX);
        }
        let kept = BYTES_MAX / bytes_of(&real);
        assert_eq!((tombstones.by_topic.len(), forgotten.len()), (kept, 1_001 - kept));
        assert_eq!(forgotten.first(), Some(&topic(1, 60_000)), "the oldest");
        assert!(tombstones.has(&real));
        assert!(tombstones.forget_excess().is_none());
    }

    #[test]
    fn each_is_forgotten_in_its_time() {
        let mut tombstones = Tombstones::default();
        bury(&mut tombstones, &topic(1, 1), 0, Grounds::Known);
        bury(&mut tombstones, &topic(2, 1), 1, Grounds::Hearsay);
        let at = |millis| Tick::from_millis(TOMBSTONE_MILLIS + millis);
        let early = Tick::from_millis(TOMBSTONE_MILLIS - 1);
        assert_eq!(tombstones.forget_due(early), None);
        assert_eq!(tombstones.forget_due(at(0)), Some(topic(1, 1)));
        assert_eq!(tombstones.forget_due(at(0)), None);
        assert_eq!(tombstones.forget_due(at(1)), Some(topic(2, 1)));
    }

    #[test]
    fn pages_follow_each_other() {
        let mut tombstones = Tombstones::default();
        (0..5).for_each(|number| bury(&mut tombstones, &topic(number, 1), 0, Grounds::Known));
        let (mut after, mut told) = (None, Vec::new());
        while let Some((last, _)) = tombstones.page(after.as_ref(), 2).last() {
            told.extend(tombstones.page(after.as_ref(), 2).map(|(topic, _)| topic));
            after = Some(last);
        }
        assert_eq!(told, (0..5).map(|number| topic(number, 1)).collect::<Vec<_>>());
    }
}
