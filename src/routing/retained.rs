//! The retained messages.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::level_order::{OrderedTopic, Probe};
use super::retained_cursor::RetainedCursor;
use super::retained_entry::{Full, Kept, Layer, Layers, Tally};
use crate::mqtt::TopicName;

/// The messages of topics, within bounds, in an order in which the matches of a filter are found
/// without walking over the others. A topic has one that lasts, and above it, where the broker keeps
/// latest values, one that holds for a while.
///
/// The store keeps the names it is given, and what they are slices of: the caller detaches.
pub struct RetainedStore<M> {
    messages: BTreeMap<OrderedTopic, Layers<M>>,
    expiries: BTreeSet<(u64, OrderedTopic, Layer)>,
    lasting: Tally,
    /// Lasting ones that count against no limit.
    exempt: Tally,
    latest: Tally,
    exempt_prefix: Option<&'static str>,
}

/// How much a [`RetainedStore`] holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetainedLimits {
    /// Messages.
    pub messages_max: usize,
    /// Bytes they pin.
    pub bytes_max: usize,
    /// Topics that start so are kept whatever else there is. Nothing a client chooses may be one.
    pub exempt_prefix: Option<&'static str>,
    /// Latest values.
    pub latest_max: usize,
    /// Bytes they pin.
    pub latest_bytes_max: usize,
}

/// What keeping a message did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Put {
    /// The topic had none.
    New,
    /// It is in the place of the topic's former message [MQTT-3.3.1-5].
    Replaced,
}

impl<M: Clone> RetainedStore<M> {
    /// An empty store.
    #[must_use]
    pub fn new(limits: RetainedLimits) -> Self {
        Self {
            messages: BTreeMap::new(),
            expiries: BTreeSet::new(),
            lasting: Tally::new(limits.messages_max, limits.bytes_max),
            exempt: Tally::new(usize::MAX, usize::MAX),
            latest: Tally::new(limits.latest_max, limits.latest_bytes_max),
            exempt_prefix: limits.exempt_prefix,
        }
    }

    /// Keeps `message` in a layer of `topic` in place of the former one.
    ///
    /// # Errors
    ///
    /// A bound forbids it, and nothing has changed.
    pub fn put(&mut self, layer: Layer, topic: TopicName, message: Kept<M>) -> Result<Put, Full> {
        let topic = OrderedTopic(topic);
        let former = self.messages.get(&topic).and_then(|layers| layers.of(layer));
        let former_bytes = former.map(|former| former.bytes_pinned);
        let (bytes_pinned, expires_at_ms) = (message.bytes_pinned, message.expires_at_ms);
        self.tally(layer, &topic.0).exchange(former_bytes, bytes_pinned)?;
        let layers = self.messages.entry(topic.clone()).or_default();
        let former = layers.replace(layer, Some(message));
        if let Some(at_ms) = former.as_ref().and_then(|former| former.expires_at_ms) {
            self.expiries.remove(&(at_ms, topic.clone(), layer));
        }
        if let Some(at_ms) = expires_at_ms {
            self.expiries.insert((at_ms, topic, layer));
        }
        Ok(if former.is_some() { Put::Replaced } else { Put::New })
    }

    /// Takes the message of a layer away, as a zero-length payload asks for [MQTT-3.3.1-6].
    pub fn remove(&mut self, layer: Layer, topic: &str) -> Option<M> {
        let (topic, _) = self.messages.get_key_value(probe(&topic.as_bytes()))?;
        let topic = topic.clone();
        let kept = self.take(layer, &topic)?;
        if let Some(at_ms) = kept.expires_at_ms {
            self.expiries.remove(&(at_ms, topic, layer));
        }
        Some(kept.message)
    }

    /// Takes up to `max` messages away whose time has come, and names their topics. Fewer than
    /// `max` mean that there are no more.
    pub fn remove_expired(&mut self, now_ms: u64, max: usize) -> Vec<(TopicName, Layer)> {
        let mut removed = Vec::new();
        while removed.len() < max
            && self.next_expiry_ms().is_some_and(|at_ms| at_ms <= now_ms)
            && let Some((_, topic, layer)) = self.expiries.pop_first()
        {
            self.take(layer, &topic).expect("what expires is in the store");
            removed.push((topic.0, layer));
        }
        removed
    }

    fn take(&mut self, layer: Layer, topic: &OrderedTopic) -> Option<Kept<M>> {
        let layers = self.messages.get_mut(topic)?;
        let kept = layers.replace(layer, None)?;
        if layers.is_empty() {
            self.messages.remove(topic);
        }
        self.tally(layer, &topic.0).release(kept.bytes_pinned);
        Some(kept)
    }

