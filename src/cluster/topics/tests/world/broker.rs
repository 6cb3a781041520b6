//! One broker: its bank, its registry, and what is on its way to and from them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::cluster::bank::{Bank, BankOutput};
use crate::cluster::frame::{DigestQuestion, PartDigest, RetainedValue};
use crate::cluster::identity::BootId;
use crate::cluster::tickets::Owner;
use crate::cluster::topics::{Topics, TopicsOutput};
use crate::cluster::version::{Version, VersionClock};
use crate::ports::Tick;
use crate::ports::coordination::{CoordinationError, CoordinationEvent, Request, Ticket};

pub(in crate::cluster::topics::tests) struct Broker {
    pub(in crate::cluster::topics::tests) boot_id: BootId,
    pub(in crate::cluster::topics::tests) bank: Bank,
    pub(in crate::cluster::topics::tests) topics: Topics,
    pub(super) name: Arc<str>,
    pub(super) versions: VersionClock,
    pub(in crate::cluster::topics::tests) session: i64,
    /// The session it has heard of. What it submits is not carried over to a later one.
    pub(super) heard: i64,
    pub(in crate::cluster::topics::tests) requests: VecDeque<(i64, Ticket, Request)>,
    pub(in crate::cluster::topics::tests) events: VecDeque<CoordinationEvent>,
    /// The broker's table of values: what it merged.
    pub(in crate::cluster::topics::tests) values: BTreeMap<String, RetainedValue>,
    pub(in crate::cluster::topics::tests) told: u64,
    pub(in crate::cluster::topics::tests) fading: Vec<String>,
    /// Told to have found no place in the tree.
    pub(in crate::cluster::topics::tests) unwritten: Vec<String>,
    pub(super) asked: Vec<DigestQuestion>,
    pub(super) answered: Vec<(BootId, u64, Vec<PartDigest>)>,
    /// Parts it has asked the tree for.
    pub(in crate::cluster::topics::tests) lists: usize,
    pub(in crate::cluster::topics::tests) has_no_ttl: bool,
}

impl Broker {
    pub(in crate::cluster::topics::tests) fn hear(&mut self, now: Tick, event: CoordinationEvent) {
        if let CoordinationEvent::Connected { session, .. } = event {
            self.heard = session;
        }
        if let CoordinationEvent::Answered { ticket, .. } = &event {
            match Owner::of(*ticket).unwrap() {
                Owner::Bank => self.bank.handle(now, &event, self.topics.holdings_mut()),
                Owner::Topics => self.topics.handle(now, event, &mut self.bank),
                owner @ (Owner::Membership | Owner::Clock | Owner::Relay) => {
                    panic!("{owner:?} is not here")
                }
            }
        } else {
            self.bank.handle(now, &event, self.topics.holdings_mut());
            self.topics.handle(now, event, &mut self.bank);
        }
        if self.bank.awaits_holdings() {
            self.bank.handle_timeout(now, self.topics.holdings_mut());
        }
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        while let Some(BankOutput::Submit(ticket, request)) = self.bank.poll_output() {
            self.requests.push_back((self.heard, ticket, request));
        }
        while let Some(output) = self.topics.poll_output() {
            match output {
                TopicsOutput::Submit(ticket, request) => {
                    let path = if let Request::List(path) = &request { path } else { "" };
                    self.lists += usize::from(path.matches('/').count() == 2);
                    self.requests.push_back((self.heard, ticket, request));
                }
                TopicsOutput::Value(value, _) => {
                    self.told += 1;
                    self.merge(value);
                }
                TopicsOutput::Fading(topic) => self.fading.push(topic.as_str().to_owned()),
                TopicsOutput::NoTtl => self.has_no_ttl = true,
                TopicsOutput::Compare(question) => self.asked.push(question),
                TopicsOutput::Digests(to, number, parts) => {
                    self.answered.push((to, number, parts));
                }
                TopicsOutput::Unwritten(topic) => self.unwritten.push(topic.to_string()),
            }
        }
    }

    /// The rule of the broker: the higher version wins.
    pub(in crate::cluster::topics::tests) fn merge(&mut self, value: RetainedValue) {
        assert!(self.versions.note(value.version, None));
        let before = self.values.get(value.topic.as_str());
        if before.is_none_or(|before| before.version < value.version) {
            self.values.insert(value.topic.as_str().to_owned(), value);
        }
    }

    pub(in crate::cluster::topics::tests) fn version(&self, topic: &str) -> Option<Version> {
        Some(self.values.get(topic)?.version)
    }

    pub(super) fn lose(&mut self, ticket: Ticket) {
        let outcome = Err(CoordinationError::ConnectionLost);
        self.events.push_back(CoordinationEvent::Answered { ticket, outcome });
    }

    pub(super) fn lose_all(&mut self) {
        for (_, ticket, _) in std::mem::take(&mut self.requests) {
            self.lose(ticket);
        }
    }

    pub(in crate::cluster::topics::tests) fn name(&self) -> &str {
        &self.name
    }
}
