//! How the own ring gets into the tree: one request at a time, with everything that there is to say.

use std::sync::Arc;

use bytes::Bytes;

use super::Relay;
use super::options::{PACE_MILLIS, RETRY_MILLIS, WINDOW_BYTES, WINDOWS};
use super::output::RelayOutput;
use super::reading::{Outcome, Znode, path_of};
use super::ring::Ring;
use super::sender::{Cutting, ROOM_MIN};
use crate::cluster::identity::BootId;
use crate::cluster::wire::{RelayAck, RelayHeader, encode_relay_header};
use crate::ports::clock::Tick;
use crate::ports::coordination::{Change, CoordinationError, CreateMode, Request, Ticket};

/// The own ring, and what is known of it in the tree.
#[derive(Debug)]
pub(super) struct Writing {
    name: Arc<str>,
    pub(super) ring: Ring,
    standing: Standing,
    awaited: Option<(Ticket, Tick)>,
    /// Who was the first to have a part in the window that was filled last.
    served_first: BootId,
    /// Something was read of others that the header does not say yet.
    pub(super) has_header_news: bool,
    not_before: Tick,
    /// Whether the bank was paid.
    is_funded: bool,
    /// Whether the lease still covers that.
    pub(super) is_covered: bool,
    funds_due: Tick,
}

/// What is known of the ring in the tree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// It is not there.
    Absent,
    /// It may be there, by whoever has written it: all of it is to be written.
    Unsure,
    /// This life has made it; whatever is in it now, all of it is to be written.
    Stale,
    /// It is there, as it was written.
    Written,
}

impl Standing {
    /// After a write of which nobody knows whether it was made.
    fn in_doubt(self) -> Self {
        match self {
            Self::Absent | Self::Unsure => Self::Unsure,
            Self::Stale | Self::Written => Self::Stale,
        }
    }

    /// Whether this life has made it, so that it stands in the books as its own.
    fn is_ours(self) -> bool {
        match self {
            Self::Absent | Self::Unsure => false,
            Self::Stale | Self::Written => true,
        }
    }
}

impl Writing {
    pub(super) fn new(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            ring: Ring::default(),
            standing: Standing::Absent,
            awaited: None,
            served_first: BootId(0),
            has_header_news: false,
            not_before: Tick::ZERO,
            is_funded: false,
            is_covered: false,
            funds_due: Tick::ZERO,
        }
    }

    /// Another boot id has the name, and pays anew. An answer that is still to come is nobody's.
    pub(super) fn begin_life(&mut self) {
        *self = Self::new(&self.name);
    }

    pub(super) fn note_connected(&mut self, now: Tick) {
        if self.standing == Standing::Written {
            self.standing = Standing::Stale;
        }
        self.has_header_news = true;
        self.not_before = now;
    }

    pub(super) fn wants_funds(&self, now: Tick, needs_ring: bool) -> bool {
        needs_ring && !self.is_funded && self.funds_due <= now
    }

    pub(super) fn fund(&mut self, now: Tick, is_funded: bool) {
        self.is_funded = is_funded;
        self.funds_due = now.plus_millis(FUNDS_MILLIS);
    }

    /// When the next write may leave, if there is one.
    pub(super) fn due(&self, has_work: bool) -> Option<Tick> {
        let is_due = self.has_header_news || has_work;
        let is_paid = self.is_funded && (self.standing.is_ours() || self.is_covered);
        (is_due && is_paid && self.awaited.is_none()).then_some(self.not_before)
    }

    pub(super) fn is_awaited(&self, ticket: Ticket) -> bool {
        self.awaited.is_some_and(|(awaited, _)| awaited == ticket)
    }

    pub(super) fn handle_written(&mut self, now: Tick, outcome: &Outcome) {
        let Some((_, sent)) = self.awaited.take() else { return };
        let error = match outcome {
            Ok(_) => {
                self.standing = Standing::Written;
                self.not_before = sent.plus_millis(PACE_MILLIS);
                return;
            }
            Err(CoordinationError::Part { error, .. }) => &**error,
            Err(error) => error,
        };
        self.has_header_news = true;
        self.not_before = now.plus_millis(RETRY_MILLIS);
        // Of most errors nobody knows whether the write was made.
        self.standing = self.standing.in_doubt();
        if *error == CoordinationError::NoNode {
            self.standing = Standing::Absent;
        }
        if *error == CoordinationError::NodeExists {
            // The ring of a former life, or our own, of which we never heard.
            self.not_before = now;
        }
    }

    /// What is to be written, if anything is.
    fn request(&mut self, boot_id: BootId, header: &RelayHeader) -> Option<Request> {
        let is_whole = self.standing != Standing::Written;
        let windows = self.ring.take(boot_id, is_whole);
        if windows.is_empty() && !self.has_header_news {
            return None;
        }
        self.has_header_news = false;
        let windows = windows.into_iter().map(|(number, data)| self.change(Some(number), data));
        let header = self.change(None, encode_relay_header(header));
        let changes: Vec<Change> = std::iter::once(header).chain(windows).collect();
        Some(Request::All(changes))
    }

    fn change(&self, window: Option<usize>, data: Bytes) -> Change {
        let path = path_of(&Znode { name: Arc::clone(&self.name), window });
        if self.standing == Standing::Absent {
            return Change::Create { path, data, mode: CreateMode::Persistent };
        }
        // The name is ours, and with it what stands below it: nobody else writes here.
        Change::Set { path, data, version: None }
    }
}

