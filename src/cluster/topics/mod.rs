//! The registry of topics in use, and of their latest values.
//!
//! A topic has a znode while somebody uses it: `/topics/<hh>/<name>`, with a time to live, so that
//! what everybody has forgotten goes by itself. If the topic keeps a value that is small enough, it
//! stands in the znode, and the watch that every broker has on the whole of `/topics` tells them.
//!
//! * Whoever makes or overwrites a znode takes its cost from the [`Bank`] first: it is the *payer*.
//! * Of two values the one with the higher version stays, whoever writes first: each write names the
//!   version of the znode that was read. Deletion is a value as well, a tombstone.
//! * The payer, and nobody else, keeps a znode alive, makes it again when the ensemble has collected
//!   it too early, and deletes it when it has expired. The leader does that for payers who are gone.
//! * All writes together keep within the budget of the cluster; of the values of one topic that wait
//!   for their turn only the newest is written. Every map and queue is bounded, and what finds no
//!   room still routes, unregistered, and is counted.
//!
//! What a topic needs is not remembered as a list of tasks: when its turn comes, [`plan`] compares
//! what is wanted with what was seen last.
//!
//! **The broker's side.** [`TopicsOutput::Value`] goes through the same merge as a value that came by
//! link: the higher version wins. It is *never* delivered to Subscriptions that exist: they have had
//! it by link, or will. A znode that is deleted changes nothing in the broker's table; only
//! tombstones and the end of a value do, judged by the cluster clock.
//!
//! [`Topics::use_topic`] costs a hash lookup. Call it on a miss of the route cache and for an exact
//! Topic Filter that is subscribed to, keep the moment it returns beside the route, and call it again
//! when a publish finds that moment past: a publish then pays for one comparison.

mod boots;
mod comparing;
mod known;
mod listing;
mod options;
mod pace;
mod path;
mod plan;
mod reading;
mod readings;
mod record;
mod room;
mod sweeping;
mod table;
#[cfg(test)]
mod tests;
mod writing;

pub use options::{Lifetimes, TopicsOptions};
pub use readings::TopicsReadings;
pub use record::{Content, Record, ValueKind, fits_znode};

use std::collections::VecDeque;

use boots::Boots;
use comparing::Comparing;
use known::{Flags, Kind, Known, Own};
use listing::Listing;
use pace::Pace;
use path::{TopicPath, Unregistered};
use plan::Context;
use reading::Reading;
use sweeping::Sweep;
use table::Table;
use writing::Writing;

use crate::cluster::bank::{Bank, Holdings};
use crate::cluster::frame::{DigestQuestion, PartDigest, RetainedValue};
use crate::cluster::identity::BootId;
use crate::cluster::jitter::Jitter;
use crate::cluster::tickets::{Owner, TicketSource};
use crate::mqtt::TopicName;
use crate::ports::Tick;
use crate::ports::coordination::{CoordinationEvent, Request, Ticket};

/// The registry, as one broker sees it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Topics {
    options: TopicsOptions,
    table: Table,
    reading: Reading,
    listing: Listing,
    comparing: Comparing,
    writing: Writing,
    sweep: Sweep,
    pace: Pace,
    jitter: Jitter,
    tickets: TicketSource,
    outputs: VecDeque<TopicsOutput>,
    readings: TopicsReadings,
    is_connected: bool,
    is_watching: bool,
    /// What the cluster clock shows when our own is at zero. Nothing is written before it is known, and
    /// nothing is read: the broker could not tell when it ends.
    clock_at_zero: Option<i64>,
    live: Vec<BootId>,
    is_leading: bool,
    /// Whether what nobody would miss is to go before its time.
    is_crowded: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum TopicsOutput {
    /// Ask the tree.
    Submit(Ticket, Request),
    /// Another broker has given a topic this value, or deleted it: merge it, and deliver nothing.
    Value(RetainedValue, Option<ValueKind>),
    /// Nobody has said for long that this topic is used. If it is subscribed to by its name, call
    /// [`Topics::use_topic`], or its registration ends.
    Fading(TopicName),
    /// Ask a few other brokers what they have, with [`Topics::ask_digests`].
    Compare(DigestQuestion),
    /// Tell this broker what we have: it asked under this number.
    Digests(BootId, u64, Vec<PartDigest>),
    /// The value of this topic that was set here found no place in the tree, and will not: whoever is
    /// to have it must hear of it otherwise.
    Unwritten(TopicName),
    /// The ensemble keeps no znodes with a time to live: nothing is registered until it does.
    NoTtl,
}

