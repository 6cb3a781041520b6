//! What a world of brokers must never show, and what it must come to.

use std::collections::BTreeSet;

use super::super::output::{Output, PeerLease};
use super::world::{Node, T, World, boot_id, pair};
use crate::cluster::identity::{BootId, MemberState};
use crate::cluster::slots::SlotMap;

impl World {
    /// Composites do what they have to, and every promise is looked after.
    pub(super) fn checked() -> Self {
        Self { is_checked: true, ..Self::new() }
    }

    /// Whether an event can happen to a broker as it is.
    pub(super) fn is_sensible(&self, verb: &str, name: char) -> bool {
        let Some(node) = self.nodes.get(&name) else { return verb == "start-if-down" };
        match verb {
            "start-if-down" => node.is_dead && node.life < 15,
            "set" | "leave" | "renew" if node.is_paused => false,
            "renew" | "deaf" | "slow" | "late" => !node.is_dead && node.is_connected,
            _ => !node.is_dead,
        }
    }

    /// What a composite does, and what must hold whenever it is told something.
    pub(super) fn act(&mut self, name: char, output: &Output) {
        if let Output::Slots(map) = output {
            self.nobody_dead_acknowledges(map);
            self.nobody_goes_back(name, map);
        }
        if matches!(output, Output::DeclaredDead | Output::Withdrawn) {
            self.be_reborn(name);
        }
        if *output == Output::Left {
            let node = self.node(name);
            (node.is_dead, node.is_connected) = (true, false);
            let session = node.session;
            self.tree.expire(session);
        }
        assert!(!matches!(output, Output::Fatal(_)), "{name}: {output:?}\n{}", self.trace);
    }

    fn nobody_dead_acknowledges(&self, map: &SlotMap) {
        for (name, node) in self.nodes.iter().filter(|(_, node)| !node.is_dead) {
            let until = node.membership.lease_until();
            let is_dead = map.is_dead(boot_id(*name, node.life));
            assert!(
                !is_dead || node.has_let_go || until <= self.now,
                "{name} is dead at {:?} and acknowledges until {until:?}\n{}",
                self.now,
                self.trace
            );
        }
    }

    /// Every broker that runs tells every other how its lease stands, each in its own time, and
    /// weighs what it was told. Nothing comes where links are cut.
    pub(super) fn exchange_pings(&mut self) {
        let now = self.now;
        let running = self.nodes.iter().filter(|(_, node)| self.is_checked && node.is_running());
        let due = running.filter(|(_, node)| node.ping_due() <= now).map(|(name, _)| *name);
        for name in due.collect::<Vec<_>>() {
            self.node(name).pinged = now;
            self.ping(name);
            self.weigh_answers(name);
        }
        self.settle();
    }

    fn ping(&mut self, name: char) {
        let boot_id = self.boot_id_of(name);
        let lease = self.nodes[&name].membership.own_lease(self.now);
        for hearer in self.names().into_iter().filter(|hearer| *hearer != name) {
            if self.nodes[&hearer].is_running() && self.is_linked(hearer, name) {
                self.said.insert((hearer, boot_id), (self.now, lease));
                self.vouch(name, lease, hearer);
                self.heard.insert((self.boot_id_of(hearer), boot_id));
            }
        }
    }

    /// Who is told that writes are committed, by a broker that dials it: one that knows it.
    fn vouch(&mut self, name: char, lease: PeerLease, hearer: char) {
        let (boot_id, hearer_id) = (self.boot_id_of(name), self.boot_id_of(hearer));
        let speaker = &self.nodes[&name].membership;
        let is_known =
            speaker.present().chain(speaker.suspect()).any(|member| member.boot_id == hearer_id);
        if is_known && lease == PeerLease::Committed {
            let now = self.now;
            self.node(hearer).membership.note_vouched(boot_id, now);
        }
    }

