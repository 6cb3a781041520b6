//! What clients do when it is their turn, by chance.

use bytes::BytesMut;

use super::{GREETING_MILLIS, Happening, PATIENCE_MILLIS, World};
use crate::mqtt::{Packet, ProtocolVersion, QoS, ReasonCode};
use crate::sim::client::{Books, Phase, SimClient};
use crate::sim::ledger::Publication;
use crate::sim::profile::{FIRST_RETAINED, FIRST_SHARED, TOPICS};
use crate::sim::sessions::{Asked, EXPIRY_CHANGED};

impl World {
    pub(super) fn act(&mut self, client: usize) {
        let again = if self.is_calm { 300 } else { self.chance.between(30, 1_400) };
        self.at(self.now + again, Happening::Act { client });
        let is_late = |since| self.now > since + GREETING_MILLIS;
        match self.clients.get(client).map(|client| client.phase) {
            Some(Phase::Offline) => self.come_back(client),
            Some(Phase::Greeting { since }) if is_late(since) => self.hang_up(client, false),
            Some(Phase::Online) if self.is_calm => {
                let (client, mut books) = self.with_books(client);
                client.subscribe_all();
                if client.online_since + PATIENCE_MILLIS <= books.now {
                    client.resume_publishing(&mut books);
                }
            }
            Some(Phase::Online) if !self.client(client).is_silent => self.misbehave(client),
            Some(Phase::Online | Phase::Greeting { .. }) | None => {}
        }
        self.flush(client);
    }

    fn come_back(&mut self, client: usize) {
        if !self.is_calm && self.chance.one_in(3) {
            return;
        }
        let profile = &self.client(client).profile;
        let (is_persistent, is_stable) = (profile.is_persistent, profile.is_stable);
        let starts_anew = !is_stable && !self.is_calm && self.chance.one_in(12);
        self.connect(client, !is_persistent || starts_anew);
    }

    /// One of the things that a client does while it is connected.
    fn misbehave(&mut self, client: usize) {
        let (sender, mut books) = self.with_books(client);
        sender.resume_publishing(&mut books);
        let connection = self.client(client).connection.unwrap_or(0);
        match self.chance.below(100) {
            0..=52 => self.publish_some(client),
            53..=57 => {
                let place = self.chance.place(8);
                let (client, mut books) = self.with_books(client);
                client.unsubscribe(place, &mut books);
            }
            58..=62 => self.client(client).subscribe_all(),
            63..=66 => {
                self.sessions.count("stopped reading");
                self.client(client).is_reading = false;
                let after = self.chance.between(100, 6_000);
                self.at(self.now + after, Happening::Recover { connection });
            }
            67..=71 => {
                self.sessions.count("stopped acknowledging");
                self.client(client).is_acknowledging = false;
                let after = self.chance.between(100, 6_000);
                self.at(self.now + after, Happening::Recover { connection });
            }
            72..=75 => self.say_good_bye(client),
            76..=81 => self.hang_up(client, true),
            82..=85 => {
                self.sessions.count("fell silent");
                self.client(client).is_silent = true;
                self.client(client).is_acknowledging = false;
            }
            86..=89 => self.take_over(client, 1),
            90 => self.take_over(client, 4),
            91 => self.knock(client),
            _ => {}
        }
    }

    fn with_books(&mut self, client: usize) -> (&mut SimClient, Books<'_>) {
        let Self { clients, ledger, sessions, plant, now, .. } = self;
        let client = clients.get_mut(client).expect("clients are numbered");
        let books =
            Books { ledger, sessions, plant: *plant, now: *now, written_at: 0, is_probe: false };
        (client, books)
    }

    fn publish_some(&mut self, client: usize) {
        for _ in 0..self.chance.between(1, 3) {
            let publication = self.draw_publication(client);
            let number = self.ledger.enter(publication);
            let (client, mut books) = self.with_books(client);
            client.publish(number, &mut books);
        }
    }

