//! Retained messages: what is kept, what is found, and what it costs.

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

fn scan_all(store: &RetainedStore<u8>, filter_name: &str, now_ms: u64, max: usize) -> Vec<String> {
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
