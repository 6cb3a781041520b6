//! One broker of the cluster: what `node` puts together, without sockets and tasks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use crate::broker::durable::{Durable, Registrar, RetainedReader};
use crate::broker::options::BrokerOptions;
use crate::broker::peers::Peers;
use crate::broker::peers::peer::Peer;
use crate::broker::shard::Shard;
use crate::broker::turn::Turn;
use crate::broker::{Broker, Guards, Seeds};
use crate::cluster::clock::{self, ClusterClock};
use crate::cluster::frame::{ControlFrame, Cursors, Fate, Hello, Outcome, RefusalCode, Welcome};
use crate::cluster::identity::{BootId, Member, MemberState, WireVersions};
use crate::cluster::inbound::Inbound;
use crate::cluster::lane::{Lane, LaneOptions};
use crate::cluster::membership::Membership;
use crate::cluster::membership::output::{Heartbeat, MembershipOptions, Output, PeerLease};
use crate::cluster::relay::LaneInUse;
use crate::cluster::shown_time::ShownTime;
use crate::cluster::tickets::{Owner, TicketSource};
use crate::cluster::wire::Batch;
use crate::mqtt::{ReasonCode, TopicFilter};
use crate::ports::clock::Tick;
use crate::ports::coordination::{CoordinationEvent, Request, Ticket};
use crate::ports::store::OwnerId;
use crate::session::outbox::Outbox;
use crate::sim::chance::Chance;
use crate::sim::cluster::database::Connected;
use crate::sim::cluster::ensemble::{SESSION_MILLIS, name};
use crate::sim::cluster::forging::forged;
use crate::sim::cluster::keeping::{Keeper, LATEST_FILTER, LATEST_MILLIS, Terms};
use crate::sim::cluster::verdict::Plant;
use crate::sim::endpoint::{Endpoint, Ready, TurnBounds};

/// What a process wants done.
pub(super) enum Effect {
    /// Hand this to the ensemble.
    Submit(Ticket, Request),
    /// Dial a broker.
    Open(Member, Arc<Lane>),
    /// Never mind that one.
    Close(BootId),
    /// Close the link to that one, and dial again.
    CutLink(BootId),
    /// Frames to somebody go this way from now on.
    LaneChanged(LaneInUse),
    /// It is in the tree from now on.
    Registered,
    /// Its connections end, and so many Sessions stay: it has no lease.
    LetGo(usize),
    /// It has something to say for the log.
    Say(String),
}

/// Remembers that the shard of the links was called: what it waited for is there.
#[derive(Default)]
struct LinkCall(AtomicBool);

