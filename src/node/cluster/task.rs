//! The task that keeps a broker in its cluster: what the tree of znodes says goes into the state
//! machines, and what they want done is done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::bell::Bell;
use super::goodbyes::Goodbyes;
use super::hearing::with_those_behind;
use super::phase::Phase;
use super::reach::Reach;
use super::relaying::LinkNews;
use super::status::Status;
use crate::activity::ActivityLog;
use crate::admin::{Health, Standing};
use crate::broker::Broker;
use crate::broker::durable::{Registrar, RetainedReader};
use crate::broker::letting_go::LetGo;
use crate::broker::peers::Peers;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::topic_registry::{RegistryNews, RegistryTerms, TopicRegistry};
use crate::broker::turn::Turn;
use crate::cluster::clock::{self, ClusterClock};
use crate::cluster::frame::{ControlFrame, STORED_WIRE_MIN};
use crate::cluster::identity::{BootId, Member, MemberState};
use crate::cluster::membership::Membership;
use crate::cluster::membership::output::{Heartbeat, MembershipOptions, Output, PeerLease};
use crate::cluster::membership::vetting::objection_to_wire;
use crate::cluster::relay::Relay;
use crate::cluster::shown_time::ShownTime;
use crate::cluster::slots::SlotMap;
use crate::cluster::tickets::Owner;
use crate::gateway::mqtt::ShardContext;
use crate::mqtt::ReasonCode;
use crate::peer::{ClusterSeal, Links};
use crate::ports::clock::Tick;
use crate::ports::coordination::{Coordination, CoordinationEvent};
use crate::runtime::background::BackgroundHandle;
use crate::runtime::{Clock, Shutdown};

/// Everything the task owns.
#[expect(clippy::struct_excessive_bools, reason = "each is a step of its own, taken once")]
pub(super) struct ClusterTask {
    pub(super) broker: Arc<Broker>,
    pub(super) activity: Option<ActivityLog>,
    pub(super) clock: Clock,
    /// Turns that belong to no connection are had here.
    pub(super) context: ShardContext,
    pub(super) coordination: Arc<dyn Coordination>,
    pub(super) events: mpsc::Receiver<CoordinationEvent>,
    pub(super) options: MembershipOptions,
    pub(super) membership: Membership,
    /// What others are told by, also in the next life.
    pub(super) seal: ClusterSeal,
    /// Whether it says something else than the own znode.
    pub(super) has_new_seal: Arc<AtomicBool>,
    pub(super) cluster_clock: ClusterClock,
    pub(super) registry: TopicRegistry,
    pub(super) relay: Relay,
    pub(super) link_news: Arc<LinkNews>,
    pub(super) reach: Reach,
    /// Whether other brokers are dialled.
    pub(super) has_links: bool,
    /// What may be registered.
    pub(super) terms: RegistryTerms,
    pub(super) bell: Arc<Bell>,
    pub(super) links: Links,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) status: Arc<Status>,
    pub(super) health: Arc<Health>,
    pub(super) background: BackgroundHandle,
    /// Begun when the broker drains, when its clients are gone, and when it has left.
    pub(super) draining: Shutdown,
    pub(super) leaving: Shutdown,
    pub(super) left: Shutdown,
    /// The session that stands, for a life that begins within it.
    pub(super) session: Option<i64>,
    /// Whose interest and retained messages must be here before clients are taken; nothing before
    /// the own znode is there.
    pub(super) awaited: Option<BTreeSet<BootId>>,
    pub(super) goodbyes: Goodbyes,
    /// When peers were last told that we are there.
    pub(super) pinged_at: Tick,
    /// When others are asked next for a later slot map.
    pub(super) slots_wanted_at: Tick,
    /// Whether a living broker has our name.
    pub(super) has_name_holder_answered: Arc<AtomicBool>,
    /// Whether the others have been told that this broker is up.
    pub(super) is_up: bool,
    /// Whether it has left, or cannot stay.
    pub(super) is_over: bool,
    /// Whether clients have been let go because the lease had ended.
    pub(super) has_let_go: bool,
    /// Makes this broker known to the store, where there is one.
    pub(super) registrar: Option<Registrar>,
    /// Brings what is retained back, where there is a store.
    pub(super) retained_reader: Option<RetainedReader>,
    /// When the store is told again what it has missed.
    pub(super) store_reminder: Option<Tick>,
    /// Whether it was said that the lease is over.
    pub(super) is_cut_off: bool,
}

