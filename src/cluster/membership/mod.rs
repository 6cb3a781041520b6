//! Who is alive, who leads, who coordinates what, and how long this broker may acknowledge.
//!
//! A broker is named by its boot id. Its znode, `/brokers/<name>`, is ephemeral, so that its name is
//! its own; that the znode has gone makes it suspect and no more. It is dead when the leader has
//! written so into `/slots`, in the same change that gives its slots to others.
//!
//! [`Membership`] is told of what the tree of znodes says and of time, and says what to ask of the
//! tree and what others need to know. After each input take [`Membership::poll_output`] until there
//! is nothing, and then ask [`Membership::next_timeout`] when it wants to be woken.

mod desk;
mod known_slots;
mod lease;
mod lock;
pub mod output;
mod registration;
mod roll;
mod roster;
mod steering;
#[cfg(test)]
mod stories;
pub mod vetting;
mod voices;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use desk::{Asked, Desk};
use known_slots::KnownSlots;
use lease::Lease;
use lock::Lock;
use output::{MembershipOptions, Output, PeerLease};
use registration::Registration;
use roster::Roster;
use vetting::Door;
use voices::Strangers;

use crate::cluster::clock::Leading;
use crate::cluster::identity::{BootId, Member, MemberState};
use crate::cluster::paths::{BROKERS, CLOCK, FIXED, LEADER, RELAY, SLOTS, below, child_of};
use crate::cluster::shown_time::ShownTime;
use crate::cluster::slots::SlotMap;
use crate::cluster::tickets::{Owner, TicketSource};
use crate::ports::clock::Tick;
use crate::ports::coordination::{
    Change, ChangeKind, CoordinationError, CoordinationEvent, CreateMode, Reply, Request,
};

/// One life of one broker in its cluster.
#[derive(Debug)]
pub struct Membership {
    own: Member,
    session_timeout_millis: u64,
    desk: Desk,
    /// The last session there was.
    session: Option<i64>,
    is_connected: bool,
    /// Since when, without a break in which the tree may have been made anew.
    connected_since: Tick,
    fixed_made: BTreeSet<&'static str>,
    watched: BTreeSet<&'static str>,
    slots: Option<KnownSlots>,
    registration: Registration,
    door: Door,
    roster: Roster,
    lock: Lock,
    lease: Lease,
    strangers: Strangers,
    own_changes: u64,
    is_ttl_probed: bool,
    retry_at: Option<Tick>,
    /// When a broker that is gone may be declared dead.
    steer_at: Option<Tick>,
    /// Since when there are brokers that are gone and that no map has ever had.
    orphans_since: Option<Tick>,
    /// What was last said to be wrong: it is not said twice.
    trouble: String,
    ending: Ending,
    /// Whether it leaves since it does not belong to those that were there before it.
    is_withdrawing: bool,
}

/// How far this life is from its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    No,
    Leaving,
    Over,
}

/// The answer to a request.
type Outcome = Result<Reply, CoordinationError>;

impl Membership {
    /// A life that begins: nothing happens before the first [`CoordinationEvent::Connected`]. Where a
    /// session stands already, because this is not the first life of the process, tell it so.
    #[must_use]
    pub fn new(
        options: MembershipOptions,
        boot_id: BootId,
        tickets: TicketSource,
        now: Tick,
    ) -> Self {
        let lease = Lease::new(&options.name, options.session_timeout_millis, now);
        Self {
            own: Member {
                name: options.name,
                boot_id,
                link_address: options.link_address,
                zone: options.zone,
                wire: options.wire,
                state: MemberState::Joining,
            },
            session_timeout_millis: options.session_timeout_millis,
            desk: Desk::new(tickets),
            session: None,
            is_connected: false,
            connected_since: now,
            fixed_made: BTreeSet::new(),
            watched: BTreeSet::new(),
            slots: None,
            registration: Registration::default(),
            door: Door::default(),
            roster: Roster::default(),
            lock: Lock::new(boot_id),
            lease,
            strangers: Strangers::default(),
            own_changes: 0,
            is_ttl_probed: false,
            retry_at: None,
            steer_at: None,
            orphans_since: None,
            trouble: String::new(),
            ending: Ending::No,
            is_withdrawing: false,
        }
    }

