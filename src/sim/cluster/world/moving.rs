//! Clients whose Sessions move: they leave connections behind, and come to two brokers at a time.

use std::collections::BTreeSet;

use crate::cluster::identity::BootId;
use crate::sim::cluster::persistent::Lasting;
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};
use crate::sim::cluster::world::World;
use crate::sim::cluster::world::happening::Happening;

impl World {
    /// It connects anew while its connection stands, which it forgets.
    pub(super) fn move_on(&mut self, client: usize) {
        let Some(connection) = self.client(client).connection else { return };
        self.leave(client);
        let until = self.chance.pick(&[0, 50, 1_000, 30_000]);
        let at = self.line(connection).up_at.max(self.now + until);
        self.at(at, Happening::UpEnd { connection });
        self.count("connections left behind");
        self.connect(client);
    }

    /// The same CONNECT comes to another broker at the same time, over a connection that its client
    /// does not look at.
    pub(super) fn connect_beside(&mut self, client: usize, connection: usize) {
        let node = self.chance.place(self.nodes.len());
        if node == self.line(connection).node {
            return;
        }
        let Some((beside, boot_id)) = self.open_line(client, node) else { return };
        let found = self.client(client);
        let (name, session, bytes) = (found.client_id(), found.session, found.greeting());
        self.ledger.attach(beside, session);
        self.ledger.note_suitor(session, boot_id);
        self.line(beside).client_session_name = name;
        let at = self.now + self.chance.below(4);
        self.at(at, Happening::Up { connection: beside, bytes });
        let until = at + self.chance.pick(&[1, 30, 500, 5_000]);
        self.at(until, Happening::UpEnd { connection: beside });
        self.count("two connects at a time");
    }

    /// A broker has told a client that its Session is here, or that a new one begins.
    pub(super) fn note_greeted(
        &mut self,
        connection: usize,
        is_present: bool,
    ) -> Result<(), Complaint> {
        let (node, client) = (self.line(connection).node, self.line(connection).client);
        if self.client(client).lasting != Lasting::Moving {
            return Ok(());
        }
        let session = self.client(client).session;
        if !is_present {
            if self.client(client).counts_on(session) && self.ledger.is_standing(session) {
                let words = format!("b{node} begins a Session of client {client}, which has one");
                return complaint(Checker::Session, words);
            }
            self.client(client).begun += 1;
        }
        self.line(connection).greeted = Some(self.client(client).begun);
        let former = self.client(client).whereabouts.replace(node);
        if is_present && former.is_some_and(|former| former != node) {
            self.count("sessions moved");
            if self.cuts.values().any(|until| *until > self.now) {
                self.count("sessions moved while links were cut");
            }
        }
        let homes = self.homes(connection);
        self.ledger.note_here(session, homes);
        Ok(())
    }

    /// The lives of brokers that may have the Session of this connection, now that it is here: others
    /// that have been asked for it may be next.
    fn homes(&mut self, connection: usize) -> BTreeSet<BootId> {
        let (node, client) = (self.line(connection).node, self.line(connection).client);
        let name = self.line(connection).client_session_name.clone();
        let mut homes = BTreeSet::new();
        for (place, other) in self.nodes.iter().enumerate() {
            let Some(process) = &other.process else { continue };
            let waits = self.lines.iter().any(|line| {
                let is_there = line.node == place && line.process == process.number;
                is_there && line.client == client && !line.is_over && line.greeted.is_none()
            });
            if place == node || waits || process.peers().ownership().is_about(&name) {
                homes.insert(process.boot_id);
            }
        }
        homes
    }

    /// The CONNACK of this connection comes to its client: which Session it speaks of.
    pub(super) fn tell_session(&mut self, connection: usize) {
        let (client, greeted) = (self.line(connection).client, self.line(connection).greeted);
        let found = self.client(client);
        if found.connection == Some(connection) {
            found.told = greeted.unwrap_or(found.told);
        }
    }
}