impl Relay {
    /// Fills the ring from the lanes and writes what has changed, once the last write was answered
    /// and its time has come.
    pub(super) fn write(&mut self, now: Tick) -> Option<RelayOutput> {
        if self.news.is_raised() {
            self.news.lower();
            self.stir();
        }
        let has_work = self.peers.values().any(|peer| peer.has_work);
        self.writing.due(has_work).filter(|due| *due <= now)?;
        self.fill(now);
        let header = RelayHeader { boot_id: self.options.boot_id, acks: self.acks() };
        let request = self.writing.request(self.options.boot_id, &header);
        self.note_rest();
        let request = request?;
        let ticket = self.tickets.draw();
        self.writing.awaited = Some((ticket, now));
        self.readings.writes += 1;
        Some(RelayOutput::Submit(ticket, request))
    }

    /// Each broker has the same share of the ring, so that one that is slow takes no other's.
    fn fill(&mut self, now: Tick) {
        let share = self.share();
        let (news, frame_bytes_max) = (self.news.waker(), self.options.frame_bytes_max());
        // Where there are no links, waiting for one would be for ever.
        let frame_bytes_max = if self.options.is_always { usize::MAX } else { frame_bytes_max };
        let Self { peers, writing, readings, .. } = self;
        // Whoever was first last time is last now: a window may be full before all had a turn.
        let (before, after): (Vec<_>, Vec<_>) =
            peers.values_mut().partition(|peer| peer.boot_id <= writing.served_first);
        let mut first = None;
        for peer in after.into_iter().chain(before).filter(|peer| peer.has_work) {
            let mut left = share.saturating_sub(writing.ring.held(peer.boot_id));
            loop {
                let mut cutting = Cutting {
                    now,
                    to: peer.boot_id,
                    room: left.min(writing.ring.room()),
                    frame_bytes_max,
                    waker: &news,
                    readings,
                };
                let Some(part) = peer.sender.next_part(&mut cutting) else { break };
                first.get_or_insert(peer.boot_id);
                let len = writing.ring.put(&part);
                readings.sent_bytes += len as u64;
                left = left.saturating_sub(len);
            }
        }
        writing.served_first = first.unwrap_or(writing.served_first);
    }

    /// What found no room in the window that was filled may find some in the next.
    fn note_rest(&mut self) {
        let share = self.share();
        let Self { peers, writing, .. } = self;
        let has_room = writing.ring.room() >= ROOM_MIN;
        for peer in peers.values_mut() {
            let left = share.saturating_sub(writing.ring.held(peer.boot_id));
            peer.has_work &= peer.sender.is_short && has_room && left >= ROOM_MIN;
        }
    }

    /// Bytes of the ring for each broker.
    fn share(&self) -> usize {
        let carried = self.peers.values().filter(|peer| peer.sender.is_carrying()).count();
        (WINDOWS * WINDOW_BYTES / carried.max(1)).max(ROOM_MIN * 2)
    }

    fn acks(&self) -> Vec<RelayAck> {
        let read = self.peers.values().filter(|peer| peer.receiver.has_read());
        let ack = read.map(|peer| RelayAck {
            of: peer.boot_id,
            run: peer.receiver.run,
            part: peer.receiver.part,
            received: peer.receiver.received,
            is_stuck: peer.receiver.is_stuck,
        });
        ack.collect()
    }
}

/// How often the bank is asked.
const FUNDS_MILLIS: u64 = 200;
