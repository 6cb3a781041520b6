//! Reads the znodes that have changed, and makes of them what the broker should know.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::boots::Boot;
use super::known::{Flags, Kind, Seen};
use super::path::{TopicPath, topic_of_path};
use super::record::{Content, Record};
use super::{Topics, TopicsOutput};
use crate::cluster::bank::{Bank, Mark};
use crate::cluster::frame::RetainedValue;
use crate::cluster::identity::BootId;
use crate::mqtt::TopicName;
use crate::ports::Tick;
use crate::ports::coordination::{ChangeKind, CoordinationError, Reply, Request, Stat, Ticket};

/// What is to be read, and what is being read.
#[derive(Default)]
pub(super) struct Reading {
    /// Bounded by the table: a topic stands here once, but for reads that were lost.
    pub(super) unread: VecDeque<(Arc<str>, Mark)>,
    under_way: BTreeMap<Ticket, Read>,
    paused_until: Tick,
}

/// A read under way.
pub(super) struct Read {
    name: Arc<str>,
    mark: Mark,
    /// Whether it was sent after a write of which nobody knows what it came to.
    makes_certain: bool,
}

impl Reading {
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Read> {
        self.under_way.remove(&ticket)
    }

    /// No answer will come to what is under way.
    pub(super) fn read_again(&mut self) {
        let under_way = std::mem::take(&mut self.under_way).into_values();
        self.unread.extend(under_way.map(|read| (read.name, read.mark)));
    }

    pub(super) fn due(&self) -> Option<Tick> {
        let has_room = self.under_way.len() < READS_MAX;
        (has_room && !self.unread.is_empty()).then_some(self.paused_until)
    }

    /// How many more may be under way.
    pub(super) fn room(&self) -> usize {
        READS_MAX.saturating_sub(self.under_way.len())
    }
}

impl Topics {
    pub(super) fn handle_change(
        &mut self,
        now: Tick,
        path: &str,
        kind: ChangeKind,
        bank: &mut Bank,
    ) {
        let Some(topic) = topic_of_path(path) else { return };
        match kind {
            ChangeKind::Created | ChangeKind::DataChanged => self.note_unread(&topic),
            ChangeKind::Deleted => {
                self.note_absent(now, &topic);
                self.conclude(now, &topic, bank);
            }
        }
    }

    /// A topic has changed in a way that is not known yet.
    pub(super) fn note_unread(&mut self, topic: &str) {
        let Some((name, known)) = self.table.get_or_add(topic) else {
            self.note_untracked();
            return;
        };
        if !known.is_unread() {
            known.flags.set(Flags::UNREAD);
            let mark = self.table.holdings.note_change();
            self.reading.unread.push_back((name, mark));
        }
    }

    /// What a write came to must be read.
    pub(super) fn note_uncertain(&mut self, topic: &str) {
        if let Some(known) = self.table.get_mut(topic) {
            known.flags.set(Flags::UNCERTAIN);
        }
        self.note_unread(topic);
    }

    pub(super) fn read_due(&mut self, now: Tick) {
        let knows_time = self.clock_at_zero.is_some();
        if !self.is_connected || !knows_time || self.reading.paused_until > now {
            return;
        }
        while self.reading.room() > 0 {
            let Some((name, mark)) = self.reading.unread.pop_front() else { return };
            let mut makes_certain = false;
            if let Some(known) = self.table.get_mut(&name) {
                // What changes from here on must be read once more.
                known.flags.clear(Flags::UNREAD);
                makes_certain = known.flags.has(Flags::UNCERTAIN);
            }
            let path = TopicPath::of(&name).expect("only topics that have a path are known");
            let ticket = self.submit(Request::Get(path.path()));
            self.reading.under_way.insert(ticket, Read { name, mark, makes_certain });
        }
    }

    pub(super) fn handle_read(
        &mut self,
        now: Tick,
        Read { name, mark, makes_certain }: Read,
        outcome: Result<Reply, CoordinationError>,
        bank: &mut Bank,
    ) {
        match outcome {
            Ok(Reply::Data { data, stat }) => self.note_found(now, &name, &data, stat),
            Err(CoordinationError::NoNode) => self.note_absent(now, &name),
            Ok(_) | Err(_) => {
                self.reading.paused_until = now.plus_millis(PAUSE_MILLIS);
                self.reading.unread.push_back((name, mark));
                return;
            }
        }
        self.readings.reads += 1;
        if let Some(known) = self.table.get_mut(&name).filter(|_| makes_certain) {
            known.flags.clear(Flags::UNCERTAIN);
        }
        self.table.holdings.note_read(mark);
        self.conclude(now, &name, bank);
    }

