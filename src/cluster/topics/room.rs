//! Room in the bank: what a topic is charged for, and what goes to make room.

use std::sync::Arc;

use super::Topics;
use super::boots::Boot;
use super::known::{Flags, Kind, cost_of};
use crate::cluster::bank::{Bank, Spending};
use crate::ports::Tick;

impl Topics {
    /// Takes what a znode of so many bytes costs beyond what the topic is charged for.
    pub(super) fn charge(
        &mut self,
        now: Tick,
        topic: &str,
        bytes: u32,
        bank: &mut Bank,
    ) -> Spending {
        let Some(known) = self.table.get_mut(topic) else { return Spending::Short };
        let missing = cost_of(bytes).saturating_minus(cost_of(known.charged));
        // What was charged in a session that has ended is nobody's any more: the znode that stood for it may
        // be another one by now, of the same version.
        if !bank.is_covered(cost_of(bytes)) {
            return Spending::Short;
        }
        if bank.take(now, missing) == Spending::Short {
            return Spending::Short;
        }
        known.charged = known.charged.max(bytes);
        Spending::Taken
    }

    /// Brings what a topic is charged for in line with what was seen. Not while a write is under way
    /// or nobody knows what it came to: until then the higher of before and after is charged.
    pub(super) fn settle(&mut self, now: Tick, topic: &str, bank: &mut Bank) {
        let Some(known) = self.table.get_mut(topic) else { return };
        if !known.is_certain() {
            return;
        }
        let seen = known.seen.filter(|seen| seen.payer == Boot::OWN);
        let (before, after) = (known.charged, seen.map_or(0, |seen| seen.bytes));
        known.charged = after;
        let surplus = cost_of(before).saturating_minus(cost_of(after));
        let missing = cost_of(after).saturating_minus(cost_of(before));
        if before > after {
            bank.give_back(now, surplus);
            self.writing.blocked_until = Tick::ZERO;
            self.writing.broke_until = Tick::ZERO;
        }
        if before < after {
            bank.charge(now, missing);
        }
    }

    /// What follows whenever something was learnt of a topic.
    pub(super) fn conclude(&mut self, now: Tick, topic: &str, bank: &mut Bank) {
        self.settle(now, topic, bank);
        self.attend(now, topic);
        self.table.tidy(topic);
    }

    /// An own registration that may be deleted: the oldest that nobody has used of late.
    pub(super) fn next_evictable(&mut self, now: Tick) -> Option<Arc<str>> {
        for _ in 0..EVICTION_TRIES {
            let name = self.writing.evictable.pop_front()?;
            let Some(known) = self.table.get_mut(&name) else { continue };
            let is_registration = known.seen.is_some_and(|seen| seen.kind == Kind::Registration);
            if !is_registration || !known.is_ours() || known.own.is_some() {
                known.flags.clear(Flags::EVICTABLE);
                continue;
            }
            let is_young = now.saturating_since(known.written_at) < EVICTION_AGE_MILLIS;
            let is_busy = !known.is_certain() || known.flags.has(Flags::QUEUED);
            if is_young || is_busy || known.flags.has(Flags::RECENT) {
                known.flags.clear(Flags::RECENT);
                self.writing.evictable.push_back(name);
                if is_young {
                    return None;
                }
                continue;
            }
            known.flags.clear(Flags::EVICTABLE);
            return Some(name);
        }
        None
    }

    /// An own registration is there: it may go when room is short.
    pub(super) fn note_evictable(&mut self, topic: &str) {
        let Some((name, known)) = self.table.get_or_add(topic) else { return };
        if !known.flags.has(Flags::EVICTABLE) {
            known.flags.set(Flags::EVICTABLE);
            self.writing.evictable.push_back(name);
        }
        if self.writing.evictable.len() > 2 * self.table.count() + EVICTION_TRIES {
            self.compact_evictable();
        }
    }

    /// Drops the names of topics that went by themselves, and keeps one of each that came again.
    fn compact_evictable(&mut self) {
        let table = &mut self.table;
        let mut is_kept = |name: &Arc<str>| {
            let Some(known) = table.get_mut(name) else { return false };
            let is_first = known.flags.has(Flags::EVICTABLE);
            known.flags.clear(Flags::EVICTABLE);
            is_first
        };
        self.writing.evictable.retain(&mut is_kept);
        for name in &self.writing.evictable {
            if let Some(known) = table.get_mut(name) {
                known.flags.set(Flags::EVICTABLE);
            }
        }
    }
}

/// How many are looked at when room is short.
const EVICTION_TRIES: usize = 64;
/// Younger ones stay: otherwise topics that are used once would chase each other out.
const EVICTION_AGE_MILLIS: u64 = 60_000;
