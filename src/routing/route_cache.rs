//! The routes a shard has asked for lately, so that a publish does not read the shared index.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Routes by topic, each valid for the generation of the index it was made from. Bounded in
/// entries and in bytes of topics; what was not used since the hand of the clock last passed goes
/// first.
///
/// A cached route keeps handles of subscribers alive: [`Self::sweep`] lets outdated ones go.
pub struct RouteCache<R> {
    /// Positions in `entries`, by the hash of the topic.
    positions: HashTable<u32>,
    entries: Vec<Entry<R>>,
    hand: usize,
    topic_bytes: usize,
    limits: RouteCacheLimits,
    counters: RouteCacheCounters,
    hashing: FixedState,
}

/// How much a [`RouteCache`] holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RouteCacheLimits {
    /// Routes.
    pub entries_max: usize,
    /// Bytes of their topics.
    pub topic_bytes_max: usize,
}

/// What a [`RouteCache`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RouteCacheCounters {
    /// Lookups that found a route of the right generation.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Routes that made room for others.
    pub evicted: u64,
}

struct Entry<R> {
    hash: u64,
    generation: u64,
    topic: Box<str>,
    route: Arc<R>,
    /// Found since the hand last passed.
    is_used: bool,
}

impl<R> RouteCache<R> {
    /// An empty cache. The seed should not be known to clients.
    #[must_use]
    pub fn new(seed: u64, limits: RouteCacheLimits) -> Self {
        assert!(u32::try_from(limits.entries_max).is_ok(), "positions are four bytes");
        Self {
            positions: HashTable::new(),
            entries: Vec::new(),
            hand: 0,
            topic_bytes: 0,
            limits,
            counters: RouteCacheCounters::default(),
            hashing: FixedState::with_seed(seed),
        }
    }

    /// The route of `topic` if it was made from this generation of the index.
    #[inline]
    pub fn lookup(&mut self, topic: &str, generation: u64) -> Option<&Arc<R>> {
        let hash = self.hash(topic);
        let Some(position) = self.find(topic, hash) else {
            self.counters.misses += 1;
            return None;
        };
        let entry = self.entries.get_mut(position)?;
        if entry.generation != generation {
            self.counters.misses += 1;
            return None;
        }
        self.counters.hits += 1;
        entry.is_used = true;
        Some(&entry.route)
    }

    /// Keeps a route, in place of an older one of the same topic.
    pub fn insert(&mut self, topic: &str, generation: u64, route: Arc<R>) {
        let hash = self.hash(topic);
        if let Some(entry) = self.find(topic, hash).and_then(|at| self.entries.get_mut(at)) {
            (entry.generation, entry.route) = (generation, route);
            return;
        }
        if !self.make_room(topic.len()) {
            return;
        }
        let position = u32::try_from(self.entries.len()).expect("the limit fits");
        let entries = &self.entries;
        self.positions.insert_unique(hash, position, |&at| entry_at(entries, at).hash);
        self.topic_bytes += topic.len();
        self.entries.push(Entry { hash, generation, topic: topic.into(), route, is_used: false });
    }