impl Wake for LinkCall {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A process that runs.
#[expect(clippy::struct_excessive_bools, reason = "each is a step of its own, taken once")]
pub(super) struct Process {
    pub(super) number: u32,
    pub(super) broker: Broker,
    shard: Shard,
    link_shard: Shard,
    link_call: Arc<LinkCall>,
    outbox: Outbox,
    /// Makes it known to the database, where there is one.
    registrar: Option<Registrar>,
    /// Brings what is retained back from it.
    retained_reader: Option<RetainedReader>,
    /// When the database is told again what it has missed.
    store_reminder: Option<u64>,
    pub(super) membership: Membership,
    options: MembershipOptions,
    session: Option<i64>,
    awaited: Option<BTreeSet<BootId>>,
    pinged_at: u64,
    pub(super) slots_wanted_at: u64,
    has_let_go: bool,
    is_up: bool,
    pub(super) is_joined: bool,
    pub(super) started_at: u64,
    /// The clock of the cluster; where there is none, that of the ensemble is taken as it is.
    clock: Option<ClusterClock>,
    pub(super) is_over: bool,
    pub(super) boot_id: BootId,
    chance: Chance,
    skew_millis: u64,
    pub(super) plant: Plant,
    /// What it keeps in the tree beside its membership, if anything.
    pub(super) keeper: Option<Box<Keeper>>,
    pub(super) effects: Vec<Effect>,
    /// Connections that want a turn.
    pub(super) ready: Arc<Ready>,
    /// When it is woken next.
    pub(super) wake_at: Option<u64>,
}

/// What a new process is told.
pub(super) struct Start {
    pub(super) node: usize,
    pub(super) number: u32,
    pub(super) now: u64,
    pub(super) seed: u64,
    pub(super) lane: LaneOptions,
    pub(super) skew_millis: u64,
    pub(super) plant: Plant,
    pub(super) has_clock: bool,
    pub(super) terms: Option<Terms>,
    pub(super) store: Option<Connected>,
}

impl Process {
    pub(super) fn new(start: Start) -> Self {
        let mut chance = Chance::new(start.seed);
        let boot_id = draw_boot_id(&mut chance);
        let hash = chance.draw();
        let options = MembershipOptions {
            name: name(start.node).into(),
            link_address: format!("{}:1884", name(start.node)),
            zone: String::new(),
            wire: WireVersions::OURS,
            session_timeout_millis: SESSION_MILLIS,
        };
        let peers = Peers::new(boot_id, options.name.clone(), hash, start.lane);
        // Nothing is acknowledged before there is a lease.
        peers.set_lease(Tick::ZERO);
        let mut broker_options = BrokerOptions { cached_routes_max: 8, ..BrokerOptions::default() };
        if start.terms.is_some() {
            broker_options.latest.filters =
                TopicFilter::try_from(LATEST_FILTER).into_iter().collect();
            broker_options.latest.ttl_millis = LATEST_MILLIS;
        }
        let seeds = Seeds { hash, instance: chance.draw() };
        let mut broker = Broker::new(broker_options, Guards::default(), seeds).with_peers(peers);
        let (mut registrar, mut retained_reader) = (None, None);
        if let Some(store) = start.store {
            let durable = Durable::new(Arc::new(store), OwnerId(boot_id.0), WALL_MILLIS);
            let durable = Arc::new(durable);
            registrar = Some(Registrar::new(Arc::clone(&durable)));
            retained_reader = Some(RetainedReader::new(Arc::clone(&durable)));
            broker = broker.with_store(durable);
        }
        let now = Tick::from_millis(start.now);
        let tickets = TicketSource::new(Owner::Membership);
        let keeper = start.terms.map(|terms| Keeper::new(&options, boot_id, terms, &mut chance));
        Self {
            keeper: keeper.map(Box::new),
            number: start.number,
            shard: Shard::new(&broker),
            link_shard: Shard::new(&broker),
            link_call: Arc::default(),
            outbox: Outbox::new(),
            registrar,
            retained_reader,
            store_reminder: None,
            membership: Membership::new(options.clone(), boot_id, tickets, now),
            options,
            session: None,
            awaited: None,
            pinged_at: start.now,
            slots_wanted_at: start.now,
            has_let_go: false,
            is_up: false,
            is_joined: false,
            started_at: start.now,
            clock: start
                .has_clock
                .then(|| ClusterClock::new(SESSION_MILLIS, TicketSource::new(Owner::Clock))),
            is_over: false,
            boot_id,
            chance,
            skew_millis: start.skew_millis,
            plant: start.plant,
            effects: Vec::new(),
            ready: Arc::default(),
            wake_at: None,
            broker,
        }
    }

    pub(super) fn peers(&self) -> &Peers {
        self.broker.peers().expect("every simulated broker has peers")
    }

    // What the ensemble says, and time.

    pub(super) fn handle(&mut self, now: u64, event: &CoordinationEvent) {
        match event {
            CoordinationEvent::Connected { session, .. } => self.session = Some(*session),
            CoordinationEvent::Disconnected | CoordinationEvent::Expired => self.session = None,
            CoordinationEvent::Answered { .. } | CoordinationEvent::Changed { .. } => {}
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.hear(Tick::from_millis(now), event, self.plant);
        }
        if !self.hear_clock(now, event) {
            self.tell(now, |membership, tick| membership.handle(tick, event));
        }
        self.pass_time(now);
    }

    pub(super) fn pass_time(&mut self, now: u64) {
        let tick = Tick::from_millis(now);
        if self.membership.next_timeout().is_some_and(|due| due <= tick) {
            let wall_millis = WALL_MILLIS + now + self.skew_millis;
            let clock = self.clock.as_ref();
            let cluster_millis = clock.and_then(|clock| clock.cluster_millis(tick));
            let shown = ShownTime { wall_millis, cluster_millis };
            self.tell(now, |membership, tick| membership.handle_timeout(tick, shown));
        }
        if self.ping_due() <= now {
            self.pinged_at = now;
            self.ping(now);
        }
        let is_late = tick >= self.membership.let_go_at();
        if is_late && !self.has_let_go && self.is_joined && self.plant != Plant::EndlessLease {
            let kept = self.let_clients_go(now);
            self.effects.push(Effect::LetGo(kept));
        }
        self.has_let_go = is_late;
        self.settle_phase(now);
    }

