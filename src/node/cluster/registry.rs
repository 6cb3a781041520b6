//! The registry of topics and the bank that pays for it, side by side.

use std::sync::Arc;

use crate::broker::peers::topics::TopicNews;
use crate::cluster::bank::{Bank, BankOptions, BankOutput, BankReadings, Funds, Taken};
use crate::cluster::frame::RetainedValue;
use crate::cluster::identity::BootId;
use crate::cluster::relay::Relay;
use crate::cluster::tickets::Owner;
use crate::cluster::topics::{Topics, TopicsOptions, TopicsOutput, TopicsReadings, ValueKind};
use crate::mqtt::TopicName;
use crate::ports::clock::Tick;
use crate::ports::coordination::{Change, Coordination, CoordinationEvent};

/// What the tree keeps of topics, as far as this broker knows and pays.
pub(super) struct Registry {
    topics: Topics,
    bank: Bank,
}

/// What the broker is to hear of.
pub(super) enum RegistryNews {
    /// A value that another broker wrote.
    Value(RetainedValue),
    /// A topic that nobody has used for long; if somebody subscribes to it, say so.
    Fading(TopicName),
    /// Nothing is registered before the ensemble keeps znodes with a time to live.
    NoTtl,
}

impl Registry {
    pub(super) fn new(name: &Arc<str>, boot_id: BootId, [hash, jitter]: [u64; 2]) -> Self {
        let bank = BankOptions {
            name: Arc::clone(name),
            boot_id,
            budget: BUDGET,
            chunk: CHUNK,
            jitter_seed: jitter,
        };
        Self {
            topics: Topics::new(TopicsOptions::new(boot_id, hash, jitter)),
            bank: Bank::new(bank),
        }
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
                TopicsOutput::Value(_, Some(_)) => {}
                TopicsOutput::Fading(topic) => news.push(RegistryNews::Fading(topic)),
                TopicsOutput::NoTtl => news.push(RegistryNews::NoTtl),
            }
        }
        news
    }

    /// Takes `cost` from the room in this broker's lease, if there is room.
    pub(super) fn pay(&mut self, now: Tick, cost: Funds) -> bool {
        self.bank.take(now, cost) == Taken::Taken
    }

    /// What the relay has found goes into the books of the bank.
    pub(super) fn keep_relay(&mut self, now: Tick, relay: &mut Relay) {
        let is_awaited = self.bank.awaits_holdings();
        relay.keep_holdings(now, self.topics.holdings_mut(), is_awaited);
    }

    pub(super) fn readings(&self) -> (TopicsReadings, BankReadings) {
        (self.topics.readings(), self.bank.readings())
    }
}

/// All that may exist in the tree of one cluster.
const BUDGET: Funds =
    Funds { topics: 100_000, znode_bytes: 64 * 1_024 * 1_024, relay_bytes: 64 * 1_024 * 1_024 };
/// What one broker asks for at a time.
const CHUNK: Funds =
    Funds { topics: 1_000, znode_bytes: 1_024 * 1_024, relay_bytes: 1_024 * 1_024 };