    /// The tickets that the next life goes on with. This one is over.
    #[must_use]
    pub fn take_tickets(&mut self) -> TicketSource {
        let spent = Desk::new(TicketSource::new(Owner::Membership));
        std::mem::replace(&mut self.desk, spent).into_tickets()
    }

    /// Takes what the tree of znodes has to say. Answers to requests of others are nobody's here.
    pub fn handle(&mut self, now: Tick, event: &CoordinationEvent) {
        debug_assert!(self.desk.is_drained(), "outputs of the previous input were not drained");
        if self.ending == Ending::Over {
            return;
        }
        match event {
            CoordinationEvent::Connected { session, is_new } => {
                self.connected_since = now;
                self.handle_connected(*session, *is_new);
            }
            CoordinationEvent::Disconnected => self.handle_disconnected(),
            CoordinationEvent::Expired => {
                self.handle_disconnected();
                self.session = None;
            }
            CoordinationEvent::Answered { ticket, outcome } => {
                let Some(asked) = self.desk.answered(*ticket) else { return };
                self.handle_answered(now, asked, outcome);
            }
            CoordinationEvent::Changed { path, kind } => self.handle_changed(path, *kind),
        }
        self.go_on(now);
    }

    /// Time has come. `shown` is what the clocks of this node show now.
    pub fn handle_timeout(&mut self, now: Tick, shown: ShownTime) {
        debug_assert!(self.desk.is_drained(), "outputs of the previous input were not drained");
        if self.ending == Ending::Over || !self.is_connected {
            return;
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.look();
        }
        if self.lease.due().is_some_and(|at| at <= now) {
            self.lease.beat(now, shown, &mut self.desk);
        }
        self.go_on(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Tick> {
        if self.ending == Ending::Over || !self.is_connected {
            return None;
        }
        [self.retry_at, self.lease.due(), self.steer_at].into_iter().flatten().min()
    }

    /// The next thing to do or to know.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.desk.next_output()
    }

    /// The ensemble has granted the session that stands from now on this time: the lease, heartbeats
    /// and all waits follow it. Say so before [`CoordinationEvent::Connected`].
    pub fn set_session_timeout(&mut self, now: Tick, millis: u64) {
        self.session_timeout_millis = millis;
        self.lease.set_timeout(now, millis, &mut self.desk);
    }

    /// Says of this broker how far it is.
    pub fn set_state(&mut self, now: Tick, state: MemberState) {
        self.own_changes += u64::from(self.own.state != state);
        self.own.state = state;
        self.go_on(now);
    }

    /// The broker that has our name answered over its link: we cannot have it.
    pub fn name_holder_answered(&mut self) {
        let Some(holder) = self.registration.holder() else { return };
        let words = format!(
            "the name {} is taken by a live broker at {} ({:?}): give one of the two another --name",
            holder.name, holder.link_address, holder.boot_id
        );
        self.end(Output::Fatal(words));
    }

    /// Leaves the cluster: nobody has to wait until this broker is declared dead. Let the clients go
    /// first. [`Output::Left`] follows, at once where nobody can know of this life; not if there is
    /// something to take back and the tree of znodes cannot be reached: end the session then, so that
    /// somebody else may lead at once.
    pub fn leave(&mut self, now: Tick) {
        if self.ending != Ending::No {
            return;
        }
        if self.registration.was_never_asked() {
            return self.end(Output::Left);
        }
        self.ending = Ending::Leaving;
        self.go_on(now);
    }

    /// This broker, as its peers see it.
    #[must_use]
    pub fn own(&self) -> &Member {
        &self.own
    }

    /// Goes up whenever [`Self::own`], [`Self::present`] or [`Self::suspect`] say something else.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.own_changes + self.roster.revision()
    }

