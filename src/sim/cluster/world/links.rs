//! Links between brokers: dialled, greeted, broken.

use crate::cluster::frame::{Hello, Welcome};
use crate::cluster::identity::WireVersions;
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};
use crate::sim::cluster::world::World;
use crate::sim::cluster::world::happening::Happening;

impl World {
    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|until| *until > self.now)
    }

    pub(super) fn link_delay(&mut self) -> u64 {
        self.plan.link_latency_millis + self.chance.below(self.plan.link_jitter_millis + 1)
    }

    pub(super) fn redial(&mut self, link: usize) {
        let number = self.link(link).number;
        let at = self.now + 10 + self.chance.below(60);
        self.at(at, Happening::Dial { link, number });
    }

    pub(super) fn dial(&mut self, link: usize, number: u64) {
        let found = self.link(link);
        let (from, to, from_boot) = (found.from, found.to, found.from_boot);
        if found.is_closed || found.number != number || found.lane.is_closed() {
            return;
        }
        let is_own = self.process(from).is_some_and(|process| process.boot_id == from_boot);
        if !is_own {
            return;
        }
        if self.is_cut(from, to) || self.process(to).is_none() {
            return self.redial(link);
        }
        let delay = self.link_delay();
        let found = self.link(link);
        found.number += 1;
        let number = found.number;
        let hello = Box::new(Hello {
            cluster: String::new(),
            name: String::new(),
            boot_id: from_boot,
            to: found.to_boot,
            wire: WireVersions::OURS,
            gone: found.lane.gone(),
        });
        self.at(self.now + delay, Happening::Hello { link, number, hello });
        // Nobody may answer.
        self.at(self.now + 3_000, Happening::Dial { link, number });
    }

    pub(super) fn arrive_hello(&mut self, link: usize, number: u64, hello: &Hello) {
        let now = self.now;
        let found = self.link(link);
        let (from, to) = (found.from, found.to);
        if found.number != number || self.is_cut(from, to) {
            return;
        }
        let Some(process) = self.process(to) else { return };
        let welcome = process.welcome(now, hello);
        let at = now + self.link_delay();
        self.at(at, Happening::Welcome { link, number, welcome });
    }

    pub(super) fn arrive_welcome(
        &mut self,
        link: usize,
        number: u64,
        welcome: &Welcome,
    ) -> Result<(), Complaint> {
        let found = self.link(link);
        let (from, to) = (found.from, found.to);
        if found.number != number || found.is_closed || self.is_cut(from, to) {
            return Ok(());
        }
        let found = self.link(link);
        match welcome {
            Welcome::Accepted { received, .. } => {
                // What the dialling connection is called from here on: the time-out is for another.
                found.number += 1;
                let number = found.number;
                if found.lane.is_closed() {
                    return Ok(());
                }
                if let Err(error) = found.lane.rewind(*received) {
                    return complaint(Checker::Protocol, format!("link {link}: {error}"));
                }
                found.is_up = true;
                found.under_way.clear();
                self.count("links made");
                let _ = number;
                self.tell_link(link, true);
                self.pump(link)
            }
            Welcome::Refused { .. } => {
                self.count("links refused");
                self.link(link).number += 1;
                self.redial(link);
                Ok(())
            }
        }
    }

    /// The connection of a link breaks.
    pub(super) fn break_link(&mut self, link: usize, late_millis: u64) {
        let late = self.now + late_millis;
        let found = self.link(link);
        if !found.is_up {
            return;
        }
        found.break_off(late);
        if !found.is_closed {
            self.tell_link(link, false);
            self.redial(link);
        }
    }

    /// Whoever dials a link knows whether it stands.
    pub(super) fn tell_link(&mut self, link: usize, is_up: bool) {
        let (now, found) = (self.now, self.link(link));
        let (from, from_boot, to_boot) = (found.from, found.from_boot, found.to_boot);
        if let Some(process) = self.process(from).filter(|process| process.boot_id == from_boot) {
            process.note_link(now, to_boot, is_up);
            self.arm(from);
        }
    }
}