impl ClusterTask {
    /// Runs until the broker has left the cluster, or cannot be part of it.
    pub(super) async fn run(mut self) {
        let (mut is_draining, mut is_leaving) = (false, false);
        let waker = self.bell.waker();
        while !self.is_over {
            self.keep_store(&waker);
            self.settle_phase();
            if self.has_name_holder_answered.swap(false, Ordering::AcqRel) {
                self.tell(|membership, _| membership.name_holder_answered());
            }
            if self.has_new_seal.swap(false, Ordering::AcqRel) {
                self.tell(Membership::renew_record);
            }
            self.spread_slots(&waker);
            self.keep_relay();
            self.keep_registry(&waker);
            self.say_how_it_is();
            let wait = self.until_next();
            let (draining, leaving) = (self.draining.clone(), self.leaving.clone());
            let bell = Arc::clone(&self.bell);
            tokio::select! {
                event = self.events.recv() => {
                    let Some(event) = event else { break };
                    self.hear_all(event);
                }
                () = tokio::time::sleep(wait) => {}
                () = bell.rung() => {}
                () = draining.begun(), if !is_draining => {
                    is_draining = true;
                    self.tell(|membership, now| membership.set_state(now, MemberState::Draining));
                }
                () = leaving.begun(), if !is_leaving => {
                    is_leaving = true;
                    self.tell(Membership::leave);
                }
            }
            self.pass_time();
        }
        self.left.begin();
    }

    /// Hears what the store has to say to turns of this task.
    fn keep_store(&mut self, waker: &Waker) {
        let Some(registrar) = &mut self.registrar else { return };
        let now = self.clock.now();
        let record = if registrar.is_done() { None } else { self.membership.slot_record() };
        let home = record.map(|record| record.home);
        registrar.poll(now, home, waker);
        let is_due = self.store_reminder.is_some_and(|at| at <= now);
        let owes = self.context.run(&self.broker, now, |turn| {
            if is_due {
                turn.remind_store();
            }
            turn.poll_store(waker)
        });
        if is_due || !owes {
            self.store_reminder = None;
        }
        if owes {
            self.store_reminder.get_or_insert(now.plus_millis(STORE_REMINDER_MILLIS));
        }
    }

    /// Whether all is here that the store has of retained messages. It is asked only when nobody can
    /// store any more of which this broker would not hear.
    fn has_read_retained(&mut self, peers: &Peers) -> bool {
        let Some(reader) = &mut self.retained_reader else { return true };
        let (now, waker) = (self.clock.now(), self.bell.waker());
        self.context.run(&self.broker, now, |turn| reader.poll(turn, peers, &waker))
    }

    /// Whether the store is still to say something before clients are taken.
    fn waits_for_store(&self) -> bool {
        let is_reading = self.retained_reader.as_ref().is_some_and(RetainedReader::is_waiting);
        is_reading || self.is_unknown_to_store()
    }

    /// Whether the store is still to hear of this life of the broker.
    fn is_unknown_to_store(&self) -> bool {
        self.registrar.as_ref().is_some_and(|registrar| !registrar.is_done())
    }

    /// One input, and then everything that it gives rise to.
    pub(super) fn tell(&mut self, input: impl FnOnce(&mut Membership, Tick)) {
        input(&mut self.membership, self.clock.now());
        while let Some(output) = self.membership.poll_output() {
            self.carry_out(output);
        }
    }

    /// An event, and those that wait behind it: what is done once for all of them is done once. An
    /// answer to a heartbeat that waits behind hundreds of others may not wait for a turn of each.
    fn hear_all(&mut self, first: CoordinationEvent) {
        for event in with_those_behind(first, &mut self.events) {
            self.hear(&event);
        }
    }

