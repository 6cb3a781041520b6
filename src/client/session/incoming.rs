//! The receiving half: Topic Aliases of the server, and QoS 2 messages not yet released.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
};

use bytestring::ByteString;

use crate::mqtt::{PacketId, Publish, QoS, ReasonCode};

/// What this client remembers of messages it receives.
///
/// Both collections are bounded: the aliases by the maximum that the CONNECT announced, the
/// identifiers by the Receive Maximum.
#[derive(Debug)]
pub(super) struct Incoming {
    alias_max: u16,
    receive_maximum: u16,
    aliases: BTreeMap<NonZeroU16, ByteString>,
    unreleased: BTreeSet<PacketId>,
}

/// Whether a PUBLISH is news.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Novelty {
    New,
    /// QoS 2, already handed to the application: acknowledged again, not delivered again.
    Known,
}

impl Incoming {
    pub(super) fn new(alias_max: u16, receive_maximum: u16) -> Self {
        Self { alias_max, receive_maximum, aliases: BTreeMap::new(), unreleased: BTreeSet::new() }
    }

    /// Topic Aliases end with their connection [MQTT-3.3.2-7].
    pub(super) fn start_connection(&mut self) {
        self.aliases.clear();
    }

    /// The server has no session: what was unreleased never will be.
    pub(super) fn discard(&mut self) {
        self.unreleased.clear();
    }

    /// Gives `publish` its full Topic Name and learns a new alias [MQTT-3.3.2-10].
    pub(super) fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), ReasonCode> {
        let Some(alias) = publish.topic_alias.take() else {
            return if publish.topic.is_empty() { Err(ReasonCode::ProtocolError) } else { Ok(()) };
        };
        if alias.get() > self.alias_max {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        if publish.topic.is_empty() {
            let topic = self.aliases.get(&alias).ok_or(ReasonCode::ProtocolError)?;
            publish.topic = topic.clone();
        } else {
            // An exact copy: a slice would pin the buffer that it was received in.
            self.aliases.insert(alias, ByteString::from(&*publish.topic));
        }
        Ok(())
    }

    /// Notes a received message. A QoS 2 identifier that is still unreleased is a repetition
    /// [MQTT-4.3.3-10]; more of them than the Receive Maximum is an error.
    pub(super) fn note(&mut self, publish: &Publish) -> Result<Novelty, ReasonCode> {
        let (QoS::ExactlyOnce, Some(packet_id)) = (publish.qos, publish.packet_id) else {
            return Ok(Novelty::New);
        };
        if self.unreleased.contains(&packet_id) {
            return Ok(Novelty::Known);
        }
        if self.unreleased.len() >= usize::from(self.receive_maximum) {
            return Err(ReasonCode::ReceiveMaximumExceeded);
        }
        self.unreleased.insert(packet_id);
        Ok(Novelty::New)
    }

    /// A PUBREL arrived: whether it released anything.
    pub(super) fn release(&mut self, packet_id: PacketId) -> bool {
        self.unreleased.remove(&packet_id)
    }
}
