//! The task that keeps a broker in its cluster: what the tree of znodes says goes into the state
//! machines, and what they want done is done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::phase::Phase;
use super::status::Status;
use crate::admin::{Health, Standing};
use crate::broker::Broker;
use crate::broker::peers::Peers;
use crate::cluster::frame::ControlFrame;
use crate::cluster::identity::{BootId, Member, MemberState};
use crate::cluster::membership::Membership;
use crate::cluster::membership::output::{Heartbeat, MembershipOptions, Output, PeerLease};
use crate::gateway::mqtt::ShardContext;
use crate::mqtt::ReasonCode;
use crate::peer::Links;
use crate::ports::clock::Tick;
use crate::ports::coordination::{Coordination, CoordinationEvent};
use crate::runtime::{Clock, Shutdown};

/// Everything the task owns.
pub(super) struct ClusterTask {
    pub(super) broker: Arc<Broker>,
    pub(super) clock: Clock,
    /// Turns that belong to no connection are had here.
    pub(super) context: ShardContext,
    pub(super) coordination: Arc<dyn Coordination>,
    pub(super) events: mpsc::Receiver<CoordinationEvent>,
    pub(super) options: MembershipOptions,
    pub(super) membership: Membership,
    pub(super) links: Links,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) status: Arc<Status>,
    pub(super) health: Arc<Health>,
    pub(super) shutdown: Shutdown,
    /// The session that stands, for a life that begins within it.
    pub(super) session: Option<i64>,
    /// Whose interest and retained messages must be here before clients are taken; nothing before
    /// the own znode is there.
    pub(super) awaited: Option<BTreeSet<BootId>>,
    /// When peers are told next that we are there.
    pub(super) ping_at: Tick,
    /// Whether it has left, or cannot stay.
    pub(super) is_over: bool,
    /// Whether clients have been let go because the lease had ended.
    pub(super) has_let_go: bool,
}

impl ClusterTask {
    /// Runs until the broker has left the cluster, or cannot be part of it.
    pub(super) async fn run(mut self) {
        let mut is_leaving = false;
        while !self.is_over {
            self.settle_phase();
            self.say_how_it_is();
            let wait = self.until_next();
            let shutdown = self.shutdown.clone();
            tokio::select! {
                event = self.events.recv() => {
                    let Some(event) = event else { break };
                    self.note_session(&event);
                    self.tell(|membership, now| membership.handle(now, &event));
                }
                () = tokio::time::sleep(wait) => {}
                () = shutdown.begun(), if !is_leaving => {
                    is_leaving = true;
                    self.tell(|membership, now| membership.set_state(now, MemberState::Draining));
                }
            }
            self.pass_time();
        }
    }

    /// One input, and then everything that it gives rise to.
    fn tell(&mut self, input: impl FnOnce(&mut Membership, Tick)) {
        input(&mut self.membership, self.clock.now());
        while let Some(output) = self.membership.poll_output() {
            self.carry_out(output);
        }
    }

    /// For operators, and for whoever sends traffic here.
    fn say_how_it_is(&self) {
        let now = self.clock.now();
        self.status.note(&self.membership, now);
        let obstacle = if !self.phase.borrow().takes_clients() {
            Some("joining: this broker is not part of its cluster yet")
        } else if now >= self.membership.lease_until() {
            Some("cut off: other brokers may believe this one dead")
        } else {
            None
        };
        let reaches_zookeeper = self.membership.own_lease(now) == PeerLease::Committed;
        let degraded = (!reaches_zookeeper).then_some("zookeeper");
        self.health.set_standing(Standing { obstacle, degraded });
    }

    fn note_session(&mut self, event: &CoordinationEvent) {
        match event {
            CoordinationEvent::Connected { session, .. } => self.session = Some(*session),
            CoordinationEvent::Disconnected | CoordinationEvent::Expired => self.session = None,
            CoordinationEvent::Answered { .. } | CoordinationEvent::Changed { .. } => {}
        }
    }

    /// How long there is nothing to do unless something happens.
    fn until_next(&self) -> Duration {
        let now = self.clock.now();
        let due = self.membership.next_timeout().into_iter().chain([self.ping_at]).min();
        let millis = due.map_or(0, |due| due.saturating_since(now));
        // The phase depends on what peers say, which wakes nobody here.
        let longest = if self.awaited.is_some() { JOIN_POLL_MILLIS } else { IDLE_MILLIS };
        Duration::from_millis(millis.min(longest))
    }