    /// What the tree of znodes says goes to whoever asked, or to membership.
    fn hear(&mut self, event: &CoordinationEvent) {
        if *event == CoordinationEvent::Expired {
            self.coordination.note_expired();
        }
        self.note_session(event);
        self.registry.hear(self.clock.now(), event);
        self.relay.handle(self.clock.now(), event);
        match event {
            CoordinationEvent::Answered { ticket, outcome }
                if Owner::of(*ticket) == Some(Owner::Clock) =>
            {
                self.cluster_clock.handle_answer(self.clock.now(), *ticket, outcome);
                self.follow_clock();
            }
            CoordinationEvent::Answered { .. }
            | CoordinationEvent::Changed { .. }
            | CoordinationEvent::Connected { .. }
            | CoordinationEvent::Disconnected
            | CoordinationEvent::Expired => {
                self.tell(|membership, now| membership.handle(now, event));
            }
        }
    }

    /// For operators, and for whoever sends traffic here.
    fn say_how_it_is(&mut self) {
        let now = self.clock.now();
        self.say_if_cut_off(now);
        self.status.note(&self.membership, &self.cluster_clock, now);
        let obstacle = if !self.phase.borrow().takes_clients() {
            Some(match self.session {
                Some(_) if self.is_up && self.waits_for_store() => "waits for the database",
                Some(_) => "joining: this broker is not part of its cluster yet",
                None => "joining: there is no ZooKeeper session, see the log",
            })
        } else if now >= self.membership.lease_until() {
            Some("cut off: other brokers may believe this one dead")
        } else {
            None
        };
        let reaches_zookeeper = self.membership.own_lease(now) == PeerLease::Committed;
        let degraded = (!reaches_zookeeper).then_some("zookeeper");
        let links = self.reach.degraded();
        self.health.set_standing(Standing { obstacle, degraded, links });
    }

    /// A broker that is out of the Service for a moment has a line about it.
    fn say_if_cut_off(&mut self, now: Tick) {
        let takes_clients = self.phase.borrow().takes_clients();
        let is_cut_off = takes_clients && now >= self.membership.lease_until();
        let was_cut_off = std::mem::replace(&mut self.is_cut_off, is_cut_off);
        if is_cut_off && !was_cut_off {
            tracing::warn!(
                "nothing is acknowledged for the moment: no write to ZooKeeper has been committed for two \
                 thirds of the session timeout, and not all brokers say the same"
            );
        } else if was_cut_off && !is_cut_off && takes_clients {
            tracing::info!("a write to ZooKeeper is committed: what waited is acknowledged");
        }
    }

    fn note_session(&mut self, event: &CoordinationEvent) {
        match event {
            CoordinationEvent::Connected { session, .. } => {
                self.session = Some(*session);
                self.follow_session_timeout();
            }
            CoordinationEvent::Disconnected | CoordinationEvent::Expired => self.session = None,
            CoordinationEvent::Answered { .. } | CoordinationEvent::Changed { .. } => {}
        }
    }

    /// The ensemble may grant another time than was asked for, and it is by its own that it ends a
    /// session.
    fn follow_session_timeout(&mut self) {
        let Some(millis) = self.coordination.session_timeout_millis() else { return };
        self.options.session_timeout_millis = millis;
        self.cluster_clock.set_survey_every(millis);
        self.tell(|membership, now| membership.set_session_timeout(now, millis));
    }