    /// When it wants to be woken, whatever else happens.
    pub(super) fn next_due(&self, now: u64) -> u64 {
        let longest =
            if self.awaited.is_some() || !self.is_joined { JOIN_POLL_MILLIS } else { IDLE_MILLIS };
        let timeout = self.membership.next_timeout().map(Tick::as_millis);
        let keeper = self.keeper.as_ref().and_then(|keeper| keeper.next_timeout(self.peers()));
        let keeper = keeper.map(Tick::as_millis);
        let due = timeout.into_iter().chain(keeper);
        let due = due.chain([self.ping_due(), now + longest]).min();
        due.unwrap_or(now).max(now)
    }

    fn ping_due(&self) -> u64 {
        self.membership.ping_due(Tick::from_millis(self.pinged_at)).as_millis()
    }

    pub(super) fn tell(&mut self, now: u64, input: impl FnOnce(&mut Membership, Tick)) {
        input(&mut self.membership, Tick::from_millis(now));
        while let Some(output) = self.membership.poll_output() {
            self.carry_out(now, output);
        }
    }

    fn ping(&mut self, now: u64) {
        let tick = Tick::from_millis(now);
        let own_lease = self.membership.own_lease(tick);
        let (version, checksum, _) = self.peers().interest().summary();
        let frame = ControlFrame::Ping {
            version,
            checksum,
            has_lease: own_lease == PeerLease::Committed,
            cluster_millis: self.peers().cluster_millis(tick),
        };
        let live = self.peers().live();
        for peer in live.iter() {
            let heard = peer.heard();
            if heard.has_lease {
                self.membership.note_vouched(peer.boot_id(), heard.at);
            }
        }
        self.turn(now, |turn, peers| {
            turn.announce_credit(peers);
            turn.catch_up(peers);
            live.iter().for_each(|peer| turn.ping(peer, &frame));
        });
        if own_lease == PeerLease::Uncommitted {
            let fresh_millis = SESSION_MILLIS / 3;
            let answers = self.peers().lease_answers(tick, fresh_millis);
            self.tell(now, |membership, tick| membership.peers_answer(tick, &answers));
        }
    }

    fn carry_out(&mut self, now: u64, output: Output) {
        match output {
            Output::Submit(ticket, request) => self.effects.push(Effect::Submit(ticket, request)),
            Output::MemberJoined(member) => self.meet(now, member),
            Output::MemberSuspect(boot_id) => {
                self.say(format!("suspects {boot_id:?}"));
                if self.plant == Plant::BuryInDoubt {
                    return self.bury(now, boot_id);
                }
                self.suspect(boot_id, true);
            }
            Output::MemberBack(boot_id) => self.suspect(boot_id, false),
            Output::MemberDead(boot_id) => {
                if self.plant != Plant::MissedDeath {
                    self.bury(now, boot_id);
                }
            }
            Output::Registered { listed, absent } => {
                self.say(format!("is registered, {} listed, {absent:?}", listed.len()));
                let listed = listed.iter().map(|member| member.boot_id);
                self.awaited = Some(listed.chain(absent).collect());
                self.effects.push(Effect::Registered);
            }
            Output::Fatal(reason) => {
                self.say(reason);
                self.is_over = true;
            }
            Output::DeclaredDead | Output::Withdrawn => self.begin_life(now),
            Output::Left => self.is_over = true,
            Output::Lease { until } => {
                let until = if self.plant == Plant::EndlessLease {
                    Tick::from_millis(u64::MAX)
                } else {
                    until
                };
                self.peers().set_lease(until);
            }
            Output::Heartbeat(heartbeat) => self.note_heartbeat(now, &heartbeat),
            Output::Leading(is_leading) => self.say(format!("leads: {is_leading}")),
            Output::Trouble(words) => self.say(words),
            Output::Slots(map) => {
                self.turn(now, |turn, peers| turn.set_slots(peers, map));
                self.note_own_slots();
            }
            Output::MemberChanged(_) | Output::NameTaken { .. } | Output::TtlMissing => {}
        }
    }

    pub(super) fn say(&mut self, words: String) {
        self.effects.push(Effect::Say(words));
    }

