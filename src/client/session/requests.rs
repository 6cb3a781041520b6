//! SUBSCRIBE and UNSUBSCRIBE, and their answers.

use super::Session;
use super::event::{Answer, Output, Subscription, Tick, Ticket, Unsubscription};
use super::outgoing::Request;
use crate::mqtt::{Packet, PacketId, ReasonCode, Suback, Subscribe, Unsuback, Unsubscribe};

impl Session {
    pub(super) fn handle_subscribe(&mut self, now: Tick, ticket: Ticket, wanted: Subscription) {
        assert!(self.is_online(), "subscribe only while online");
        let count = wanted.filters.len();
        let packet_id = self.outgoing.request(Request::Subscribe(ticket, count));
        let subscribe = Subscribe {
            packet_id,
            subscription_id: wanted
                .subscription_id
                .filter(|_| self.limits.is_some_and(|limits| limits.has_subscription_ids)),
            user_properties: wanted.user_properties,
            filters: wanted.filters,
        };
        self.send_request(now, packet_id, Packet::Subscribe(subscribe));
    }

    pub(super) fn handle_unsubscribe(
        &mut self,
        now: Tick,
        ticket: Ticket,
        unwanted: Unsubscription,
    ) {
        assert!(self.is_online(), "unsubscribe only while online");
        let count = unwanted.filters.len();
        let packet_id = self.outgoing.request(Request::Unsubscribe(ticket, count));
        let unsubscribe = Unsubscribe {
            packet_id,
            user_properties: unwanted.user_properties,
            filters: unwanted.filters,
        };
        self.send_request(now, packet_id, Packet::Unsubscribe(unsubscribe));
    }

    /// Sends a request, or answers it here if the server cannot take a packet of that size.
    fn send_request(&mut self, now: Tick, packet_id: PacketId, packet: Packet) {
        let len = packet.encoded_len(self.protocol_version());
        if self.limits.is_none_or(|limits| limits.admits_len(len)) {
            self.send(now, packet);
            return;
        }
        let refusal = |count| Answer {
            reason_codes: vec![ReasonCode::PacketTooLarge; count],
            reason_string: None,
        };
        let output = match self.outgoing.answer(packet_id) {
            Some(Request::Subscribe(ticket, count)) => Output::Subscribed(ticket, refusal(count)),
            Some(Request::Unsubscribe(ticket, count)) => {
                Output::Unsubscribed(ticket, refusal(count))
            }
            None => return,
        };
        self.outputs.push_back(output);
    }

    pub(super) fn handle_suback(&mut self, suback: Suback) {
        match self.outgoing.answer(suback.packet_id) {
            Some(Request::Subscribe(ticket, count)) if count == suback.reason_codes.len() => {
                let Suback { reason_codes, reason_string, .. } = suback;
                let answer = Answer { reason_codes, reason_string };
                self.outputs.push_back(Output::Subscribed(ticket, answer));
            }
            Some(_) | None => self.misplaced("SUBACK", suback.packet_id),
        }
    }

    /// An UNSUBACK of 3.1.1 has no Reason Codes: each filter is then taken as unsubscribed.
    pub(super) fn handle_unsuback(&mut self, unsuback: Unsuback) {
        let Unsuback { packet_id, mut reason_codes, reason_string, .. } = unsuback;
        let Some(Request::Unsubscribe(ticket, count)) = self.outgoing.answer(packet_id) else {
            self.misplaced("UNSUBACK", packet_id);
            return;
        };
        if !self.protocol_version().has_properties() {
            reason_codes = vec![ReasonCode::Success; count];
        }
        if reason_codes.len() != count {
            self.misplaced("UNSUBACK", packet_id);
            return;
        }
        let answer = Answer { reason_codes, reason_string };
        self.outputs.push_back(Output::Unsubscribed(ticket, answer));
    }
}