    fn draw_publication(&mut self, client: usize) -> Publication {
        let retained = client - 1;
        // A retained topic has one publisher, so that the last message is known.
        let topic = if retained < TOPICS.len() - FIRST_RETAINED && self.chance.one_in(2) {
            FIRST_RETAINED + retained
        } else if self.chance.one_in(3) {
            self.chance.pick(&[FIRST_SHARED, FIRST_SHARED + 1, FIRST_SHARED + 2, FIRST_SHARED + 3])
        } else {
            self.chance.place(FIRST_SHARED)
        };
        let is_retained = topic >= FIRST_RETAINED;
        let is_v5 = self.client(client).profile.version == ProtocolVersion::V5;
        let qos = self.chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let expires = is_v5 && !is_retained && self.chance.one_in(5);
        let is_large = self.chance.one_in(30);
        Publication {
            publisher: client,
            topic,
            qos: if is_retained { qos.max(QoS::AtLeastOnce) } else { qos },
            is_deletion: is_retained && self.chance.one_in(5),
            expiry_secs: expires.then(|| self.chance.pick(&[1, 2, 5])),
            payload_len: if is_large { 5_000 } else { 8 + self.chance.place(200) },
            first_sent: None,
            sends: 0,
            acknowledged: None,
            is_refused: false,
        }
    }

    pub(super) fn say_good_bye(&mut self, client: usize) {
        let profile = self.client(client).profile.clone();
        let is_v5 = profile.version == ProtocolVersion::V5;
        let changes = is_v5 && profile.is_persistent && !profile.is_stable;
        let expiry = (changes && self.chance.one_in(2)).then(|| {
            let secs = self.chance.pick(&[0, 1, 3]);
            (secs, format!("{EXPIRY_CHANGED}{secs}"))
        });
        let reason_code = if is_v5 && self.chance.one_in(3) {
            ReasonCode::DisconnectWithWillMessage
        } else {
            ReasonCode::Success
        };
        self.client(client).say_good_bye(reason_code, expiry);
        self.flush(client);
        self.hang_up(client, false);
    }

    /// The client closes its connection, or it breaks.
    pub(super) fn hang_up(&mut self, client: usize, breaks: bool) {
        let Some(connection) = self.client(client).connection else { return };
        let now = self.now;
        self.client(client).leave();
        let line = self.line(connection);
        let last = line.up.arrival(now + line.link.latency_millis);
        match if breaks { self.chance.below(3) } else { 3 } {
            0 => {
                // The broker hears nothing any more.
                self.sessions.count("half-open connections");
                self.line(connection).up.is_cut = true;
                self.line(connection).down.is_cut = true;
            }
            1 => {
                // Some of what is under way is lost.
                let from = self.chance.between(now, last);
                self.line(connection).down.is_cut = true;
                self.at(from, Happening::UpCut { connection });
                self.at(last, Happening::UpEnd { connection });
            }
            2 => {
                self.line(connection).up.is_cut = true;
                self.at(now, Happening::UpEnd { connection });
            }
            _ => self.at(last, Happening::UpEnd { connection }),
        }
    }

    /// More connections with the same Client Identifier, while the first one stays.
    fn take_over(&mut self, client: usize, count: usize) {
        self.sessions.count("own takeovers");
        for _ in 0..count {
            let former = self.client(client).connection;
            let clean_start = !self.client(client).profile.is_persistent;
            self.connect(client, clean_start);
            if let Some(connection) = former
                && self.chance.one_in(2)
            {
                let after = self.now + self.chance.between(1, 3_000);
                self.at(after, Happening::UpEnd { connection });
            }
        }
    }

    /// Somebody who sends half a CONNECT, and nothing more.
    fn knock(&mut self, client: usize) {
        let connection = self.open_line(client);
        self.sessions.note_asked(Asked { client, clean_start: true, will_delay_secs: None });
        let connect = self.client(client).connect_packet(connection, true);
        let mut bytes = BytesMut::new();
        Packet::Connect(Box::new(connect)).encode(ProtocolVersion::V5, &mut bytes);
        bytes.truncate(self.chance.place(bytes.len()));
        self.send_up(connection, bytes.freeze());
    }
}