impl Topics {
    /// An empty one, before the first session.
    #[must_use]
    pub fn new(options: TopicsOptions) -> Self {
        let boots = Boots::new(options.boot_id);
        let TopicsOptions { topics_max, topics_bytes_max, hash_seed, .. } = options;
        Self {
            table: Table::new(topics_max, topics_bytes_max, hash_seed, boots),
            reading: Reading::default(),
            listing: Listing::Idle,
            comparing: Comparing::default(),
            writing: Writing::default(),
            sweep: Sweep::default(),
            pace: Pace::new(options.writes_per_sec),
            jitter: Jitter::new(options.jitter_seed),
            tickets: TicketSource::new(Owner::Topics),
            outputs: VecDeque::new(),
            readings: TopicsReadings::default(),
            is_connected: false,
            is_watching: false,
            clock_at_zero: None,
            live: vec![options.boot_id],
            is_leading: false,
            is_crowded: false,
            options,
        }
    }

    /// This process goes on as another broker, which knows nothing and has heard of no session yet.
    /// Its tickets go on: a late answer to the former life is an answer to nobody.
    pub fn begin_life(&mut self, options: TopicsOptions) {
        let former = std::mem::replace(self, Self::new(options));
        self.tickets = former.tickets;
        self.readings = former.readings;
    }

    /// Takes in what the tree has to say.
    pub fn handle(&mut self, now: Tick, event: CoordinationEvent, bank: &mut Bank) {
        match event {
            CoordinationEvent::Connected { is_new, .. } => self.handle_connected(now, is_new),
            CoordinationEvent::Disconnected | CoordinationEvent::Expired => {
                self.is_connected = false;
                self.note_disconnection(now);
            }
            CoordinationEvent::Answered { ticket, outcome } => {
                if let Some(read) = self.reading.take(ticket) {
                    self.handle_read(now, read, outcome, bank);
                } else if let Some(write) = self.writing.take(ticket) {
                    self.handle_written(now, write, outcome, bank);
                } else if !self.take_fence(ticket, &outcome) {
                    self.handle_listed(now, ticket, outcome, bank);
                }
            }
            CoordinationEvent::Changed { path, kind } => self.handle_change(now, &path, kind, bank),
        }
        self.handle_timeout(now, bank);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Tick, bank: &mut Bank) {
        self.is_crowded = self.is_leading && bank.is_crowded(&self.table.holdings);
        self.list_due(now);
        self.read_due(now);
        self.sweep_due(now);
        self.write_due(now, bank);
        self.answer_questions();
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Tick> {
        if !self.is_connected {
            return None;
        }
        let sweep = (self.table.count() > 0).then_some(self.sweep.due);
        let reading = self.reading.due().filter(|_| self.clock_at_zero.is_some());
        let times = [self.listing.due(), reading, sweep, self.next_write()];
        times.into_iter().flatten().min()
    }

    /// What is to be done next; call until there is nothing.
    pub fn poll_output(&mut self) -> Option<TopicsOutput> {
        self.outputs.pop_front()
    }

    /// What the cluster clock shows now, in milliseconds since 1970.
    pub fn set_clock(&mut self, now: Tick, cluster_millis: u64) {
        let signed = |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX);
        self.clock_at_zero = Some(signed(cluster_millis).saturating_sub(signed(now.as_millis())));
    }

    /// Who is alive: they share the write budget, and what others pay for is the leader's to sweep.
    pub fn set_members(&mut self, live: Vec<BootId>, is_leading: bool) {
        self.pace.set_sharers(u32::try_from(live.len()).unwrap_or(u32::MAX));
        self.live = live;
        self.is_leading = is_leading;
    }

