//! The registry of topics and the bank that pays for it, side by side, and what the broker has to do
//! with them.
//!
//! Whoever drives it hands over all events of the tree, calls [`TopicRegistry::keep`] after each of them
//! and when [`TopicRegistry::next_timeout`] has come, and has the broker hear
//! ([`TopicRegistry::tell_broker`]) whatever [`TopicRegistry::carry_out`] returns.

use std::sync::Arc;
use std::task::Waker;

use crate::broker::peers::Peers;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::topics::TopicNews;
use crate::broker::turn::Turn;
use crate::cluster::bank::{Bank, BankOptions, BankOutput, BankReadings, Funds, Spending};
use crate::cluster::frame::{ControlFrame, DigestQuestion, PartDigest, RetainedValue};
use crate::cluster::identity::BootId;
use crate::cluster::membership::Membership;
use crate::cluster::membership::output::MembershipOptions;
use crate::cluster::relay::{RING_BYTES, Relay};
use crate::cluster::tickets::Owner;
use crate::cluster::topics::{
    Lifetimes, Topics, TopicsOptions, TopicsOutput, TopicsReadings, ValueKind,
};
use crate::mqtt::TopicName;
use crate::ports::clock::Tick;
use crate::ports::coordination::{CoordinationEvent, Request, Ticket};

/// What the tree keeps of topics, as far as this broker knows and pays.
pub struct TopicRegistry {
    topics: Topics,
    bank: Bank,
    /// The peers that are known as live.
    live: Arc<[Arc<Peer>]>,
    /// Whether the bank knows this broker as the leader.
    is_leading: bool,
    /// When latest values are taken next.
    latest_at: Tick,
}

/// What may be registered in one cluster, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct RegistryTerms {
    /// All that may exist in the tree.
    pub budget: Funds,
    /// How long it does.
    pub lifetimes: Lifetimes,
}

/// What the broker is to hear of.
#[derive(Debug)]
pub enum RegistryNews {
    /// A value that another broker wrote.
    Value(RetainedValue),
    /// A topic that nobody has used for long; if somebody subscribes to it, say so.
    Fading(TopicName),
    /// The latest value of another broker.
    Latest(RetainedValue),
    /// Others are to be asked what they have.
    Compare(DigestQuestion),
    /// Somebody asked under this number what we have.
    Digests(BootId, u64, Vec<PartDigest>),
    /// A value that was set here is not in the tree.
    Unwritten(TopicName),
    /// Nothing is registered before the ensemble keeps znodes with a time to live.
    NoTtl,
}

impl TopicRegistry {
    /// One that knows nothing, before the first session.
    #[must_use]
    pub fn new(
        membership: &MembershipOptions,
        boot_id: BootId,
        terms: RegistryTerms,
        seeds: [u64; 2],
    ) -> Self {
        let (topics, bank) = options(membership, boot_id, terms, seeds);
        Self {
            topics: Topics::new(topics),
            bank: Bank::new(bank),
            live: Arc::from([]),
            is_leading: false,
            latest_at: Tick::ZERO,
        }
    }

    /// This process goes on as another broker.
    pub fn begin_life(
        &mut self,
        membership: &MembershipOptions,
        boot_id: BootId,
        terms: RegistryTerms,
        seeds: [u64; 2],
    ) {
        let (topics, bank) = options(membership, boot_id, terms, seeds);
        self.topics.begin_life(topics);
        self.bank.begin_life(bank);
        self.live = Arc::from([]);
        self.is_leading = false;
    }

    /// What the tree of znodes says: everything but answers to others.
    pub fn hear(&mut self, now: Tick, event: &CoordinationEvent) {
        let owner = match event {
            CoordinationEvent::Answered { ticket, .. } => Owner::of(*ticket),
            CoordinationEvent::Connected { .. }
            | CoordinationEvent::Disconnected
            | CoordinationEvent::Expired
            | CoordinationEvent::Changed { .. } => None,
        };
        if owner.is_none_or(|owner| owner == Owner::Bank) {
            self.bank.handle(now, event, self.topics.holdings_mut());
        }
        if owner.is_none_or(|owner| owner == Owner::Topics) {
            self.topics.handle(now, event.clone(), &mut self.bank);
        }
    }

