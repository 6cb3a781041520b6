//! The leader's part: which rings there are, for the books of the bank, and which belong to nobody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::options::{RING_BYTES, WINDOWS};
use super::output::RelayOutput;
use super::reading::{Outcome, Znode, path_of};
use crate::cluster::bank::{Funds, Holdings, Mark};
use crate::cluster::identity::BootId;
use crate::cluster::paths::{RELAY, below};
use crate::cluster::tickets::TicketSource;
use crate::cluster::wire::decode_relay_header;
use crate::ports::clock::Tick;
use crate::ports::coordination::{Change, Reply, Request, Ticket};

/// Looks what rings there are: for the bank whenever it counts, and while this broker leads also now
/// and then, to remove those of brokers that are gone.
#[derive(Debug)]
pub(super) struct Survey {
    /// T: how long a ring of nobody is looked at before it is removed. Its broker may be new.
    patience_millis: u64,
    lock: Option<Change>,
    step: Step,
    due: Tick,
    /// What was found by a survey that the bank waited for, until it is in the books.
    found: Option<BTreeMap<String, BootId>>,
    /// What is in the books.
    entered: BTreeMap<String, BootId>,
    /// In the eyes of the bank something may have changed at any time, until it was looked for: up to
    /// here by the last survey, and up to there by the next.
    mark: Option<Mark>,
    next_mark: Option<Mark>,
    /// Rings of nobody: the version of the header, and since when.
    strays: BTreeMap<String, (i32, Tick)>,
    removing: BTreeSet<Ticket>,
    removed: u64,
}

#[derive(Debug)]
enum Step {
    Idle,
    Listing(Ticket, For),
    Headers(For, BTreeMap<Ticket, String>, BTreeMap<String, Header>),
}

/// Whether the bank had asked before the survey began.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum For {
    Bank,
    Leader,
}

/// A header that was found.
#[derive(Clone, Copy, Debug)]
struct Header {
    /// Nothing when it cannot be read.
    boot_id: Option<BootId>,
    version: i32,
}

/// Where requests leave.
pub(super) struct Desk<'a> {
    pub(super) tickets: &'a mut TicketSource,
    pub(super) outputs: &'a mut VecDeque<RelayOutput>,
}

impl Desk<'_> {
    fn submit(&mut self, request: Request) -> Ticket {
        let ticket = self.tickets.draw();
        self.outputs.push_back(RelayOutput::Submit(ticket, request));
        ticket
    }
}

impl Survey {
    pub(super) fn new(patience_millis: u64) -> Self {
        Self {
            patience_millis,
            lock: None,
            step: Step::Idle,
            due: Tick::ZERO,
            found: None,
            entered: BTreeMap::new(),
            mark: None,
            next_mark: None,
            strays: BTreeMap::new(),
            removing: BTreeSet::new(),
            removed: 0,
        }
    }

    pub(super) fn set_leading(&mut self, now: Tick, lock: Option<Change>) {
        self.lock = lock;
        self.strays.clear();
        self.call(now);
    }

    /// Looks soon.
    pub(super) fn call(&mut self, now: Tick) {
        self.due = now;
    }

    /// There is no connection: what was asked is not answered, or too late.
    pub(super) fn stop(&mut self) {
        self.step = Step::Idle;
        self.removing.clear();
    }

    pub(super) fn removed(&self) -> u64 {
        self.removed
    }

    pub(super) fn due(&self) -> Option<Tick> {
        let is_wanted = self.lock.is_some() || self.next_mark.is_some();
        (is_wanted && matches!(self.step, Step::Idle)).then_some(self.due)
    }

    pub(super) fn handle_timeout(&mut self, now: Tick, desk: &mut Desk<'_>) {
        if self.due().is_some_and(|due| due <= now) {
            let purpose = if self.next_mark.is_some() { For::Bank } else { For::Leader };
            let ticket = desk.submit(Request::List(RELAY.to_owned()));
            self.step = Step::Listing(ticket, purpose);
            self.due = now.plus_millis(self.patience_millis);
        }
    }

