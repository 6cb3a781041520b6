//! The lane that always exists: frames to brokers that no link leads to go through the tree of znodes.
//!
//! Below `/relay/<name>` each broker has a ring of four windows, which it alone writes, and a header
//! that says how far it is with the windows of others. What a [`Lane`] has is cut into parts, each
//! with its addressee; a part stays in the ring until the addressee's header says that it was read.
//! Who reads joins the parts and hands the batches on: it is the same frames with the same sequence
//! numbers as by the link, so that whatever comes twice is taken once.
//!
//! What goes to one broker goes in *runs*. A run begins with a part that says what cannot be sent
//! again, as the HELLO of a link does; the answer in the header says what has been received, and
//! everything behind is sent. A reader that does not move for T is left out: its parts leave the
//! ring, its frames stay in the lane, and the first part of the next run waits for it.
//!
//! All windows and the header are written by one request at a time, at a pace: however much is
//! published, the ensemble is asked for no more than so many writes a second.
//!
//! The caller hands over every [`CoordinationEvent`], calls [`Relay::handle_timeout`] when
//! [`Relay::next_timeout`] has come, and takes [`Relay::poll_output`] until there is nothing.
//!
//! [`Lane`]: crate::cluster::lane::Lane

mod choice;
mod news;
mod options;
mod output;
mod peer;
mod reading;
mod receiver;
mod ring;
mod sender;
#[cfg(test)]
mod stories;
mod survey;
mod writing;

pub use options::{RING_BYTES, RelayOptions};
pub use output::{LaneInUse, RelayOutput, RelayReadings};

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use crate::cluster::bank::Holdings;
use crate::cluster::frame::Cursors;
use crate::cluster::identity::{BootId, Member};
use crate::cluster::lane::Lane;
use crate::cluster::tickets::{Owner, TicketSource};
use crate::ports::clock::Tick;
use crate::ports::coordination::{Change, ChangeKind, CoordinationEvent, Reply, Ticket};

use news::News;
use peer::RelayPeer;
use reading::{Reading, Znode};
use survey::Survey;
use writing::Writing;

/// All that one broker relays and that is relayed to it.
pub struct Relay {
    options: RelayOptions,
    peers: BTreeMap<BootId, RelayPeer>,
    reading: Reading,
    writing: Writing,
    survey: Survey,
    tickets: TicketSource,
    outputs: VecDeque<RelayOutput>,
    /// Raised when a lane has something for us.
    news: Arc<News>,
    is_connected: bool,
    /// Before the time of the cluster is known, nothing of others can be taken.
    is_reading: bool,
    look_at: Tick,
    readings: RelayReadings,
}

impl Relay {
    /// One that has nothing to do. `waker` is called when a lane has something for it.
    #[must_use]
    pub fn new(options: RelayOptions, waker: Waker) -> Self {
        Self {
            writing: Writing::new(&options.name),
            survey: Survey::new(options.session_timeout_millis),
            options,
            peers: BTreeMap::new(),
            reading: Reading::default(),
            tickets: TicketSource::new(Owner::Relay),
            outputs: VecDeque::new(),
            news: News::new(waker),
            is_connected: false,
            is_reading: false,
            look_at: Tick::ZERO,
            readings: RelayReadings::default(),
        }
    }

    /// This broker was declared dead and goes on as `boot_id`, in the session that stands. It knows
    /// nobody.
    pub fn begin_life(&mut self, boot_id: BootId) {
        self.options.boot_id = boot_id;
        self.peers.clear();
        self.outputs.clear();
        self.writing.begin_life();
        self.survey = Survey::new(self.options.session_timeout_millis);
    }

    /// Takes in what the tree has to say.
    pub fn handle(&mut self, now: Tick, event: &CoordinationEvent) {
        match event {
            CoordinationEvent::Connected { is_new, .. } => self.handle_connected(now, *is_new),
            CoordinationEvent::Disconnected | CoordinationEvent::Expired => {
                self.is_connected = false;
                self.survey.stop();
                self.look(now);
            }
            CoordinationEvent::Answered { ticket, outcome } => {
                self.handle_answer(now, *ticket, outcome);
            }
            CoordinationEvent::Changed { path, kind } => self.handle_changed(path, *kind),
        }
    }

