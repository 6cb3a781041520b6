//! Subscriptions and routes from bytes: the index gives what asking every filter gives, and keeps
//! nothing when all are gone.
//!
//! Three bytes begin an operation: what, by which subscriber, with which options. A filter or a
//! topic follows up to a newline.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use mqttzoo::mqtt::{QoS, RetainHandling, SubscriptionOptions, TopicFilter, TopicName};
use mqttzoo::routing::{GroupId, Index, Route, Subscribed, Subscriber, SubscriberKey, Target};

#[derive(Clone, Copy)]
struct Number(u8);

impl Subscriber for Number {
    fn key(&self) -> SubscriberKey {
        SubscriberKey(self.0.into())
    }
}

type Subscriptions = BTreeMap<(u8, TopicFilter), (SubscriptionOptions, Option<u32>)>;

/// What a message would be sent with.
#[derive(Debug, Eq, PartialEq)]
struct Expected {
    qos: QoS,
    no_local: bool,
    retain_as_published: bool,
    subscription_ids: Vec<u32>,
}

fuzz_target!(|input: &[u8]| {
    let mut index = Index::new(7);
    let mut subscriptions = Subscriptions::new();
    for operation in input.split(|&byte| byte == b'\n') {
        let [what, who, how, text @ ..] = operation else { continue };
        let Ok(text) = std::str::from_utf8(text) else { continue };
        let number = who % 8;
        match what % 4 {
            0 | 1 => subscribe(&mut index, &mut subscriptions, number, *how, text),
            2 => unsubscribe(&mut index, &mut subscriptions, number, text),
            _ => check_route(&index, &subscriptions, text),
        }
        assert_eq!(index.len(), subscriptions.len());
    }
    for ((number, filter), _) in subscriptions {
        assert!(index.unsubscribe(SubscriberKey(number.into()), &filter));
    }
    assert_eq!((index.len(), index.node_count(), index.memory().filters), (0, 0, 0));
});

fn subscribe(
    index: &mut Index<Number>,
    subscriptions: &mut Subscriptions,
    number: u8,
    how: u8,
    filter: &str,
) {
    let Ok(filter) = TopicFilter::try_from(filter) else { return };
    let options = SubscriptionOptions {
        qos: QoS::from_bits(how & 3).unwrap_or(QoS::AtMostOnce),
        no_local: how & 4 != 0,
        retain_as_published: how & 8 != 0,
        retain_handling: RetainHandling::SendAtSubscribe,
    };
    let id = (how >= 16).then(|| u32::from(how / 16));
    let subscribed = index.subscribe(&Number(number), &filter, options, id);
    let former = subscriptions.insert((number, filter), (options, id));
    assert_eq!(subscribed == Subscribed::Replaced, former.is_some());
}

fn unsubscribe(
    index: &mut Index<Number>,
    subscriptions: &mut Subscriptions,
    number: u8,
    filter: &str,
) {
    let Ok(filter) = TopicFilter::try_from(filter) else { return };
    let was_there = index.unsubscribe(SubscriberKey(number.into()), &filter);
    assert_eq!(was_there, subscriptions.remove(&(number, filter)).is_some());
}

fn check_route(index: &Index<Number>, subscriptions: &Subscriptions, topic: &str) {
    let Ok(topic) = TopicName::try_from(topic) else { return };
    let route = index.route(&topic);
    let mut targets: BTreeMap<u8, Expected> = BTreeMap::new();
    let mut members: Vec<(GroupId, u8)> = Vec::new();
    for ((number, filter), &(options, id)) in subscriptions {
        if !filter.matches(&topic) {
            continue;
        }
        if let Some(group) = GroupId::of(filter) {
            members.push((group, *number));
            continue;
        }
        let expected = targets.entry(*number).or_insert(Expected {
            qos: QoS::AtMostOnce,
            no_local: true,
            retain_as_published: false,
            subscription_ids: Vec::new(),
        });
        expected.qos = expected.qos.max(options.qos);
        expected.no_local &= options.no_local;
        expected.retain_as_published |= options.retain_as_published;
        expected.subscription_ids.extend(id);
        expected.subscription_ids.sort_unstable();
    }
    assert_eq!(routed_targets(&route), targets.into_iter().collect::<Vec<_>>());
    members.sort_unstable();
    assert_eq!(routed_members(&route), members);
}

/// In the order of the route, which is that of the keys.
fn routed_targets(route: &Route<Number>) -> Vec<(u8, Expected)> {
    let expected = |target: &Target<Number>| Expected {
        qos: target.qos,
        no_local: target.no_local,
        retain_as_published: target.retain_as_published,
        subscription_ids: target.subscription_ids.to_vec(),
    };
    route.targets.iter().map(|target| (target.subscriber.0, expected(target))).collect()
}

fn routed_members(route: &Route<Number>) -> Vec<(GroupId, u8)> {
    let mut members = Vec::new();
    for group in &route.groups {
        let numbers = group.members().iter().map(|member| member.subscriber.0);
        members.extend(numbers.map(|number| (group.id().clone(), number)));
    }
    members.sort_unstable();
    members
}
