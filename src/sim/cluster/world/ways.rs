//! Between brokers and the ensemble: what is asked and told, and connections that come and go.

use crate::ports::coordination::CoordinationEvent;
use crate::sim::cluster::process::Process;
use crate::sim::cluster::world::World;
use crate::sim::cluster::world::happening::Happening;

impl World {
    pub(super) fn tree_delay(&mut self, node: usize) -> u64 {
        let (until, extra) = self.ensemble.way(node).slow;
        let slow = if self.now < until { extra } else { 0 };
        1 + self.chance.below(self.plan.tree_latency_millis + 1) + slow
    }

    pub(super) fn arrive_at_ensemble(&mut self, node: usize, number: u64) {
        if self.ensemble.way(node).number != number {
            return;
        }
        let answer = self.ensemble.apply(node, self.now);
        self.tell_changes();
        if let Some(event) = answer {
            self.tell_node(node, event);
        }
    }

    /// Sends everybody what watches have to tell.
    pub(super) fn tell_changes(&mut self) {
        for node in 0..self.nodes.len() {
            while let Some(change) = self.ensemble.next_change(node) {
                self.tell_node(node, change);
            }
        }
        if let Some(map) = self.ensemble.slots_since(self.slots_zxid) {
            self.slots_zxid = map.epoch();
            for boot_id in map.dead() {
                if self.dead.insert(boot_id) {
                    self.count("brokers declared dead");
                    self.say(format_args!("{boot_id:?} is declared dead"));
                    self.ledger.end_life(boot_id, self.now);
                    self.note_forgotten();
                }
            }
        }
    }

    fn tell_node(&mut self, node: usize, event: CoordinationEvent) {
        let at = self.now + self.tree_delay(node);
        let way = self.ensemble.way(node);
        way.event_at = way.event_at.max(at);
        let (at, number) = (way.event_at, Some(way.number));
        self.at(at, Happening::Told { node, number, event });
    }

    pub(super) fn be_told(&mut self, node: usize, number: Option<u64>, event: &CoordinationEvent) {
        if number.is_some_and(|number| number != self.ensemble.way(node).number) {
            return;
        }
        if let CoordinationEvent::Answered { ticket, .. } = event {
            self.ensemble.answered(node, *ticket);
        }
        if let CoordinationEvent::Connected { .. } = event {
            self.ensemble.greeted(node);
        }
        let now = self.now;
        if let Some(process) = self.process(node) {
            process.handle(now, event);
            self.arm(node);
        }
    }

    /// The connection to the ensemble breaks; it is tried again after `again_millis`.
    pub(super) fn lose_ensemble(&mut self, node: usize, again_millis: u64) {
        let are_applied = self.chance.one_in(2);
        let is_heard = !self.node(node).is_paused && self.ensemble.way(node).stale.is_none();
        let events = self.ensemble.disconnect(node, self.now, are_applied, is_heard);
        self.tell_changes();
        if events.is_empty() {
            return;
        }
        for event in events {
            let number = None;
            self.at(self.now, Happening::Told { node, number, event });
        }
        self.at(self.now + again_millis, Happening::Reconnect { node });
    }

    /// Who knows of nobody and is cut off from the ensemble goes on for as long as that lasts, and is
    /// declared dead by one that came meanwhile: of that nobody can know (docs/design/0010).
    pub(super) fn spare_the_lonely(&mut self) {
        for node in 0..self.nodes.len() {
            let is_lonely = |process: &mut Process| process.peers().live().is_empty();
            if self.process(node).is_some_and(is_lonely) {
                self.ensemble.way(node).blocked_until = 0;
            }
        }
    }

    pub(super) fn reconnect(&mut self, node: usize) {
        if self.process(node).is_none() || self.ensemble.way(node).is_connected {
            return;
        }
        let is_blocked = self.ensemble.way(node).blocked_until > self.now;
        if is_blocked || !self.ensemble.is_up || self.node(node).is_paused {
            let again = self.now + 50 + self.chance.below(200);
            return self.at(again, Happening::Reconnect { node });
        }
        let events = self.ensemble.connect(node, self.now);
        for event in events {
            self.tell_node(node, event);
        }
    }

    pub(super) fn end_sessions(&mut self) {
        let Self { ensemble, nodes, now, .. } = self;
        let is_paused = |node: usize| nodes.get(node).is_some_and(|node| node.is_paused);
        ensemble.end_sessions(*now, is_paused);
        self.tell_changes();
        self.at(self.now + 100, Happening::Sessions);
    }

    pub(super) fn restore_ensemble(&mut self) {
        if !self.ensemble.is_up {
            self.say("the ensemble is there again");
            self.ensemble.is_up = true;
            self.ensemble.tree.change_leader();
        }
    }
}