    fn tally(&mut self, layer: Layer, topic: &TopicName) -> &mut Tally {
        match layer {
            Layer::Latest => &mut self.latest,
            Layer::Lasting
                if self.exempt_prefix.is_some_and(|prefix| topic.as_str().starts_with(prefix)) =>
            {
                &mut self.exempt
            }
            Layer::Lasting => &mut self.lasting,
        }
    }

    /// What a new Subscription to the topic gets, unless its time has come.
    #[must_use]
    pub fn get(&self, topic: &str, now_ms: u64) -> Option<&M> {
        self.messages.get(probe(&topic.as_bytes()))?.current(now_ms)
    }

    /// Whether the topic has a message in this layer, expired or not.
    #[must_use]
    pub fn has(&self, layer: Layer, topic: &str) -> bool {
        let layers = self.messages.get(probe(&topic.as_bytes()));
        layers.is_some_and(|layers| layers.of(layer).is_some())
    }

    /// All that is kept of a topic and has not expired.
    #[must_use]
    pub fn layers(&self, topic: &str, now_ms: u64) -> Layers<M> {
        let layers = self.messages.get(probe(&topic.as_bytes()));
        layers.map_or_else(Layers::default, |layers| layers.at(now_ms))
    }

    /// The next messages that match the cursor's filter, up to `max`, in order.
    ///
    /// The work is bounded, too: a batch may be short or empty although more follow, so ask until
    /// [`RetainedCursor::is_done`]. What was there all the time between two batches is found once;
    /// what came or went meanwhile, once or not at all.
    #[must_use]
    pub fn scan(
        &self,
        cursor: &mut RetainedCursor,
        max: usize,
        now_ms: u64,
    ) -> Vec<(TopicName, M)> {
        let mut found = Vec::new();
        let mut steps_left = max.saturating_add(SCAN_STEPS_MAX);
        while !cursor.is_done() && found.len() < max && steps_left > 0 {
            self.scan_from_place(cursor, max, now_ms, &mut steps_left, &mut found);
        }
        found
    }

    /// What is kept of up to `max` topics behind the topic `after`, in order. Fewer than `max` mean
    /// that there are no more.
    #[must_use]
    pub fn page(
        &self,
        after: Option<&str>,
        max: usize,
        now_ms: u64,
    ) -> Vec<(TopicName, Layers<M>)> {
        let after = after.map(str::as_bytes);
        let from = match &after {
            Some(after) => Bound::Excluded(probe(after)),
            None => Bound::Unbounded,
        };
        self.messages
            .range::<dyn Probe, _>((from, Bound::Unbounded))
            .map(|(topic, layers)| (topic.0.clone(), layers.at(now_ms)))
            .filter(|(_, layers)| !layers.is_empty())
            .take(max)
            .collect()
    }

    /// How many lasting messages there are, expired ones that were not removed yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lasting.messages + self.exempt.messages
    }

    /// Whether there is nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The bytes that lasting messages pin.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lasting.bytes + self.exempt.bytes
    }

    /// How many latest values there are, and their bytes.
    #[must_use]
    pub fn latest_counts(&self) -> (usize, usize) {
        (self.latest.messages, self.latest.bytes)
    }

    /// When the next message expires: when to call [`Self::remove_expired`].
    #[must_use]
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.expiries.first().map(|&(at_ms, ..)| at_ms)
    }

    /// Seeks the cursor's place and walks from there until the cursor is so far ahead that another
    /// seek is cheaper.
    fn scan_from_place(
        &self,
        cursor: &mut RetainedCursor,
        max: usize,
        now_ms: u64,
        steps_left: &mut usize,
        found: &mut Vec<(TopicName, M)>,
    ) {
        let place = cursor.place();
        let from = (Bound::Included(probe(&place)), Bound::Unbounded);
        let mut steps_behind = 0;
        for (OrderedTopic(topic), layers) in self.messages.range::<dyn Probe, _>(from) {
            if cursor.is_done() || found.len() == max || *steps_left == 0 {
                return;
            }
            *steps_left -= 1;
            if cursor.is_before_place(topic) {
                steps_behind += 1;
                if steps_behind > STEPS_BEHIND_MAX {
                    return;
                }
                continue;
            }
            steps_behind = 0;
            if cursor.show(topic)
                && let Some(message) = layers.current(now_ms)
            {
                found.push((topic.clone(), message.clone()));
            }
        }
        cursor.finish();
    }
}

fn probe<'a>(bytes: &'a &'a [u8]) -> &'a dyn Probe {
    bytes
}

