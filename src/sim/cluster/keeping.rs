//! The registry of topics, the bank and the relay of one broker, driven as `node` drives them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use crate::broker::peers::Peers;
use crate::broker::peers::relaying::RelayChore;
use crate::broker::peers::topic_registry::{RegistryNews, RegistryTerms, TopicRegistry};
use crate::cluster::bank::Funds;
use crate::cluster::identity::{BootId, Member};
use crate::cluster::lane::Lane;
use crate::cluster::membership::output::MembershipOptions;
use crate::cluster::paths::{BANK, TOPICS, child_of};
use crate::cluster::relay::{LaneInUse, Relay, RelayOptions, RelayOutput};
use crate::cluster::topics::Lifetimes;
use crate::ports::clock::Tick;
use crate::ports::coordination::{Change, ChangeKind, CoordinationEvent, Request};
use crate::sim::chance::Chance;
use crate::sim::cluster::process::{Effect, Process};
use crate::sim::cluster::verdict::Plant;

/// What a broker keeps in the tree beside its membership.
pub(super) struct Keeper {
    pub(super) registry: TopicRegistry,
    pub(super) relay: Relay,
    terms: Terms,
    bell: Arc<Bell>,
    waker: Waker,
}

/// How brokers keep things in the tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) registry: RegistryTerms,
    /// There are no links.
    pub(super) relays_all: bool,
}

impl Terms {
    /// Those of one run. What lasts for minutes in a real cluster lasts for seconds.
    pub(super) fn draw(chance: &mut Chance, relays_all: bool) -> Self {
        // A lease grows by a 64th of the bytes at a time: no value may be larger than four such steps.
        let tight = Funds { topics: 6, znode_bytes: 6_400, relay_bytes: RELAY_BYTES };
        let roomy = Funds { topics: 1_000, znode_bytes: 1_000_000, relay_bytes: RELAY_BYTES };
        let budget = chance.pick(&[tight, roomy, roomy, roomy]);
        Self { registry: RegistryTerms { budget, lifetimes: LIFETIMES }, relays_all }
    }
}

/// Remembers that it was rung.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Keeper {
    pub(super) fn new(
        membership: &MembershipOptions,
        boot_id: BootId,
        terms: Terms,
        chance: &mut Chance,
    ) -> Self {
        let bell = Arc::<Bell>::default();
        let waker = Waker::from(Arc::clone(&bell));
        let relay = RelayOptions {
            name: Arc::clone(&membership.name),
            boot_id,
            session_timeout_millis: membership.session_timeout_millis,
            message_bytes_max: 1 << 20,
            is_always: terms.relays_all,
        };
        let seeds = [chance.draw(), chance.draw()];
        Self {
            registry: TopicRegistry::new(membership, boot_id, terms.registry, seeds),
            relay: Relay::new(relay, waker.clone()),
            terms,
            bell,
            waker,
        }
    }

    pub(super) fn begin_life(
        &mut self,
        membership: &MembershipOptions,
        boot_id: BootId,
        chance: &mut Chance,
    ) {
        let seeds = [chance.draw(), chance.draw()];
        self.relay.begin_life(boot_id);
        self.registry.begin_life(membership, boot_id, self.terms.registry, seeds);
    }

    /// What the tree says.
    pub(super) fn hear(&mut self, now: Tick, event: &CoordinationEvent, plant: Plant) {
        let is_unheard = |path: &str| plant == Plant::CollectionUnheard && path.starts_with(TOPICS);
        if let CoordinationEvent::Changed { path, kind: ChangeKind::Deleted } = event
            && is_unheard(path)
        {
            return;
        }
        self.registry.hear(now, event);
        self.relay.handle(now, event);
    }

    pub(super) fn next_timeout(&self, peers: &Peers) -> Option<Tick> {
        self.registry.next_timeout(peers).into_iter().chain(self.relay.next_timeout()).min()
    }
}

impl Process {
    /// Somebody has something for the tree.
    pub(super) fn is_rung(&self) -> bool {
        let keeper = self.keeper.as_ref();
        keeper.is_some_and(|keeper| keeper.bell.0.swap(false, Ordering::Relaxed))
    }

    /// The link that is dialled to this broker stands, or no longer does.
    pub(super) fn note_link(&mut self, now: u64, boot_id: BootId, is_up: bool) {
        if let Some(keeper) = &mut self.keeper {
            keeper.relay.note_link(Tick::from_millis(now), boot_id, is_up);
        }
    }

