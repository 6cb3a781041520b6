//! The session under any sequence of events: it never panics, never speaks out of turn, never sends
//! more than the server takes, and gives every message exactly one outcome at most.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
};

use proptest::prelude::*;

use super::{
    super::testing::{Bench, ack_with, connack, incoming, limits, message},
    Input, Output, Ticket,
};
use crate::mqtt::{Disconnect, Packet, QoS, ReasonCode};

#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    Close,
    Accept { session_present: bool, receive_maximum: u16 },
    Publish(QoS),
    Ack { name: &'static str, id: u16, is_refused: bool },
    Receive(QoS, u16),
    Wait(u64),
    Subscribe,
    Disconnect,
}

fn any_qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn any_step() -> impl Strategy<Value = Step> {
    let name = prop_oneof![Just("PUBACK"), Just("PUBREC"), Just("PUBREL"), Just("PUBCOMP")];
    prop_oneof![
        2 => Just(Step::Open),
        1 => Just(Step::Close),
        3 => (any::<bool>(), 1..5_u16).prop_map(|(session_present, receive_maximum)| {
            Step::Accept { session_present, receive_maximum }
        }),
        6 => any_qos().prop_map(Step::Publish),
        9 => (name, 1..6_u16, any::<bool>())
            .prop_map(|(name, id, is_refused)| Step::Ack { name, id, is_refused }),
        3 => (any_qos(), 1..4_u16).prop_map(|(qos, id)| Step::Receive(qos, id)),
        2 => (0..100_u64).prop_map(Step::Wait),
        1 => Just(Step::Subscribe),
        1 => Just(Step::Disconnect),
    ]
}

/// What a watcher of the wire knows.
#[derive(Default)]
struct Watcher {
    has_transport: bool,
    is_accepted: bool,
    is_closed: bool,
    receive_maximum: u16,
    /// Sent on this connection and neither acknowledged nor refused.
    in_flight: BTreeSet<u16>,
    outcomes: BTreeMap<Ticket, usize>,
}

impl Watcher {
    fn see(&mut self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Send(packet) => self.see_packet(packet),
                Output::Close(_) => {
                    assert!(self.has_transport && !self.is_closed, "closed twice");
                    self.is_closed = true;
                }
                Output::Connected(_) => self.is_accepted = true,
                Output::Published(ticket, _) => {
                    *self.outcomes.entry(*ticket).or_default() += 1;
                }
                Output::Refused(_)
                | Output::Message(_)
                | Output::Subscribed(..)
                | Output::Unsubscribed(..)
                | Output::Disconnected(_) => {}
            }
        }
        let is_within = self.in_flight.len() <= usize::from(self.receive_maximum);
        assert!(!self.is_accepted || is_within, "{:?}", self.in_flight);
        assert!(self.outcomes.values().all(|count| *count == 1), "{:?}", self.outcomes);
    }

    fn see_packet(&mut self, packet: &Packet) {
        assert!(self.has_transport && !self.is_closed, "{} out of turn", packet.name());
        let is_connect = matches!(packet, Packet::Connect(_));
        assert!(is_connect != self.is_accepted, "{} out of turn", packet.name());
        if let Packet::Publish(publish) = packet
            && let Some(id) = publish.packet_id
        {
            assert!(self.in_flight.insert(id.get()), "{} is used twice", id.get());
        }
    }
}

proptest! {
    #[test]
    fn no_sequence_of_events_breaks_the_rules(steps in prop::collection::vec(any_step(), 1..120)) {
        let mut bench = Bench::new(|_| {});
        let mut watcher = Watcher::default();
        for step in steps {
            let outputs = take(&mut bench, &mut watcher, step);
            watcher.see(&outputs);
        }
    }
}

fn take(bench: &mut Bench, watcher: &mut Watcher, step: Step) -> Vec<Output> {
    match step {
        Step::Open if !watcher.has_transport => {
            let outcomes = std::mem::take(&mut watcher.outcomes);
            *watcher = Watcher { has_transport: true, outcomes, ..Watcher::default() };
            bench.feed(Input::TransportOpened)
        }
        Step::Close if watcher.has_transport => {
            watcher.has_transport = false;
            watcher.is_accepted = false;
            bench.feed(Input::TransportClosed)
        }
        Step::Accept { session_present, receive_maximum } if watcher.has_transport => {
            if !watcher.is_accepted {
                watcher.receive_maximum = receive_maximum;
            }
            let properties = limits(|it| it.receive_maximum = NonZeroU16::new(receive_maximum));
            bench.receive(connack(session_present, ReasonCode::Success, properties))
        }
        Step::Publish(qos) if bench.session.has_room() => bench.publish_message(message(qos, "x")),
        Step::Ack { name, id, is_refused } => {
            let reason_code =
                if is_refused { ReasonCode::QuotaExceeded } else { ReasonCode::Success };
            let is_end = name == "PUBACK" || name == "PUBCOMP" || name == "PUBREC" && is_refused;
            if is_end {
                watcher.in_flight.remove(&id);
            }
            bench.receive(ack_with(name, id, reason_code))
        }
        Step::Receive(qos, id) => bench.receive(Packet::Publish(incoming(qos, id, "x"))),
        Step::Wait(secs) => bench.wait(secs),
        Step::Subscribe if bench.session.has_room_for_request() => bench.subscribe("x"),
        Step::Disconnect => {
            let disconnect = Disconnect::new(ReasonCode::NORMAL_DISCONNECTION);
            bench.feed(Input::Disconnect(Box::new(disconnect)))
        }
        Step::Open | Step::Close | Step::Accept { .. } | Step::Publish(_) | Step::Subscribe => {
            Vec::new()
        }
    }
}
