//! The lease: until when this broker may acknowledge.
//!
//! It runs from the moment at which the last committed heartbeat was *sent*. A ping, or a read that a
//! follower answers while it is cut off, proves nothing; a commit does. When nobody's writes are
//! committed any more, it goes on as long as all brokers say so to each other.

use bytes::Bytes;

use super::desk::{Asked, Desk};
use super::output::{Heartbeat, Output, PeerLease};
use crate::cluster::paths::{CLOCK, below};
use crate::cluster::shown_time::ShownTime;
use crate::ports::clock::Tick;
use crate::ports::coordination::{Change, CreateMode, Request, Stat};

/// The heartbeat and what it is worth.
#[derive(Debug)]
pub(super) struct Lease {
    /// T.
    timeout_millis: u64,
    path: String,
    /// Whether the znode of the heartbeat is known to be ours, in this session.
    has_znode: bool,
    /// When the next one is to leave. None while it cannot, or while an answer is awaited.
    due: Option<Tick>,
    until: Tick,
    last_sent: Tick,
    /// When the last committed one was sent.
    committed: Option<Tick>,
    /// Since when no commit has been late.
    prompt_since: Option<Tick>,
    /// What the clock of the ensemble showed at which moment.
    ensemble: Option<(Tick, i64)>,
    is_frozen: bool,
    /// Whether a session was made behind the last commit.
    is_session_new: bool,
}

impl Lease {
    pub(super) fn new(name: &str, timeout_millis: u64, now: Tick) -> Self {
        Self {
            timeout_millis,
            path: below(CLOCK, name),
            has_znode: false,
            due: None,
            until: now,
            last_sent: now,
            committed: None,
            prompt_since: None,
            ensemble: None,
            is_frozen: false,
            is_session_new: false,
        }
    }

    /// T is another one from now on. A lease that was longer than it allows is shorter from now on.
    pub(super) fn set_timeout(&mut self, now: Tick, timeout_millis: u64, desk: &mut Desk) {
        self.timeout_millis = timeout_millis;
        let longest = now.plus_millis(timeout_millis * 2 / 3);
        if self.until > longest {
            self.until = longest;
            desk.say(Output::Lease { until: longest });
        }
    }

    /// Heartbeats leave from now on.
    pub(super) fn start(&mut self, now: Tick) {
        self.due = Some(now);
    }

    /// They cannot leave, and nobody waits for the answer of one that did.
    pub(super) fn stop(&mut self) {
        self.due = None;
    }

    /// There is another session: the ensemble has made it, and has no znode of ours in it.
    pub(super) fn change_session(&mut self) {
        self.has_znode = false;
        self.is_session_new = true;
    }

    /// The znode is not there. Returns whether it was believed to be.
    pub(super) fn lose_znode(&mut self) -> bool {
        std::mem::take(&mut self.has_znode)
    }

    /// Sends a heartbeat. It bears what the clocks show.
    pub(super) fn beat(&mut self, now: Tick, shown: ShownTime, desk: &mut Desk) {
        self.due = None;
        self.last_sent = now;
        let path = self.path.clone();
        let data = shown.encode();
        let change = if self.has_znode {
            Change::Set { path, data, version: None }
        } else {
            Change::Create { path, data, mode: CreateMode::Ephemeral }
        };
        desk.ask(Asked::Beat { sent: now }, Request::Change(change));
    }

    /// A heartbeat was committed.
    pub(super) fn committed(&mut self, now: Tick, sent: Tick, stat: Stat, desk: &mut Desk) {
        if self.own_lease(now) == PeerLease::Uncommitted {
            self.prompt_since = Some(now);
        }
        self.has_znode = true;
        (self.is_frozen, self.is_session_new) = (false, false);
        self.committed = Some(sent);
        self.ensemble = Some((now, stat.mtime_millis));
        self.due = Some(self.last_sent.plus_millis(self.timeout_millis / BEATS).max(now));
        self.extend(sent.plus_millis(self.timeout_millis * 2 / 3), desk);
        desk.say(Output::Heartbeat(Heartbeat { sent, answered: now, stat }));
    }