    /// Only what was said within a third of T counts.
    fn weigh_answers(&mut self, name: char) {
        let now = self.now;
        let said = self.said.iter().filter(|((hearer, _), _)| *hearer == name);
        let fresh = said.filter(|(_, (at, _))| now.saturating_since(*at) <= T / 3);
        let answers: Vec<_> = fresh.map(|((_, boot_id), (_, lease))| (*boot_id, *lease)).collect();
        self.node(name).membership.peers_answer(now, &answers);
    }

    fn is_linked(&self, one: char, other: char) -> bool {
        !self.unlinked.contains(&pair(one, other))
    }

    /// The links of two are cut, if each has heard the other: of one that nobody has ever heard
    /// nobody can know that it has the ensemble (docs/design/0010).
    pub(super) fn unlink(&mut self, one: char, other: char) {
        if !(self.nodes.contains_key(&one) && self.nodes.contains_key(&other)) {
            return;
        }
        let (one_id, other_id) = (self.boot_id_of(one), self.boot_id_of(other));
        if self.heard.contains(&(one_id, other_id)) && self.heard.contains(&(other_id, one_id)) {
            self.unlinked.insert(pair(one, other));
        }
    }

    /// A life that begins can be reached by all.
    pub(super) fn link_to_all(&mut self, name: char) {
        self.unlinked.retain(|(one, other)| *one != name && *other != name);
    }

    /// Everything works again. Only who got no answers needs another connection for that: whoever
    /// believes something that is not so is not helped by looking at everything anew.
    pub(super) fn end_faults(&mut self) {
        if !self.is_ensemble_up {
            self.play_line("restore");
        }
        self.unlinked.clear();
        for name in self.names() {
            if self.nodes[&name].is_deaf {
                self.play_line(&format!("cut {name}"));
            }
            for verb in ["resume", "heal", "deliver"] {
                self.play_line(&format!("{verb} {name}"));
            }
        }
    }

    /// Whoever leads dies, one after the other, and those who are left agree each time.
    pub(super) fn check_succession(&mut self) {
        let leads = |node: &Node| !node.is_dead && node.membership.leader_check().is_some();
        while let Some(leader) = self.names().into_iter().find(|name| leads(&self.nodes[name])) {
            self.play_line(&format!("crash {leader}"));
            self.play_line(&format!("run {}", 5 * T));
            self.check_agreement();
        }
    }

    /// All that live agree on who lives, who is dead, and who has what.
    pub(super) fn check_agreement(&self) {
        let living: Vec<(BootId, &Node)> = self
            .nodes
            .iter()
            .filter(|(_, node)| !node.is_dead)
            .map(|(name, node)| (boot_id(*name, node.life), node))
            .collect();
        let ids: BTreeSet<BootId> = living.iter().map(|(id, _)| *id).collect();
        let state = |node: &Node| node.membership.own().state;
        let clients = living.iter().filter(|(_, node)| state(node) != MemberState::Joining);
        let clients: Vec<BootId> = clients.map(|(id, _)| *id).collect();
        let Some((_, first)) = living.first() else { return };
        let map = first.membership.slots().expect("it was read");
        assert_eq!(map.members(), clients, "{}", self.trace);
        for (id, node) in &living {
            let seen: BTreeSet<BootId> =
                node.membership.present().map(|member| member.boot_id).chain([*id]).collect();
            assert_eq!(seen, ids, "{id:?} sees them\n{}", self.trace);
            assert_eq!(node.membership.suspect().count(), 0, "{}", self.trace);
            assert_eq!(node.membership.slots(), Some(map), "{}", self.trace);
            assert!(!map.is_dead(*id), "{}", self.trace);
            assert!(node.membership.lease_until() > self.now, "{}", self.trace);
            assert!(!node.membership.is_frozen(self.now), "{}", self.trace);
        }
        let leaders = living.iter().filter(|(_, node)| node.membership.leader_check().is_some());
        assert_eq!(leaders.count(), 1, "{}", self.trace);
    }
}