    /// Tells the registry what is new here: the time, who lives and leads, what clients do. `waker` is
    /// called when they do more.
    pub fn keep(
        &mut self,
        now: Tick,
        peers: &Peers,
        membership: &Membership,
        relay: &mut Relay,
        waker: &Waker,
    ) {
        if peers.knows_time() {
            self.topics.set_clock(now, peers.cluster_millis(now));
        }
        self.follow_members(now, peers, membership, relay);
        self.take_in(now, peers.topics().take(waker));
        self.pass_time(now);
    }

    fn follow_members(
        &mut self,
        now: Tick,
        peers: &Peers,
        membership: &Membership,
        relay: &mut Relay,
    ) {
        let (live, is_leading) = (peers.live(), membership.is_leading());
        let has_changed = self.is_leading != is_leading;
        if has_changed || !Arc::ptr_eq(&live, &self.live) {
            let boot_ids = live.iter().map(|peer| peer.boot_id()).chain([peers.boot_id()]);
            self.topics.set_members(boot_ids.collect(), is_leading);
            self.live = live;
        }
        if has_changed {
            self.is_leading = is_leading;
            let lock = membership.leader_check();
            relay.set_leading(now, lock.clone());
            self.bank.set_leading(now, lock);
        }
    }

    /// What this broker's clients do with topics.
    fn take_in(&mut self, now: Tick, news: TopicNews) {
        for topic in news.used {
            let _again_by_the_route = self.topics.use_topic(now, topic.as_str());
        }
        for value in news.values {
            self.topics.set_value(now, &value, ValueKind::Retained);
        }
        for (from, question) in news.questions {
            self.topics.ask_digests(from, question);
        }
        for (number, parts) in &news.digests {
            self.topics.note_digests(*number, parts);
        }
    }

    /// Takes the latest values that were published here, a few times a second however often they change.
    pub fn take_latest(&mut self, turn: &mut Turn<'_>, peers: &Peers) {
        let now = turn.now;
        if !self.is_latest_due(now, peers) {
            return;
        }
        self.latest_at = now.plus_millis(LATEST_PERIOD_MILLIS);
        for topic in peers.topics().take_latest() {
            if let Some(value) = turn.own_latest(peers, &topic) {
                self.topics.set_value(now, &value, ValueKind::LastValue);
            }
        }
    }

    /// Whether there are any to be taken now.
    #[must_use]
    pub fn is_latest_due(&self, now: Tick, peers: &Peers) -> bool {
        self.latest_at <= now && peers.topics().has_latest()
    }

    fn pass_time(&mut self, now: Tick) {
        if self.topics.next_timeout().is_some_and(|due| due <= now) {
            self.topics.handle_timeout(now, &mut self.bank);
        }
        if self.bank.awaits_holdings() || self.bank.next_timeout().is_some_and(|due| due <= now) {
            self.bank.handle_timeout(now, self.topics.holdings_mut());
        }
    }

    /// When [`Self::keep`] or [`Self::take_latest`] is due.
    #[must_use]
    pub fn next_timeout(&self, peers: &Peers) -> Option<Tick> {
        let latest = peers.topics().has_latest().then_some(self.latest_at);
        let times = [self.topics.next_timeout(), self.bank.next_timeout(), latest];
        times.into_iter().flatten().min()
    }

