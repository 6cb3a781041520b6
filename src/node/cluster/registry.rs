//! The registry of topics and the bank that pays for it, side by side.

use std::sync::Arc;

use crate::broker::peers::topics::TopicNews;
use crate::cluster::bank::{Bank, BankOptions, BankOutput, BankReadings, Funds, Spending};
use crate::cluster::frame::{DigestQuestion, PartDigest, RetainedValue};
use crate::cluster::identity::BootId;
use crate::cluster::membership::output::MembershipOptions;
use crate::cluster::relay::Relay;
use crate::cluster::tickets::Owner;
use crate::cluster::topics::{Topics, TopicsOptions, TopicsOutput, TopicsReadings, ValueKind};
use crate::config::Config;
use crate::mqtt::TopicName;
use crate::ports::clock::Tick;
use crate::ports::coordination::{Change, Coordination, CoordinationEvent};

/// What the tree keeps of topics, as far as this broker knows and pays.
pub(super) struct TopicRegistry {
    topics: Topics,
    bank: Bank,
}

/// What the broker is to hear of.
pub(super) enum RegistryNews {
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
    pub(super) fn new(
        membership: &MembershipOptions,
        boot_id: BootId,
        budget: Funds,
        seeds: [u64; 2],
    ) -> Self {
        let (topics, bank) = options(membership, boot_id, budget, seeds);
        Self { topics: Topics::new(topics), bank: Bank::new(bank) }
    }

    /// This process goes on as another broker.
    pub(super) fn begin_life(
        &mut self,
        membership: &MembershipOptions,
        boot_id: BootId,
        budget: Funds,
        seeds: [u64; 2],
    ) {
        let (topics, bank) = options(membership, boot_id, budget, seeds);
        self.topics.begin_life(topics);
        self.bank.begin_life(bank);
    }

