//! What the tree holds of topics, who pays for it, and what the ensemble takes away.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::bank::{Funds, decode_free, decode_lease};
use crate::cluster::identity::BootId;
use crate::cluster::paths::{BANK, RELAY, TOPICS, below};
use crate::cluster::relay::RING_BYTES;
use crate::cluster::topics::{Content, Record, ValueKind};
use crate::cluster::wire::decode_relay_header;
use crate::sim::cluster::ensemble::wall;
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};
use crate::sim::cluster::world::World;
use crate::sim::cluster::world::happening::Happening;

impl World {
    /// Somebody has something for the task of a broker.
    pub(super) fn ring(&mut self, node: usize) {
        let now = self.now;
        if let Some(process) = self.process(node) {
            process.pass_time(now);
        }
        self.arm(node);
    }

    /// The ensemble collects what it found when it last looked, whether or not it has been refreshed
    /// since, and looks again.
    pub(super) fn collect(&mut self) -> Result<(), Complaint> {
        let millis = wall(self.now) + self.ensemble.ahead_millis;
        let found = self.ensemble.tree.outlived(millis);
        let outlived = std::mem::replace(&mut self.outlived, found);
        if !self.is_ending {
            self.take_away(outlived, "topics collected in time");
        }
        self.at(self.now + COLLECT_MILLIS, Happening::Collect);
        self.audit().map(|_sum| ())
    }

    /// The ensemble takes znodes of topics that were refreshed a moment ago.
    pub(super) fn collect_too_early(&mut self) {
        let mut paths = Vec::new();
        for path in self.topic_paths() {
            if self.chance.one_in(2) {
                paths.push(path);
            }
        }
        self.take_away(paths, "topics collected too early");
    }

    fn take_away(&mut self, paths: Vec<String>, what: &'static str) {
        let collected = self.ensemble.tree.collect(paths);
        if collected > 0 {
            *self.tally.entry(what).or_default() += collected as u64;
            self.say(format_args!("{collected} {what}"));
            self.tell_changes();
        }
    }

    fn topic_paths(&mut self) -> Vec<String> {
        let parts = self.ensemble.children(TOPICS).into_iter().map(|part| below(TOPICS, &part));
        let parts: Vec<_> = parts.collect();
        let mut paths = Vec::new();
        for part in parts {
            let names = self.ensemble.children(&part);
            paths.extend(names.iter().map(|name| below(&part, name)));
        }
        paths
    }

    fn records(&mut self) -> BTreeMap<String, Record> {
        let mut records = BTreeMap::new();
        for path in self.topic_paths() {
            let record = self.ensemble.data(&path).and_then(|data| Record::decode(&data));
            records.extend(record.map(|record| (path, record)));
        }
        records
    }

    /// At rest all brokers know what the tree holds; and what the ensemble takes away although somebody
    /// looks after it is there again soon, as it was.
    pub(super) fn judge_registry(&mut self) -> Result<(), Complaint> {
        self.await_agreement()?;
        let live: BTreeSet<BootId> = self.boot_ids();
        let soon = self.cluster_millis() + HOLDS_MILLIS;
        let held = self
            .records()
            .into_iter()
            .filter(|(_, record)| live.contains(&record.payer) && record.expires_at_millis > soon);
        let held: BTreeMap<_, _> = held.collect();
        *self.tally.entry("topics to be made again").or_default() += held.len() as u64;
        let paths = self.topic_paths();
        self.say("all topics are collected");
        self.take_away(paths, "topics collected at the end");
        for _ in 0..LOOKS_MAX {
            self.run_until(self.now + LOOK_MILLIS)?;
            let records = self.records();
            let is_there = |(path, record): (&String, &Record)| {
                records.get(path).is_some_and(|again| is_again(again, record))
            };
            if held.iter().all(is_there) {
                return self.await_agreement();
            }
        }
        let records = self.records();
        let mut missing = held.iter().map(|(path, record)| (path, record, records.get(path)));
        let missing =
            missing.find(|(_, record, again)| again.is_none_or(|again| !is_again(again, record)));
        complaint(Checker::Registry, format!("collected, and not made again: {missing:?}"))
    }

    /// Everybody knows what is there.
    fn await_agreement(&mut self) -> Result<(), Complaint> {
        for _ in 0..LOOKS_MAX {
            self.run_until(self.now + LOOK_MILLIS)?;
            if self.registry_disagreement().is_none() {
                return Ok(());
            }
        }
        match self.registry_disagreement() {
            Some(words) => complaint(Checker::Registry, words),
            None => Ok(()),
        }
    }

    /// At rest the sum of what is free, lent and left behind is what there is. The leader counts at least
    /// once a minute.
    fn await_books(&mut self) -> Result<(), Complaint> {
        for _ in 0..ENDS_MAX {
            if self.audit()? == self.budget() {
                return Ok(());
            }
            self.run_until(self.now + END_MILLIS)?;
        }
        let (sum, budget) = (self.audit()?, self.budget());
        complaint(Checker::Bank, format!("at rest there is {sum} of {budget}"))
    }