    /// Somebody publishes to `topic`, or subscribes to exactly it. Returns when to say so again, as
    /// long as that goes on.
    pub fn use_topic(&mut self, now: Tick, topic: &str) -> Tick {
        let again = now.plus_millis(USE_AGAIN_MILLIS);
        if let Some(known) = self.table.get_mut(topic) {
            known.flags.set(Flags::USED);
            known.flags.set(Flags::RECENT);
            if known.seen.is_some() || known.own.is_some() || known.flags.has(Flags::WANTED) {
                return again;
            }
        }
        if self.is_registrable(topic) {
            self.enlist(now, topic);
        }
        again
    }

    /// The latest value of a topic, published here: newer than any that the broker knows.
    ///
    /// It ends when its message does; a deletion is remembered for ten minutes.
    pub fn set_value(&mut self, now: Tick, value: &RetainedValue, kind: ValueKind) {
        let topic = value.topic.as_str();
        if !self.is_registrable(topic) {
            return;
        }
        if !self.is_connected || self.writing.has_no_ttl {
            // It may be written later; until then the tree tells nobody.
            self.note_unwritten(topic);
        }
        let Some(own) = self.own_of(now, value, kind) else {
            self.readings.values_refused += 1;
            return self.note_unwritten(topic);
        };
        let bytes = own.data.len();
        let Some((name, known)) = self.table.get_or_add(topic) else {
            self.readings.refused_full += 1;
            return self.note_unwritten(topic);
        };
        if known.own.as_ref().is_some_and(|before| before.version >= own.version) {
            return;
        }
        let bytes_after = self.writing.values_bytes - known.own_bytes() + bytes;
        if bytes_after > self.options.values_bytes_max {
            self.readings.values_refused += 1;
            self.table.tidy(topic);
            return self.note_unwritten(topic);
        }
        let is_unwritten = known.flags.has(Flags::QUEUED) && known.own.is_some();
        self.readings.values_coalesced += u64::from(is_unwritten);
        self.writing.values_bytes = bytes_after;
        known.own = Some(Box::new(own));
        // One that waits to be registered does so behind all others.
        let is_registering = known.flags.has(Flags::QUEUED) && !is_unwritten;
        if !known.flags.has(Flags::QUEUED) && !known.flags.has(Flags::WRITING) {
            known.flags.set(Flags::QUEUED);
            self.writing.values.push_back(name);
        }
        let wait = self.wait_millis(now, is_registering);
        if kind == ValueKind::LastValue && wait > LATEST_WAIT_MILLIS_MAX {
            // Its znode comes when the budget allows; nobody has to wait for that.
            self.readings.values_early += 1;
            self.note_unwritten(topic);
        }
    }

    pub(super) fn note_unwritten(&mut self, topic: &str) {
        if let Ok(topic) = TopicName::try_from(topic) {
            self.outputs.push_back(TopicsOutput::Unwritten(topic));
        }
    }

    /// What exists in the tree, for the bank.
    pub fn holdings_mut(&mut self) -> &mut Holdings {
        &mut self.table.holdings
    }

    /// The paths of all znodes that there are, as far as is known, in no order.
    pub fn registered(&self) -> impl Iterator<Item = String> {
        let parts = (0..=u8::MAX).flat_map(|part| self.table.iter_part(part));
        let there = parts.filter(|(_, known)| known.seen.is_some());
        there.filter_map(|(name, _)| TopicPath::of(name).ok().map(|path| path.path()))
    }

    /// Figures for whoever watches.
    #[must_use]
    pub fn readings(&self) -> TopicsReadings {
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        TopicsReadings {
            known: count(self.table.count()),
            registrations: self.table.registrations(),
            backlog: count(self.writing.backlog.len()),
            unread: count(self.reading.unread.len()),
            unwritten: count(self.writing.values.len() + self.writing.chores.len()),
            values_bytes: count(self.writing.values_bytes),
            ..self.readings
        }
    }

    fn handle_connected(&mut self, now: Tick, is_new: bool) {
        self.note_disconnection(now);
        self.note_connection(now);
        self.is_connected = true;
        self.is_watching &= !is_new;
        self.reading.read_again();
        self.resume_writing(now, is_new);
        self.listing = Listing::Due(now.plus_millis(self.jitter.below(LISTING_SPREAD_MILLIS)));
        self.table.holdings.note_listing();
    }