    /// Looks at up to `max` entries, from where it last stopped, and drops those of another
    /// generation. For idle moments, so that routes do not keep vanished subscribers.
    pub fn sweep(&mut self, generation: u64, max: usize) {
        for _ in 0..max.min(self.entries.len()) {
            let at = self.hand_position();
            if self.entries.get(at).is_some_and(|entry| entry.generation != generation) {
                self.evict(at);
            } else {
                self.hand += 1;
            }
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        (self.positions, self.entries) = (HashTable::new(), Vec::new());
        (self.hand, self.topic_bytes) = (0, 0);
    }

    /// How many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of their topics.
    #[must_use]
    pub fn topic_bytes(&self) -> usize {
        self.topic_bytes
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> RouteCacheCounters {
        self.counters
    }

    #[inline]
    fn hash(&self, topic: &str) -> u64 {
        let mut hasher = self.hashing.build_hasher();
        hasher.write(topic.as_bytes());
        hasher.finish()
    }

    #[inline]
    fn find(&self, topic: &str, hash: u64) -> Option<usize> {
        let is_wanted = |&at: &u32| {
            let entry = entry_at(&self.entries, at);
            entry.hash == hash && *entry.topic == *topic
        };
        self.positions.find(hash, is_wanted).map(|&at| at as usize)
    }

    /// Evicts until a topic of `topic_len` bytes fits; says whether it ever can.
    fn make_room(&mut self, topic_len: usize) -> bool {
        let RouteCacheLimits { entries_max, topic_bytes_max } = self.limits;
        if entries_max == 0 || topic_len > topic_bytes_max {
            return false;
        }
        while self.entries.len() >= entries_max || self.topic_bytes + topic_len > topic_bytes_max {
            let at = self.victim();
            self.evict(at);
            self.counters.evicted += 1;
        }
        true
    }

    /// Moves the hand to an entry that was not used since it last passed; after a few steps to
    /// any, so that no insertion walks the whole cache.
    fn victim(&mut self) -> usize {
        for _ in 0..HAND_STEPS_MAX {
            let at = self.hand_position();
            match self.entries.get_mut(at) {
                Some(entry) if entry.is_used => entry.is_used = false,
                Some(_) | None => return at,
            }
            self.hand += 1;
        }
        self.hand_position()
    }

    fn hand_position(&mut self) -> usize {
        if self.hand >= self.entries.len() {
            self.hand = 0;
        }
        self.hand
    }

    /// Removes an entry; the last one takes its place.
    fn evict(&mut self, at: usize) {
        self.forget_position(at);
        let last = self.entries.len() - 1;
        if at != last {
            self.forget_position(last);
            let hash = self.entries.get(last).expect("the last one is in range").hash;
            let position = u32::try_from(at).expect("the limit fits");
            let entries = &self.entries;
            self.positions.insert_unique(hash, position, |&at| entry_at(entries, at).hash);
        }
        self.topic_bytes -= self.entries.swap_remove(at).topic.len();
    }

    fn forget_position(&mut self, at: usize) {
        let hash = self.entries.get(at).expect("the position is in range").hash;
        let position = self.positions.find_entry(hash, |&other| other as usize == at);
        position.expect("every entry is in the table").remove();
    }
}

#[inline]
fn entry_at<R>(entries: &[Entry<R>], at: u32) -> &Entry<R> {
    entries.get(at as usize).expect("the table names entries")
}

const HAND_STEPS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_route_is_found_for_its_topic_and_generation_only() {
        let mut cache = cache(10, 1000);
        let route = Arc::new(());
        cache.insert("a", 1, Arc::clone(&route));
        assert!(Arc::ptr_eq(cache.lookup("a", 1).unwrap(), &route));
        assert!(cache.lookup("a", 2).is_none());
        assert!(cache.lookup("b", 1).is_none());
        cache.insert("a", 2, route);
        assert!(cache.lookup("a", 1).is_none());
        assert!(cache.lookup("a", 2).is_some());
        assert_eq!(cache.counters(), RouteCacheCounters { hits: 2, misses: 3, evicted: 0 });
        assert_eq!((cache.len(), cache.topic_bytes()), (1, 1));
    }

    #[test]
    fn what_was_not_used_makes_room() {
        let mut cache = cache(3, 1000);
        for topic in ["a", "b", "c"] {
            cache.insert(topic, 1, Arc::default());
        }
        assert!(cache.lookup("a", 1).is_some());
        assert!(cache.lookup("c", 1).is_some());
        cache.insert("d", 1, Arc::default());
        assert!(cache.lookup("b", 1).is_none());
        for topic in ["a", "c", "d"] {
            assert!(cache.lookup(topic, 1).is_some(), "{topic}");
        }
        assert_eq!(cache.counters().evicted, 1);
    }

    #[test]
    fn the_bytes_of_topics_are_bounded() {
        let mut cache = cache(100, 10);
        for topic in ["four", "also", "2b", "eleven-byte"] {
            cache.insert(topic, 1, Arc::default());
        }
        assert_eq!((cache.len(), cache.topic_bytes()), (3, 10));
        cache.insert("ten-bytes!", 1, Arc::default());
        assert_eq!((cache.len(), cache.topic_bytes()), (1, 10));
        cache.clear();
        assert_eq!((cache.len(), cache.topic_bytes(), cache.is_empty()), (0, 0, true));
    }

    #[test]
    fn a_sweep_lets_outdated_routes_go() {
        let mut cache = cache(100, 1000);
        let route = Arc::new(());
        for number in 0..20_u64 {
            cache.insert(&number.to_string(), number % 2, Arc::clone(&route));
        }
        for _ in 0..5 {
            cache.sweep(1, 10);
        }
        assert_eq!((cache.len(), Arc::strong_count(&route)), (10, 11));
        assert_eq!(cache.counters().evicted, 0);
    }

    proptest! {
        /// Whatever is evicted: what is found is what was put there last, of this generation, and
        /// the bounds hold.
        #[test]
        fn the_cache_never_answers_for_another_topic_or_generation(
            steps in prop::collection::vec((0..4_u8, 0..30_u64, 0..3_u64), 1..300),
            entries_max in 1..20_usize,
            topic_bytes_max in 1..60_usize,
        ) {
            let mut cache = cache(entries_max, topic_bytes_max);
            let mut latest: HashMap<u64, (u64, Arc<()>)> = HashMap::new();
            for (kind, number, generation) in steps {
                let topic = "t".repeat(1 + usize::try_from(number % 5)?) + &number.to_string();
                match kind {
                    0 => {
                        let route = Arc::new(());
                        latest.insert(number, (generation, Arc::clone(&route)));
                        cache.insert(&topic, generation, route);
                    }
                    1 => cache.sweep(generation, 3),
                    _ => if let Some(route) = cache.lookup(&topic, generation) {
                        let (latest_generation, latest_route) = &latest[&number];
                        prop_assert_eq!(*latest_generation, generation);
                        prop_assert!(Arc::ptr_eq(route, latest_route));
                    }
                }
                prop_assert!(cache.len() <= entries_max);
                prop_assert!(cache.topic_bytes() <= topic_bytes_max);
                prop_assert_eq!(cache.positions.len(), cache.len());
            }
        }
    }

    fn cache(entries_max: usize, topic_bytes_max: usize) -> RouteCache<()> {
        RouteCache::new(3, RouteCacheLimits { entries_max, topic_bytes_max })
    }
}
