//! What brokers have of retained messages.

use crate::mqtt::{Publish, QoS};
use crate::ports::clock::Tick;
use crate::sim::cluster::ledger::{Draft, FIRST_LATEST, FIRST_RETAINED, TOPICS};
use crate::sim::cluster::process::Process;
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};
use crate::sim::cluster::world::World;

impl World {
    /// A process has been killed, or declared dead: what was retained is gone with the last one that had all of
    /// it. One that was declared dead has what there was before, and tells it when it has joined again: who goes
    /// on without it, and was not told before, has what is older until then.
    pub(super) fn note_forgotten(&mut self) {
        let mut processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let has_all =
            |process: &Process| process.is_joined && !self.dead.contains(&process.boot_id);
        if !processes.any(|process| has_all(process)) {
            self.ledger.forgotten_at = self.now;
        }
    }

    /// A retained message is sent to a new Subscription.
    pub(super) fn note_replayed(
        &mut self,
        connection: usize,
        publish: &Publish,
    ) -> Result<(), Complaint> {
        let (node, client) = (self.line(connection).node, self.line(connection).client);
        let session = self.client(client).session;
        let number = number_of(&publish.payload).unwrap_or(usize::MAX);
        if self.ledger.publication(number).is_some_and(|one| one.topic >= FIRST_LATEST) {
            self.count("latest values replayed");
            return self.ledger.note_latest_replayed(session, number);
        }
        self.count("retained messages replayed");
        let sent_at = self.ledger.publication(number).map_or(u64::MAX, |one| one.sent_at);
        if self.process(node).is_some_and(|process| process.started_at > sent_at) {
            self.count("retained messages replayed by brokers that came later");
        }
        self.ledger.note_replayed(session, number)
    }

    /// Everything is at rest: all brokers have the same, and the latest.
    pub(super) fn judge_retained(&mut self) -> Result<(), Complaint> {
        for topic in FIRST_RETAINED..FIRST_LATEST {
            let kept = self.retained(topic)?;
            self.ledger.judge_retained(topic, kept)?;
        }
        Ok(())
    }

    /// The message that all brokers have of a topic.
    pub(super) fn retained(&self, topic: usize) -> Result<Option<usize>, Complaint> {
        let name = TOPICS.get(topic).expect("topics are numbered");
        let now = Tick::from_millis(self.now);
        let mut found: Option<Option<usize>> = None;
        for process in self.nodes.iter().filter_map(|node| node.process.as_ref()) {
            let message = process.broker.retained_message(name, now);
            let number = message.map(|message| number_of(&message.payload).unwrap_or(usize::MAX));
            if let Some(found) = found.filter(|found| *found != number) {
                let of = |number: Option<usize>| number.and_then(|it| self.ledger.publication(it));
                let (one, other) = (of(number), of(found));
                let boot_id = process.boot_id;
                let words =
                    format!("{boot_id:?} has {number:?} {one:?}, others {found:?} {other:?}");
                return complaint(Checker::Retained, words);
            }
            found = Some(number);
        }
        Ok(found.flatten())
    }

    /// One message more for each topic, when nothing else is under way: that is what is retained.
    pub(super) fn retain_once_more(&mut self) -> Result<(), Complaint> {
        let mut last = Vec::new();
        for topic in FIRST_RETAINED..FIRST_LATEST {
            let client = self.chance.place(self.clients.len());
            let now = self.now;
            let Self { clients, ledger, .. } = self;
            let found = clients.get_mut(client).expect("clients are numbered");
            let draft = Draft::new(topic, QoS::AtLeastOnce);
            last.push((topic, found.publish(draft, now, ledger)));
            self.flush(client);
        }
        self.drain()?;
        for (topic, number) in last {
            let kept = self.retained(topic)?;
            if kept != Some(number) {
                let words = format!("{kept:?} is retained in place of {number}, the last one");
                return complaint(Checker::Retained, words);
            }
        }
        Ok(())
    }
}

/// The number of the message that this is the payload of.
pub(super) fn number_of(payload: &[u8]) -> Option<usize> {
    let number = payload.first_chunk::<8>().map(|number| u64::from_be_bytes(*number))?;
    usize::try_from(number).ok()
}
