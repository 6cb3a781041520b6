//! The end of a run: nothing fails any more, everything comes to rest, everybody leaves.

use crate::sim::cluster::ledger::{Draft, FIRST_RETAINED};
use crate::sim::cluster::process::knows;
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};
use crate::sim::cluster::world::World;
use crate::sim::cluster::world::happening::Happening;

impl World {
    /// From here on nothing goes wrong.
    pub(super) fn calm_down(&mut self) -> Result<(), Complaint> {
        self.say("nothing goes wrong any more");
        self.is_calm = true;
        self.cuts.clear();
        self.restore_ensemble();
        self.calm_database();
        for node in 0..self.nodes.len() {
            let way = self.ensemble.way(node);
            way.blocked_until = 0;
            way.slow = (0, 0);
            if way.stale.is_some() {
                self.lose_ensemble(node, 50);
            }
            if let Some(process) = self.process(node) {
                let process = process.number;
                self.resume(node, process)?;
            }
        }
        self.settle()
    }

    pub(super) fn drain(&mut self) -> Result<(), Complaint> {
        for _ in 0..LOOKS_MAX {
            self.run_until(self.now + LOOK_MILLIS)?;
            if self.pending().is_none() {
                return self.judge_owners();
            }
        }
        let (checker, words) = self.pending().unwrap_or((Checker::Progress, String::new()));
        complaint(checker, words)
    }

    /// What has not come to an end.
    pub(super) fn pending(&mut self) -> Option<(Checker, String)> {
        for node in &self.nodes {
            let Some(process) = &node.process else {
                return Some((Checker::Progress, "a process is not running".to_owned()));
            };
            let (boot_id, peers) = (process.boot_id, process.peers());
            if !process.is_joined {
                return Some((Checker::Progress, format!("{boot_id:?} has not joined")));
            }
            let waiting = peers.interest().waiting_count();
            if peers.unanswered_count() > 0 || waiting > 0 {
                let words = format!(
                    "{boot_id:?}: {} unanswered, {waiting} waiting; own {:?}, applied {:?}",
                    peers.unanswered_count(),
                    peers.interest().summary(),
                    peers.interest().applied(),
                );
                return Some((Checker::Progress, words));
            }
            let moving = peers.ownership().counts();
            if moving.pending + moving.imports + moving.exports > 0 {
                return Some((Checker::Progress, format!("{boot_id:?}: {moving:?}")));
            }
            let adoptions = peers.adoptions().counts();
            if adoptions.mourned > 0 {
                return Some((Checker::Progress, format!("{boot_id:?}: {adoptions:?}")));
            }
            if peers.has_legacies() {
                let words = format!("{boot_id:?} has not told what the dead had retained");
                return Some((Checker::Progress, words));
            }
            if peers.live().len() + 1 != self.nodes.len() {
                let words = format!("{boot_id:?} has {} peers", peers.live().len());
                return Some((Checker::Progress, words));
            }
            for peer in peers.live().iter() {
                let counts = peer.lane().counts();
                if counts.data_bytes > 0 {
                    let words = format!("{boot_id:?} to {:?}: {counts:?}", peer.boot_id());
                    return Some((Checker::Progress, words));
                }
            }
        }
        for client in &self.clients {
            if !client.is_online() || !client.is_done() {
                let words = format!("client {}: {:?}", client.number, client.phase);
                return Some((Checker::Progress, words));
            }
        }
        self.disagreement().map(|words| (Checker::Interest, words))
    }

    fn disagreement(&self) -> Option<String> {
        let processes: Vec<_> =
            self.nodes.iter().filter_map(|node| node.process.as_ref()).collect();
        for one in &processes {
            for other in processes.iter().filter(|other| other.boot_id != one.boot_id) {
                if let Err(words) = knows(one, other) {
                    return Some(format!("{:?} {words}", one.boot_id));
                }
            }
        }
        None
    }

    /// Everybody publishes to every topic: who did not notice a loss before does now.
    pub(super) fn publish_once_more(&mut self) -> Result<(), Complaint> {
        for topic in 0..FIRST_RETAINED {
            for client in 0..self.clients.len() {
                let now = self.now;
                let Self { clients, ledger, chance, .. } = self;
                let found = clients.get_mut(client).expect("clients are numbered");
                let qos =
                    chance.pick(&[crate::mqtt::QoS::AtLeastOnce, crate::mqtt::QoS::ExactlyOnce]);
                found.publish(Draft::new(topic, qos), now, ledger);
                self.flush(client);
            }
            self.run_until(self.now + 20)?;
        }
        Ok(())
    }

    /// Everybody leaves, and nothing is left.
    pub(super) fn tear_down(&mut self) -> Result<(), Complaint> {
        self.events.retain(|_, happening| !matches!(happening, Happening::Act { .. }));
        for client in 0..self.clients.len() {
            self.client(client).unsubscribe_all();
            self.flush(client);
        }
        self.run_until(self.now + 1_000)?;
        for client in 0..self.clients.len() {
            self.client(client).say_good_bye();
            self.flush(client);
            self.hang_up(client);
        }
        self.run_until(self.now + 3_000)?;
        for node in &mut self.nodes {
            let Some(process) = &mut node.process else { continue };
            let peers = process.peers();
            let remembered: usize = peers.live().iter().map(|peer| peer.interest_len()).sum();
            let is_parked = !process.broker.registry().is_empty();
            let gauges = [
                ("filters", peers.interest().summary().2),
                ("filters of peers", remembered),
                ("unanswered", peers.unanswered_count()),
                ("waiting", peers.interest().waiting_count()),
                ("subscriptions", process.broker.subscription_count()),
            ];
            let left = gauges.iter().find(|(_, value)| *value > 0);
            if let Some((name, value)) = left {
                let words = format!("{:?}: {value} {name}; parked: {is_parked}", process.boot_id);
                return complaint(Checker::Gauges, words);
            }
        }
        Ok(())
    }
}

const LOOK_MILLIS: u64 = 500;
/// What is pending has two minutes.
const LOOKS_MAX: usize = 240;