    /// The latest slot map, as far as this broker knows.
    #[must_use]
    pub fn slots(&self) -> Option<&Arc<SlotMap>> {
        self.slots.as_ref().map(|slots| &slots.map)
    }

    /// The other brokers whose znode is there.
    pub fn present(&self) -> impl Iterator<Item = &Member> {
        self.roster.present()
    }

    /// The other brokers whose znode was there and is not, and that are not declared dead.
    pub fn suspect(&self) -> impl Iterator<Item = &Member> {
        self.roster.suspect()
    }

    /// Acknowledgements may leave before this moment.
    #[must_use]
    pub fn lease_until(&self) -> Tick {
        self.lease.until()
    }

    /// At this moment all clients are let go, unless the lease is longer by then.
    #[must_use]
    pub fn let_go_at(&self) -> Tick {
        self.lease.until().plus_millis(self.session_timeout_millis / 3)
    }

    /// What to tell peers of the own lease.
    #[must_use]
    pub fn own_lease(&self, now: Tick) -> PeerLease {
        self.lease.own_lease(now)
    }

    /// When peers are to be told next how the own lease stands, and what they say of theirs is to be
    /// weighed ([`Self::peers_answer`]), after it was done at `last`.
    #[must_use]
    pub fn ping_due(&self, last: Tick) -> Tick {
        self.lease.ping_due(last)
    }

    /// Whether the lease stands only because no broker reaches the ensemble.
    #[must_use]
    pub fn is_frozen(&self, now: Tick) -> bool {
        self.lease.is_frozen(now)
    }