    /// Time has come.
    pub fn handle_timeout(&mut self, now: Tick) {
        if self.look_at <= now {
            self.look(now);
        }
        if self.is_connected {
            let Self { survey, tickets, outputs, .. } = self;
            survey.handle_timeout(now, &mut survey::Desk { tickets, outputs });
        }
    }

    /// When [`Self::handle_timeout`] is due, or [`Self::poll_output`] has something to write.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Tick> {
        let look = (!self.peers.is_empty()).then_some(self.look_at);
        let has_news = self.news.is_raised() || self.peers.values().any(|peer| peer.has_work);
        let write = self.writing.due(has_news).filter(|_| self.is_connected);
        let survey = self.survey.due().filter(|_| self.is_connected);
        [look, write, survey].into_iter().flatten().min()
    }

    /// A broker is there; `lane` has what is for it.
    pub fn meet(&mut self, now: Tick, member: &Member, lane: Arc<Lane>) {
        let peer = self.peers.entry(member.boot_id);
        peer.or_insert_with(|| RelayPeer::new(now, member, lane));
        self.look(now);
    }

    /// A broker was declared dead.
    pub fn bury(&mut self, boot_id: BootId) {
        self.peers.remove(&boot_id);
        self.writing.ring.drop_parts(boot_id);
        self.writing.has_header_news = true;
    }

    /// The link that we dial to this broker stands, or no longer does.
    pub fn note_link(&mut self, now: Tick, boot_id: BootId, is_up: bool) {
        let Some(peer) = self.peers.get_mut(&boot_id) else { return };
        peer.facts.note_link(now, is_up);
        self.look(now);
    }

    /// The two do not trust each other: nothing is relayed to this broker until the link stands.
    pub fn mistrust(&mut self, now: Tick, boot_id: BootId) {
        let Some(peer) = self.peers.get_mut(&boot_id) else { return };
        peer.facts.mistrust();
        self.look(now);
    }

    /// This broker last said by its link, at `at`, that it is there. The relay proves nothing.
    pub fn note_heard(&mut self, boot_id: BootId, at: Tick) {
        if let Some(peer) = self.peers.get_mut(&boot_id) {
            peer.facts.note_heard(at);
        }
    }

    /// What others relay can be taken from now on.
    pub fn begin_reading(&mut self, now: Tick) {
        if !self.is_reading {
            self.is_reading = true;
            self.look(now);
        }
    }

    /// After [`RelayOutput::Resume`] and [`RelayOutput::Batch`]: so much of this broker's frames has
    /// been received, by whatever lane.
    pub fn note_received(&mut self, boot_id: BootId, received: Cursors) {
        if let Some(peer) = self.peers.get_mut(&boot_id) {
            peer.receiver.received = received;
            self.writing.has_header_news = true;
        }
    }

    /// A batch of this broker was not taken: it is to begin again.
    pub fn refuse(&mut self, boot_id: BootId) {
        if let Some(peer) = self.peers.get_mut(&boot_id) {
            peer.receiver.is_stuck = true;
            self.writing.has_header_news = true;
            self.readings.stuck += 1;
        }
    }

    /// Whether [`RING_BYTES`] are to be taken from the bank, for the ring there must be.
    #[must_use]
    pub fn wants_funds(&self, now: Tick) -> bool {
        self.writing.wants_funds(now, self.needs_ring())
    }

    /// They were, or there was no room.
    pub fn fund(&mut self, now: Tick, is_funded: bool) {
        self.readings.unfunded += u64::from(!is_funded);
        self.writing.fund(now, is_funded);
    }

    /// Whether the lease covers what was taken from it. The room for a ring that is not there goes with
    /// the session in which it was taken, and to others: until there is a lease again that covers it,
    /// no ring is made.
    pub fn set_covered(&mut self, is_covered: bool) {
        self.writing.is_covered = is_covered;
    }

    /// This broker leads, and each of its writes must stand together with this check of its lock; or
    /// it leads no more.
    pub fn set_leading(&mut self, now: Tick, lock: Option<Change>) {
        self.survey.set_leading(now, lock);
    }

    /// What rings there are is entered into the books of the bank, which waits for it when
    /// `is_awaited`.
    pub fn keep_holdings(&mut self, now: Tick, holdings: &mut Holdings, is_awaited: bool) {
        self.survey.keep_holdings(now, holdings, is_awaited);
    }

    /// By which lane frames go to a broker now.
    #[must_use]
    pub fn lane_in_use(&self, boot_id: BootId) -> LaneInUse {
        self.peers.get(&boot_id).map_or(LaneInUse::None, RelayPeer::lane_in_use)
    }

    /// Figures for whoever watches.
    #[must_use]
    pub fn readings(&self) -> RelayReadings {
        let relayed = self.peers.values().filter(|peer| peer.sender.is_carrying()).count();
        RelayReadings { relayed, ring_bytes: self.writing.ring.bytes(), ..self.readings }
    }

    /// What is to be done next; call until there is nothing.
    pub fn poll_output(&mut self, now: Tick) -> Option<RelayOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if !self.is_connected {
            return None;
        }
        self.write(now)
    }

    fn handle_connected(&mut self, now: Tick, is_new: bool) {
        self.is_connected = true;
        if is_new {
            self.reading.forget_watches();
        }
        self.reading.forget_wishes();
        self.writing.note_connected(now);
        self.survey.call(now);
        for peer in self.peers.values() {
            self.reading.want_all(peer, self.is_reading);
        }
        self.look(now);
    }

    fn handle_answer(&mut self, now: Tick, ticket: Ticket, outcome: &reading::Outcome) {
        if self.writing.is_awaited(ticket) {
            self.writing.handle_written(now, outcome);
            self.readings.failed_writes += u64::from(outcome.is_err());
        } else if let Some(znode) = self.reading.take(ticket) {
            self.handle_read(now, &znode, outcome);
        } else if let Some(name) = self.reading.take_watch(ticket, outcome) {
            for peer in self.peers.values().filter(|peer| peer.name == name) {
                self.reading.want_all(peer, self.is_reading);
            }
        } else {
            let live: Vec<BootId> =
                self.peers.keys().copied().chain([self.options.boot_id]).collect();
            let Self { survey, tickets, outputs, readings, .. } = self;
            survey.handle_answer(
                now,
                ticket,
                outcome,
                &live,
                &mut survey::Desk { tickets, outputs },
            );
            readings.removed_rings = survey.removed();
        }
        self.read_next();
    }

    fn handle_changed(&mut self, path: &str, kind: ChangeKind) {
        let Some((name, window)) = reading::place_of(path) else { return };
        if kind == ChangeKind::Deleted {
            return;
        }
        for peer in self.peers.values().filter(|peer| &*peer.name == name) {
            let is_wanted = match window {
                None => peer.sender.is_carrying(),
                Some(_) => self.is_reading && peer.is_attended,
            };
            if is_wanted {
                self.reading.want(Znode { name: Arc::clone(&peer.name), window });
            }
        }
        self.read_next();
    }

    fn handle_read(&mut self, now: Tick, znode: &Znode, outcome: &reading::Outcome) {
        let Ok(Reply::Data { data, .. }) = outcome else {
            return self.reading.note_failed(znode, outcome);
        };
        let read = match znode.window {
            None => self.read_header(now, data),
            Some(_) => self.read_window(data),
        };
        // One of before, or of a later program: nobody's.
        self.readings.unreadable += u64::from(read.is_none());
    }

    fn needs_ring(&self) -> bool {
        let is_used = |peer: &RelayPeer| peer.sender.is_carrying() || peer.receiver.has_read();
        self.peers.values().any(is_used)
    }
}