    fn meet(&mut self, now: u64, member: Member) {
        self.say(format!("meets {} {:?}", member.name, member.boot_id));
        let lane = self.turn(now, |turn, peers| turn.add_peer(peers, &member));
        self.open_lane(now, member, lane);
    }

    fn suspect(&mut self, boot_id: BootId, is_suspect: bool) {
        let Some(peer) = self.peers().find(boot_id) else { return };
        if let Some(wake) = peer.lane().set_suspect(is_suspect) {
            wake.wake();
        }
    }

    fn bury(&mut self, now: u64, boot_id: BootId) {
        self.say(format!("buries {boot_id:?}"));
        if self.plant == Plant::NothingHeld {
            let all = Outcome { first: 0, count: u32::MAX, fate: Fate::Enqueued };
            self.turn(now, |turn, peers| {
                if let Some(peer) = peers.find(boot_id) {
                    turn.handle_outcomes(&peer, std::slice::from_ref(&all));
                }
            });
        }
        self.turn(now, |turn, peers| turn.remove_peer(peers, boot_id));
        self.effects.push(Effect::Close(boot_id));
        if let Some(keeper) = &mut self.keeper {
            keeper.relay.bury(boot_id);
        }
        if let Some(awaited) = &mut self.awaited {
            awaited.remove(&boot_id);
        }
    }

    /// Others go on without us.
    fn begin_life(&mut self, now: u64) {
        self.peers().set_admitting(false);
        self.is_joined = false;
        self.is_up = false;
        self.end_all_sessions(now);
        for peer in self.peers().live().iter() {
            self.turn(now, |turn, peers| turn.remove_peer(peers, peer.boot_id()));
            self.effects.push(Effect::Close(peer.boot_id()));
        }
        let boot_id = draw_boot_id(&mut self.chance);
        self.say(format!("was declared dead and is {boot_id:?} from now on"));
        self.turn(now, |turn, peers| turn.begin_life(peers, boot_id));
        self.boot_id = boot_id;
        self.awaited = None;
        if let Some(keeper) = &mut self.keeper {
            keeper.begin_life(&self.options, boot_id, &mut self.chance);
        }
        let tickets = self.membership.take_tickets();
        let tick = Tick::from_millis(now);
        self.membership = Membership::new(self.options.clone(), boot_id, tickets, tick);
        if let Some(session) = self.session {
            let event = CoordinationEvent::Connected { session, is_new: true };
            self.membership.handle(tick, &event);
            if let Some(keeper) = &mut self.keeper {
                keeper.registry.hear(tick, &event);
            }
        }
    }

    fn let_clients_go(&mut self, now: u64) -> usize {
        let let_go = self.turn(now, |turn, _| turn.let_clients_go(ReasonCode::ServerBusy));
        if self.plant == Plant::EndWithLease {
            self.end_all_sessions(now);
        }
        let_go.sessions_kept
    }

    fn end_all_sessions(&mut self, now: u64) {
        let _ended = self.turn(now, |turn, _| turn.end_all_sessions(ReasonCode::ServerBusy));
    }

    /// The database has answered.
    pub(super) fn hear_store(&mut self, now: u64) {
        self.poll_link_store(now);
        self.settle_phase(now);
    }

    fn poll_link_store(&mut self, now: u64) {
        let waker = Waker::from(Arc::clone(&self.link_call));
        let owes = self.link_turn(now, |turn, _| turn.poll_store(&waker));
        self.remind_store_later(now, owes);
    }

    fn keep_store(&mut self, now: u64) {
        let Some(registrar) = &mut self.registrar else { return };
        let home = self.membership.slot_record().map(|record| record.home);
        registrar.poll(Tick::from_millis(now), home, Waker::noop());
        let owes = self.turn(now, |turn, _| turn.poll_store(Waker::noop()));
        self.remind_store_later(now, owes);
        // The database is not all it waits for: so does what is collected for a Session, of which another shard
        // may tell what has become.
        if self.link_call.0.swap(false, Ordering::Relaxed) {
            self.poll_link_store(now);
        }
        if self.store_reminder.is_some_and(|at| at <= now) {
            self.store_reminder = None;
            self.turn(now, |turn, _| turn.remind_store());
            self.link_turn(now, |turn, _| turn.remind_store());
        }
        if self.plant != Plant::NoAdoption {
            self.turn(now, |turn, peers| turn.poll_adoptions(peers, Waker::noop()));
        }
    }