    fn pass_time(&mut self) {
        let now = self.clock.now();
        if self.membership.next_timeout().is_some_and(|due| due <= now) {
            let wall_millis = self.clock.unix_millis();
            self.tell(|membership, now| membership.handle_timeout(now, wall_millis));
        }
        if self.ping_at <= now {
            self.ping_at = now.plus_millis(self.options.session_timeout_millis / PINGS);
            self.ping(now);
        }
        let is_late = now >= self.membership.let_go_at();
        if is_late && !self.has_let_go && self.phase.borrow().takes_clients() {
            tracing::error!("the lease has ended: this broker may be dead to the others");
            self.let_clients_go();
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
        self.context.run(&self.broker, now, |turn| {
            for peer in live.iter() {
                turn.tell(peer, &frame);
            }
        });
        if own_lease == PeerLease::Uncommitted {
            let fresh = self.options.session_timeout_millis / PINGS * 2;
            let answers: Vec<_> = live
                .iter()
                .filter(|peer| now.saturating_since(peer.heard().at) <= fresh)
                .map(|peer| {
                    let has_lease = peer.heard().has_lease;
                    let lease =
                        if has_lease { PeerLease::Committed } else { PeerLease::Uncommitted };
                    (peer.boot_id(), lease)
                })
                .collect();
            self.tell(|membership, now| membership.peers_answer(now, &answers));
        }
    }

    /// Does what the state machine wants done.
    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Submit(ticket, request) => self.coordination.submit(ticket, request),
            Output::MemberJoined(member) => self.meet(&member),
            Output::MemberChanged(member) => {
                tracing::info!(member = %member.name, state = ?member.state, "a broker has changed");
                self.links.update(&member);
            }
            Output::MemberSuspect(boot_id) => self.suspect(boot_id, true),
            Output::MemberBack(boot_id) => self.suspect(boot_id, false),
            Output::MemberDead(boot_id) => self.bury(boot_id),
            Output::Slots(map) => self.status.note_slots(map),
            Output::Leading(is_leading) => {
                tracing::info!(is_leading, "the leader of the cluster has changed");
            }
            Output::Registered { listed, absent } => {
                let listed = listed.iter().map(|member| member.boot_id);
                self.awaited = Some(listed.chain(absent).collect());
            }
            Output::NameTaken { holder } => self.ask_name_holder(&holder),
            Output::Fatal(reason) => {
                tracing::error!("{reason}");
                self.phase.send_replace(Phase::Failed(reason));
                self.is_over = true;
            }
            Output::DeclaredDead => self.begin_life(),
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

    fn meet(&mut self, member: &Member) {
        let Some(peers) = self.broker.peers() else { return };
        tracing::info!(member = %member.name, address = member.link_address, "a broker is there");
        let now = self.clock.now();
        let lane = self.context.run(&self.broker, now, |turn| turn.add_peer(peers, member));
        self.links.open(member, lane);
    }

    fn suspect(&mut self, boot_id: BootId, is_suspect: bool) {
        let Some(peer) = self.broker.peers().and_then(|peers| peers.find(boot_id)) else { return };
        tracing::warn!(member = %peer.name(), is_suspect, "a broker is in doubt, or no longer");
        if let Some(wake) = peer.lane().set_suspect(is_suspect) {
            wake.wake();
        }
    }

    fn bury(&mut self, boot_id: BootId) {
        let Some(peers) = self.broker.peers() else { return };
        if let Some(peer) = peers.find(boot_id) {
            tracing::warn!(member = %peer.name(), "a broker was declared dead");
        }
        let now = self.clock.now();
        self.context.run(&self.broker, now, |turn| turn.remove_peer(peers, boot_id));
        self.links.close(boot_id);
        if let Some(awaited) = &mut self.awaited {
            awaited.remove(&boot_id);
        }
    }

    /// A broker of our name is there, or was: its link tells.
    fn ask_name_holder(&mut self, holder: &Member) {
        tracing::warn!(
            name = %holder.name,
            address = holder.link_address,
            "another broker has this name; waiting for its znode to end"
        );
        self.links.ask(holder);
    }

    /// Others go on without us: our clients find another broker, and we come back as a new one.
    fn begin_life(&mut self) {
        tracing::error!("this broker was declared dead; its clients are let go and it joins anew");
        let Some(peers) = self.broker.peers() else { return };
        peers.set_admitting(false);
        self.phase.send_replace(Phase::Joining);
        self.let_clients_go();
        let now = self.clock.now();
        for peer in peers.live().iter() {
            self.context.run(&self.broker, now, |turn| turn.remove_peer(peers, peer.boot_id()));
            self.links.close(peer.boot_id());
        }
        let boot_id = super::draw_boot_id();
        peers.begin_life(boot_id);
        self.links.begin_life(boot_id);
        self.awaited = None;
        let next = |tickets| Membership::new(self.options.clone(), boot_id, tickets, now);
        // The tickets go from one life to the next: a late answer must not meet another question.
        let tickets = self.membership.take_tickets();
        self.membership = next(tickets);
        if let Some(session) = self.session {
            let event = CoordinationEvent::Connected { session, is_new: true };
            self.membership.handle(now, &event);
            // What it wants done is carried out by the loop that this output came from.
        }
    }

    /// Every client is sent away and its Session ends: others may have granted it anew.
    fn let_clients_go(&self) {
        let now = self.clock.now();
        self.context.run(&self.broker, now, |turn| turn.let_clients_go(ReasonCode::ServerBusy));
    }

    fn note_heartbeat(&mut self, heartbeat: &Heartbeat) {
        let Some(peers) = self.broker.peers() else { return };
        let middle = i64::midpoint(tick_millis(heartbeat.sent), tick_millis(heartbeat.answered));
        peers.set_clock_offset(heartbeat.stat.mtime_millis - middle);
    }

    /// Takes clients once everybody who was there when we came has told us what its clients want.
    fn settle_phase(&mut self) {
        let (Some(peers), Some(awaited)) = (self.broker.peers(), &self.awaited) else { return };
        if !awaited.iter().all(|boot_id| has_told(peers, *boot_id)) {
            return;
        }
        self.awaited = None;
        peers.set_admitting(true);
        self.phase.send_replace(Phase::Joined);
        tracing::info!(peers = peers.live().len(), "this broker is part of the cluster");
        self.tell(|membership, now| membership.set_state(now, MemberState::Up));
    }
}

/// Whether all that one broker has to tell a newcomer is here.
fn has_told(peers: &Peers, boot_id: BootId) -> bool {
    peers.find(boot_id).is_some_and(|peer| peer.has_told_interest() && peer.has_told_retained())
}

fn tick_millis(tick: Tick) -> i64 {
    i64::try_from(tick.as_millis()).unwrap_or(i64::MAX)
}

/// How often, within the time of a session, peers are told that we are there.
const PINGS: u64 = 6;
/// How long at most until the phase is looked at again.
const JOIN_POLL_MILLIS: u64 = 10;
const IDLE_MILLIS: u64 = 1_000;