    /// Whether this broker leads.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.lock.leading_since().is_some()
    }

    /// Who stands first in the line of those who want to lead, as far as this broker knows.
    #[must_use]
    pub fn leader(&self) -> Option<BootId> {
        self.lock.first()
    }

    /// The part that every write of a leader begins with, if this broker leads.
    #[must_use]
    pub fn leader_check(&self) -> Option<Change> {
        self.lock.check()
    }

    /// What the clock of the cluster goes by, if this broker leads.
    #[must_use]
    pub fn leading(&self) -> Option<Leading> {
        let check = self.leader_check()?;
        let others = self.present().chain(self.suspect());
        let members = [&self.own].into_iter().chain(others);
        Some(Leading { check, members: members.map(|member| Arc::clone(&member.name)).collect() })
    }

    fn handle_connected(&mut self, session: i64, is_new: bool) {
        if is_new || self.session != Some(session) {
            self.session = Some(session);
            self.fixed_made.clear();
            self.watched.clear();
            self.registration.lose();
            self.lease.change_session();
            self.lock.open_session(session);
        }
        self.is_connected = true;
        self.trouble.clear();
        self.look();
    }

    fn handle_disconnected(&mut self) {
        self.is_connected = false;
        self.desk.forget();
        self.retry_at = None;
        self.steer_at = None;
        self.orphans_since = None;
        self.lease.stop();
        self.roster.forget_list();
        self.lock.stop(&mut self.desk);
    }

    /// Begins again with everything that is to be known of the tree: what has changed while there was
    /// no connection may go unsaid, and what was asked may never be answered.
    fn look(&mut self) {
        self.desk.forget();
        self.lease.stop();
        self.roster.forget_list();
        self.registration.interrupt();
        self.door.interrupt();
        for path in FIXED.into_iter().filter(|path| !self.fixed_made.contains(path)) {
            let (data, mode) = (Bytes::new(), CreateMode::Persistent);
            let change = Change::Create { path: path.to_owned(), data, mode };
            self.desk.ask(Asked::Fixed(path), Request::Change(change));
        }
        // Before the reads, so that no change falls between.
        for path in WATCHED.into_iter().filter(|path| !self.watched.contains(path)) {
            self.desk.ask(Asked::Watch(path), Request::Watch(path.to_owned()));
        }
        self.desk.read(Asked::Slots);
    }

    fn handle_answered(&mut self, now: Tick, asked: Asked, outcome: &Outcome) {
        match asked {
            Asked::Fixed(path) => match outcome {
                Ok(_) | Err(CoordinationError::NodeExists) => {
                    self.fixed_made.insert(path);
                }
                Err(error) => self.fail(now, "cannot make a znode all brokers need", error),
            },
            Asked::Watch(path) => match outcome {
                Ok(_) => {
                    self.watched.insert(path);
                }
                Err(error) => self.fail(now, "cannot watch the other brokers", error),
            },
            Asked::Slots => self.handle_slots(now, outcome),
            Asked::Around => self.handle_around(now, outcome),
            Asked::Neighbour(name) => self.handle_neighbour(now, &name, outcome),
            Asked::Register(state) => self.handle_registered(now, state, outcome),
            Asked::Holder => self.handle_holder(now, outcome),
            Asked::State(state) => self.handle_state_written(now, state, outcome),
            Asked::Leave => self.handle_left(now, outcome),
            Asked::Registrations => self.handle_registrations(now, outcome),
            Asked::Names => self.handle_names(now, outcome),
            Asked::Member(name) => self.handle_member(now, &name, outcome),
            Asked::Contenders => match outcome {
                Ok(Reply::Children(names)) => self.lock.listed(now, names, &mut self.desk),
                Ok(_) => {}
                Err(error) => self.fail(now, "cannot read who wants to lead", error),
            },
            Asked::Lock => match outcome {
                Ok(_) => self.desk.read(Asked::Contenders),
                Err(error) => self.fail(now, "cannot stand in line to lead", error),
            },
            Asked::Beat { sent } => self.handle_beat(now, sent, outcome),
            Asked::BeatHolder => self.handle_beat_holder(now, outcome),
            Asked::BeatAnew => match outcome {
                Ok(_) => self.lease.own_znode(now),
                Err(error) => self.fail(now, "cannot have the znode of the heartbeat", error),
            },
            Asked::Steer => self.handle_steered(now, outcome),
            Asked::TtlProbe => self.handle_ttl_probe(outcome),
            // A place or a probe that could not be ended ends by itself.
            Asked::OldLock | Asked::TtlProbeEnd => {}
        }
    }

    fn handle_changed(&mut self, path: &str, kind: ChangeKind) {
        if let Some(name) = child_of(BROKERS, path) {
            self.handle_broker_changed(name, kind);
        } else if let Some(name) = child_of(LEADER, path) {
            match kind {
                ChangeKind::Created => self.lock.appeared(name, &mut self.desk),
                ChangeKind::DataChanged => {}
                ChangeKind::Deleted => self.lock.gone(name, &mut self.desk),
            }
        } else if kind == ChangeKind::Deleted && WATCHED.contains(&path) {
            // Somebody takes the tree down by hand: put up again what all need.
            self.fixed_made.clear();
            self.look();
        } else if path == SLOTS {
            self.desk.read(Asked::Slots);
        }
    }

    fn handle_slots(&mut self, now: Tick, outcome: &Outcome) {
        match outcome {
            Ok(Reply::Data { data, stat }) => {
                if self.take_slots(now, data, *stat) {
                    self.go_on_registering(now);
                }
            }
            Ok(_) => {}
            Err(error) => {
                self.fixed_made.clear();
                self.fail(now, "cannot read the slot map", error);
            }
        }
    }

    fn handle_beat(&mut self, now: Tick, sent: Tick, outcome: &Outcome) {
        match outcome {
            Ok(Reply::Created { stat, .. } | Reply::Changed(stat)) => {
                self.lease.committed(now, sent, *stat, &mut self.desk);
            }
            Ok(_) => {}
            Err(CoordinationError::NodeExists) => self.lease.look(&mut self.desk),
            Err(CoordinationError::NoNode) if self.lease.lose_znode() => self.lease.start(now),
            Err(error) => {
                self.fixed_made.remove(CLOCK);
                self.fail(now, "the heartbeat was not committed", error);
            }
        }
    }

    fn handle_beat_holder(&mut self, now: Tick, outcome: &Outcome) {
        match outcome {
            Ok(Reply::Data { stat, .. }) if Some(stat.ephemeral_owner) == self.session => {
                self.lease.own_znode(now);
            }
            // One of an own session that has not ended yet: our name is ours alone.
            Ok(_) => self.lease.replace_znode(&mut self.desk),
            Err(_) => self.lease.start(now),
        }
    }

    fn probe_ttl(&mut self) {
        if !self.is_ttl_probed {
            let mode = CreateMode::PersistentWithTtl { ttl_millis: TTL_PROBE_MILLIS };
            let change = Change::Create { path: self.ttl_probe_path(), data: Bytes::new(), mode };
            self.desk.ask(Asked::TtlProbe, Request::Change(change));
        }
    }

    fn handle_ttl_probe(&mut self, outcome: &Outcome) {
        match outcome {
            Ok(_) | Err(CoordinationError::NodeExists) => {
                self.is_ttl_probed = true;
                let change = Change::Delete { path: self.ttl_probe_path(), version: None };
                self.desk.ask(Asked::TtlProbeEnd, Request::Change(change));
            }
            Err(CoordinationError::NoTtl) => {
                self.is_ttl_probed = true;
                self.desk.say(Output::TtlMissing);
            }
            // Whoever needs such znodes will say what is wrong.
            Err(_) => {}
        }
    }

    /// Beside the windows of frames, which are watched one by one.
    fn ttl_probe_path(&self) -> String {
        below(RELAY, &format!("ttl-probe-{}", self.own.boot_id))
    }

    /// Does what follows from all that is known.
    fn go_on(&mut self, now: Tick) {
        if self.ending == Ending::Over || !self.is_connected {
            return;
        }
        self.write_state();
        self.steer(now);
        if self.ending == Ending::Leaving {
            self.go_on_leaving(now);
        }
    }

    /// Something failed: all is looked at again, in a while or when there is a connection again.
    fn fail(&mut self, now: Tick, what: &str, error: &CoordinationError) {
        match error {
            // The events of the session say what these would.
            CoordinationError::ConnectionLost | CoordinationError::SessionExpired => {}
            CoordinationError::NoNode
            | CoordinationError::NodeExists
            | CoordinationError::BadVersion
            | CoordinationError::NotEmpty
            | CoordinationError::Part { .. }
            | CoordinationError::NoTtl
            | CoordinationError::NoAuth
            | CoordinationError::Busy
            | CoordinationError::Other(_) => self.say_trouble(format!("{what}: {error}")),
        }
        self.look_again_later(now);
    }

    fn look_again_later(&mut self, now: Tick) {
        if self.is_connected {
            self.retry_at = Some(now.plus_millis(RETRY_MILLIS));
        }
    }

    fn say_trouble(&mut self, line: String) {
        if line != self.trouble {
            self.trouble.clone_from(&line);
            self.desk.say(Output::Trouble(line));
        }
    }

    /// The last word of this life.
    fn end(&mut self, output: Output) {
        let is_withdrawn = self.is_withdrawing && output == Output::Left;
        let output = if is_withdrawn { Output::Withdrawn } else { output };
        self.ending = Ending::Over;
        self.lock.stop(&mut self.desk);
        self.desk.forget();
        self.desk.say(output);
    }
}

/// What this broker is told of when it changes.
const WATCHED: [&str; 3] = [BROKERS, SLOTS, LEADER];

const RETRY_MILLIS: u64 = 1_000;

const TTL_PROBE_MILLIS: u64 = 60_000;