    /// What the tree of znodes says: everything but answers to others.
    pub(super) fn hear(&mut self, now: Tick, event: &CoordinationEvent) {
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

    pub(super) fn set_clock(&mut self, now: Tick, cluster_millis: u64) {
        self.topics.set_clock(now, cluster_millis);
    }

    pub(super) fn set_members(&mut self, live: Vec<BootId>, is_leading: bool) {
        self.topics.set_members(live, is_leading);
    }

    pub(super) fn set_leading(&mut self, now: Tick, lock: Option<Change>) {
        self.bank.set_leading(now, lock);
    }

    /// What this broker's clients do with topics.
    pub(super) fn take_in(&mut self, now: Tick, news: TopicNews) {
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

    /// The latest value of a topic, published here.
    pub(super) fn set_latest(&mut self, now: Tick, value: &RetainedValue) {
        self.topics.set_value(now, value, ValueKind::LastValue);
    }

    /// Somebody still uses a topic that was fading.
    pub(super) fn keep(&mut self, now: Tick, topic: &TopicName) {
        let _again_when_it_fades = self.topics.use_topic(now, topic.as_str());
    }

    pub(super) fn pass_time(&mut self, now: Tick) {
        if self.topics.next_timeout().is_some_and(|due| due <= now) {
            self.topics.handle_timeout(now, &mut self.bank);
        }
        if self.bank.awaits_holdings() || self.bank.next_timeout().is_some_and(|due| due <= now) {
            self.bank.handle_timeout(now, self.topics.holdings_mut());
        }
    }

    /// When [`Self::pass_time`] is due.
    pub(super) fn next_timeout(&self) -> Option<Tick> {
        self.topics.next_timeout().into_iter().chain(self.bank.next_timeout()).min()
    }

    /// Asks the tree what is to be asked, and returns what the broker is to hear of.
    pub(super) fn carry_out(&mut self, coordination: &dyn Coordination) -> Vec<RegistryNews> {
        while let Some(BankOutput::Submit(ticket, request)) = self.bank.poll_output() {
            coordination.submit(ticket, request);
        }
        let mut news = Vec::new();
        while let Some(output) = self.topics.poll_output() {
            match output {
                TopicsOutput::Submit(ticket, request) => coordination.submit(ticket, request),
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

    /// Takes `cost` from the room in this broker's lease, if there is room.
    pub(super) fn pay(&mut self, now: Tick, cost: Funds) -> bool {
        self.bank.take(now, cost) == Spending::Taken
    }

    /// What the relay has found goes into the books of the bank.
    pub(super) fn keep_relay(&mut self, now: Tick, relay: &mut Relay) {
        // What others want to compare waits for the books as well.
        let is_awaited = self.bank.awaits_holdings() || self.topics.awaits_holdings();
        relay.keep_holdings(now, self.topics.holdings_mut(), is_awaited);
    }

    pub(super) fn readings(&self) -> (TopicsReadings, BankReadings) {
        (self.topics.readings(), self.bank.readings())
    }
}

fn options(
    membership: &MembershipOptions,
    boot_id: BootId,
    budget: Funds,
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
        ..TopicsOptions::new(boot_id, hash, jitter)
    };
    (topics, bank)
}

/// All that may exist in the tree of one cluster.
pub(super) fn budget(config: &Config) -> Funds {
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Funds {
        topics: wide(config.cluster.bank_topics_max.get()),
        znode_bytes: wide(config.cluster.bank_bytes_max.0),
        relay_bytes: RELAY_BYTES,
    }
}

/// What one broker asks for at a time.
fn chunk_of(budget: Funds) -> Funds {
    Funds {
        topics: (budget.topics / 100).max(1),
        znode_bytes: (budget.znode_bytes / 64).max(1),
        relay_bytes: budget.relay_bytes / 64,
    }
}

const RELAY_BYTES: u64 = 64 * 1_024 * 1_024;

#[cfg(test)]
mod tests {
    use crate::cluster::identity::WireVersions;
    use std::collections::VecDeque;

    use parking_lot::Mutex;

    use super::*;
    use crate::cluster::bank::decode_lease;
    use crate::cluster::paths::{FIXED, below};
    use crate::cluster::znodes::Tree;
    use crate::ports::coordination::{CreateMode, Reply, Request, Ticket};

    const NAME: &str = "b";
    const BUDGET: Funds = Funds { topics: 100, znode_bytes: 100_000, relay_bytes: 100_000 };
    const SEEDS: [u64; 2] = [1, 2];
    const NOW: Tick = Tick::from_millis(1_000);

    /// A tree, and what was asked of it and is not answered yet.
    struct Way {
        tree: Mutex<Tree>,
        session: i64,
        asked: Mutex<VecDeque<(Ticket, Request)>>,
    }

    impl Coordination for Way {
        fn submit(&self, ticket: Ticket, request: Request) {
            self.asked.lock().push_back((ticket, request));
        }

        fn session_timeout_millis(&self) -> Option<u64> {
            None
        }
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
            Self { tree: Mutex::new(tree), session, asked: Mutex::default() }
        }

        fn connected(&self) -> CoordinationEvent {
            CoordinationEvent::Connected { session: self.session, is_new: true }
        }

        /// Everything that was asked is answered, and what follows from that.
        fn settle(&self, registry: &mut TopicRegistry) {
            let _news = registry.carry_out(self);
            while let Some((ticket, request)) = { self.asked.lock().pop_front() } {
                let outcome = self.tree.lock().apply(self.session, request, 0);
                registry.hear(NOW, &CoordinationEvent::Answered { ticket, outcome });
                let _news = registry.carry_out(self);
            }
        }

        /// Whose lease there is.
        fn payer(&self) -> Option<BootId> {
            let get = Request::Get(below("/bank", NAME));
            let found = self.tree.lock().apply(self.session, get, 0);
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
        TopicRegistry::new(&membership(), BootId(1), BUDGET, SEEDS)
    }

    /// The registry and the bank of a new life counted their tickets from one again: the answer to
    /// the last question of the former life was taken for that to the first of the new one.
    #[test]
    fn an_answer_to_a_former_life_is_an_answer_to_nobody() {
        let (way, mut registry) = (Way::new(), registry());
        registry.hear(NOW, &way.connected());
        let _news = registry.carry_out(&way);
        let former: Vec<_> = way.asked.lock().drain(..).map(|(ticket, _)| ticket).collect();
        registry.begin_life(&membership(), BootId(2), BUDGET, SEEDS);
        registry.hear(NOW, &way.connected());
        let _news = registry.carry_out(&way);
        let present: Vec<_> = way.asked.lock().iter().map(|(ticket, _)| *ticket).collect();
        assert!(!former.is_empty() && former.len() == present.len(), "{former:?} {present:?}");
        assert!(former.iter().all(|ticket| !present.contains(ticket)), "{former:?} {present:?}");
    }

    /// A lease was made under the boot id that had been declared dead, in the session that the new
    /// life goes on with. It was waited for to end, which it never did: no topic was ever registered.
    #[test]
    fn a_lease_of_a_former_life_in_the_same_session_is_replaced() {
        let (way, mut registry) = (Way::new(), registry());
        registry.hear(NOW, &way.connected());
        way.settle(&mut registry);
        assert_eq!(way.payer(), Some(BootId(1)));
        registry.begin_life(&membership(), BootId(2), BUDGET, SEEDS);
        registry.hear(NOW, &way.connected());
        way.settle(&mut registry);
        assert_eq!(way.payer(), Some(BootId(2)));
    }
}