    fn remind_store_later(&mut self, now: u64, owes: bool) {
        if owes {
            self.store_reminder.get_or_insert(now + STORE_REMINDER_MILLIS);
        }
    }

    fn note_heartbeat(&mut self, now: u64, heartbeat: &Heartbeat) {
        if let Some(clock) = &mut self.clock {
            let wall_millis = WALL_MILLIS + now + self.skew_millis;
            clock.handle_heartbeat(heartbeat, wall_millis, self.membership.leading());
            return self.follow_clock();
        }
        let middle = u64::midpoint(heartbeat.sent.as_millis(), heartbeat.answered.as_millis());
        let middle = i64::try_from(middle).unwrap_or(i64::MAX);
        self.peers().set_clock_offset(heartbeat.stat.mtime_millis - middle);
    }

    /// Whether what the ensemble says is for the clock.
    fn hear_clock(&mut self, now: u64, event: &CoordinationEvent) -> bool {
        let (CoordinationEvent::Answered { ticket, outcome }, Some(clock)) =
            (event, &mut self.clock)
        else {
            return false;
        };
        if Owner::of(*ticket) != Some(Owner::Clock) {
            return false;
        }
        clock.handle_answer(Tick::from_millis(now), *ticket, outcome);
        self.follow_clock();
        true
    }

    fn follow_clock(&mut self) {
        let Some(clock) = &mut self.clock else { return };
        while let Some(output) = clock.poll_output() {
            if let clock::Output::Submit(ticket, request) = output {
                self.effects.push(Effect::Submit(ticket, request));
            }
        }
        if let Some(offset) = clock.offset_millis() {
            self.peers().set_clock_offset(offset);
        }
    }

    fn settle_phase(&mut self, now: u64) {
        self.keep_store(now);
        self.keep_tree(now);
        // The task of the node is called for this by whoever has something to hand over.
        self.turn(now, |turn, peers| turn.poll_exports(peers, Waker::noop()));
        self.spread_slots(now);
        self.admit_when_mapped(now);
        let Some(awaited) = &self.awaited else { return };
        let has_told = |boot_id: &BootId| {
            let peer = self.peers().find(*boot_id);
            peer.is_some_and(|peer| peer.has_told_interest() && peer.has_told_retained())
        };
        if !self.peers().knows_time() || !awaited.iter().all(has_told) {
            return;
        }
        self.awaited = None;
        self.is_up = true;
        self.tell(now, |membership, tick| membership.set_state(tick, MemberState::Up));
    }

    /// Takes clients once the slot map knows this broker.
    fn admit_when_mapped(&mut self, now: u64) {
        let own = self.peers().boot_id();
        let is_in_map = self.membership.slots().is_some_and(|map| map.is_member(own));
        let is_known = self.registrar.as_ref().is_none_or(|registrar| {
            registrar.is_done() && self.peers().adoptions().is_settled(self.peers())
        });
        if !self.is_up || !is_in_map || !is_known || self.is_joined {
            return;
        }
        if let Some(mut reader) = self.retained_reader.take() {
            let is_read = self.turn(now, |turn, peers| reader.poll(turn, peers, Waker::noop()));
            self.retained_reader = Some(reader);
            if !is_read {
                return;
            }
        }
        self.peers().set_admitting(true);
        self.is_joined = true;
        self.say("takes clients".to_owned());
    }

    // Links.

    /// Somebody dials.
    pub(super) fn welcome(&mut self, now: u64, hello: &Hello) -> Welcome {
        let own = self.peers().boot_id();
        let refused = |reason: &str| Welcome::Refused {
            reason: reason.to_owned(),
            boot_id: own,
            code: RefusalCode::Other,
        };
        if hello.to != own && self.plant != Plant::WrongLife {
            return refused("another life is meant");
        }
        if !self.peers().knows_time() {
            return refused("the time of the cluster is not known yet");
        }
        let Some(wire) = WireVersions::OURS.common(hello.wire) else {
            return refused("no common version");
        };
        let Some(peer) = self.peers().find(hello.boot_id) else {
            self.peers().note_stranger(hello.boot_id, Tick::from_millis(now));
            return refused("a stranger");
        };
        if self.plant == Plant::ForgetDedupe {
            let mut inbound = peer.inbound().lock();
            *inbound = Inbound::default();
            let _all = inbound.resume(hello.gone);
        }
        let received = self.link_turn(now, |turn, peers| turn.greet(peers, &peer, hello.gone));
        Welcome::Accepted { wire, received }
    }

