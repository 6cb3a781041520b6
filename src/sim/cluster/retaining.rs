//! Retained messages: of two the later one stays, everywhere.
//!
//! Which of two is the later one is certain where the one was sent after the other had been
//! acknowledged: by then every broker had it. Of others, either may stay. With QoS 0 links alone do not
//! bring it to a broker that is in doubt; znodes do, in the runs that have them.

use crate::mqtt::QoS;
use crate::sim::chance::Chance;
use crate::sim::cluster::client::SimClient;
use crate::sim::cluster::ledger::{Draft, FIRST_LATEST, FIRST_RETAINED, Ledger};
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};

/// A topic of the retained ones, a QoS, and whether its message is to go.
pub(super) fn draw_retained(chance: &mut Chance) -> Draft {
    Draft {
        topic: FIRST_RETAINED + chance.place(FIRST_LATEST - FIRST_RETAINED),
        qos: chance.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]),
        is_deletion: chance.one_in(6),
    }
}

impl SimClient {
    /// Publishes, or deletes, a retained message.
    pub(super) fn retain(&mut self, chance: &mut Chance, now: u64, ledger: &mut Ledger) {
        let draft = draw_retained(chance);
        if self.may_publish() {
            self.publish(draft, now, ledger);
        }
    }
}

impl Ledger {
    /// What was accepted before `until` and is later than a message.
    fn successor(&self, number: usize, until: u64) -> Option<usize> {
        let former = self.publication(number)?;
        let settled_at = former.settled_at()?.max(self.forgotten_at);
        let is_later = |later: usize| {
            self.publication(later).is_some_and(|one| {
                one.topic == former.topic
                    && one.sent_at > settled_at
                    && one.accepted_at.is_some_and(|at| at < until)
            })
        };
        self.publications().map(|(later, _)| later).find(|later| is_later(*later))
    }

    /// A broker sends a retained message to a new Subscription.
    pub(super) fn note_replayed(&self, session: usize, number: usize) -> Result<(), Complaint> {
        let Some(publication) = self.publication(number) else {
            return complaint(Checker::Retained, "a message that nobody published is retained");
        };
        let of_topic = self.standing_of(publication.topic).filter(|(whose, _)| *whose == session);
        let asked = of_topic.filter(|(_, one)| !one.is_revived).map(|(_, one)| one.from).min();
        let asked = asked.filter(|from| *from != u64::MAX);
        let Some(later) = asked.and_then(|asked| self.successor(number, asked)) else {
            return Ok(());
        };
        let later = self.publication(later);
        let words = format!("session {session} gets {number} {publication:?} for {later:?}");
        complaint(Checker::Retained, words)
    }

    /// All brokers have this message of a topic, or none.
    pub(super) fn judge_retained(
        &self,
        topic: usize,
        kept: Option<usize>,
    ) -> Result<(), Complaint> {
        let Some(number) = kept else { return self.judge_absence(topic) };
        let found = self.publication(number);
        let Some(publication) = found.filter(|one| one.topic == topic && !one.is_deletion) else {
            return complaint(Checker::Retained, format!("{number} is retained for {topic}"));
        };
        if let Some(later) = self.successor(number, u64::MAX) {
            let later = self.publication(later);
            let words = format!("{number} {publication:?} is retained in place of {later:?}");
            return complaint(Checker::Retained, words);
        }
        // What was gone with all brokers that had it is back from the tree: that delivers nothing to
        // whoever had subscribed before.
        let is_lasting = publication.sent_at > self.forgotten_at;
        let Some(accepted_at) = publication.accepted_at.filter(|_| is_lasting) else {
            return Ok(());
        };
        let mut later_ones = self.standing_of(topic).filter(|(_, one)| {
            let is_asked = one.from != u64::MAX && one.from > accepted_at && !one.is_revived;
            is_asked && one.qos.min(publication.qos) > QoS::AtMostOnce
        });
        match later_ones.find(|(session, _)| !self.has_come(*session, number)) {
            Some(one) => {
                let words = format!("{number} {publication:?} is retained and not sent to {one:?}");
                complaint(Checker::Retained, words)
            }
            None => Ok(()),
        }
    }

    /// Nobody has a message of a topic: something may have taken the last one away.
    fn judge_absence(&self, topic: usize) -> Result<(), Complaint> {
        let of_topic = || self.publications().filter(|(_, one)| one.topic == topic);
        let is_deleted = |sent_at: u64| {
            let mut deletions = of_topic().filter(|(_, one)| one.is_deletion);
            deletions.any(|(_, one)| one.settled_at().is_none_or(|at| at >= sent_at))
        };
        let lost = of_topic().find(|(_, one)| {
            let is_kept = !one.is_deletion && one.accepted_at.is_some();
            is_kept && one.sent_at > self.forgotten_at && !is_deleted(one.sent_at)
        });
        match lost {
            Some((number, one)) => {
                complaint(Checker::Retained, format!("{number} {one:?} is retained nowhere"))
            }
            None => Ok(()),
        }
    }
}