/// How many topics a batch looks at beyond those it returns.
const SCAN_STEPS_MAX: usize = 1024;
/// How many topics are walked over before a seek.
const STEPS_BEHIND_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::TopicFilter;

    #[test]
    fn the_brokers_own_count_against_no_limit() {
        let limits = RetainedLimits { exempt_prefix: Some("$SYS/"), ..limits(2, 100) };
        let mut store = RetainedStore::new(limits);
        for (name, bytes) in [("$SYS/1", 90), ("$SYS/2", 90), ("$SYS/3", 90), ("$SYS/3", 80)] {
            assert!(put(&mut store, topic(name), 0, bytes, Some(1)).is_ok());
        }
        assert_eq!(put(&mut store, topic("a"), 0, 60, None), Ok(Put::New));
        assert_eq!(put(&mut store, topic("b"), 0, 41, None), Err(Full::Bytes));
        assert_eq!(put(&mut store, topic("b"), 0, 40, None), Ok(Put::New));
        assert_eq!(put(&mut store, topic("c"), 0, 0, None), Err(Full::Messages));
        assert_eq!((store.len(), store.bytes()), (5, 90 + 90 + 80 + 100));
        assert_eq!(store.remove(Layer::Lasting, "$SYS/1"), Some(0));
        assert_eq!(store.remove_expired(1, 10).len(), 2);
        assert_eq!((store.len(), store.bytes()), (2, 100));
        assert_eq!(put(&mut store, topic("c"), 0, 0, None), Err(Full::Messages));
    }

    #[test]
    fn a_message_replaces_that_of_its_topic_and_the_bytes_are_counted() {
        let mut store = store_of(&[]);
        assert_eq!(put(&mut store, topic("a"), 1, 10, None), Ok(Put::New));
        assert_eq!(put(&mut store, topic("b"), 2, 20, Some(5)), Ok(Put::New));
        assert_eq!(put(&mut store, topic("a"), 3, 15, Some(9)), Ok(Put::Replaced));
        assert_eq!((store.len(), store.bytes(), store.next_expiry_ms()), (2, 35, Some(5)));
        assert_eq!(store.get("a", 0), Some(&3));
        assert_eq!(store.remove(Layer::Lasting, "b"), Some(2));
        assert_eq!(store.remove(Layer::Lasting, "b"), None);
        assert_eq!((store.len(), store.bytes(), store.next_expiry_ms()), (1, 15, Some(9)));
        assert_eq!(put(&mut store, topic("a"), 4, 15, Some(9)), Ok(Put::Replaced));
        assert_eq!(store.next_expiry_ms(), Some(9));
        assert_eq!(put(&mut store, topic("a"), 4, 15, None), Ok(Put::Replaced));
        assert_eq!((store.next_expiry_ms(), store.is_empty()), (None, false));
    }

    /// A message without RETAIN must neither replace nor remove a retained one [MQTT-3.3.1-8].
    #[test]
    fn a_latest_value_covers_what_lasts_as_long_as_it_holds() {
        let mut store = store_of(&["a", "b"]);
        for (name, expires_at_ms) in [("a", 10), ("c", 20)] {
            let put = store.put(Layer::Latest, topic(name), kept(7, 40, Some(expires_at_ms)));
            assert_eq!(put, Ok(Put::New));
        }
        assert_eq!((store.get("a", 9), store.get("c", 9)), (Some(&7), Some(&7)));
        assert_eq!(scan_all(&store, "#", 9, 1), ["a", "b", "c"], "each once");
        assert_eq!((store.get("a", 10), store.get("c", 10)), (Some(&0), Some(&7)));
        assert_eq!((store.len(), store.latest_counts()), (2, (2, 80)));
        assert_eq!(store.remove_expired(20, 9).len(), 2);
        assert_eq!(scan_all(&store, "#", 20, 1), ["a", "b"]);
        assert_eq!((store.len(), store.latest_counts()), (2, (0, 0)));
        assert_eq!(store.next_expiry_ms(), None);
    }

    #[test]
    fn latest_values_have_bounds_of_their_own() {
        let mut store = RetainedStore::new(limits(1, 10));
        let mut latest = |name, bytes| store.put(Layer::Latest, topic(name), kept(1, bytes, None));
        assert_eq!((latest("a", 60), latest("b", 41)), (Ok(Put::New), Err(Full::Bytes)));
        assert_eq!((latest("a", 50), latest("b", 50)), (Ok(Put::Replaced), Ok(Put::New)));
        assert_eq!((latest("a", 0), latest("c", 0)), (Ok(Put::Replaced), Err(Full::Messages)));
        assert_eq!(put(&mut store, topic("a"), 2, 10, None), Ok(Put::New));
        assert_eq!(store.get("a", 0), Some(&1));
        assert_eq!(store.remove(Layer::Latest, "a"), Some(1));
        assert_eq!(store.get("a", 0), Some(&2));
        assert_eq!(store.page(None, 9, 0).len(), 2);
    }

    #[test]
    fn a_full_store_refuses_and_keeps_what_it_had() {
        let mut store = RetainedStore::new(limits(2, 100));
        assert_eq!(put(&mut store, topic("a"), 1, 50, None), Ok(Put::New));
        assert_eq!(put(&mut store, topic("b"), 2, 51, None), Err(Full::Bytes));
        assert_eq!(put(&mut store, topic("a"), 2, 101, None), Err(Full::Bytes));
        assert_eq!(put(&mut store, topic("b"), 2, 1, None), Ok(Put::New));
        assert_eq!(put(&mut store, topic("c"), 3, 1, None), Err(Full::Messages));
        assert_eq!(put(&mut store, topic("a"), 4, 99, None), Ok(Put::Replaced));
        assert_eq!((store.len(), store.bytes(), store.get("a", 0)), (2, 100, Some(&4)));
    }

    #[test]
    fn what_has_expired_is_not_found_and_leaves_in_batches() {
        let mut store = store_of(&[]);
        for (name, expires_at_ms) in [("a", 30), ("b", 10), ("c", 20), ("d", 40)] {
            let _ = put(&mut store, topic(name), 0, 1, Some(expires_at_ms));
        }
        assert_eq!(store.get("c", 19), Some(&0));
        assert_eq!(store.get("c", 20), None);
        assert_eq!(scan_all(&store, "#", 30, 9), ["d"]);
        assert_eq!(store.remove_expired(30, 2), [topic("b"), topic("c")].map(lasting));
        assert_eq!(store.remove_expired(30, 2), [topic("a")].map(lasting));
        assert_eq!((store.len(), store.bytes(), store.next_expiry_ms()), (1, 1, Some(40)));
    }

    #[test]
    fn a_scan_finds_the_matches_in_order() {
        let store = store_of(&[
            "a", "a/b", "a/b/c", "a/c", "a!", "b/b", "b/c/b", "/b", "$SYS/b", "$SYS", "c//b", "%/b",
        ]);
        check(&store, "a/#", "a a/b a/b/c a/c");
        check(&store, "+/b", "/b %/b a/b b/b");
        check(&store, "+/+/b", "b/c/b c//b");
        check(&store, "#", "/b %/b a a/b a/b/c a/c a! b/b b/c/b c//b");
        check(&store, "$SYS/#", "$SYS $SYS/b");
        check(&store, "$SYS/+", "$SYS/b");
        check(&store, "a/b", "a/b");
        check(&store, "a/x", "");
        check(&store, "+", "a a!");
    }

    /// The work of a batch is bounded although nothing matches.
    #[test]
    fn a_scan_in_vain_gives_up_and_goes_on_where_it_was() {
        let mut store = store_of(&[]);
        for number in 0..5000 {
            let _ = put(&mut store, topic(&format!("{number}/y")), 0, 1, None);
        }
        let _ = put(&mut store, topic("z/x"), 0, 1, None);
        let mut cursor = RetainedCursor::new(filter("+/x"));
        let mut batches = 0;
        let mut found = Vec::new();
        while !cursor.is_done() {
            found.extend(store.scan(&mut cursor, 10, 0));
            batches += 1;
        }
        assert_eq!(found, [(topic("z/x"), 0)]);
        assert!(batches > 4, "{batches} batches");
    }

    /// A `+` costs a step or two for each of its values, and not one for each topic below them.
    #[test]
    fn a_scan_leaps_over_what_cannot_match() {
        let mut store = store_of(&[]);
        for device in 0..20 {
            for number in 0..1000 {
                let _ = put(&mut store, topic(&format!("{device:02}/m/{number}")), 0, 1, None);
            }
            let _ = put(&mut store, topic(&format!("{device:02}/status")), 0, 1, None);
        }
        let mut cursor = RetainedCursor::new(filter("+/status"));
        assert_eq!(store.scan(&mut cursor, 100, 0).len(), 20, "in one batch");
        assert!(cursor.is_done());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_scan_is_the_naive_filter(
            topics in prop::collection::btree_set(topics(), 0..60),
            filter in filters(),
            max in 1..5_usize,
        ) {
            let mut store = store_of(&[]);
            for topic in &topics {
                let _ = put(&mut store, topic.clone(), 0, 1, None);
            }
            let mut expected: Vec<_> =
                topics.into_iter().filter(|topic| filter.matches(topic)).map(OrderedTopic).collect();
            expected.sort();
            let found = scan_all(&store, &filter, 0, max);
            let expected: Vec<_> = expected.iter().map(|topic| topic.0.as_str()).collect();
            prop_assert_eq!(found, expected);
        }

        /// Between batches messages come and go. What stays is found exactly once, what is gone
        /// is not found, and the order holds.
        #[test]
        fn a_scan_survives_changes(
            before in prop::collection::btree_set(topics(), 0..40),
            changes in prop::collection::vec((any::<bool>(), topics()), 0..40),
            filter in filters(),
        ) {
            let mut store = store_of(&[]);
            for topic in &before {
                let _ = put(&mut store, topic.clone(), 0, 1, None);
            }
            let mut untouched = before;
            let mut cursor = RetainedCursor::new(filter.clone());
            let mut found: Vec<OrderedTopic> = Vec::new();
            let mut changes = changes.into_iter();
            while !cursor.is_done() {
                for (found_topic, _) in store.scan(&mut cursor, 2, 0) {
                    prop_assert!(store.get(&found_topic, 0).is_some());
                    prop_assert!(filter.matches(&found_topic));
                    found.push(OrderedTopic(found_topic));
                }
                for (is_put, topic) in changes.by_ref().take(3) {
                    untouched.remove(&topic);
                    if is_put {
                        let _ = put(&mut store, topic, 0, 1, None);
                    } else {
                        store.remove(Layer::Lasting, &topic);
                    }
                }
            }
            prop_assert!(found.is_sorted_by(|one, other| one < other), "{found:?}");
            for topic in untouched.into_iter().filter(|topic| filter.matches(topic)) {
                prop_assert!(found.contains(&OrderedTopic(topic)));
            }
        }
    }

    fn topics() -> impl Strategy<Value = TopicName> {
        "[$]?(|a|b|a!)(/(|a|b|a!)){0,3}"
            .prop_filter_map("a topic", |topic| TopicName::try_from(topic.as_str()).ok())
    }

    fn filters() -> impl Strategy<Value = TopicFilter> {
        "([$]?(|a|b|a!)|[+])(/(|a|b|a!|[+])){0,3}(/#)?|#"
            .prop_filter_map("a filter", |filter| TopicFilter::try_from(filter.as_str()).ok())
    }

    fn check(store: &RetainedStore<u8>, filter: &str, expected: &str) {
        for max in [1, 2, 100] {
            assert_eq!(scan_all(store, filter, 0, max).join(" "), expected, "{filter}");
        }
    }

    fn scan_all(
        store: &RetainedStore<u8>,
        filter_name: &str,
        now_ms: u64,
        max: usize,
    ) -> Vec<String> {
        let mut cursor = RetainedCursor::new(filter(filter_name));
        let mut found = Vec::new();
        while !cursor.is_done() {
            let batch = store.scan(&mut cursor, max, now_ms);
            assert!(batch.len() <= max);
            found.extend(batch.into_iter().map(|(topic, _)| topic.to_string()));
        }
        found
    }

    fn store_of(topics: &[&str]) -> RetainedStore<u8> {
        let mut store = RetainedStore::new(limits(100_000, 1_000_000));
        for name in topics {
            let _ = put(&mut store, topic(name), 0, 1, None);
        }
        store
    }

    fn limits(messages_max: usize, bytes_max: usize) -> RetainedLimits {
        RetainedLimits {
            messages_max,
            bytes_max,
            exempt_prefix: None,
            latest_max: 2,
            latest_bytes_max: 100,
        }
    }

    fn kept(message: u8, bytes_pinned: usize, expires_at_ms: Option<u64>) -> Kept<u8> {
        Kept { message, bytes_pinned, expires_at_ms }
    }

    fn put(
        store: &mut RetainedStore<u8>,
        topic: TopicName,
        message: u8,
        bytes_pinned: usize,
        expires_at_ms: Option<u64>,
    ) -> Result<Put, Full> {
        store.put(Layer::Lasting, topic, kept(message, bytes_pinned, expires_at_ms))
    }

    fn lasting(topic: TopicName) -> (TopicName, Layer) {
        (topic, Layer::Lasting)
    }

    fn topic(topic: &str) -> TopicName {
        TopicName::try_from(topic).unwrap()
    }

    fn filter(filter: &str) -> TopicFilter {
        TopicFilter::try_from(filter).unwrap()
    }
}
