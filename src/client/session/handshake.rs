//! From CONNECT to CONNACK, and what the next CONNECT is made of.

use super::event::{CloseReason, Output, PublishOutcome, Tick};
use super::limits::ServerLimits;
use super::{Phase, Session};
use crate::mqtt::{Connack, Packet, ProtocolVersion, Pubrel, ReasonCode};

impl Session {
    pub(super) fn handle_first_packet(&mut self, now: Tick, packet: Packet) {
        match packet {
            Packet::Connack(connack) => self.handle_connack(now, connack),
            Packet::Auth(_) => self.refuse_authentication(),
            Packet::Connect(_)
            | Packet::Publish(_)
            | Packet::Puback(_)
            | Packet::Pubrec(_)
            | Packet::Pubrel(_)
            | Packet::Pubcomp(_)
            | Packet::Subscribe(_)
            | Packet::Suback(_)
            | Packet::Unsubscribe(_)
            | Packet::Unsuback(_)
            | Packet::Pingreq
            | Packet::Pingresp
            | Packet::Disconnect(_) => self.violated(
                ReasonCode::ProtocolError,
                format!("the server answered the CONNECT with {}", packet.name()),
            ),
        }
    }

    fn handle_connack(&mut self, now: Tick, connack: Box<Connack>) {
        if connack.reason_code.is_error() {
            self.handle_refusal(connack);
            return;
        }
        if connack.session_present && self.connect.clean_start {
            let words = "the server resumed a session that this client does not have";
            self.violated(ReasonCode::ProtocolError, words.to_owned());
            return;
        }
        let limits = ServerLimits::new(self.protocol_version(), &connack);
        self.limits = Some(limits);
        self.phase = Phase::Online;
        let keep_alive_secs = connack.properties.server_keep_alive_secs;
        self.keep_alive.start(now, keep_alive_secs.unwrap_or(self.connect.keep_alive_secs));
        self.outgoing.start_connection(limits.receive_maximum, limits.topic_alias_maximum);
        self.prepare_next_connect(&connack);

        let is_resumed = connack.session_present;
        self.outputs.push_back(Output::Connected(connack));
        if is_resumed {
            let releases: Vec<_> = self.outgoing.releases().collect();
            for packet_id in releases {
                self.send(now, Packet::Pubrel(Pubrel::new(packet_id, ReasonCode::Success)));
            }
            return;
        }
        self.incoming.discard();
        for ticket in self.outgoing.discard() {
            self.published(ticket, PublishOutcome::Acknowledged(ReasonCode::Success));
        }
    }

    /// The next connection resumes the session if the server keeps it.
    fn prepare_next_connect(&mut self, connack: &Connack) {
        if let Some(client_id) = &connack.properties.assigned_client_id {
            self.connect.client_id = client_id.clone();
        }
        let asked = self.connect.properties.session_expiry_interval_secs;
        let granted = connack.properties.session_expiry_interval_secs.or(asked).unwrap_or(0);
        if self.protocol_version().has_properties() && granted > 0 {
            self.connect.clean_start = false;
        }
    }

    fn handle_refusal(&mut self, connack: Box<Connack>) {
        let is_version = connack.reason_code == ReasonCode::UnsupportedProtocolVersion;
        if is_version && self.may_fall_back() {
            self.fall_back();
            return;
        }
        self.outputs.push_back(Output::Refused(connack));
        self.close(CloseReason::Refused);
    }

    /// The one fall-back: the same CONNECT as 3.1.1.
    pub(super) fn fall_back(&mut self) {
        self.falls_back = false;
        self.connect.protocol_version = ProtocolVersion::V311;
        self.close(CloseReason::FallBack);
    }

    /// Not with a password alone: before MQTT 5 it needs a user name.
    pub(super) fn may_fall_back(&self) -> bool {
        let is_nameless = self.connect.password.is_some() && self.connect.user_name.is_none();
        self.falls_back && !is_nameless && self.protocol_version() == ProtocolVersion::V5
    }
}