    /// Tells the registry what is new here, and the broker what is new elsewhere.
    fn keep_registry(&mut self, waker: &Waker) {
        let broker = Arc::clone(&self.broker);
        let Some(peers) = broker.peers() else { return };
        let now = self.clock.now();
        self.context.run(&self.broker, now, |turn| turn.poll_exports(peers, waker));
        self.context.run(&self.broker, now, |turn| turn.poll_adoptions(peers, waker));
        self.context.run(&self.broker, now, |turn| turn.poll_wills(peers, waker));
        let registry = &mut self.registry;
        if registry.is_latest_due(now, peers) {
            self.context.run(&self.broker, now, |turn| registry.take_latest(turn, peers));
        }
        registry.keep(now, peers, &self.membership, &mut self.relay, waker);
        let coordination = &self.coordination;
        for news in registry.carry_out(|ticket, request| coordination.submit(ticket, request)) {
            if matches!(news, RegistryNews::NoTtl) {
                tracing::warn!(
                    "topics are not registered: ZooKeeper keeps no TTL nodes, put \
                     extendedTypesEnabled=true into zoo.cfg"
                );
            }
            self.context.run(&self.broker, now, |turn| registry.tell_broker(turn, peers, news));
        }
        let (topics, bank) = self.registry.readings();
        self.status.note_registry(topics, bank);
    }

    /// How long there is nothing to do unless something happens.
    fn until_next(&self) -> Duration {
        let now = self.clock.now();
        let ping = self.membership.ping_due(self.pinged_at);
        let due = self.membership.next_timeout().into_iter().chain([ping]);
        let peers = self.broker.peers();
        let due = due.chain(peers.and_then(|peers| self.registry.next_timeout(peers)));
        let due = due.chain(self.relay.next_timeout()).min();
        let millis = due.map_or(0, |due| due.saturating_since(now));
        // The phase depends on what peers say, which wakes nobody here.
        let longest =
            if self.phase.borrow().takes_clients() { IDLE_MILLIS } else { JOIN_POLL_MILLIS };
        Duration::from_millis(millis.min(longest))
    }

    fn pass_time(&mut self) {
        let now = self.clock.now();
        if self.membership.next_timeout().is_some_and(|due| due <= now) {
            let wall_millis = self.clock.unix_millis();
            let cluster_millis = self.cluster_clock.cluster_millis(now);
            let shown = ShownTime { wall_millis, cluster_millis };
            self.tell(|membership, now| membership.handle_timeout(now, shown));
        }
        if self.membership.ping_due(self.pinged_at) <= now {
            self.pinged_at = now;
            self.ping(now);
            self.look_at_links(now);
        }
        let is_late = now >= self.membership.let_go_at();
        if is_late && !self.has_let_go && self.phase.borrow().takes_clients() {
            self.let_clients_go();
        }
        if self.has_let_go && !is_late && self.phase.borrow().takes_clients() {
            let sessions = self.broker.registry().len();
            tracing::info!(
                sessions,
                "the lease is renewed: clients may come back to their sessions"
            );
        }
        self.has_let_go = is_late;
    }

    /// Tells every peer that we are there, and hears what they say of their leases.
    fn ping(&mut self, now: Tick) {
        let Some(peers) = self.broker.peers() else { return };
        let own_lease = self.membership.own_lease(now);
        let (version, checksum, _) = peers.interest().summary();
        let frame = ControlFrame::Ping {
            version,
            checksum,
            has_lease: own_lease == PeerLease::Committed,
            cluster_millis: peers.cluster_millis(now),
        };
        let live = peers.live();
        for peer in live.iter() {
            let heard = peer.heard();
            if heard.has_lease {
                self.membership.note_vouched(peer.boot_id(), heard.at);
            }
        }
        self.context.run(&self.broker, now, |turn| {
            turn.announce_credit(peers);
            turn.catch_up(peers);
            for peer in live.iter() {
                turn.ping(peer, &frame);
            }
        });
        if own_lease == PeerLease::Uncommitted {
            let fresh_millis = self.options.session_timeout_millis / 3;
            let answers = peers.lease_answers(now, fresh_millis);
            self.tell(|membership, now| membership.peers_answer(now, &answers));
        }
    }

    fn note(&self, broker: &str, what: &str) {
        if let Some(activity) = &self.activity {
            activity.note_cluster(broker, what);
        }
    }

    fn own_name(&self) -> &str {
        self.broker.peers().map_or("", |peers| peers.name())
    }

