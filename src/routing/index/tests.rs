//! The index against the rules of the standard, and against a naive matcher.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::mqtt::{QoS, RetainHandling, TopicName};

/// Stands for a mailbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Number(u64);

impl Subscriber for Number {
    fn key(&self) -> SubscriberKey {
        SubscriberKey(self.0)
    }
}

#[test]
fn filters_match_the_topics_the_standard_says() {
    check("sport/tennis/player1/#", "sport/tennis/player1", true);
    check("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true);
    check("sport/#", "sport", true);
    check("#", "sport/tennis", true);
    check("#", "/", true);
    check("sport/tennis/+", "sport/tennis/player1", true);
    check("sport/tennis/+", "sport/tennis/player1/ranking", false);
    check("sport/+", "sport", false);
    check("sport/+", "sport/", true);
    check("+/tennis/#", "sport/tennis", true);
    check("+/+", "/finance", true);
    check("/+", "/finance", true);
    check("+", "/finance", false);
    check("a//b", "a//b", true);
    check("a//b", "a/b", false);
    check("a/+/b", "a//b", true);
    check("a", "A", false);
    check("a", "a/", false);
    check("a/", "a", false);
    check("a/+/#", "a", false);
    check("a/+/#", "a/b", true);
    check("a/#", "ab", false);
    check("a-level-name-of-more-than-18-bytes/b", "a-level-name-of-more-than-18-bytes/b", true);
    check("a-level-name-of-more-than-18-bytes/b", "a-level-name-of-more-than-18-bytez/b", false);
}

/// [MQTT-4.7.2-1]
#[test]
fn wildcards_in_the_first_level_match_no_dollar_topic() {
    check("#", "$SYS/monitor/clients", false);
    check("+/monitor/clients", "$SYS/monitor/clients", false);
    check("+", "$x", false);
    check("$SYS/#", "$SYS/monitor/clients", true);
    check("$SYS/+/clients", "$SYS/monitor/clients", true);
    check("$SYS/#", "$SYS", true);
    check("a/+", "a/$x", true);
    check("#", "a/$x", true);
}

/// [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
#[test]
fn overlapping_subscriptions_give_one_target_with_the_highest_qos_and_all_identifiers() {
    let mut index = Index::new(1);
    let local = SubscriptionOptions { no_local: true, ..options(QoS::AtMostOnce) };
    let as_published =
        SubscriptionOptions { retain_as_published: true, ..options(QoS::ExactlyOnce) };
    assert_eq!(index.subscribe(&Number(7), &filter("a/+"), local, Some(9)), Subscribed::New);
    let mut targets = index.route("a/b").targets;
    assert!(targets[0].no_local, "all subscriptions say so");
    let _ = index.subscribe(&Number(7), &filter("a/#"), as_published, Some(4));
    let _ = index.subscribe(&Number(3), &filter("#"), options(QoS::AtLeastOnce), None);
    let _ = index.subscribe(&Number(7), &filter("a/b"), options(QoS::AtLeastOnce), Some(9));
    targets = index.route("a/b").targets;
    let expected = Target {
        subscriber: Number(7),
        qos: QoS::ExactlyOnce,
        no_local: false,
        retain_as_published: true,
        subscription_ids: [4, 9, 9].into_iter().collect(),
    };
    assert_eq!(targets.len(), 2);
    assert_eq!(targets[0].subscriber, Number(3), "in the order of the keys");
    assert_eq!(*targets[1], expected);
}

/// [MQTT-3.8.4-3]
#[test]
fn a_subscription_to_the_same_filter_replaces() {
    let mut index = Index::new(1);
    for filter in [filter("a/b"), filter("$share/s/a/b")] {
        let was = index.len();
        let new = index.subscribe(&Number(1), &filter, options(QoS::ExactlyOnce), Some(1));
        assert_eq!((new, index.len()), (Subscribed::New, was + 1));
        let again = index.subscribe(&Number(1), &filter, options(QoS::AtMostOnce), None);
        assert_eq!((again, index.len()), (Subscribed::Replaced, was + 1));
    }
    let route = index.route("a/b");
    for target in [&route.targets[0], &route.groups[0].members()[0]] {
        assert_eq!((target.qos, target.subscription_ids.len()), (QoS::AtMostOnce, 0));
    }
}

#[test]
fn a_route_outlives_the_subscriptions_it_was_made_from() {
    let mut index = Index::new(1);
    for name in ["a", "$share/s/a"] {
        let _ = index.subscribe(&Number(1), &filter(name), options(QoS::AtMostOnce), None);
    }
    let route = index.route("a");
    for name in ["a", "$share/s/a"] {
        assert!(index.unsubscribe(SubscriberKey(1), &filter(name)));
    }
    assert!(index.route("a").is_empty());
    assert_eq!(route.targets[0].subscriber, Number(1));
    let group = &route.groups[0];
    let place = group.in_turn().next().unwrap();
    assert_eq!(group.members()[place].subscriber, Number(1));
}

#[test]
fn the_group_of_a_dead_member_is_found_as_it_is_now() {
    let mut index = Index::new(1);
    let shared = filter("$share/s/a/+");
    let id = GroupId::of(&shared).unwrap();
    assert!(index.group(&id).is_none());
    for number in [1, 2] {
        let _ = index.subscribe(&Number(number), &shared, options(QoS::AtLeastOnce), None);
    }
    let _ = index.subscribe(&Number(3), &filter("$share/t/a/+"), options(QoS::AtMostOnce), None);
    assert_eq!(index.route("a/x").groups.len(), 2);
    index.unsubscribe(SubscriberKey(1), &shared);
    let group = index.group(&id).unwrap();
    assert_eq!(group.id(), &id);
    let members: Vec<_> = group.members().iter().map(|member| member.subscriber).collect();
    assert_eq!(members, [Number(2)]);
    index.unsubscribe(SubscriberKey(2), &shared);
    assert!(index.group(&id).is_none());
}

#[test]
fn nothing_is_left_of_subscriptions_that_are_gone() {
    let mut index = Index::new(1);
    let empty = index.memory();
    let long = "a-level-name-that-does-not-fit-into-a-node";
    let filters = [
        "a/b/c".to_owned(),
        "a/b".to_owned(),
        "+/#".to_owned(),
        format!("{long}/{long}/+"),
        format!("{long}/#"),
        "$share/g/a/b".to_owned(),
    ];
    for filter_name in &filters {
        for number in 0..3 {
            let filter = filter(filter_name);
            let _ = index.subscribe(&Number(number), &filter, options(QoS::AtMostOnce), None);
        }
    }
    assert_eq!((index.len(), index.node_count()), (18, 7));
    for filter_name in &filters {
        for number in 0..3 {
            assert!(index.unsubscribe(SubscriberKey(number), &filter(filter_name)));
            assert!(!index.unsubscribe(SubscriberKey(number), &filter(filter_name)));
        }
    }
    assert!(index.is_empty());
    let left = index.memory();
    assert_eq!((left.filters, left.nodes, left.subscriptions), (0, 0, 0));
    assert!(left.bytes <= empty.bytes, "{left:?}, before {empty:?}");
}

/// A filter or a topic of 65,535 bytes has as many levels; neither may cost a stack.
#[test]
fn the_deepest_filter_matches_the_deepest_topic() {
    let mut index = Index::new(1);
    let deep = filter(&("+/".repeat(32_767) + "+"));
    let _ = index.subscribe(&Number(1), &deep, options(QoS::AtMostOnce), None);
    assert_eq!(index.route(&"/".repeat(32_767)).targets.len(), 1);
    assert!(index.route(&"/".repeat(65_535)).is_empty());
    index.unsubscribe(SubscriberKey(1), &deep);
    assert_eq!(index.node_count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The order of subscriptions and the shape of filters do not matter: a route is what
    /// asking every filter gives.
    #[test]
    fn the_index_is_the_naive_matcher(steps in prop::collection::vec(step(), 1..80)) {
        let mut index = Index::new(5);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Subscribe(number, filter, options, id) => {
                    let new = index.subscribe(&Number(number), &filter, options, id);
                    let was = model.insert((number, filter), (options, id));
                    prop_assert_eq!(new == Subscribed::Replaced, was.is_some());
                }
                Step::Unsubscribe(number, filter) => {
                    let was_there = index.unsubscribe(SubscriberKey(number), &filter);
                    prop_assert_eq!(was_there, model.remove(&(number, filter)).is_some());
                }
                Step::Route(topic) => {
                    let route = index.route(&topic);
                    prop_assert_eq!(shown(&route), naive(&model, &topic));
                }
            }
            prop_assert_eq!(index.len(), model.len());
        }
        for ((number, filter), _) in model {
            prop_assert!(index.unsubscribe(SubscriberKey(number), &filter));
        }
        prop_assert_eq!((index.len(), index.node_count()), (0, 0));
    }
}

