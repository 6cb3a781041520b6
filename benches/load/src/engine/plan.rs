//! What a row consists of: who connects, publishes where, and is owed what.

use std::ops::Range;

use crate::{frames::Version, wire::Varied};

/// Everything a row needs to be set up.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The protocol version of every connection.
    pub version: Version,
    /// Quality of Service of publishing and subscribing.
    pub qos: u8,
    /// Messages under way per flow.
    pub window: usize,
    /// Bytes of payload.
    pub payload_len: usize,
    /// How often each message is to arrive.
    pub copies: u32,
    /// How arrivals are accounted.
    pub account: Account,
    /// One publisher each.
    pub flows: Vec<FlowPlan>,
    /// One subscriber each.
    pub receivers: Vec<ReceiverPlan>,
    /// In which order the connections are opened.
    pub order: Vec<Role>,
}

/// How arrivals are accounted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Account {
    /// Every receiver is owed every message of its flows.
    Each,
    /// The receivers share the messages of every flow; each sees its part in order.
    Shared,
    /// Every receiver is owed every message of its flows, in no order: each message under way is
    /// on a topic of its own, and order is promised within a topic only.
    Topics,
}

/// A publisher.
#[derive(Clone, Debug)]
pub struct FlowPlan {
    /// Where it publishes.
    pub topic: String,
    /// Whether the topic changes from message to message.
    pub varied: Option<Varied>,
    /// Its group with the byte copier.
    pub group: usize,
}

/// A subscriber.
#[derive(Clone, Debug)]
pub struct ReceiverPlan {
    /// What it subscribes to.
    pub filters: Vec<String>,
    /// The flows whose messages it gets.
    pub flows: Range<usize>,
    /// Its group with the byte copier.
    pub group: usize,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It publishes the flow with this index.
    Publisher(usize),
    /// It is the receiver with this index.
    Receiver(usize),
}

impl Plan {
    /// Receivers first, then publishers: the order for rows that do not care.
    pub fn order_receivers_first(&mut self) {
        let receivers = (0..self.receivers.len()).map(Role::Receiver);
        self.order = receivers.chain((0..self.flows.len()).map(Role::Publisher)).collect();
    }
}