    /// Hands over what the tree is to be asked, and returns what the broker is to hear of.
    pub fn carry_out(&mut self, mut submit: impl FnMut(Ticket, Request)) -> Vec<RegistryNews> {
        while let Some(BankOutput::Submit(ticket, request)) = self.bank.poll_output() {
            submit(ticket, request);
        }
        let mut news = Vec::new();
        while let Some(output) = self.topics.poll_output() {
            match output {
                TopicsOutput::Submit(ticket, request) => submit(ticket, request),
                TopicsOutput::Value(value, Some(ValueKind::Retained)) => {
                    news.push(RegistryNews::Value(value));
                }
                // A deletion is one whatever was deleted; the version decides.
                TopicsOutput::Value(value, None) => news.push(RegistryNews::Value(value)),
                TopicsOutput::Value(value, Some(ValueKind::LastValue)) => {
                    news.push(RegistryNews::Latest(value));
                }
                TopicsOutput::Compare(question) => news.push(RegistryNews::Compare(question)),
                TopicsOutput::Digests(to, number, parts) => {
                    news.push(RegistryNews::Digests(to, number, parts));
                }
                TopicsOutput::Unwritten(topic) => news.push(RegistryNews::Unwritten(topic)),
                TopicsOutput::Fading(topic) => news.push(RegistryNews::Fading(topic)),
                TopicsOutput::NoTtl => news.push(RegistryNews::NoTtl),
            }
        }
        news
    }

    /// The broker hears what is new elsewhere.
    pub fn tell_broker(&mut self, turn: &mut Turn<'_>, peers: &Peers, news: RegistryNews) {
        match news {
            RegistryNews::Value(value) => turn.merge_found(peers, value),
            RegistryNews::Latest(value) => turn.merge_latest_value(peers, value),
            RegistryNews::Compare(question) => {
                let frame = ControlFrame::DigestsWanted(question);
                for peer in peers.live().iter().take(ASKED_MAX) {
                    turn.tell(peer, &frame);
                }
            }
            RegistryNews::Digests(to, number, parts) => {
                if let Some(peer) = peers.find(to) {
                    turn.tell(&peer, &ControlFrame::Digests { number, parts });
                }
            }
            RegistryNews::Unwritten(topic) => turn.share_latest(peers, &topic),
            RegistryNews::Fading(topic) => {
                if turn.broker.is_wanted(&topic) {
                    let _again_when_it_fades = self.topics.use_topic(turn.now, topic.as_str());
                }
            }
            // For the log.
            RegistryNews::NoTtl => {}
        }
    }

    /// Tells `relay` what is known of the other brokers, and pays for its ring. The caller has told it
    /// of links, and asks it then what is to be done.
    pub fn attend_relay(&mut self, now: Tick, peers: &Peers, relay: &mut Relay) {
        for peer in peers.live().iter() {
            relay.note_heard(peer.boot_id(), peer.heard().at);
        }
        if peers.knows_time() {
            relay.begin_reading(now);
        }
        if relay.wants_funds(now) {
            relay.fund(now, self.bank.take(now, RING_COST) == Spending::Taken);
        }
        relay.set_covered(self.bank.is_covered(RING_COST));
        relay.handle_timeout(now);
    }

    /// What `relay` has found, when there is nothing more that it wants done, goes into the books of the
    /// bank.
    pub fn keep_relay(&mut self, now: Tick, relay: &mut Relay) {
        // What others want to compare waits for the books as well.
        let is_awaited = self.bank.awaits_holdings() || self.topics.awaits_holdings();
        relay.keep_holdings(now, self.topics.holdings_mut(), is_awaited);
    }

    /// The paths of all znodes of topics that there are, as far as this broker knows.
    pub fn registered(&self) -> impl Iterator<Item = String> {
        self.topics.registered()
    }

    /// Figures for whoever watches.
    #[must_use]
    pub fn readings(&self) -> (TopicsReadings, BankReadings) {
        (self.topics.readings(), self.bank.readings())
    }
}

fn options(
    membership: &MembershipOptions,
    boot_id: BootId,
    RegistryTerms { budget, lifetimes }: RegistryTerms,
    [hash, jitter]: [u64; 2],
) -> (TopicsOptions, BankOptions) {
    let bank = BankOptions {
        name: Arc::clone(&membership.name),
        boot_id,
        budget,
        chunk: chunk_of(budget),
        jitter_seed: jitter,
    };
    let topics = TopicsOptions {
        outage_millis_max: 2 * membership.session_timeout_millis,
        lifetimes,
        ..TopicsOptions::new(boot_id, hash, jitter)
    };
    (topics, bank)
}