    /// Reads whose the znode is that was not to be there.
    pub(super) fn look(&self, desk: &mut Desk) {
        desk.ask(Asked::BeatHolder, Request::Get(self.path.clone()));
    }

    /// Makes the znode anew, as one of this session.
    pub(super) fn replace_znode(&self, desk: &mut Desk) {
        let path = self.path.clone();
        let data = Bytes::new();
        desk.ask(
            Asked::BeatAnew,
            Request::All(vec![
                Change::Delete { path: path.clone(), version: None },
                Change::Create { path, data, mode: CreateMode::Ephemeral },
            ]),
        );
    }

    /// The znode is there, and ours.
    pub(super) fn own_znode(&mut self, now: Tick) {
        self.has_znode = true;
        self.due = Some(now);
    }

    /// All brokers say that their writes are not committed. They may have said so a third of T ago, so
    /// that the lease is shorter by more than that: nobody declares anybody dead within T of having
    /// said so.
    ///
    /// One that has ended is not taken up again: somebody may have had the ensemble meanwhile, and
    /// have declared us dead. Only a commit tells. It is the same once the ensemble has made a session
    /// for us: it is there, whatever those say who are known, and may be there for one who is not.
    pub(super) fn freeze(&mut self, now: Tick, desk: &mut Desk) {
        let is_vain = self.is_session_new || now >= self.until;
        if !is_vain && self.own_lease(now) == PeerLease::Uncommitted {
            self.is_frozen = true;
            self.extend(now.plus_millis(self.timeout_millis / 2), desk);
        }
    }

    fn extend(&mut self, until: Tick, desk: &mut Desk) {
        if until > self.until {
            self.until = until;
            desk.say(Output::Lease { until });
        }
    }

    pub(super) fn until(&self) -> Tick {
        self.until
    }

    /// Whether it stands by what the peers say.
    pub(super) fn is_frozen(&self, now: Tick) -> bool {
        self.is_frozen && now < self.until
    }

    /// What to tell peers. It turns before the lease ends, so that brokers that lose the ensemble
    /// together know it from each other in time.
    pub(super) fn own_lease(&self, now: Tick) -> PeerLease {
        let prompt_millis = self.timeout_millis / 3;
        match self.committed {
            Some(sent) if now < sent.plus_millis(prompt_millis) => PeerLease::Committed,
            Some(_) | None => PeerLease::Uncommitted,
        }
    }

    /// When peers are told next how it stands, having been told at `last`: every sixth of T, at the
    /// moment at which it turns, and from then on four times as often. Whoever sent its last
    /// heartbeat a beat later turns a beat later, and must be heard before the lease of this one
    /// ends.
    pub(super) fn ping_due(&self, last: Tick) -> Tick {
        let turns_at = self.committed.map(|sent| sent.plus_millis(self.timeout_millis / 3));
        match turns_at.filter(|at| *at > last) {
            Some(at) => at.min(last.plus_millis(self.timeout_millis / PINGS)),
            None => last.plus_millis(self.timeout_millis / PINGS / 4),
        }
    }

    /// Since when this broker has told its peers without a pause that its writes are committed.
    pub(super) fn prompt_since(&self, now: Tick) -> Option<Tick> {
        self.prompt_since.filter(|_| self.own_lease(now) == PeerLease::Committed)
    }

    /// Seconds since 1970 on the clock of the ensemble.
    pub(super) fn ensemble_secs(&self, now: Tick) -> Option<u32> {
        let (then, millis) = self.ensemble?;
        let passed = i64::try_from(now.saturating_since(then)).ok()?;
        u32::try_from(millis.saturating_add(passed) / 1_000).ok()
    }

    pub(super) fn due(&self) -> Option<Tick> {
        self.due
    }
}

/// In one T. Two may fail before peers are told that writes are not committed.
const BEATS: u64 = 6;
/// In one T.
const PINGS: u64 = 6;