type Model = BTreeMap<(u64, TopicFilter), (SubscriptionOptions, Option<u32>)>;
type Shown = (Vec<Target<Number>>, BTreeMap<GroupId, Vec<Target<Number>>>);

#[derive(Clone, Debug)]
enum Step {
    Subscribe(u64, TopicFilter, SubscriptionOptions, Option<u32>),
    Unsubscribe(u64, TopicFilter),
    Route(TopicName),
}

fn naive(model: &Model, topic: &TopicName) -> Shown {
    let mut targets: BTreeMap<u64, Target<Number>> = BTreeMap::new();
    let mut groups: BTreeMap<GroupId, Vec<Target<Number>>> = BTreeMap::new();
    for ((number, filter), &(options, id)) in model {
        if !filter.matches(topic) {
            continue;
        }
        let target = Target::new(Number(*number), options, id);
        match GroupId::of(filter) {
            Some(group) => groups.entry(group).or_default().push(target),
            None => {
                targets.entry(*number).and_modify(|old| old.merge(&target)).or_insert(target);
            }
        }
    }
    (targets.into_values().collect(), groups)
}

fn shown(route: &Route<Number>) -> Shown {
    let targets = |targets: &[Arc<Target<Number>>]| {
        targets.iter().map(|target| Target::clone(target)).collect::<Vec<_>>()
    };
    let groups = route.groups.iter();
    let groups = groups.map(|group| (group.id().clone(), targets(group.members())));
    (targets(&route.targets), groups.collect())
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..4_u64;
    let options =
        (0..3_u8, any::<bool>(), any::<bool>()).prop_map(|(qos, no_local, retain_as_published)| {
            SubscriptionOptions {
                qos: QoS::from_bits(qos).unwrap(),
                no_local,
                retain_as_published,
                retain_handling: RetainHandling::SendAtSubscribe,
            }
        });
    prop_oneof![
        3 => (number.clone(), filters(), options, prop::option::of(1..5_u32))
            .prop_map(|(number, filter, options, id)| {
                Step::Subscribe(number, filter, options, id)
            }),
        1 => (number, filters()).prop_map(|(number, filter)| Step::Unsubscribe(number, filter)),
        2 => "[$]?(|a|b)(/(|a|b|long-long-long-long)){0,3}"
            .prop_filter_map("a topic", |topic| TopicName::try_from(topic.as_str()).ok())
            .prop_map(Step::Route),
    ]
}

fn filters() -> impl Strategy<Value = TopicFilter> {
    "([$]share/[st]/)?([$]?(|a|b)|[+])(/(|a|b|[+]|long-long-long-long)){0,3}(/#)?|#"
        .prop_filter_map("a filter", |filter| TopicFilter::try_from(filter.as_str()).ok())
}

fn check(filter_name: &str, topic: &str, expected: bool) {
    let mut index = Index::new(0);
    let _ = index.subscribe(&Number(1), &filter(filter_name), options(QoS::AtMostOnce), None);
    assert_eq!(!index.route(topic).is_empty(), expected, "{filter_name} and {topic}");
}

fn filter(filter: &str) -> TopicFilter {
    TopicFilter::try_from(filter).unwrap()
}

fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, ..SubscriptionOptions::default() }
}