    fn is_registrable(&mut self, topic: &str) -> bool {
        match TopicPath::of(topic) {
            Ok(_) => return true,
            Err(Unregistered::System) => self.readings.skipped_system += 1,
            Err(Unregistered::TooLong) => self.readings.skipped_long += 1,
        }
        false
    }

    /// A topic is to be registered when its turn comes, if there is room for it to wait.
    fn enlist(&mut self, now: Tick, topic: &str) {
        if self.writing.broke_until > now {
            self.readings.refused_bank += 1;
            return;
        }
        if self.writing.backlog.len() >= self.options.backlog_max {
            self.readings.refused_rate += 1;
            return;
        }
        let Some((name, known)) = self.table.get_or_add(topic) else {
            self.readings.refused_full += 1;
            return;
        };
        known.flags.set(Flags::WANTED);
        if !known.flags.has(Flags::QUEUED) && !known.flags.has(Flags::WRITING) {
            known.flags.set(Flags::QUEUED);
            self.writing.backlog.push_back(name);
        }
    }

    /// The record that a value makes; `None` before the cluster clock is known.
    fn own_of(&mut self, now: Tick, value: &RetainedValue, kind: ValueKind) -> Option<Own> {
        let now_millis = self.cluster_millis(now)?;
        let (expires_at_millis, content) = match &value.message {
            None => (
                now_millis.saturating_add(self.options.lifetimes.tombstone_millis),
                Content::Tombstone,
            ),
            Some(message) if record::fits(message) => {
                let content = Content::Value(kind, message.clone());
                (message.expires_at_millis.unwrap_or(u64::MAX), content)
            }
            Some(_) => {
                self.readings.values_too_large += 1;
                (now_millis.saturating_add(self.lifetime_millis()), Content::Registration)
            }
        };
        let kind = Kind::of(&content);
        let (version, payer) = (value.version, self.options.boot_id);
        let data = Record { version, payer, expires_at_millis, content }.encode();
        Some(Own { version, expires_at_millis, kind, data })
    }

    fn cluster_millis(&self, now: Tick) -> Option<u64> {
        let at_zero = self.clock_at_zero?;
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        Some(u64::try_from(at_zero.saturating_add(now)).unwrap_or(0))
    }

    /// How long a registration lives: long enough that refreshing all of them takes a quarter of the
    /// write budget.
    fn lifetime_millis(&self) -> u64 {
        let per_sec = u64::from(self.options.writes_per_sec.max(1));
        (4 * self.table.registrations() * 1_000 / per_sec)
            .max(self.options.lifetimes.registration_millis_min)
    }

    /// What plans depend on; `None` before the cluster clock is known.
    fn context(&self, now: Tick) -> Option<Context<'_>> {
        Some(Context {
            now,
            cluster_millis: self.cluster_millis(now)?,
            own: self.options.boot_id,
            boots: &self.table.boots,
            lifetime_millis: self.lifetime_millis(),
            lifetimes: &self.options.lifetimes,
            live_payers: self.is_leading.then_some(&self.live),
            is_crowded: self.is_crowded,
        })
    }

    /// Gives a topic a turn if it needs one.
    fn attend(&mut self, now: Tick, topic: &str) {
        let Some(context) = self.context(now) else { return };
        if self.table.get(topic).is_some_and(|known| context.needs_attention(known)) {
            let Some((name, known)) = self.table.get_or_add(topic) else { return };
            known.flags.set(Flags::QUEUED);
            let is_value = known.own.is_some();
            let Writing { values, chores, .. } = &mut self.writing;
            if is_value { values.push_back(name) } else { chores.push_back(name) }
        }
    }

    fn submit(&mut self, request: Request) -> Ticket {
        let ticket = self.tickets.draw();
        self.outputs.push_back(TopicsOutput::Submit(ticket, request));
        ticket
    }
}

impl Known {
    fn is_unread(&self) -> bool {
        self.flags.has(Flags::UNREAD)
    }
}

/// How often the use of a topic is to be told: often within the shortest life of a registration.
const USE_AGAIN_MILLIS: u64 = 60_000;
/// A latest value that would wait longer for its turn goes by link as well.
const LATEST_WAIT_MILLIS_MAX: u64 = 200;
/// Within which brokers that lost their connection together list again.
const LISTING_SPREAD_MILLIS: u64 = 1_000;