    fn registry_disagreement(&mut self) -> Option<String> {
        let there: BTreeSet<String> = self.topic_paths().into_iter().collect();
        for process in self.nodes.iter().filter_map(|node| node.process.as_ref()) {
            let Some(keeper) = &process.keeper else { continue };
            let known: BTreeSet<String> = keeper.registry.registered().collect();
            if known != there {
                let boot_id = process.boot_id;
                let one = known.symmetric_difference(&there).next();
                return Some(format!(
                    "{boot_id:?} knows {} topics of {}; not {one:?}",
                    known.len(),
                    there.len()
                ));
            }
        }
        None
    }

    /// Nobody uses a topic any more: none stays registered, but for what is retained.
    pub(super) fn judge_end_of_topics(&mut self) -> Result<(), Complaint> {
        // What the ensemble would take away by itself is no merit of anybody.
        self.is_ending = true;
        let is_kept = |record: &Record| {
            let is_retained = matches!(record.content, Content::Value(ValueKind::Retained, _));
            is_retained && record.expires_at_millis == u64::MAX
        };
        for _ in 0..ENDS_MAX {
            self.run_until(self.now + END_MILLIS)?;
            if self.records().values().all(is_kept) {
                self.await_agreement()?;
                return self.await_books();
            }
        }
        let left = self.records().into_iter().find(|(_, record)| !is_kept(record));
        complaint(Checker::Registry, format!("nobody uses it, and it stays: {left:?}"))
    }

    /// The promises of the bank, from the tree alone. Returns the sum.
    fn audit(&mut self) -> Result<Funds, Complaint> {
        let Some(free) = self.ensemble.data(BANK).and_then(|data| decode_free(&data)) else {
            return Ok(Funds::ZERO);
        };
        let mut leases = BTreeMap::new();
        for name in self.ensemble.children(BANK) {
            let data = self.ensemble.data(&below(BANK, &name));
            leases.extend(data.and_then(|data| decode_lease(&data)));
        }
        let mut sum = leases.values().fold(free, |sum, lease| sum.plus(*lease));
        for (payer, held) in self.held() {
            match leases.get(&payer) {
                Some(lease) if !lease.covers(held) => {
                    let words = format!("{payer:?} has {held} under {lease}");
                    return complaint(Checker::Bank, words);
                }
                Some(_) => {}
                None => sum = sum.plus(held),
            }
        }
        let budget = self.budget();
        if budget.covers(sum) {
            Ok(sum)
        } else {
            complaint(Checker::Bank, format!("there is {sum} of {budget}"))
        }
    }

    fn held(&mut self) -> BTreeMap<BootId, Funds> {
        let mut held: BTreeMap<BootId, Funds> = BTreeMap::new();
        let mut add = |payer: BootId, cost: Funds| {
            let sum = held.entry(payer).or_default();
            *sum = sum.plus(cost);
        };
        for path in self.topic_paths() {
            let Some(data) = self.ensemble.data(&path) else { continue };
            let Some(record) = Record::decode(&data) else { continue };
            let name_len = path.len() - TOPICS.len() - PART_LEN;
            let znode_bytes = (name_len + data.len()) as u64;
            add(record.payer, Funds { topics: 1, znode_bytes, relay_bytes: 0 });
        }
        for name in self.ensemble.children(RELAY) {
            let data = self.ensemble.data(&below(RELAY, &name));
            if let Some(header) = data.and_then(|data| decode_relay_header(&data).ok()) {
                add(header.boot_id, Funds { relay_bytes: RING_BYTES, ..Funds::ZERO });
            }
        }
        held
    }

    fn budget(&self) -> Funds {
        self.terms.map_or(Funds::ZERO, |terms| terms.registry.budget)
    }

    fn boot_ids(&self) -> BTreeSet<BootId> {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        processes.map(|process| process.boot_id).collect()
    }

    /// What the clock of the cluster shows, as the first broker knows it.
    fn cluster_millis(&self) -> u64 {
        let now = crate::ports::clock::Tick::from_millis(self.now);
        let process = self.nodes.iter().find_map(|node| node.process.as_ref());
        process.map_or(0, |process| process.peers().cluster_millis(now))
    }
}

/// Whether a topic is registered again as it was, or has a later value.
fn is_again(again: &Record, before: &Record) -> bool {
    match &before.content {
        Content::Registration => true,
        Content::Value(..) | Content::Tombstone => {
            again.version > before.version
                || again.version == before.version && again.content == before.content
        }
    }
}

const COLLECT_MILLIS: u64 = 1_000;
const LOOK_MILLIS: u64 = 500;
const LOOKS_MAX: usize = 60;
/// What ends sooner may have ended before anybody has missed it.
const HOLDS_MILLIS: u64 = 8_000;
/// Topics that nobody uses have two minutes and a half.
const END_MILLIS: u64 = 5_000;
const ENDS_MAX: usize = 30;
/// Two slashes, and the name of a part.
const PART_LEN: usize = 4;
