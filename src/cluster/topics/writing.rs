//! Writes, a few at a time and within the budget.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::boots::Boot;
use super::known::{Flags, Kind, Seen};
use super::path::TopicPath;
use super::plan::{Draft, Plan};
use super::reading::znode_bytes;
use super::{Listing, Topics, TopicsOutput};
use crate::cluster::bank::{Bank, Spending};
use crate::ports::Tick;
use crate::ports::coordination::{
    Change, CoordinationError, CreateMode, Reply, Request, Stat, Ticket,
};

use CoordinationError::{
    BadVersion, Busy, ConnectionLost, NoNode, NoTtl, NodeExists, SessionExpired,
};

/// What waits to be written, and what is being written.
#[derive(Default)]
pub(super) struct Writing {
    /// Own values: bounded by their bytes.
    pub(super) values: VecDeque<Arc<str>>,
    /// Refreshing, sweeping, making again: bounded by the table, a topic stands in one queue once.
    pub(super) chores: VecDeque<Arc<str>>,
    /// Topics to be registered.
    pub(super) backlog: VecDeque<Arc<str>>,
    under_way: BTreeMap<Ticket, Write>,
    /// Their answers were lost. They are repeated as they are, for an answer that is certain.
    lost: Vec<Write>,
    /// Own registrations, oldest first.
    pub(super) evictable: VecDeque<Arc<str>>,
    pub(super) values_bytes: usize,
    /// There was no room, and it may come.
    pub(super) blocked_until: Tick,
    /// There was no room, and none is expected.
    pub(super) broke_until: Tick,
    paused_until: Tick,
    pub(super) has_no_ttl: bool,
}

/// A write.
pub(super) struct Write {
    name: Arc<str>,
    request: Request,
    purpose: Purpose,
}

/// What a write is for.
enum Purpose {
    /// The znode holds this afterwards, and is of so many bytes.
    Hold(Draft, u32),
    /// It has expired, and goes.
    Sweep,
    /// It goes to make room.
    Evict,
    /// It goes to make room, and its payer is dead.
    EvictOrphan,
}

impl Writing {
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Write> {
        self.under_way.remove(&ticket)
    }

    /// Whose turn it is: values first, as somebody may be waiting for them.
    fn queue(&mut self) -> Option<&mut VecDeque<Arc<str>>> {
        [&mut self.values, &mut self.chores, &mut self.backlog]
            .into_iter()
            .find(|queue| !queue.is_empty())
    }

    fn is_waiting(&self) -> bool {
        !(self.values.is_empty() && self.chores.is_empty() && self.backlog.is_empty())
    }
}

impl Topics {
    pub(super) fn next_write(&self) -> Option<Tick> {
        let Writing { lost, under_way, blocked_until, paused_until, .. } = &self.writing;
        if !lost.is_empty() {
            return Some(*paused_until);
        }
        let may = self.clock_at_zero.is_some() && under_way.len() < WRITES_MAX;
        let is_waiting = may && !self.writing.has_no_ttl && self.writing.is_waiting();
        is_waiting.then(|| self.pace.next().max(*blocked_until).max(*paused_until))
    }

    /// How long the last of the values waits for its turn, in milliseconds; or the last of all.
    pub(super) fn wait_millis(&self, now: Tick, of_all: bool) -> u64 {
        let Writing { values, chores, backlog, blocked_until, paused_until, .. } = &self.writing;
        let from = self.pace.next().max(*blocked_until).max(*paused_until);
        let others = if of_all { chores.len() + backlog.len() } else { 0 };
        from.saturating_since(now).saturating_add(self.pace.millis_for(values.len() + others))
    }

    pub(super) fn write_due(&mut self, now: Tick, bank: &mut Bank) {
        if !self.is_connected || self.writing.paused_until > now {
            return;
        }
        for write in std::mem::take(&mut self.writing.lost) {
            self.send(write);
        }
        while self.clock_at_zero.is_some()
            && !self.writing.has_no_ttl
            && self.writing.under_way.len() < WRITES_MAX
            && self.writing.blocked_until <= now
            && self.pace.is_open(now)
        {
            let Some(name) = self.writing.queue().and_then(VecDeque::pop_front) else { return };
            self.take_turn(now, name, bank);
        }
    }

    /// Answers that the connection took with it: within one session the writes are repeated, in a
    /// new one everything is read again.
    pub(super) fn resume_writing(&mut self, now: Tick, is_new: bool) {
        let under_way = std::mem::take(&mut self.writing.under_way);
        self.writing.lost.extend(under_way.into_values());
        self.writing.paused_until = now;
        self.writing.has_no_ttl = false;
        if !is_new {
            return;
        }
        for write in std::mem::take(&mut self.writing.lost) {
            self.end_writing(&write.name);
            self.note_uncertain(&write.name);
        }
    }