    /// A broker is there; `lane` has what is for it.
    pub(super) fn open_lane(&mut self, now: u64, member: Member, lane: Arc<Lane>) {
        if let Some(keeper) = &mut self.keeper {
            keeper.relay.meet(Tick::from_millis(now), &member, Arc::clone(&lane));
        }
        if !self.keeper.as_ref().is_some_and(|keeper| keeper.terms.relays_all) {
            self.effects.push(Effect::Open(member, lane));
        }
    }

    /// By which lane frames go to a broker.
    pub(super) fn lane_in_use(&self, boot_id: BootId) -> LaneInUse {
        self.keeper.as_ref().map_or(LaneInUse::Link, |keeper| keeper.relay.lane_in_use(boot_id))
    }

    /// Does what the registry, the bank and the relay want done.
    pub(super) fn keep_tree(&mut self, now: u64) {
        let Some(mut keeper) = self.keeper.take() else { return };
        let (tick, plant) = (Tick::from_millis(now), self.plant);
        let Keeper { registry, relay, waker, .. } = &mut *keeper;
        registry.attend_relay(tick, self.peers(), relay);
        while let Some(output) = relay.poll_output(tick) {
            self.forget_relayed(&output);
            let chore = self.link_turn(now, |turn, peers| turn.hear_relay(peers, relay, output));
            match chore {
                None => {}
                Some(RelayChore::Submit(..)) if plant == Plant::NotRelayed => {}
                Some(RelayChore::Submit(ticket, request)) => {
                    self.effects.push(Effect::Submit(ticket, request));
                }
                Some(RelayChore::CutLink(boot_id)) => self.effects.push(Effect::CutLink(boot_id)),
                Some(RelayChore::Changed(boot_id, lane)) => {
                    self.effects.push(Effect::LaneChanged(lane));
                    self.say(format!("frames to {boot_id:?} go by the {}", lane.as_str()));
                }
                Some(RelayChore::NotTaken(boot_id, error)) => {
                    self.say(format!("what {boot_id:?} relays is not taken: {error}"));
                }
            }
        }
        registry.keep_relay(tick, relay);
        self.turn(now, |turn, peers| registry.take_latest(turn, peers));
        registry.keep(tick, self.peers(), &self.membership, relay, waker);
        let effects = &mut self.effects;
        let news = registry.carry_out(|ticket, request| {
            let request = forged_request(request, plant);
            effects.extend(request.map(|request| Effect::Submit(ticket, request)));
        });
        for news in news {
            if let Some(news) = forged_news(news, plant) {
                self.turn(now, |turn, peers| registry.tell_broker(turn, peers, news));
            }
        }
        self.keeper = Some(keeper);
    }

    /// A rule that is broken on purpose: what was relayed before is not known any more.
    fn forget_relayed(&self, output: &RelayOutput) {
        let RelayOutput::Resume { from, .. } = output else { return };
        if self.plant != Plant::ForgetRelayed {
            return;
        }
        if let Some(peer) = self.peers().find(*from) {
            *peer.inbound().lock() = crate::cluster::inbound::Inbound::default();
        }
    }
}

/// What a broken rule makes of what is asked of the tree.
fn forged_request(request: Request, plant: Plant) -> Option<Request> {
    match request {
        Request::All(mut changes)
            if plant == Plant::FreeForAll && changes.iter().any(is_of_lease) =>
        {
            changes.retain(is_of_lease);
            Some(Request::All(changes))
        }
        Request::Change(Change::Delete { path, .. })
            if plant == Plant::NothingSwept && path.starts_with(TOPICS) =>
        {
            None
        }
        Request::All(_)
        | Request::Change(_)
        | Request::Get(_)
        | Request::List(_)
        | Request::Watch(_) => Some(request),
    }
}

fn is_of_lease(change: &Change) -> bool {
    matches!(change, Change::Set { path, .. } if child_of(BANK, path).is_some())
}

/// What a broken rule makes of what the broker is to hear.
fn forged_news(news: RegistryNews, plant: Plant) -> Option<RegistryNews> {
    let RegistryNews::Latest(mut value) = news else { return Some(news) };
    if plant == Plant::LatestUnheard {
        return None;
    }
    if plant == Plant::LatestForEver
        && let Some(message) = &mut value.message
    {
        message.expires_at_millis = message.expires_at_millis.map(|at| at + 3_600_000);
    }
    Some(RegistryNews::Latest(value))
}

const LIFETIMES: Lifetimes = Lifetimes {
    ttl_millis: 60_000,
    registration_millis_min: 20_000,
    tombstone_millis: 30_000,
    orphan_grace_millis: 5_000,
};
const RELAY_BYTES: u64 = 64 << 20;
/// How long a latest value holds.
pub(super) const LATEST_MILLIS: u64 = 10_000;
/// The topics that have one.
pub(super) const LATEST_FILTER: &str = "l/+";
