//! What clients do.

use std::sync::Arc;

use bytes::BytesMut;

use crate::cluster::identity::BootId;
use crate::ports::clock::Tick;
use crate::sim::cluster::client::{Phase, draw_message};
use crate::sim::cluster::ledger::Draft;
use crate::sim::cluster::persistent::Lasting;
use crate::sim::cluster::world::happening::Happening;
use crate::sim::cluster::world::{Line, World};
use crate::sim::endpoint::Endpoint;

impl World {
    pub(super) fn leave(&mut self, client: usize) {
        let now = self.now;
        let found = self.client(client);
        let (session, lasting) = (found.session, found.lasting);
        found.leave();
        match lasting {
            Lasting::Connection => self.ledger.end_session(session, now),
            Lasting::Moving => self.ledger.note_away(session, now),
            Lasting::Broker | Lasting::Stored => {}
        }
    }

    pub(super) fn flush(&mut self, client: usize) {
        let out = self.client(client).take_output();
        let Some(connection) = self.client(client).connection else { return };
        if out.is_empty() {
            return;
        }
        let at = self.now + self.chance.below(4);
        let line = self.line(connection);
        line.up_at = line.up_at.max(at);
        let at = line.up_at;
        self.at(at, Happening::Up { connection, bytes: out });
    }

    pub(super) fn act(&mut self, client: usize) {
        let again = if self.is_calm { 200 } else { self.chance.between(30, 500) };
        self.at(self.now + again, Happening::Act { client });
        let phase = self.client(client).phase;
        match phase {
            Phase::Offline => self.connect(client),
            Phase::Greeting { since } => {
                if since + GREETING_MILLIS < self.now {
                    self.hang_up(client);
                }
            }
            Phase::Online if self.is_calm => {
                let Self { clients, ledger, .. } = self;
                let found = clients.get_mut(client).expect("clients are numbered");
                found.subscribe_all(ledger);
            }
            Phase::Online => self.do_something(client),
        }
        self.flush(client);
    }

    pub(super) fn connect(&mut self, client: usize) {
        let home = self.client(client).home;
        let is_home = |world: &mut Self, (node, boot_id): (usize, BootId)| {
            world.process(node).is_some_and(|process| process.boot_id == boot_id)
        };
        let found = self.client(client);
        let stays = found.lasting == Lasting::Broker || found.is_stable;
        let node = match home {
            Some(home) if stays && is_home(self, home) => home.0,
            _ => self.chance.place(self.nodes.len()),
        };
        let now = self.now;
        let Some((connection, boot_id)) = self.open_line(client, node) else { return };
        let Self { clients, ledger, .. } = self;
        let found = clients.get_mut(client).expect("clients are numbered");
        found.connect(connection, (node, boot_id), now, ledger);
        ledger.attach(connection, found.session);
        let name = found.client_id();
        self.line(connection).client_session_name = name;
        self.count("connections");
        if self.client(client).lasting == Lasting::Moving && self.chance.one_in(8) {
            self.connect_beside(client, connection);
        }
    }

    /// A connection to a broker, on which nothing has been said; and the life of the broker.
    pub(super) fn open_line(&mut self, client: usize, node: usize) -> Option<(usize, BootId)> {
        let now = Tick::from_millis(self.now);
        let process = self.process(node).filter(|process| process.is_joined)?;
        let (number, boot_id, ready) =
            (process.number, process.boot_id, Arc::clone(&process.ready));
        let connection = self.lines.len();
        let endpoint = Endpoint::new(connection, &ready, &self.options, now);
        self.lines.push(Line {
            client,
            client_session_name: String::new(),
            node,
            process: number,
            endpoint,
            unparsed: BytesMut::new(),
            up_at: 0,
            down_at: 0,
            greeted: None,
            is_over: false,
        });
        Some((connection, boot_id))
    }

    fn do_something(&mut self, client: usize) {
        let now = self.now;
        let Self { clients, ledger, chance, .. } = self;
        let found = clients.get_mut(client).expect("clients are numbered");
        if found.keeps_latest && chance.one_in(8) {
            return found.publish_latest(chance, now, ledger);
        }
        match chance.below(100) {
            0..=64 => {
                for _ in 0..chance.between(1, 4) {
                    let (topic, qos) = draw_message(chance);
                    let qos = found.qos_to_publish(qos);
                    if found.may_publish() {
                        found.publish(Draft::new(topic, qos), now, ledger);
                    }
                }
            }
            65..=69 if !found.is_stable => found.unsubscribe(chance, now, ledger),
            70..=79 => found.subscribe_all(ledger),
            80..=82 if !found.is_stable => {
                found.say_good_bye();
                self.flush(client);
                self.hang_up(client);
            }
            83..=85 if !found.is_stable => self.hang_up(client),
            86..=90 if found.lasting == Lasting::Moving && !found.is_stable => {
                self.move_on(client);
            }
            91..=96 if found.retains => found.retain(chance, now, ledger),
            _ => {}
        }
    }

    pub(super) fn hang_up(&mut self, client: usize) {
        let Some(connection) = self.client(client).connection else { return };
        self.leave(client);
        let at = self.line(connection).up_at;
        self.at(at, Happening::UpEnd { connection });
    }
}

/// How long a client waits for CONNACK.
const GREETING_MILLIS: u64 = 2_000;
