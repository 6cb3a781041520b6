//! The closed loops: who connects, subscribes to what, and publishes where.

use super::{Closed, Shape};
use crate::{
    engine::{Account, FlowPlan, Plan, ReceiverPlan},
    frames::Version,
    number::{count, index},
    target::share,
    wire::{Varied, digits},
};

/// Lays out a row.
pub(super) fn plan(closed: Closed) -> Plan {
    let mut plan = Plan {
        version: Version::V311,
        qos: closed.qos,
        window: closed.window,
        payload_len: closed.payload_len,
        copies: 1,
        account: Account::Each,
        flows: Vec::new(),
        receivers: Vec::new(),
        order: Vec::new(),
    };
    match closed.shape {
        Shape::Pairs(pairs) => lay_pairs(&mut plan, pairs),
        Shape::FanOut(receivers) => lay_fan_out(&mut plan, receivers),
        Shape::FanIn(publishers) => lay_fan_in(&mut plan, publishers),
        Shape::Shared(members) => lay_shared(&mut plan, members),
        Shape::Filters(filters) => lay_filters(&mut plan, filters),
    }
    plan.order_receivers_first();
    plan
}

fn lay_pairs(plan: &mut Plan, pairs: usize) {
    for pair in 0..pairs {
        let topic = format!("load/pair/{pair}");
        let filters = vec![topic.clone()];
        plan.receivers.push(ReceiverPlan { filters, flows: pair..pair + 1, group: pair });
        plan.flows.push(FlowPlan { topic, varied: None, group: pair });
    }
}

fn lay_fan_out(plan: &mut Plan, receivers: usize) {
    let topic = "load/out".to_owned();
    plan.copies = u32::try_from(receivers).unwrap_or(u32::MAX);
    let receiver = ReceiverPlan { filters: vec![topic.clone()], flows: 0..1, group: 0 };
    plan.receivers = vec![receiver; receivers];
    plan.flows.push(FlowPlan { topic, varied: None, group: 0 });
}

fn lay_fan_in(plan: &mut Plan, publishers: usize) {
    let filters = vec!["load/in/+".to_owned()];
    plan.receivers.push(ReceiverPlan { filters, flows: 0..publishers, group: 0 });
    for publisher in 0..publishers {
        let topic = format!("load/in/{publisher:03}");
        plan.flows.push(FlowPlan { topic, varied: None, group: 0 });
    }
}

/// Shared subscriptions are a part of MQTT 5.0, so that is what is spoken.
fn lay_shared(plan: &mut Plan, members: usize) {
    plan.version = Version::V5;
    plan.account = Account::Shared;
    let filters = vec!["$share/load/load/shared/+".to_owned()];
    let member = ReceiverPlan { filters, flows: 0..SHARED_PUBLISHERS, group: 0 };
    plan.receivers = vec![member; members];
    for publisher in 0..SHARED_PUBLISHERS {
        let topic = format!("load/shared/{publisher:02}");
        plan.flows.push(FlowPlan { topic, varied: None, group: 0 });
    }
}

/// Every pair has its part of the filters, and its messages visit them in an order without
/// locality, so that a cache of topics does not stand in for matching.
fn lay_filters(plan: &mut Plan, filters: u64) {
    plan.account = Account::Topics;
    // A window never holds two messages of one topic.
    plan.window = plan.window.min(index(filters / count(FILTER_PAIRS)));
    for pair in 0..FILTER_PAIRS {
        let part = share(filters, count(FILTER_PAIRS), count(pair));
        let part = part.end - part.start;
        let topic = format!("load/{pair:02}/");
        let filter = |at| format!("{topic}{}/+", digits(at));
        let filters = (0..part).map(filter).collect();
        plan.receivers.push(ReceiverPlan { filters, flows: pair..pair + 1, group: pair });
        let varied = Some(Varied { count: part, suffix: "/v", stride: FILTER_STRIDE });
        plan.flows.push(FlowPlan { topic, varied, group: pair });
    }
}

const SHARED_PUBLISHERS: usize = 16;
const FILTER_PAIRS: usize = 16;
/// A prime above every part.
const FILTER_STRIDE: u64 = 1_000_003;
