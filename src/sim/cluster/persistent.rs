//! Clients that sleep, and come back to any broker: their Sessions are stored, or move.

use std::collections::BTreeSet;

use crate::mqtt::{PacketId, Publish, QoS};
use crate::sim::chance::Chance;
use crate::sim::cluster::client::SimClient;
use crate::sim::cluster::ledger::Ledger;
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};

/// How long a Session lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lasting {
    /// As long as its connection.
    Connection,
    /// As long as its broker, to which its client comes back.
    Broker,
    /// As long as the broker that has it: it goes where its client goes.
    Moving,
    /// Whatever becomes of brokers: it is stored.
    Stored,
}

impl Lasting {
    /// Whether it may be with any broker.
    pub(super) fn is_anywhere(self) -> bool {
        matches!(self, Self::Moving | Self::Stored)
    }
}

impl SimClient {
    /// One of a run in which Sessions are stored.
    pub(super) fn draw_stored(number: usize, chance: &mut Chance) -> Self {
        let is_persistent = chance.one_in(2);
        let mut client = Self::draw(number, chance);
        client.lasting = if is_persistent { Lasting::Stored } else { Lasting::Connection };
        client
    }

    /// Whether its Session outlives its connections.
    pub(super) fn is_persistent(&self) -> bool {
        self.lasting != Lasting::Connection
    }

    /// Whether its Session is to be there, wherever it comes.
    pub(super) fn may_go_anywhere(&self) -> bool {
        self.lasting.is_anywhere()
    }

    /// What it publishes with while brokers die: one that comes back does not know what became of QoS
    /// 2, and neither does its new broker.
    pub(super) fn qos_to_publish(&self, drawn: QoS) -> QoS {
        if self.lasting == Lasting::Stored { drawn.min(QoS::AtLeastOnce) } else { drawn }
    }

    /// Whether the Session its broker speaks of is the one it knows. Another one was begun for a
    /// connection that it had left behind: MQTT has no way to tell it so (docs/LIMITS.md), we have.
    pub(super) fn is_same_session(&self, known: u64) -> bool {
        self.lasting != Lasting::Moving || self.told == known
    }

    /// CONNACK has come.
    pub(super) fn note_present(&mut self, is_present: bool) -> Result<(), Complaint> {
        let is_promised = self.lasting == Lasting::Stored;
        let was_promised = std::mem::replace(&mut self.is_promised, is_promised);
        if was_promised && !is_present {
            let words = format!("that of {} is not there any more", self.client_id());
            return complaint(Checker::Session, words);
        }
        Ok(())
    }

    /// A message has come; `unreleased` are those of QoS 2 that are on their way.
    pub(super) fn note_received(
        &self,
        publish: &Publish,
        unreleased: &BTreeSet<PacketId>,
        ledger: &mut Ledger,
    ) -> Result<(), Complaint> {
        let is_known = publish.packet_id.is_some_and(|id| unreleased.contains(&id));
        let is_deletion = publish.payload.is_empty();
        if !self.may_go_anywhere() || is_deletion || (publish.qos == QoS::ExactlyOnce && is_known) {
            return Ok(());
        }
        let number = publish.payload.first_chunk::<8>().map(|n| u64::from_be_bytes(*n));
        let number = number.and_then(|number| usize::try_from(number).ok());
        let how = (publish.qos, publish.dup);
        ledger.note_received(self.session, number.unwrap_or(usize::MAX), how)
    }
}
