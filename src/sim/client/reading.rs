//! What a client makes of the packets it is sent.

use std::num::NonZeroU16;

use super::{Books, PUBLISHES_MAX, Phase, SimClient, WishState, note_answer};
use crate::mqtt::{
    Connack, Frame, PACKET_SIZE_MAX, Packet, PacketId, ProtocolVersion, Puback, Pubcomp, Publish,
    Pubrec, Pubrel, QoS, ReasonCode, Sender, Suback,
};
use crate::sim::failure::{Checker, Complaint, Plant, complaint};
use crate::sim::ledger::Arrival;
use crate::sim::profile::TOPICS;

impl SimClient {
    /// Bytes that it has read; `understood` tells when those of the next packet were written.
    pub(in crate::sim) fn read(
        &mut self,
        bytes: &[u8],
        books: &mut Books<'_>,
        mut understood: impl FnMut(usize) -> u64,
    ) -> Result<(), Complaint> {
        self.unparsed.extend_from_slice(bytes);
        while let Ok(Some(frame)) = Frame::peek(&self.unparsed, PACKET_SIZE_MAX) {
            if frame.total_len > self.unparsed.len() {
                break;
            }
            let packet = self.unparsed.split_to(frame.total_len).freeze();
            books.written_at = understood(packet.len());
            let max = self.profile.packet_bytes_max.map_or(usize::MAX, |max| max as usize);
            if packet.len() > max {
                let words = format!("{} bytes for client {}", packet.len(), self.number);
                return complaint(Checker::Window, words);
            }
            match Packet::decode(self.profile.version, Sender::Server, &packet) {
                Ok(packet) => self.handle(packet, books)?,
                Err(error) => return complaint(Checker::Protocol, error.to_string()),
            }
        }
        Ok(())
    }

    fn handle(&mut self, packet: Packet, books: &mut Books<'_>) -> Result<(), Complaint> {
        match packet {
            Packet::Connack(connack) => {
                self.handle_connack(&connack, books);
                Ok(())
            }
            Packet::Publish(publish) => self.handle_publish(publish, books),
            Packet::Puback(puback) => self.handle_puback(&puback, books),
            Packet::Pubrec(pubrec) => self.handle_pubrec(&pubrec, books),
            Packet::Pubrel(pubrel) => {
                self.unreleased.remove(&pubrel.packet_id);
                self.answer(Packet::Pubcomp(Pubcomp::new(pubrel.packet_id, ReasonCode::Success)));
                Ok(())
            }
            Packet::Pubcomp(pubcomp) => {
                self.settle(pubcomp.packet_id, true)?;
                self.pump(books);
                Ok(())
            }
            Packet::Suback(suback) => self.handle_suback(&suback, books),
            Packet::Unsuback(unsuback) => {
                for wish in &mut self.subscriptions {
                    if wish.state == WishState::Leaving(unsuback.packet_id) {
                        wish.state = WishState::Off;
                    }
                }
                Ok(())
            }
            Packet::Pingresp | Packet::Disconnect(_) => Ok(()),
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq
            | Packet::Auth(_) => complaint(Checker::Protocol, packet.name()),
        }
    }

    fn handle_connack(&mut self, connack: &Connack, books: &mut Books<'_>) {
        if connack.reason_code.is_error() {
            books.sessions.count("connects refused");
            return;
        }
        self.phase = Phase::Online;
        let maximum = connack.properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        self.window_max = usize::from(maximum).min(PUBLISHES_MAX);
        let epoch = books.sessions.epoch(self.number);
        // A Session that it never heard of is new to it, too.
        if !connack.session_present || epoch != self.epoch {
            self.epoch = epoch;
            self.outgoing.clear();
            self.unreleased.clear();
            for wish in &mut self.subscriptions {
                wish.state = WishState::Off;
            }
        }
        self.subscribe_all();
        self.is_holding_back = true;
        self.online_since = books.now;
        if self.profile.version == ProtocolVersion::V5 {
            self.resume_publishing(books);
        }
    }

    fn handle_publish(
        &mut self,
        mut publish: Publish,
        books: &mut Books<'_>,
    ) -> Result<(), Complaint> {
        self.resolve_topic(&mut publish)?;
        let Some(id) = publish.packet_id else { return self.take(&publish, books) };
        self.open.insert(id);
        let believed = if books.plant == Plant::SmallerWindow { 1 } else { u16::MAX };
        if self.open.len() > usize::from(self.profile.receive_maximum.min(believed)) {
            let words = format!("client {} has {} open", self.number, self.open.len());
            return complaint(Checker::Window, words);
        }
        if publish.qos == QoS::AtLeastOnce {
            self.answer(Packet::Puback(Puback::new(id, ReasonCode::Success)));
            return self.take(&publish, books);
        }
        self.answer(Packet::Pubrec(Pubrec::new(id, ReasonCode::Success)));
        if self.unreleased.insert(id) {
            return self.take(&publish, books);
        }
        if publish.dup { Ok(()) } else { complaint(Checker::Protocol, "an identifier in use") }
    }

