//! Of each Session there is one owner.

use crate::ports::clock::Tick;
use crate::sim::cluster::process::Process;
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};
use crate::sim::cluster::world::World;

impl World {
    /// Nothing is wrong with the database any more.
    pub(super) fn calm_database(&mut self) {
        let now = self.now;
        if let Some(database) = &mut self.database {
            database.down_until = database.down_until.min(now);
            database.slow = (0, 0);
            database.doubtful = (0, 0);
        }
    }

    /// A broker has told a client that its Session is here: no other one that may act has a
    /// connection with it.
    pub(super) fn judge_owner(&mut self, connection: usize) -> Result<(), Complaint> {
        let (node, client) = (self.line(connection).node, self.line(connection).client);
        let name = self.line(connection).client_session_name.clone();
        if !self.client(client).may_go_anywhere() {
            return Ok(());
        }
        let now = Tick::from_millis(self.now);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            let may_act = !self.node(other).is_paused
                && self.process(other).is_some_and(|one| now < one.membership.lease_until());
            if may_act && self.process(other).is_some_and(|process| attends(process, &name)) {
                let words = format!("b{node} and b{other} both have {name}");
                return complaint(Checker::Session, words);
            }
        }
        Ok(())
    }

    /// Everything is at rest: nobody has a Session that another one has.
    pub(super) fn judge_owners(&mut self) -> Result<(), Complaint> {
        for client in 0..self.clients.len() {
            let name = self.client(client).client_id();
            let has_it = |node: &crate::sim::cluster::world::Node| {
                let process = node.process.as_ref();
                process.is_some_and(|process| process.broker.registry().find(&name).is_some())
            };
            let owners = self.nodes.iter().filter(|node| has_it(node)).count();
            if owners > 1 {
                let words = format!("{owners} brokers have {name}");
                return complaint(Checker::Session, words);
            }
        }
        Ok(())
    }
}

/// Whether a broker has a connection with a Session in its hands. One that asks for it has none yet, and neither
/// has a broker that has frozen it to give it away and waits for the store.
fn attends(process: &Process, name: &str) -> bool {
    let listed = process.broker.registry().find(name);
    listed.is_some_and(|listed| listed.is_connected && listed.mailbox.is_some())
}