    /// There is no such znode, whatever it said. What the broker knows of the topic stays: the
    /// ensemble collects a znode that was refreshed a moment ago, and its payer makes it again.
    pub(super) fn note_absent(&mut self, now: Tick, topic: &str) {
        let Some(known) = self.table.get(topic) else { return };
        let (was_ours, flags) = (known.is_ours(), known.flags);
        let Some(seen) = known.seen else { return };
        let holds = self
            .cluster_millis(now)
            .is_some_and(|cluster_millis| seen.expires_at_millis > cluster_millis);
        self.table.note_seen(topic, None);
        let Some(known) = self.table.get_mut(topic) else { return };
        let is_missed = was_ours && holds && !flags.has(Flags::ENDING);
        if is_missed {
            self.readings.recreated += 1;
            known.flags.set(Flags::WANTED);
        }
    }

    /// A znode is there and nobody here keeps account of it.
    fn note_untracked(&mut self) {
        self.readings.untracked += 1;
        self.table.holdings.set_untracked(self.readings.untracked);
    }

    fn note_found(&mut self, now: Tick, topic: &str, data: &Bytes, stat: Stat) {
        if self.table.get_or_add(topic).is_none() {
            self.note_untracked();
            return;
        }
        let bytes = znode_bytes(topic, data.len());
        let Some(record) = Record::decode(data) else {
            self.readings.unreadable += 1;
            let seen = self.unreadable(stat.version, bytes);
            self.table.note_seen(topic, Some(seen));
            return;
        };
        let seen = Seen::of(&record, stat.version, bytes, &mut self.table.boots);
        let before = self.table.get(topic).and_then(|known| known.seen);
        let is_news = before.is_none_or(|before| {
            (before.version_time, before.writer) != (seen.version_time, seen.writer)
        });
        self.table.note_seen(topic, Some(seen));
        let is_late = seen.payer == Boot::OWN && before.is_none_or(|one| one.payer != Boot::OWN);
        if let Some(known) = self.table.get_mut(topic) {
            known.flags.clear(Flags::WANTED);
            if is_late {
                // Written by us, and the answer was lost.
                known.written_at = now;
            }
        }
        if is_late && seen.kind == Kind::Registration {
            self.note_evictable(topic);
        }
        if is_news && seen.payer != Boot::OWN {
            self.tell(now, topic, record);
        }
    }

    /// Tells the broker of a value that holds.
    fn tell(&mut self, now: Tick, topic: &str, record: Record) {
        let Record { version, expires_at_millis, content, .. } = record;
        let is_past = |cluster_millis| expires_at_millis <= cluster_millis;
        if self.cluster_millis(now).is_some_and(is_past) {
            return;
        }
        let (message, kind) = match content {
            Content::Registration => return,
            Content::Value(kind, message) => (Some(message), Some(kind)),
            Content::Tombstone => (None, None),
        };
        let Ok(topic) = TopicName::try_from(topic) else { return };
        let value = RetainedValue { topic, version, message };
        self.outputs.push_back(TopicsOutput::Value(value, kind));
    }

    fn unreadable(&mut self, znode_version: i32, bytes: u32) -> Seen {
        let nobody = self.table.boots.place(BootId(0));
        Seen {
            version_time: 0,
            expires_at_millis: u64::MAX,
            writer: nobody,
            payer: nobody,
            znode_version,
            bytes,
            kind: Kind::Unreadable,
        }
    }
}

/// What the znode of a topic is charged for.
pub(super) fn znode_bytes(topic: &str, data_len: usize) -> u32 {
    let name_len = TopicPath::of(topic).map_or(0, |path| path.name_len());
    u32::try_from(name_len + data_len).unwrap_or(u32::MAX)
}

/// How many reads may be under way.
const READS_MAX: usize = 500;
const PAUSE_MILLIS: u64 = 100;