    pub(super) fn handle_written(
        &mut self,
        now: Tick,
        write: Write,
        outcome: Result<Reply, CoordinationError>,
        bank: &mut Bank,
    ) {
        if outcome == Err(ConnectionLost) {
            self.readings.lost += 1;
            self.writing.paused_until = now.plus_millis(PAUSE_MILLIS);
            self.writing.lost.push(write);
            return;
        }
        let name = Arc::clone(&write.name);
        self.end_writing(&name);
        let is_creation = is_creation(&write.request);
        match (outcome, write.purpose) {
            (
                Ok(Reply::Created { stat, .. } | Reply::Changed(stat)),
                Purpose::Hold(draft, bytes),
            ) => {
                self.readings.registered +=
                    u64::from(is_creation && draft.kind == Kind::Registration);
                self.note_written(now, &name, &draft, bytes, stat);
            }
            (Ok(_) | Err(NoNode), Purpose::Sweep) => {
                self.readings.swept += 1;
                self.table.note_seen(&name, None);
            }
            (Ok(_) | Err(NoNode), Purpose::Evict) => {
                self.readings.evicted += 1;
                bank.note_eviction();
                self.table.note_seen(&name, None);
            }
            (Ok(_) | Err(NoNode), Purpose::EvictOrphan) => {
                self.readings.orphans_evicted += 1;
                self.table.note_seen(&name, None);
            }
            (Err(NoNode), Purpose::Hold(..)) if is_creation => {
                // Somebody has deleted the part.
                self.fail(now, &name);
                self.listing = Listing::Due(now);
            }
            (Err(NoNode), Purpose::Hold(..)) => self.note_absent(now, &name),
            (Err(NodeExists | BadVersion), _) => {
                self.readings.conflicts += 1;
                self.note_uncertain(&name);
            }
            (Err(Busy), _) => self.writing.paused_until = now.plus_millis(PAUSE_MILLIS),
            (Err(SessionExpired), _) => self.note_uncertain(&name),
            (Err(NoTtl), _) => {
                self.writing.has_no_ttl = true;
                self.outputs.push_back(TopicsOutput::NoTtl);
            }
            (Ok(_) | Err(_), _) => self.fail(now, &name),
        }
        self.conclude(now, &name, bank);
    }

    fn take_turn(&mut self, now: Tick, name: Arc<str>, bank: &mut Bank) {
        self.drop_void(now, &name);
        let Some(known) = self.table.get_mut(&name) else { return };
        known.flags.clear(Flags::QUEUED);
        // What is about to be read decides afterwards, and what is being written as well.
        let is_settled = !known.is_unread() && known.is_certain();
        let Some(context) = self.context(now) else { return };
        let plan = self.table.get(&name).filter(|_| is_settled).map(|known| context.plan(known));
        match plan {
            None | Some(Plan::Nothing) => self.table.tidy(&name),
            Some(Plan::Create(draft)) => self.write(now, name, draft, None, bank),
            Some(Plan::Set(draft, version)) => self.write(now, name, draft, Some(version), bank),
            Some(Plan::Delete(version)) => self.delete(name, version, Purpose::Sweep),
            Some(Plan::EvictOrphan(version)) => self.delete(name, version, Purpose::EvictOrphan),
        }
    }

    /// Forgets the own value if it has no say any more.
    fn drop_void(&mut self, now: Tick, topic: &str) {
        let (Some(context), Some(known)) = (self.context(now), self.table.get(topic)) else {
            return;
        };
        if context.is_own_void(known) {
            self.readings.values_superseded += u64::from(context.is_superseded(known));
            self.drop_own(topic);
        }
    }

    fn drop_own(&mut self, topic: &str) {
        let Some(known) = self.table.get_mut(topic) else { return };
        self.writing.values_bytes -= known.own_bytes();
        known.own = None;
    }

    fn write(
        &mut self,
        now: Tick,
        name: Arc<str>,
        draft: Draft,
        version: Option<i32>,
        bank: &mut Bank,
    ) {
        let bytes = znode_bytes(&name, draft.data.len());
        if self.charge(now, &name, bytes, bank) == Spending::Short {
            return self.handle_short(now, name, bank);
        }
        let path = path_of(&name);
        let data = draft.data.clone();
        let ttl_millis = self.options.lifetimes.ttl_millis;
        let change = match version {
            None => {
                Change::Create { path, data, mode: CreateMode::PersistentWithTtl { ttl_millis } }
            }
            Some(_) => Change::Set { path, data, version },
        };
        self.pace.spend();
        let request = Request::Change(change);
        self.send(Write { name, request, purpose: Purpose::Hold(draft, bytes) });
    }