    /// Takes an answer, if it is one to us.
    pub(super) fn handle_answer(
        &mut self,
        now: Tick,
        ticket: Ticket,
        outcome: &Outcome,
        live: &[BootId],
        desk: &mut Desk<'_>,
    ) {
        if self.removing.remove(&ticket) {
            self.removed += u64::from(outcome.is_ok());
            return;
        }
        match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Listing(awaited, purpose) if awaited == ticket => {
                self.handle_listed(now, purpose, outcome, desk);
            }
            Step::Headers(purpose, mut waiting, mut headers) if waiting.contains_key(&ticket) => {
                if let (Some(name), Some(header)) = (waiting.remove(&ticket), header_of(outcome)) {
                    headers.insert(name, header);
                }
                self.step = Step::Headers(purpose, waiting, headers);
            }
            step @ (Step::Idle | Step::Listing(..) | Step::Headers(..)) => self.step = step,
        }
        self.conclude(now, live, desk);
    }

    /// Brings the books in line with what was found, and begins to look when the bank waits.
    pub(super) fn keep_holdings(&mut self, now: Tick, holdings: &mut Holdings, is_awaited: bool) {
        let _since_ever = self.mark.get_or_insert_with(|| holdings.note_change());
        if let Some(found) = self.found.take() {
            self.enter(found, holdings);
            if let Some(before) = std::mem::replace(&mut self.mark, self.next_mark.take()) {
                holdings.note_read(before);
            }
            self.due = now.plus_millis(AGAIN_MILLIS);
        } else if is_awaited && self.next_mark.is_none() {
            // Before the survey begins, so that whoever asks later waits for another one.
            self.next_mark = Some(holdings.note_change());
            self.due = self.due.min(now.plus_millis(AGAIN_MILLIS));
        }
    }

    fn enter(&mut self, found: BTreeMap<String, BootId>, holdings: &mut Holdings) {
        for boot_id in std::mem::replace(&mut self.entered, found).into_values() {
            holdings.remove(boot_id, COST);
        }
        for boot_id in self.entered.values() {
            holdings.add(*boot_id, COST);
        }
    }

    fn handle_listed(&mut self, now: Tick, purpose: For, outcome: &Outcome, desk: &mut Desk<'_>) {
        let Ok(Reply::Children(names)) = outcome else {
            self.due = now.plus_millis(AGAIN_MILLIS);
            return;
        };
        let rings = names.iter().filter(|name| !name.starts_with(TTL_PROBE));
        let asked = rings.map(|name| (desk.submit(Request::Get(below(RELAY, name))), name.clone()));
        self.step = Step::Headers(purpose, asked.collect(), BTreeMap::new());
    }

    fn conclude(&mut self, now: Tick, live: &[BootId], desk: &mut Desk<'_>) {
        let Step::Headers(purpose, waiting, headers) = &mut self.step else { return };
        if !waiting.is_empty() {
            return;
        }
        let (purpose, headers) = (*purpose, std::mem::take(headers));
        self.step = Step::Idle;
        if purpose == For::Bank {
            let owned = headers
                .iter()
                .filter_map(|(name, header)| header.boot_id.map(|boot_id| (name.clone(), boot_id)));
            self.found = Some(owned.collect());
        }
        self.remove_strays(now, headers, live, desk);
    }

    /// A ring that nobody alive has written goes when it has stayed as it is for a while.
    fn remove_strays(
        &mut self,
        now: Tick,
        headers: BTreeMap<String, Header>,
        live: &[BootId],
        desk: &mut Desk<'_>,
    ) {
        let Some(lock) = self.lock.clone() else { return };
        let mut strays = BTreeMap::new();
        for (name, header) in headers {
            if header.boot_id.is_some_and(|boot_id| live.contains(&boot_id)) {
                continue;
            }
            let before = self.strays.get(&name).filter(|(version, _)| *version == header.version);
            let since = before.map_or(now, |(_, since)| *since);
            if now.saturating_since(since) >= self.patience_millis {
                let ticket = desk.submit(removal(lock.clone(), &name, header.version));
                self.removing.insert(ticket);
            }
            strays.insert(name, (header.version, since));
        }
        self.strays = strays;
    }
}

/// All of a ring, unless its broker has written to it since.
fn removal(lock: Change, name: &str, version: i32) -> Request {
    let windows = (0..WINDOWS).map(|number| Change::Delete {
        path: path_of(&Znode { name: name.into(), window: Some(number) }),
        version: None,
    });
    let header = Change::Delete { path: below(RELAY, name), version: Some(version) };
    Request::All(std::iter::once(lock).chain(windows).chain([header]).collect())
}

/// Nothing when it is gone.
fn header_of(outcome: &Outcome) -> Option<Header> {
    let Ok(Reply::Data { data, stat }) = outcome else { return None };
    let boot_id = decode_relay_header(data).ok().map(|header| header.boot_id);
    Some(Header { boot_id, version: stat.version })
}

/// A ring costs what it may come to, however much is in it.
const COST: Funds = Funds { topics: 0, znode_bytes: 0, relay_bytes: RING_BYTES };
/// From a survey to the next while the bank waits for more.
const AGAIN_MILLIS: u64 = 100;
/// The probe of membership stands beside the rings for a moment.
const TTL_PROBE: &str = "ttl-probe-";