/// What one broker asks for at a time.
fn chunk_of(budget: Funds) -> Funds {
    Funds {
        topics: (budget.topics / 100).max(1),
        znode_bytes: (budget.znode_bytes / 64).max(1),
        relay_bytes: budget.relay_bytes / 64,
    }
}

/// What the ring of this broker may come to.
const RING_COST: Funds = Funds { topics: 0, znode_bytes: 0, relay_bytes: RING_BYTES };
/// How many brokers are asked what they have of the topics: some may have been cut off as well.
const ASKED_MAX: usize = 3;
/// How often latest values are taken.
const LATEST_PERIOD_MILLIS: u64 = 50;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::cluster::bank::decode_lease;
    use crate::cluster::identity::{Member, MemberState, WireVersions};
    use crate::cluster::lane::{Lane, LaneOptions};
    use crate::cluster::paths::{BANK, FIXED, below};
    use crate::cluster::relay::{RelayOptions, RelayOutput};
    use crate::cluster::znodes::Tree;
    use crate::ports::coordination::{Change, CreateMode, Reply};

    const NAME: &str = "b";
    const BUDGET: Funds = Funds { topics: 100, znode_bytes: 100_000, relay_bytes: 100_000 };
    const TERMS: RegistryTerms = RegistryTerms { budget: BUDGET, lifetimes: Lifetimes::USUAL };
    const SEEDS: [u64; 2] = [1, 2];
    const NOW: Tick = Tick::from_millis(1_000);

    /// A tree, and what was asked of it and is not answered yet.
    struct Way {
        tree: Tree,
        session: i64,
        asked: VecDeque<(Ticket, Request)>,
    }

    impl Way {
        fn new() -> Self {
            let mut tree = Tree::new();
            let session = tree.open_session();
            for path in FIXED {
                let (data, mode) = ("".into(), CreateMode::Persistent);
                let create = Change::Create { path: path.into(), data, mode };
                tree.apply(session, Request::Change(create), 0).unwrap();
            }
            Self { tree, session, asked: VecDeque::new() }
        }

        fn connected(&self) -> CoordinationEvent {
            CoordinationEvent::Connected { session: self.session, is_new: true }
        }

        /// So much may be had.
        fn set_free(&mut self, free: Funds) {
            let data = format!("free/1 {free}").into();
            let set = Change::Set { path: BANK.into(), data, version: None };
            self.tree.apply(self.session, Request::Change(set), 0).unwrap();
        }

        /// Nobody was heard of for too long, and goes on.
        fn expire(&mut self, registry: &mut TopicRegistry, relay: &mut Relay) {
            self.tree.expire(self.session);
            self.session = self.tree.open_session();
            for event in [CoordinationEvent::Expired, self.connected()] {
                registry.hear(NOW, &event);
                relay.handle(NOW, &event);
            }
        }

        fn ask(&mut self, registry: &mut TopicRegistry) {
            let asked = &mut self.asked;
            let _news = registry.carry_out(|ticket, request| asked.push_back((ticket, request)));
        }

        /// Everything that was asked is answered, and what follows from that.
        fn settle(&mut self, registry: &mut TopicRegistry) {
            self.ask(registry);
            while let Some((ticket, request)) = self.asked.pop_front() {
                let outcome = self.tree.apply(self.session, request, 0);
                registry.hear(NOW, &CoordinationEvent::Answered { ticket, outcome });
                self.ask(registry);
            }
        }

        /// Whose lease there is.
        fn payer(&mut self) -> Option<BootId> {
            let get = Request::Get(below("/bank", NAME));
            let found = self.tree.apply(self.session, get, 0);
            let Ok(Reply::Data { data, .. }) = found else { return None };
            decode_lease(&data).map(|(payer, _)| payer)
        }
    }

    fn membership() -> MembershipOptions {
        MembershipOptions {
            name: NAME.into(),
            link_address: "here:1884".to_owned(),
            zone: String::new(),
            wire: WireVersions::OURS,
            session_timeout_millis: 6_000,
        }
    }

    fn registry() -> TopicRegistry {
        TopicRegistry::new(&membership(), BootId(1), TERMS, SEEDS)
    }

    /// A relay that carries everything, and somebody to carry it to.
    fn relay() -> Relay {
        let options = RelayOptions {
            name: NAME.into(),
            boot_id: BootId(1),
            session_timeout_millis: 6_000,
            message_bytes_max: 1 << 20,
            is_always: true,
        };
        let mut relay = Relay::new(options, Waker::noop().clone());
        let member = Member {
            name: "other".into(),
            boot_id: BootId(9),
            link_address: String::new(),
            zone: String::new(),
            wire: WireVersions::OURS,
            state: MemberState::Up,
        };
        relay.meet(NOW, &member, Arc::new(Lane::new(LaneOptions::default())));
        relay
    }

    fn makes_ring(relay: &mut Relay, now: Tick) -> bool {
        let outputs: Vec<_> = std::iter::from_fn(|| relay.poll_output(now)).collect();
        let is_write =
            |output: &RelayOutput| matches!(output, RelayOutput::Submit(_, Request::All(_)));
        outputs.iter().any(is_write)
    }

    /// A broker that was frozen had paid for the ring of its relay and not made it. Its lease ended with
    /// its session, the leader counted what was not there as free, and the first thing that the broker did
    /// in its next session was to make the ring: there was one more than the budget had room for.
    #[test]
    fn a_ring_is_made_under_the_lease_of_this_session() {
        let (mut way, mut registry, mut relay) = (Way::new(), registry(), relay());
        let peers = Peers::new(BootId(1), NAME.into(), 1, LaneOptions::default());
        way.set_free(Funds { relay_bytes: 2 * RING_BYTES, ..BUDGET });
        registry.hear(NOW, &way.connected());
        way.settle(&mut registry);
        relay.handle(NOW, &way.connected());
        registry.attend_relay(NOW, &peers, &mut relay);
        assert!(!makes_ring(&mut relay, NOW), "nothing is leased yet");
        let later = NOW.plus_secs(3);
        registry.pass_time(later);
        way.settle(&mut registry);
        registry.attend_relay(later, &peers, &mut relay);
        assert!(!relay.wants_funds(later.plus_secs(1)), "it is paid for");
        way.expire(&mut registry, &mut relay);
        registry.attend_relay(later, &peers, &mut relay);
        assert!(!makes_ring(&mut relay, later), "nothing is leased any more");
    }

    /// The registry and the bank of a new life counted their tickets from one again: the answer to
    /// the last question of the former life was taken for that to the first of the new one.
    #[test]
    fn an_answer_to_a_former_life_is_an_answer_to_nobody() {
        let (mut way, mut registry) = (Way::new(), registry());
        registry.hear(NOW, &way.connected());
        way.ask(&mut registry);
        let former: Vec<_> = way.asked.drain(..).map(|(ticket, _)| ticket).collect();
        registry.begin_life(&membership(), BootId(2), TERMS, SEEDS);
        registry.hear(NOW, &way.connected());
        way.ask(&mut registry);
        let present: Vec<_> = way.asked.iter().map(|(ticket, _)| *ticket).collect();
        assert!(!former.is_empty() && former.len() == present.len(), "{former:?} {present:?}");
        assert!(former.iter().all(|ticket| !present.contains(ticket)), "{former:?} {present:?}");
    }

    /// A lease was made under the boot id that had been declared dead, in the session that the new
    /// life goes on with. It was waited for to end, which it never did: no topic was ever registered.
    #[test]
    fn a_lease_of_a_former_life_in_the_same_session_is_replaced() {
        let (mut way, mut registry) = (Way::new(), registry());
        registry.hear(NOW, &way.connected());
        way.settle(&mut registry);
        assert_eq!(way.payer(), Some(BootId(1)));
        registry.begin_life(&membership(), BootId(2), TERMS, SEEDS);
        registry.hear(NOW, &way.connected());
        way.settle(&mut registry);
        assert_eq!(way.payer(), Some(BootId(2)));
    }
}