    fn resolve_topic(&mut self, publish: &mut Publish) -> Result<(), Complaint> {
        let Some(alias) = publish.topic_alias else { return Ok(()) };
        if alias.get() > self.profile.alias_maximum {
            return complaint(Checker::Protocol, "a topic alias that is too high");
        }
        if !publish.topic.is_empty() {
            self.aliases.insert(alias, publish.topic.clone());
            return Ok(());
        }
        match self.aliases.get(&alias) {
            Some(topic) => publish.topic = topic.clone(),
            None => return complaint(Checker::Protocol, "a topic alias that is not known"),
        }
        Ok(())
    }

    /// The application gets a message.
    pub(super) fn take(
        &mut self,
        publish: &Publish,
        books: &mut Books<'_>,
    ) -> Result<(), Complaint> {
        if publish.topic.starts_with("w/") {
            return Self::take_will(publish, books);
        }
        let Some(topic) = TOPICS.iter().position(|name| *name == &*publish.topic) else {
            return complaint(Checker::Protocol, format!("a message of {}", publish.topic));
        };
        let Some(number) = publish.payload.first_chunk::<8>() else { return Ok(()) };
        let properties = publish.properties.as_deref();
        let mut arrival = Arrival {
            client: self.number,
            epoch: self.epoch,
            publication: usize::try_from(u64::from_be_bytes(*number)).unwrap_or(usize::MAX),
            topic,
            qos: publish.qos,
            dup: publish.dup,
            retain: publish.retain,
            left_secs: properties.and_then(|p| p.message_expiry_interval_secs),
            written_at: books.written_at,
        };
        if books.is_probe {
            if books.plant != Plant::LostRetained {
                books.ledger.note_retained(arrival);
            }
            return Ok(());
        }
        // With whatever copies of it come: a message that comes late is another fault.
        let is_chosen = arrival.publication.is_multiple_of(4);
        if books.plant == Plant::LostDelivery && is_chosen {
            return Ok(());
        }
        if books.plant == Plant::SwappedDeliveries {
            return self.take_swapped(arrival, books);
        }
        if books.plant == Plant::DoubledDelivery && publish.qos == QoS::ExactlyOnce {
            books.ledger.receive(arrival)?;
        }
        if books.plant == Plant::LongerMessageExpiry {
            arrival.left_secs = arrival.left_secs.map(|left| left + 2);
        }
        books.ledger.receive(arrival)
    }

    /// Gives every message but after the next one.
    fn take_swapped(&mut self, arrival: Arrival, books: &mut Books<'_>) -> Result<(), Complaint> {
        let Some(before) = self.swapped.take() else {
            self.swapped = Some(arrival);
            return Ok(());
        };
        books.ledger.receive(arrival)?;
        books.ledger.receive(before)
    }

    fn take_will(publish: &Publish, books: &mut Books<'_>) -> Result<(), Complaint> {
        let text = String::from_utf8_lossy(&publish.payload);
        let Ok(connection) = text.parse() else {
            return complaint(Checker::Protocol, "a will that nobody left");
        };
        if !(books.plant == Plant::LostWill && connection % 3 == 0) {
            books.sessions.note_will_seen(connection, books.written_at);
        }
        Ok(())
    }

    fn handle_puback(&mut self, puback: &Puback, books: &mut Books<'_>) -> Result<(), Complaint> {
        let publication = self.settle(puback.packet_id, false)?;
        note_answer(publication, puback.reason_code, books);
        self.pump(books);
        Ok(())
    }

    fn handle_pubrec(&mut self, pubrec: &Pubrec, books: &mut Books<'_>) -> Result<(), Complaint> {
        let Some(outgoing) = self.outgoing.iter_mut().find(|one| one.id == pubrec.packet_id) else {
            return complaint(Checker::Protocol, "PUBREC for nothing");
        };
        let publication = outgoing.publication;
        outgoing.is_released = true;
        note_answer(publication, pubrec.reason_code, books);
        if pubrec.reason_code.is_error() {
            self.settle(pubrec.packet_id, true)?;
            self.pump(books);
        } else {
            self.send(&Packet::Pubrel(Pubrel::new(pubrec.packet_id, ReasonCode::Success)));
        }
        Ok(())
    }

    fn settle(&mut self, id: PacketId, is_released: bool) -> Result<usize, Complaint> {
        let place =
            self.outgoing.iter().position(|one| one.id == id && one.is_released == is_released);
        match place.and_then(|place| self.outgoing.remove(place)) {
            Some(outgoing) => Ok(outgoing.publication),
            None => complaint(Checker::Protocol, "an acknowledgement for nothing"),
        }
    }

    fn handle_suback(&mut self, suback: &Suback, books: &mut Books<'_>) -> Result<(), Complaint> {
        let mut codes = suback.reason_codes.iter();
        let max = self.profile.packet_bytes_max;
        for wish in &mut self.subscriptions {
            if wish.state != WishState::Asked(suback.packet_id) {
                continue;
            }
            wish.state = WishState::On;
            if codes.next().map(|code| code.as_u8()) != Some(wish.qos.bits()) {
                return complaint(Checker::Protocol, "a subscription was not granted as asked");
            }
            let who = (self.number, self.epoch);
            books.ledger.note_subscribed(who, (wish.filter, wish.qos), max, books.now);
        }
        Ok(())
    }
}
