//! Latest values: who subscribes while one holds gets it, and not after.
//!
//! They come to brokers that have no subscriber of their own by the znodes of their topics, and to others
//! with the message. While things go wrong a broker may have one that is not the latest any more; that
//! it has none whose time is over holds always.

use crate::mqtt::QoS;
use crate::sim::chance::Chance;
use crate::sim::cluster::client::SimClient;
use crate::sim::cluster::keeping::LATEST_MILLIS;
use crate::sim::cluster::ledger::{Draft, FIRST_LATEST, Ledger, TOPICS};
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};

impl SimClient {
    /// Publishes to a topic of which brokers keep the latest value.
    pub(super) fn publish_latest(&mut self, chance: &mut Chance, now: u64, ledger: &mut Ledger) {
        let topic = FIRST_LATEST + chance.place(TOPICS.len() - FIRST_LATEST);
        let qos = self.qos_to_publish(chance.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]));
        if self.may_publish() {
            self.publish(Draft::new(topic, qos), now, ledger);
        }
    }
}

impl Ledger {
    /// A broker sends a latest value to a new Subscription.
    pub(super) fn note_latest_replayed(
        &self,
        session: usize,
        number: usize,
    ) -> Result<(), Complaint> {
        let Some(publication) = self.publication(number) else { return Ok(()) };
        let Some(accepted_at) = publication.accepted_at else { return Ok(()) };
        // Of what time it was nobody knows who has come since: where the clocks of machines and ensemble
        // have changed as well, that of the cluster begins somewhere else.
        if publication.was_repeated() || accepted_at <= self.forgotten_at {
            return Ok(());
        }
        let standing = self.standing_of(publication.topic);
        let of_session = standing.filter(|(receiver, _)| *receiver == session).map(|(_, one)| one);
        let asked = of_session.filter(|one| !one.is_revived).map(|one| one.from).min();
        match asked.filter(|from| *from != u64::MAX) {
            Some(asked) if asked > accepted_at + LATEST_MILLIS + TROUBLED_SLACK_MILLIS => {
                let words = format!(
                    "session {session} asked at {asked} and gets {number} {publication:?}, whose time is over"
                );
                complaint(Checker::Latest, words)
            }
            _ => Ok(()),
        }
    }
}

/// The same while things go wrong: a clock that is not read for some seconds, or is changed, is further off.
const TROUBLED_SLACK_MILLIS: u64 = 3_000;
/// How long after its time a value may be there: clocks do not agree to the millisecond.
pub(super) const SLACK_MILLIS: u64 = 1_500;