    fn delete(&mut self, name: Arc<str>, version: i32, purpose: Purpose) {
        if let Some(known) = self.table.get_mut(&name) {
            known.flags.set(Flags::ENDING);
        }
        self.pace.spend();
        let change = Change::Delete { path: path_of(&name), version: Some(version) };
        self.send(Write { name, request: Request::Change(change), purpose });
    }

    /// Without room: an old registration makes some, or it may come from the bank, or the topic goes
    /// without.
    fn handle_short(&mut self, now: Tick, name: Arc<str>, bank: &mut Bank) {
        let is_value = self.table.get(&name).is_some_and(|known| known.own.is_some());
        let evicted = if bank.has_prospect() { None } else { self.next_evictable(now) };
        let seen = evicted.as_ref().and_then(|evicted| self.table.get(evicted)?.seen);
        if let (Some(evicted), Some(seen)) = (evicted, seen) {
            self.delete(evicted, seen.znode_version, Purpose::Evict);
        } else if !bank.has_prospect() {
            return self.refuse(now, &name, is_value);
        }
        // Until then, or until something is given back.
        self.writing.blocked_until = now.plus_millis(PAUSE_MILLIS);
        let Some(known) = self.table.get_mut(&name) else { return };
        known.flags.set(Flags::QUEUED);
        if is_value {
            self.writing.values.push_front(name);
        } else {
            self.writing.backlog.push_front(name);
        }
    }

    fn refuse(&mut self, now: Tick, topic: &str, is_value: bool) {
        if is_value {
            self.readings.values_refused += 1;
            self.drop_own(topic);
            self.note_unwritten(topic);
        } else {
            self.readings.refused_bank += 1;
            self.writing.broke_until = now.plus_millis(BROKE_MILLIS);
        }
        if let Some(known) = self.table.get_mut(topic) {
            known.flags.clear(Flags::WANTED);
        }
        self.table.tidy(topic);
    }

    fn send(&mut self, write: Write) {
        if let Some(known) = self.table.get_mut(&write.name) {
            known.flags.set(Flags::WRITING);
        }
        let ticket = self.submit(write.request.clone());
        self.writing.under_way.insert(ticket, write);
    }

    fn note_written(&mut self, now: Tick, name: &Arc<str>, draft: &Draft, bytes: u32, stat: Stat) {
        let before = self.table.get(name).and_then(|known| known.seen);
        let seen = Seen {
            version_time: draft.version.time,
            expires_at_millis: draft.expires_at_millis,
            writer: self.table.boots.place(draft.version.boot_id),
            payer: Boot::OWN,
            znode_version: stat.version,
            bytes,
            kind: draft.kind,
        };
        self.table.note_seen(name, Some(seen));
        let is_same = before.is_some_and(|before| before.version_time == seen.version_time);
        let Some(known) = self.table.get_mut(name) else { return };
        known.written_at = now;
        for flag in [Flags::WANTED, Flags::USED, Flags::FADING] {
            known.flags.clear(flag);
        }
        let is_done = known.own.as_ref().is_some_and(|own| own.version <= draft.version);
        match draft.kind {
            Kind::Registration => {
                self.readings.refreshed += u64::from(is_same);
                self.note_evictable(name);
                if is_done {
                    // Its value goes by link only: there is nothing to be written again.
                    self.drop_own(name);
                }
            }
            Kind::Value | Kind::Tombstone => {
                self.readings.values_written += u64::from(!is_same);
                self.readings.refreshed += u64::from(is_same);
            }
            Kind::Unreadable => {}
        }
    }

    /// Nobody knows why: look, and give it a moment.
    fn fail(&mut self, now: Tick, topic: &str) {
        self.readings.failed += 1;
        self.writing.paused_until = now.plus_millis(FAILURE_MILLIS);
        self.note_uncertain(topic);
    }

    fn end_writing(&mut self, topic: &str) {
        if let Some(known) = self.table.get_mut(topic) {
            known.flags.clear(Flags::WRITING);
            known.flags.clear(Flags::ENDING);
        }
    }
}

pub(super) fn path_of(topic: &str) -> String {
    TopicPath::of(topic).expect("only topics that have a path are known").path()
}

fn is_creation(request: &Request) -> bool {
    matches!(request, Request::Change(Change::Create { .. }))
}

/// How many writes may be under way.
const WRITES_MAX: usize = 64;
const PAUSE_MILLIS: u64 = 100;
const FAILURE_MILLIS: u64 = 1_000;
/// For how long nothing is registered after there was no room.
const BROKE_MILLIS: u64 = 1_000;
