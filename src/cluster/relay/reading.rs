//! What is read of the tree, and watched: a znode that has changed is read once more, however often
//! it has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::Relay;
use super::options::WINDOWS;
use super::output::{LaneInUse, RelayOutput};
use super::peer::RelayPeer;
use super::receiver::Joined;
use crate::cluster::identity::BootId;
use crate::cluster::paths::{RELAY, below};
use crate::cluster::tickets::TicketSource;
use crate::cluster::wire::{decode_relay_header, decode_relay_window};
use crate::ports::clock::Tick;
use crate::ports::coordination::{CoordinationError, Reply, Request, Ticket};

/// The answer to a request.
pub(super) type Outcome = Result<Reply, CoordinationError>;

/// A znode of a broker: its header, or one of its windows.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Znode {
    pub(super) name: Arc<str>,
    pub(super) window: Option<usize>,
}

/// What is to be read, and what is being read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    watches: BTreeMap<Arc<str>, Watch>,
    wanted: BTreeSet<Znode>,
    asked: BTreeMap<Ticket, Znode>,
}

#[derive(Debug)]
enum Watch {
    Asked(Ticket),
    Stands,
}

impl Reading {
    /// A session has ended, and its watches with it.
    pub(super) fn forget_watches(&mut self) {
        self.watches.clear();
    }

    /// All is wanted anew.
    pub(super) fn forget_wishes(&mut self) {
        self.wanted.clear();
    }

    pub(super) fn want(&mut self, znode: Znode) {
        self.wanted.insert(znode);
    }

    pub(super) fn want_header(&mut self, peer: &RelayPeer) {
        self.want(Znode { name: Arc::clone(&peer.name), window: None });
    }

    /// Everything of a broker that concerns us.
    pub(super) fn want_all(&mut self, peer: &RelayPeer, is_reading: bool) {
        if peer.sender.is_carrying() {
            self.want_header(peer);
        }
        if peer.is_attended && is_reading {
            for window in 0..WINDOWS {
                self.want(Znode { name: Arc::clone(&peer.name), window: Some(window) });
            }
        }
    }

    /// The znode that this ticket asked for.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Znode> {
        self.asked.remove(&ticket)
    }

    /// The broker that this ticket wanted to be watched, when it is from now on.
    pub(super) fn take_watch(&mut self, ticket: Ticket, outcome: &Outcome) -> Option<Arc<str>> {
        let is_this = |watch: &Watch| matches!(watch, Watch::Asked(asked) if *asked == ticket);
        let (name, _) = self.watches.iter().find(|(_, watch)| is_this(watch))?;
        let name = Arc::clone(name);
        if outcome.is_err() {
            self.watches.remove(&name);
            return None;
        }
        self.watches.insert(Arc::clone(&name), Watch::Stands);
        Some(name)
    }

    /// Nothing was read; what may be there is read at the next look.
    pub(super) fn note_failed(&mut self, znode: &Znode, outcome: &Outcome) {
        if !matches!(outcome, Err(CoordinationError::NoNode)) {
            self.want(znode.clone());
        }
    }

    fn watch(
        &mut self,
        name: &Arc<str>,
        tickets: &mut TicketSource,
        outputs: &mut VecDeque<RelayOutput>,
    ) {
        if !self.watches.contains_key(name) {
            let ticket = tickets.draw();
            self.watches.insert(Arc::clone(name), Watch::Asked(ticket));
            let request = Request::Watch(below(RELAY, name));
            outputs.push_back(RelayOutput::Submit(ticket, request));
        }
    }

    fn ask(&mut self, tickets: &mut TicketSource, outputs: &mut VecDeque<RelayOutput>) {
        let is_free = |znode: &&Znode| !self.asked.values().any(|asked| asked == *znode);
        let room = READS_MAX.saturating_sub(self.asked.len());
        let next: Vec<Znode> = self.wanted.iter().filter(is_free).take(room).cloned().collect();
        for znode in next {
            self.wanted.remove(&znode);
            let ticket = tickets.draw();
            outputs.push_back(RelayOutput::Submit(ticket, Request::Get(path_of(&znode))));
            self.asked.insert(ticket, znode);
        }
    }
}

