//! What can be seen from outside: of the tree, of a broker, and of the books of the bank.

use std::collections::BTreeMap;

use super::World;
use crate::cluster::bank::{Funds, decode_free, decode_lease};
use crate::cluster::identity::BootId;
use crate::cluster::paths::{BANK, TOPICS};
use crate::cluster::topics::Record;
use crate::cluster::topics::path::TopicPath;
use crate::ports::coordination::{CoordinationError, Reply, Request, Stat};

impl World {
    /// What a subscriber that comes now to `broker` gets for `topic`.
    pub(in crate::cluster::topics::tests) fn value(
        &self,
        broker: usize,
        topic: &str,
    ) -> Option<String> {
        let message = self.brokers[broker].values.get(topic)?.message.as_ref()?;
        let holds = message.expires_at_millis.is_none_or(|at| at > self.millis());
        holds.then(|| String::from_utf8(message.payload.to_vec()).unwrap())
    }

    /// What the znode of `topic` holds.
    pub(in crate::cluster::topics::tests) fn record(
        &mut self,
        topic: &str,
    ) -> Option<(Record, Stat)> {
        let path = TopicPath::of(topic).unwrap().path();
        match self.look(Request::Get(path)) {
            Ok(Reply::Data { data, stat }) => Some((Record::decode(&data).unwrap(), stat)),
            _ => None,
        }
    }

    pub(in crate::cluster::topics::tests) fn look(
        &mut self,
        request: Request,
    ) -> Result<Reply, CoordinationError> {
        self.tree.apply(self.observer, request, 0)
    }

    pub(in crate::cluster::topics::tests) fn children(&mut self, path: &str) -> Vec<String> {
        match self.look(Request::List(path.into())) {
            Ok(Reply::Children(names)) => names,
            _ => Vec::new(),
        }
    }

    /// The promises of the bank, from the tree alone: the sum, and what each has under its lease.
    pub(in crate::cluster::topics::tests) fn audit(&mut self) -> Result<Funds, String> {
        let Ok(Reply::Data { data, .. }) = self.look(Request::Get(BANK.into())) else {
            return Ok(Funds::ZERO);
        };
        let free = decode_free(&data).unwrap();
        let mut leases = BTreeMap::new();
        for name in self.children(BANK) {
            if let Ok(Reply::Data { data, .. }) = self.look(Request::Get(format!("{BANK}/{name}")))
            {
                leases.extend(decode_lease(&data));
            }
        }
        let mut sum = leases.values().fold(free, |sum, &lease| sum.plus(lease));
        for (payer, held) in self.held() {
            match leases.get(&payer) {
                Some(lease) if !lease.covers(held) => {
                    return Err(format!("{payer:?} has {held} under {lease}"));
                }
                Some(_) => {}
                None => sum = sum.plus(held),
            }
        }
        if self.budget.covers(sum) { Ok(sum) } else { Err(format!("{sum} of {}", self.budget)) }
    }

    pub(in crate::cluster::topics::tests) fn held(&mut self) -> BTreeMap<BootId, Funds> {
        let mut held = BTreeMap::new();
        for part in self.children(TOPICS) {
            for name in self.children(&format!("{TOPICS}/{part}")) {
                let path = format!("{TOPICS}/{part}/{name}");
                let Ok(Reply::Data { data, .. }) = self.look(Request::Get(path)) else { continue };
                let payer = Record::decode(&data).unwrap().payer;
                let bytes = u64::try_from(name.len() + data.len()).unwrap();
                let sum: &mut Funds = held.entry(payer).or_default();
                *sum = sum.plus(Funds { topics: 1, znode_bytes: bytes, relay_bytes: 0 });
            }
        }
        held
    }

    pub(in crate::cluster::topics::tests) fn budget(&self) -> Funds {
        self.budget
    }

    /// The most writes in any second.
    pub(in crate::cluster::topics::tests) fn busiest_second(&self) -> usize {
        let mut start = 0;
        let mut most = 0;
        for (end, at) in self.writes.iter().enumerate() {
            while self.writes[start] + 1_000 <= *at {
                start += 1;
            }
            most = most.max(end + 1 - start);
        }
        most
    }
}
