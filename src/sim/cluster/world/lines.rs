//! Connections of clients, as their broker and whoever watches it see them.

use crate::mqtt::{Frame, PACKET_SIZE_MAX, Packet, Sender};
use crate::ports::clock::Tick;
use crate::sim::cluster::ensemble::SESSION_MILLIS;
use crate::sim::cluster::persistent::Lasting;
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};
use crate::sim::cluster::world::World;
use crate::sim::cluster::world::happening::Happening;
use crate::sim::cluster::world::retaining::number_of;

impl World {
    pub(super) fn turn(&mut self, connection: usize) -> Result<(), Complaint> {
        let Self { nodes, lines, now, .. } = self;
        let line = lines.get_mut(connection).expect("connections are numbered");
        let process = nodes.get_mut(line.node).and_then(|node| node.process.as_deref_mut());
        let Some(process) = process.filter(|process| process.number == line.process) else {
            return Ok(());
        };
        if line.is_over {
            return Ok(());
        }
        let written = process.turn_of(*now, &mut line.endpoint);
        line.unparsed.extend_from_slice(&written);
        self.note(written.len() as u64 ^ (connection as u64) << 32);
        self.parse(connection)?;
        let line = self.line(connection);
        if line.endpoint.is_over {
            line.is_over = true;
            let (node, name) = (line.node, line.client_session_name.clone());
            let client = line.client;
            let at = line.down_at.max(self.now);
            let is_gone =
                self.process(node).is_none_or(|one| one.broker.registry().find(&name).is_none());
            // What a client counts on ends with its broker alone, and what moves is elsewhere.
            if is_gone
                && self.client(client).lasting != Lasting::Moving
                && let Some(session) = self.ledger.session_of(connection)
                && !self.client(client).counts_on(session)
            {
                self.ledger.lose_session(session, self.now);
            }
            self.at(at, Happening::DownEnd { connection });
        } else if let Some(at) = line.endpoint.arm_timer() {
            self.at(at.as_millis(), Happening::Timer { connection, at });
        }
        Ok(())
    }

    fn parse(&mut self, connection: usize) -> Result<(), Complaint> {
        let client = self.line(connection).client;
        let version = self.client(client).version();
        loop {
            let line = self.line(connection);
            let Ok(Some(frame)) = Frame::peek(&line.unparsed, PACKET_SIZE_MAX) else { break };
            if frame.total_len > line.unparsed.len() {
                break;
            }
            let bytes = line.unparsed.split_to(frame.total_len).freeze();
            let packet = match Packet::decode(version, Sender::Server, &bytes) {
                Ok(packet) => Box::new(packet),
                Err(error) => return complaint(Checker::Protocol, error.to_string()),
            };
            self.note_written(connection, &packet)?;
            let at = self.now + self.chance.below(4);
            let line = self.line(connection);
            line.down_at = line.down_at.max(at);
            let at = line.down_at;
            self.at(at, Happening::Down { connection, packet });
        }
        Ok(())
    }

    /// The broker has written a packet: what that means.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other packets promise nothing")]
    fn note_written(&mut self, connection: usize, packet: &Packet) -> Result<(), Complaint> {
        let now = self.now;
        let client = self.line(connection).client;
        let is_acknowledgement = match packet {
            Packet::Connack(connack) => !connack.reason_code.is_error(),
            Packet::Puback(puback) => !puback.reason_code.is_error(),
            Packet::Pubrec(pubrec) => !pubrec.reason_code.is_error(),
            Packet::Suback(_) => true,
            _ => false,
        };
        if is_acknowledgement {
            self.judge_lease(connection, packet)?;
        }
        if let (Packet::Connack(connack), true) = (packet, is_acknowledgement) {
            self.judge_owner(connection)?;
            self.note_greeted(connection, connack.session_present)?;
        }
        let Self { clients, ledger, .. } = self;
        let client = clients.get_mut(client).expect("clients are numbered");
        if let Packet::Pubrec(pubrec) = packet
            && !is_acknowledgement
            && let Some(number) = client.publication_of(pubrec.packet_id)
        {
            ledger.note_refused(number);
        }
        if client.connection != Some(connection) {
            return Ok(());
        }
        match packet {
            Packet::Puback(puback) if is_acknowledgement => {
                if let Some(number) = client.publication_of(puback.packet_id) {
                    ledger.note_accepted(number, now);
                }
            }
            Packet::Pubrec(pubrec) if is_acknowledgement => {
                if let Some(number) = client.publication_of(pubrec.packet_id) {
                    ledger.note_accepted(number, now);
                }
            }
            Packet::Suback(suback) => {
                let codes = suback.reason_codes.iter();
                for (filter, code) in client.asked(suback.packet_id).into_iter().zip(codes) {
                    if !code.is_error() {
                        ledger.note_subscribed(client.session, filter, now);
                    }
                }
            }
            Packet::Publish(publish) if !publish.payload.is_empty() => {
                let number = number_of(&publish.payload).unwrap_or(usize::MAX);
                let how = (publish.qos, publish.dup);
                ledger.note_delivered(client.session, number, how)?;
                if publish.retain && !publish.dup {
                    return self.note_replayed(connection, publish);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the broker may acknowledge at all.
    fn judge_lease(&mut self, connection: usize, packet: &Packet) -> Result<(), Complaint> {
        let (node, now) = (self.line(connection).node, self.now);
        let committed = self.ensemble.way(node).committed;
        let Some(process) = self.process(node) else { return Ok(()) };
        let boot_id = process.boot_id;
        // Peers may have prolonged it beyond what the ensemble has said.
        let is_frozen = Tick::from_millis(now) < process.membership.lease_until();
        let is_leased = committed.is_some_and(|sent| now < sent + SESSION_MILLIS * 2 / 3);
        let name = packet.name();
        if self.dead.contains(&boot_id) {
            let words = format!("b{node} sent {name} after it was declared dead");
            return complaint(Checker::Lease, words);
        }
        if !is_leased && !is_frozen {
            let words = format!("b{node} sent {name}; its last heartbeat left at {committed:?}");
            return complaint(Checker::Lease, words);
        }
        Ok(())
    }

    pub(super) fn arrive_down(
        &mut self,
        connection: usize,
        packet: Packet,
    ) -> Result<(), Complaint> {
        let client = self.line(connection).client;
        let now = self.now;
        self.tell_session(connection);
        let Self { clients, ledger, .. } = self;
        let found = clients.get_mut(client).expect("clients are numbered");
        if found.connection == Some(connection) {
            found.handle(packet, now, ledger)?;
            self.flush(client);
        }
        Ok(())
    }

    pub(super) fn arrive_end(&mut self, connection: usize) {
        let client = self.line(connection).client;
        if self.client(client).connection == Some(connection) {
            self.leave(client);
        }
    }
}