impl Relay {
    /// Asks for what is wanted, and watches whoever is read.
    pub(super) fn read_next(&mut self) {
        if !self.is_connected {
            return;
        }
        let Self { peers, reading, tickets, outputs, .. } = self;
        for peer in peers.values() {
            if peer.is_attended || peer.sender.is_carrying() {
                reading.watch(&peer.name, tickets, outputs);
            }
        }
        reading.ask(tickets, outputs);
    }

    /// What a broker says of what it has read of ours.
    pub(super) fn read_header(&mut self, now: Tick, data: &Bytes) -> Option<()> {
        let header = decode_relay_header(data).ok()?;
        let own = self.options.boot_id;
        let peer = self.peers.get_mut(&header.boot_id)?;
        let Some(ack) = header.acks.iter().find(|ack| ack.of == own) else { return Some(()) };
        let was_open = peer.sender.is_open();
        if peer.sender.note_ack(now, ack) {
            if peer.sender.is_open() && !was_open {
                let lane = LaneInUse::Relay;
                self.outputs.push_back(RelayOutput::Changed { peer: header.boot_id, lane });
            }
            let (run, part) = peer.sender.acked();
            self.writing.ring.note_read(header.boot_id, run, part);
            self.stir();
            self.close_if_read(now, header.boot_id);
        }
        Some(())
    }

    /// What a broker relays, to us among others.
    pub(super) fn read_window(&mut self, data: &Bytes) -> Option<()> {
        let (from, parts) = decode_relay_window(data, self.options.boot_id).ok()?;
        let peer = self.peers.get_mut(&from)?;
        let before = (peer.receiver.run, peer.receiver.part);
        for part in parts {
            peer.receiver.take(part);
        }
        self.hand_on(from);
        let receiver = &self.peers.get(&from)?.receiver;
        self.writing.has_header_news |= (receiver.run, receiver.part) != before;
        Some(())
    }

    fn hand_on(&mut self, from: BootId) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        loop {
            match peer.receiver.next() {
                Ok(None) => return,
                Ok(Some(Joined::Beginning(gone))) => {
                    self.outputs.push_back(RelayOutput::Resume { from, gone });
                }
                Ok(Some(Joined::Batch(batch))) => {
                    self.readings.received_bytes += batch.frames_len() as u64;
                    self.readings.received_frames += u64::from(batch.count);
                    self.outputs.push_back(RelayOutput::Batch { from, batch });
                }
                Err(_misfit) => {
                    self.readings.stuck += 1;
                    self.writing.has_header_news = true;
                    return;
                }
            }
        }
    }
}

/// The broker and the window that a path below `/relay` means.
pub(super) fn place_of(path: &str) -> Option<(&str, Option<usize>)> {
    let rest = path.strip_prefix(RELAY)?.strip_prefix('/')?;
    let Some((name, window)) = rest.split_once('/') else { return Some((rest, None)) };
    let number = window.strip_prefix('w')?.parse().ok().filter(|number| *number < WINDOWS)?;
    Some((name, Some(number)))
}

/// Where a znode stands.
pub(super) fn path_of(znode: &Znode) -> String {
    let header = below(RELAY, &znode.name);
    match znode.window {
        None => header,
        Some(number) => below(&header, &format!("w{number}")),
    }
}

/// Reads under way at a time: an answer may have as many bytes as a window.
const READS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_a_header_or_a_window_and_back() {
        for window in [None, Some(0), Some(3)] {
            let path = path_of(&Znode { name: Arc::from("b-1"), window });
            assert_eq!(place_of(&path), Some(("b-1", window)));
        }
        for path in ["/relay", "/relays/b", "/relay/b/w4", "/relay/b/x0", "/relay/b/w0/more"] {
            assert_eq!(place_of(path), None, "{path}");
        }
    }
}
