//! Retained messages of a cluster, in the store and out of it.
//!
//! The broker that took a publish has it stored, under the version that all brokers know it by: the
//! store keeps the later of two by the order in which the brokers do. Whoever joins reads them all,
//! before it takes clients, and merges each as if a peer had told it: what is known to be later stays.
//! What nobody had told it is of a broker that died as soon as it was stored: whoever reads it tells the
//! others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Waker;

use crate::broker::durable::Durable;
use crate::broker::peers::Peers;
use crate::broker::turn::Turn;
use crate::cluster::frame::{RetainedMessage, RetainedValue};
use crate::cluster::identity::BootId;
use crate::cluster::version::Version;
use crate::mqtt::TopicName;
use crate::ports::clock::Tick;
use crate::ports::store::{
    Batch, Completion, Full, Operation, OwnerId, Reply, RetainedRecord, RetainedVersion,
    StoredMessage, Submitter,
};

/// Reads what is retained, once in each life of a broker of a cluster.
///
/// To be begun when nobody can store anything of which this broker would not hear: those who were there
/// before it have told it what they have, and the store takes nothing more of those that are dead.
pub struct RetainedReader {
    durable: Arc<Durable>,
    submitter: Box<dyn Submitter>,
    /// For which life it reads, or has read.
    life: Option<OwnerId>,
    /// What comes next is behind this topic.
    after: Option<TopicName>,
    /// Whose changes were known to the store alone.
    untold: BTreeSet<BootId>,
    is_done: bool,
    /// In which life it asked for what is not answered.
    asked: Option<OwnerId>,
    again_at: Tick,
}

impl RetainedReader {
    /// One that has read nothing.
    #[must_use]
    pub fn new(durable: Arc<Durable>) -> Self {
        let submitter = durable.store().submitter();
        Self {
            durable,
            submitter,
            life: None,
            after: None,
            untold: BTreeSet::new(),
            is_done: false,
            asked: None,
            again_at: Tick::ZERO,
        }
    }

    /// Whether the store has been asked for something and has not answered.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// Does what is to be done; `waker` is called when there is more. Returns whether all is here that
    /// was stored when this life of the broker first called it.
    pub fn poll(&mut self, turn: &mut Turn<'_>, peers: &Peers, waker: &Waker) -> bool {
        let owner = self.durable.owner();
        if self.life != Some(owner) {
            self.life = Some(owner);
            self.after = None;
            self.untold.clear();
            self.is_done = false;
            self.again_at = Tick::ZERO;
        }
        while let Some(completion) = self.submitter.poll(waker) {
            self.hear(turn, peers, completion);
        }
        if !self.is_done && self.asked.is_none() && turn.now >= self.again_at {
            self.ask(turn.now);
        }
        self.is_done
    }

    fn ask(&mut self, now: Tick) {
        let owner = self.durable.owner();
        let now_millis = self.durable.unix_millis(now);
        let after = self.after.clone();
        let operations = vec![Operation::ListRetained { after, limit: PAGE_MAX }];
        match self.submitter.submit(Batch { owner, now_millis, operations }) {
            Ok(_ticket) => self.asked = Some(owner),
            Err(Full(_batch)) => self.again_at = now.plus_millis(AGAIN_MILLIS),
        }
    }

    fn hear(&mut self, turn: &mut Turn<'_>, peers: &Peers, completion: Completion) {
        if self.asked.take() != self.life {
            return;
        }
        let replies = completion.outcome.map(|done| done.replies);
        let Ok(Some(Reply::Retained(records))) = replies.map(|replies| replies.into_iter().next())
        else {
            self.again_at = turn.now.plus_millis(AGAIN_MILLIS);
            return;
        };
        let Some(last) = records.last() else {
            self.is_done = true;
            for dead in std::mem::take(&mut self.untold) {
                peers.inherit_of(dead, turn.now);
            }
            return;
        };
        self.after = Some(last.topic.clone());
        for record in records {
            let value = told(record, peers.cluster_millis(turn.now));
            if turn.is_left_behind(peers, &value) {
                self.untold.insert(value.version.boot_id);
            }
            turn.merge_value(peers, value);
        }
    }
}

/// The version of a change as the store has it: in the same order.
pub(super) fn stored_version(Version { time, boot_id }: Version) -> RetainedVersion {
    RetainedVersion { time, owner: OwnerId(boot_id.0) }
}

fn version(RetainedVersion { time, owner }: RetainedVersion) -> Version {
    Version { time, boot_id: BootId(owner.0) }
}

/// What is stored as a peer would tell it. One that has expired is as good as deleted: what it has
/// replaced may still be somewhere else.
fn told(record: RetainedRecord, cluster_millis: u64) -> RetainedValue {
    let is_alive =
        |stored: &Arc<StoredMessage>| stored.expires_at_millis.is_none_or(|at| at > cluster_millis);
    let message = record.message.filter(is_alive).map(|stored| RetainedMessage {
        payload: stored.payload.clone(),
        properties: stored.properties.clone(),
        qos: stored.qos,
        expires_at_millis: stored.expires_at_millis,
    });
    RetainedValue { topic: record.topic, version: version(record.version), message }
}

/// Records read at a time.
const PAGE_MAX: u32 = 512;
/// How long a store is left alone that could not do it.
const AGAIN_MILLIS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two changes the brokers and the store are to keep the same one.
    #[test]
    fn the_store_orders_versions_as_brokers_do() {
        let numbers = [0, 1, u64::MAX];
        let owners = [0, 1, 1 << 64, u128::MAX];
        let all = numbers
            .into_iter()
            .flat_map(|time| owners.map(|boot_id| Version { time, boot_id: BootId(boot_id) }));
        let all: Vec<_> = all.collect();
        for one in &all {
            assert_eq!(version(stored_version(*one)), *one);
            for other in &all {
                assert_eq!(stored_version(*one).cmp(&stored_version(*other)), one.cmp(other));
            }
        }
    }
}