    /// A batch has come.
    pub(super) fn receive(
        &mut self,
        now: u64,
        from: BootId,
        batch: &Batch,
    ) -> Result<Cursors, Refused> {
        let peer = self.peers().find(from).ok_or(Refused)?;
        if self.plant == Plant::AcceptGap {
            let mut gone = Cursors::default();
            *gone.of_mut(batch.kind) = batch.first_seq - 1;
            let _lost = peer.inbound().lock().resume(gone);
        }
        let forged = forged(batch, self.plant);
        let batch = forged.as_ref().unwrap_or(batch);
        let result = self.link_turn(now, |turn, peers| turn.receive_batch(peers, &peer, batch));
        result.map_err(|_fault| Refused)?;
        Ok(peer.inbound().lock().received())
    }

    // Turns.

    pub(super) fn turn<R>(&mut self, now: u64, work: impl FnOnce(&mut Turn<'_>, &Peers) -> R) -> R {
        run(&self.broker, &mut self.shard, &mut self.outbox, now, self.plant, work)
    }

    pub(super) fn link_turn<R>(
        &mut self,
        now: u64,
        work: impl FnOnce(&mut Turn<'_>, &Peers) -> R,
    ) -> R {
        run(&self.broker, &mut self.link_shard, &mut self.outbox, now, self.plant, work)
    }

    /// A turn of a connection: what it writes.
    pub(super) fn turn_of(&mut self, now: u64, endpoint: &mut Endpoint) -> bytes::Bytes {
        self.turn(now, |turn, _| endpoint.turn(turn, usize::MAX, BOUNDS).0)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other rules are broken elsewhere")]
fn run<R>(
    broker: &Broker,
    shard: &mut Shard,
    outbox: &mut Outbox,
    now: u64,
    plant: Plant,
    work: impl FnOnce(&mut Turn<'_>, &Peers) -> R,
) -> R {
    let peers = broker.peers().expect("every simulated broker has peers");
    let mut turn = Turn { broker, shard, now: Tick::from_millis(now), outbox };
    let result = work(&mut turn, peers);
    match plant {
        Plant::AcknowledgeBeforeDone => {
            let all = Outcome { first: 0, count: u32::MAX, fate: Fate::Enqueued };
            for peer in peers.live().iter() {
                turn.handle_outcomes(peer, std::slice::from_ref(&all));
            }
        }
        Plant::SubackBeforeApplied => {
            let mut wakes = Vec::new();
            for peer in peers.live().iter() {
                peers.interest().note_applied(peer.boot_id(), u64::MAX, &mut wakes);
            }
            wakes.into_iter().for_each(std::task::Waker::wake);
        }
        _ => {}
    }
    outbox.clear();
    shard.take_events().for_each(drop);
    shard.end_turn(Tick::from_millis(now));
    result
}

/// Whether `peer` is known as it is.
pub(super) fn knows(process: &Process, peer: &Process) -> Result<(), String> {
    let Some(known): Option<Arc<Peer>> = process.peers().find(peer.boot_id) else {
        return Err(format!("does not know {:?}", peer.boot_id));
    };
    let (version, checksum, len) = peer.peers().interest().summary();
    let interest = known.interest().lock();
    if interest.checksum() != checksum || interest.len() != len || interest.version() != version {
        return Err(format!(
            "knows {} filters of {:?} at version {}, which has {len} at {version}",
            interest.len(),
            peer.boot_id,
            interest.version()
        ));
    }
    Ok(())
}

/// A batch was not taken: the link is closed and begins anew.
#[derive(Debug, thiserror::Error)]
#[error("the batch was not taken")]
pub(super) struct Refused;

fn draw_boot_id(chance: &mut Chance) -> BootId {
    BootId(u128::from(chance.draw()) << 64 | u128::from(chance.draw()))
}

const BOUNDS: TurnBounds = TurnBounds { packets: 128, deliveries: 4_096, outbox_bytes: 1 << 20 };
const JOIN_POLL_MILLIS: u64 = 10;
const IDLE_MILLIS: u64 = 1_000;
/// A store that fails is told again after so long.
const STORE_REMINDER_MILLIS: u64 = 1_000;
/// The beginning of time, in milliseconds since 1970.
const WALL_MILLIS: u64 = 1_700_000_000_000;