    /// Does what the state machine wants done.
    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Submit(ticket, request) => self.coordination.submit(ticket, request),
            Output::MemberJoined(member) => self.meet(&member),
            Output::MemberChanged(member) => {
                tracing::info!(member = %member.name, state = ?member.state, "a broker has changed");
                self.note(&member.name, &format!("it is {:?} now", member.state).to_lowercase());
                if member.state == MemberState::Draining {
                    self.goodbyes.note(member.boot_id, self.clock.now());
                }
                if let Some(peer) = self.broker.peers().and_then(|peers| peers.find(member.boot_id))
                {
                    self.open_lane(self.clock.now(), &member, Arc::clone(peer.lane()));
                }
            }
            Output::MemberSuspect(boot_id) => self.suspect(boot_id, true),
            Output::MemberBack(boot_id) => self.suspect(boot_id, false),
            Output::MemberDead(boot_id) => self.bury(boot_id),
            Output::Slots(map) => self.follow_slots(map),
            Output::Leading(is_leading) => {
                tracing::info!(is_leading, "the leader of the cluster has changed");
                let what = if is_leading { "it leads now" } else { "it leads no more" };
                self.note(self.own_name(), what);
            }
            Output::Registered { listed, absent } => {
                // Nothing can be told by one without a common version, which came later: it waits for us.
                let listed =
                    listed.iter().filter(|one| self.options.wire.common(one.wire).is_some());
                let listed = listed.map(|member| member.boot_id);
                self.awaited = Some(listed.chain(absent).collect());
            }
            Output::NameTaken { holder } => self.ask_name_holder(holder),
            Output::Fatal(reason) => {
                tracing::error!("{reason}");
                self.phase.send_replace(Phase::Failed(reason));
                self.is_over = true;
            }
            Output::DeclaredDead => self.rise_again(),
            Output::Withdrawn if self.leaving.is_begun() => self.is_over = true,
            Output::Withdrawn => {
                // Why was said; nobody was a client here.
                self.begin_life();
            }
            Output::Left => self.is_over = true,
            Output::Lease { until } => {
                if let Some(peers) = self.broker.peers() {
                    peers.set_lease(until);
                }
            }
            Output::Heartbeat(heartbeat) => self.note_heartbeat(&heartbeat),
            Output::TtlMissing => tracing::error!(
                "ZooKeeper keeps no TTL nodes: put extendedTypesEnabled=true into zoo.cfg of every \
                 server, or start it with -Dzookeeper.extendedTypesEnabled=true; topics are not \
                 registered until then"
            ),
            Output::Trouble(line) => tracing::warn!("{line}"),
        }
    }

    /// Client Identifiers have other coordinators.
    fn follow_slots(&mut self, map: Arc<SlotMap>) {
        let Some(peers) = self.broker.peers() else { return };
        let now = self.clock.now();
        self.context.run(&self.broker, now, |turn| turn.set_slots(peers, Arc::clone(&map)));
        self.status.note_slots(map);
        self.note_own_slots();
    }

    /// A broker is there. One without a common version of the link protocol does not become a peer: it
    /// takes no client before it has been told what ours want, which nobody can tell it, so that nothing
    /// comes from there, and nothing here waits for it.
    fn meet(&mut self, member: &Member) {
        let Some(peers) = self.broker.peers() else { return };
        if let Some(objection) = objection_to_wire(self.options.wire, member) {
            tracing::warn!(
                address = member.link_address,
                "a broker is there that is not one of this cluster, and nobody waits for it: {objection}"
            );
            return self.note(&member.name, "it is there, and speaks no common version");
        }
        tracing::info!(member = %member.name, address = member.link_address, "a broker is there");
        self.note(&member.name, "it is there");
        if self.broker.durable().is_some() && member.wire.newest < STORED_WIRE_MIN {
            tracing::warn!(
                member = %member.name,
                "a broker keeps Sessions in memory, or is of an earlier version: those end with it; give all \
                 brokers of a cluster the same database and the same cluster_sessions",
            );
        }
        let now = self.clock.now();
        let lane = self.context.run(&self.broker, now, |turn| turn.add_peer(peers, member));
        self.open_lane(now, member, lane);
    }

    fn suspect(&mut self, boot_id: BootId, is_suspect: bool) {
        let Some(peer) = self.broker.peers().and_then(|peers| peers.find(boot_id)) else { return };
        let member = peer.name();
        if !is_suspect {
            tracing::info!(%member, "a broker is there again, in the same life");
            self.note(member, "it is in doubt no more");
        } else if self.may_be_leaving(&peer) {
            // Whether it is, its death tells in a moment.
            tracing::debug!(%member, "a broker has taken its znode away");
        } else {
            tracing::warn!(%member, "a broker is in doubt: its znode is gone");
            self.note(member, "it is in doubt");
        }
        if let Some(wake) = peer.lane().set_suspect(is_suspect) {
            wake.wake();
        }
    }

    fn bury(&mut self, boot_id: BootId) {
        let Some(peers) = self.broker.peers() else { return };
        if let Some(peer) = peers.find(boot_id) {
            if self.may_be_leaving(&peer) {
                tracing::info!(member = %peer.name(), "a broker has left");
                self.note(peer.name(), "it has left");
            } else {
                tracing::warn!(member = %peer.name(), "a broker was declared dead");
                self.note(peer.name(), "it was declared dead");
            }
        }
        let now = self.clock.now();
        self.context.run(&self.broker, now, |turn| turn.remove_peer(peers, boot_id));
        self.close_lane(boot_id);
        self.goodbyes.forget(boot_id);
        if let Some(awaited) = &mut self.awaited {
            awaited.remove(&boot_id);
        }
    }

    fn may_be_leaving(&self, peer: &Peer) -> bool {
        let (now, timeout_millis) = (self.clock.now(), self.options.session_timeout_millis);
        self.goodbyes.may_be_from(peer.boot_id(), peer.heard(), now, timeout_millis)
    }

    /// A broker of our name is there, or was: whoever answers at its address says who it is.
    fn ask_name_holder(&mut self, holder: Member) {
        let (links, bell) = (self.links.clone(), Arc::clone(&self.bell));
        let has_answered = Arc::clone(&self.has_name_holder_answered);
        self.background.spawn("question to a namesake", async move {
            if links.is_answered_by(&holder.link_address, holder.boot_id).await {
                has_answered.store(true, Ordering::Release);
                bell.waker().wake();
            }
        });
    }

    /// Others go on without us: our clients find another broker, and we come back as a new one.
    fn rise_again(&mut self) {
        self.note(self.own_name(), "it was declared dead, and joins anew");
        if let Some(LetGo { clients, sessions_left, sessions_ended, .. }) = self.begin_life() {
            tracing::error!(
                clients,
                sessions_left,
                sessions_ended,
                "this broker was declared dead: its clients are let go, their sessions end since others \
                 may have them, and it joins anew"
            );
        }
    }

    /// What was is over, and whoever was a client goes.
    fn begin_life(&mut self) -> Option<LetGo> {
        let broker = Arc::clone(&self.broker);
        let peers = broker.peers()?;
        peers.set_admitting(false);
        self.is_up = false;
        self.phase.send_replace(Phase::Joining);
        let now = self.clock.now();
        let end = |turn: &mut Turn<'_>| turn.end_all_sessions(ReasonCode::ServerBusy);
        let let_go = self.context.run(&self.broker, now, end);
        for peer in peers.live().iter() {
            self.context.run(&self.broker, now, |turn| turn.remove_peer(peers, peer.boot_id()));
            self.links.close(peer.boot_id());
        }
        self.goodbyes = Goodbyes::default();
        let boot_id = super::draw_boot_id();
        self.context.run(&self.broker, now, |turn| turn.begin_life(peers, boot_id));
        self.links.restart_as(boot_id);
        self.relay.begin_life(boot_id);
        self.awaited = None;
        // The tickets go from one life to the next: a late answer must not meet another question.
        let seeds = [crate::node::draw_seed(), crate::node::draw_seed()];
        self.registry.begin_life(&self.options, boot_id, self.terms, seeds);
        let tickets = self.membership.take_tickets();
        self.membership = Membership::new(self.options.clone(), boot_id, tickets, now);
        self.membership.set_guard(Box::new(self.seal.clone()));
        if let Some(session) = self.session {
            let event = CoordinationEvent::Connected { session, is_new: true };
            self.membership.handle(now, &event);
            self.registry.hear(now, &event);
            // What it wants done is carried out by the loop that this output came from.
        }
        Some(let_go)
    }

    /// Every client is sent away: nothing may be acknowledged. The Sessions that outlive their
    /// connections stay, until it is known whether others have them.
    fn let_clients_go(&self) {
        let now = self.clock.now();
        let let_go = |turn: &mut Turn<'_>| turn.let_clients_go(ReasonCode::ServerBusy);
        let LetGo { clients, sessions_kept, sessions_left, sessions_ended } =
            self.context.run(&self.broker, now, let_go);
        tracing::error!(
            clients,
            sessions_kept,
            sessions_left,
            sessions_ended,
            "the lease has ended, and this broker may be dead to the others: its clients are let go, \
             sessions that outlive their connections are kept until it is known"
        );
    }

    fn note_heartbeat(&mut self, heartbeat: &Heartbeat) {
        let leading = self.membership.leading();
        let wall_millis = self.clock.unix_millis();
        self.cluster_clock.handle_heartbeat(heartbeat, wall_millis, leading);
        self.follow_clock();
    }

    /// Does what the clock of the cluster wants done, and sets ours by it.
    fn follow_clock(&mut self) {
        while let Some(output) = self.cluster_clock.poll_output() {
            match output {
                clock::Output::Submit(ticket, request) => self.coordination.submit(ticket, request),
                clock::Output::Alarm(Some(alarm)) => tracing::error!(
                    ?alarm,
                    ahead_millis = self.cluster_clock.own_ahead_millis(),
                    "a clock is wrong by more than half a second"
                ),
                clock::Output::Alarm(None) => tracing::info!("the clocks agree again"),
            }
        }
        if let (Some(peers), Some(offset)) =
            (self.broker.peers(), self.cluster_clock.offset_millis())
        {
            peers.set_clock_offset(offset);
        }
    }

    /// Says that this broker is up once the time of the cluster is known and everybody who was there
    /// when we came has told us what its clients want; takes clients once the slot map says so too.
    fn settle_phase(&mut self) {
        let broker = Arc::clone(&self.broker);
        let Some(peers) = broker.peers() else { return };
        if let Some(awaited) = &self.awaited {
            if !peers.knows_time() || !awaited.iter().all(|boot_id| has_told(peers, *boot_id)) {
                return;
            }
            self.awaited = None;
            self.is_up = true;
            self.tell(|membership, now| membership.set_state(now, MemberState::Up));
        }
        let own = peers.boot_id();
        let is_in_map = self.membership.slots().is_some_and(|map| map.is_member(own));
        if !self.is_up || !is_in_map || self.phase.borrow().takes_clients() {
            return;
        }
        let has_store = self.registrar.is_some();
        if self.is_unknown_to_store() || has_store && !peers.adoptions().is_settled(peers) {
            return;
        }
        if !self.has_read_retained(peers) {
            return;
        }
        peers.set_admitting(true);
        self.phase.send_replace(Phase::Joined);
        tracing::info!(peers = peers.live().len(), "this broker is part of the cluster");
        self.note(self.own_name(), "it is part of the cluster");
    }
}

/// Whether all that one broker has to tell a newcomer is here.
fn has_told(peers: &Peers, boot_id: BootId) -> bool {
    peers.find(boot_id).is_some_and(|peer| peer.has_told_interest() && peer.has_told_retained())
}

/// How long at most until the phase is looked at again.
const JOIN_POLL_MILLIS: u64 = 10;
const IDLE_MILLIS: u64 = 1_000;
/// A store that fails is told again after so long.
const STORE_REMINDER_MILLIS: u64 = 1_000;
