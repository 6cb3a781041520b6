//! What was published, and who has got it: the checkers for loss, duplicates, order and expiry.

use std::collections::{BTreeMap, BTreeSet};

use super::failure::{Checker, Complaint, complaint};
use super::profile::{FIRST_RETAINED, FIRST_SHARED, SHARED_STABLE, TOPICS, matches};
use super::sessions::Sessions;
use crate::mqtt::QoS;

/// The books of one run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    publications: Vec<Publication>,
    subscriptions: Vec<SubscriptionRecord>,
    /// By client and the epoch of its Session.
    received: BTreeMap<(usize, u32), Received>,
    /// Messages of Shared Subscriptions: how often they came with QoS 2, and at all.
    shared: BTreeMap<usize, (u32, u32)>,
    timed: Vec<Timed>,
    /// What the probe found: by topic, the last one it was sent.
    retained: BTreeMap<usize, usize>,
}

/// One message of a client.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) publisher: usize,
    pub(super) topic: usize,
    pub(super) qos: QoS,
    /// Only of topics whose messages are retained: an empty payload.
    pub(super) is_deletion: bool,
    pub(super) expiry_secs: Option<u32>,
    pub(super) payload_len: usize,
    pub(super) first_sent: Option<u64>,
    pub(super) sends: u32,
    pub(super) acknowledged: Option<u64>,
    pub(super) is_refused: bool,
}

/// From when to when a client was subscribed for sure.
#[derive(Debug)]
struct SubscriptionRecord {
    client: usize,
    epoch: u32,
    filter: usize,
    qos: QoS,
    packet_bytes_max: usize,
    from: u64,
    until: Option<u64>,
}

#[derive(Debug, Default)]
struct Received {
    all: BTreeSet<usize>,
    /// The last new one, by publisher, topic, and QoS as published and as delivered.
    last: BTreeMap<(usize, usize, QoS, QoS), usize>,
}

/// How a message came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) client: usize,
    pub(super) epoch: u32,
    pub(super) publication: usize,
    pub(super) topic: usize,
    pub(super) qos: QoS,
    pub(super) dup: bool,
    pub(super) retain: bool,
    /// Seconds left of its Message Expiry Interval, if the client could see it.
    pub(super) left_secs: Option<u32>,
    /// When the broker wrote it.
    pub(super) written_at: u64,
}

#[derive(Debug)]
struct Timed {
    publication: usize,
    dup: bool,
    left_secs: Option<u32>,
    written_at: u64,
}

impl Ledger {
    pub(super) fn enter(&mut self, publication: Publication) -> usize {
        self.publications.push(publication);
        self.publications.len() - 1
    }

    pub(super) fn publication(&self, number: usize) -> &Publication {
        self.publications.get(number).expect("publications are numbered")
    }

    fn publication_mut(&mut self, number: usize) -> &mut Publication {
        self.publications.get_mut(number).expect("publications are numbered")
    }

    pub(super) fn publication_count(&self) -> usize {
        self.publications.len()
    }

    pub(super) fn note_sent(&mut self, number: usize, now: u64) {
        let publication = self.publication_mut(number);
        publication.first_sent.get_or_insert(now);
        publication.sends += 1;
    }

    pub(super) fn note_acknowledged(&mut self, number: usize, at: u64) {
        self.publication_mut(number).acknowledged = Some(at);
    }

    pub(super) fn note_refused(&mut self, number: usize) {
        self.publication_mut(number).is_refused = true;
    }

    pub(super) fn note_subscribed(
        &mut self,
        (client, epoch): (usize, u32),
        (filter, qos): (usize, QoS),
        packet_bytes_max: Option<u32>,
        from: u64,
    ) {
        let packet_bytes_max = packet_bytes_max.map_or(usize::MAX, |max| max as usize);
        self.subscriptions.push(SubscriptionRecord {
            client,
            epoch,
            filter,
            qos,
            packet_bytes_max,
            from,
            until: None,
        });
    }

    pub(super) fn note_unsubscribing(&mut self, client: usize, filter: usize, until: u64) {
        let record = self
            .subscriptions
            .iter_mut()
            .rfind(|record| record.client == client && record.filter == filter);
        if let Some(record) = record {
            record.until.get_or_insert(until);
        }
    }

    pub(super) fn note_retained(&mut self, arrival: Arrival) {
        self.retained.insert(arrival.topic, arrival.publication);
    }

    /// A message has come to a client that is new to it, as far as QoS 2 goes.
    pub(super) fn receive(&mut self, arrival: Arrival) -> Result<(), Complaint> {
        let Some(publication) = self.publications.get(arrival.publication) else {
            return complaint(Checker::Protocol, "a message that nobody published");
        };
        let publication = publication.clone();
        if publication.topic != arrival.topic {
            return complaint(Checker::Protocol, "a message came under another topic");
        }
        if publication.expiry_secs.is_some() && !arrival.retain {
            self.timed.push(Timed {
                publication: arrival.publication,
                dup: arrival.dup,
                left_secs: arrival.left_secs,
                written_at: arrival.written_at,
            });
        }
        if arrival.retain {
            return Ok(());
        }
        if (FIRST_SHARED..FIRST_RETAINED).contains(&arrival.topic) {
            return self.receive_shared(arrival, &publication);
        }
        self.receive_own(arrival, &publication)
    }

    fn receive_shared(
        &mut self,
        arrival: Arrival,
        publication: &Publication,
    ) -> Result<(), Complaint> {
        let (exactly_once, all) = self.shared.entry(arrival.publication).or_default();
        *all += 1;
        *exactly_once += u32::from(arrival.qos == QoS::ExactlyOnce);
        if *exactly_once > 1 || (publication.qos == QoS::AtMostOnce && *all > 1) {
            let words = format!("{} went to two members", arrival.publication);
            return complaint(Checker::Duplicate, words);
        }
        Ok(())
    }

    fn receive_own(
        &mut self,
        arrival: Arrival,
        publication: &Publication,
    ) -> Result<(), Complaint> {
        let number = arrival.publication;
        let was_subscribed = publication.sends == 1 || self.was_subscribed(arrival, publication);
        let received = self.received.entry((arrival.client, arrival.epoch)).or_default();
        if !received.all.insert(number) {
            // Once more is allowed where the publisher or the broker may have sent it again.
            let may_repeat = match publication.qos.min(arrival.qos) {
                QoS::AtMostOnce => publication.sends > 1,
                QoS::AtLeastOnce => arrival.dup || publication.sends > 1,
                QoS::ExactlyOnce => false,
            };
            let is_once = publication.qos == QoS::ExactlyOnce && !arrival.dup;
            if may_repeat && !is_once {
                return Ok(());
            }
            let words = format!("client {} got {number} again: {publication:?}", arrival.client);
            return complaint(Checker::Duplicate, words);
        }
        if publication.sends > 1 && (arrival.qos == QoS::AtMostOnce || !was_subscribed) {
            // The first copy may have been dropped, or taken before the Subscription.
            return Ok(());
        }
        let Publication { publisher, topic, qos, .. } = *publication;
        let key = (publisher, topic, qos, arrival.qos);
        if let Some(last) = received.last.insert(key, number)
            && last > number
        {
            let words = format!("client {} got {number} after {last}", arrival.client);
            return complaint(Checker::Order, words);
        }
        Ok(())
    }

    /// Whether the client was subscribed for sure when the message was sent first, and still is.
    fn was_subscribed(&self, arrival: Arrival, publication: &Publication) -> bool {
        let first_sent = publication.first_sent.unwrap_or(0);
        self.subscriptions.iter().any(|record| {
            (record.client, record.epoch) == (arrival.client, arrival.epoch)
                && matches(record.filter, arrival.topic)
                && record.from < first_sent
                && record.until.is_none()
        })
    }

    /// Everything that can be said when all queues have drained.
    pub(super) fn judge(&self, sessions: &Sessions) -> Result<(), Complaint> {
        self.judge_refused()?;
        self.judge_loss(sessions)?;
        self.judge_shared_loss(sessions)?;
        self.judge_retained()?;
        self.timed.iter().try_for_each(|timed| self.judge_expiry(timed))
    }

    /// A refused publish has reached nobody.
    fn judge_refused(&self) -> Result<(), Complaint> {
        let refused = |number: &usize| {
            let publication = self.publication(*number);
            publication.is_refused && publication.sends == 1
        };
        let own = self.received.values().flat_map(|received| &received.all);
        let found =
            own.chain(self.shared.keys()).chain(self.retained.values()).find(|n| refused(n));
        match found {
            Some(number) => complaint(Checker::Refusal, format!("{number} was refused and sent")),
            None => Ok(()),
        }
    }

    fn judge_loss(&self, sessions: &Sessions) -> Result<(), Complaint> {
        for record in &self.subscriptions {
            let lasts =
                sessions.exists(record.client) && sessions.epoch(record.client) == record.epoch;
            if !lasts || record.qos == QoS::AtMostOnce || record.filter >= SHARED_STABLE {
                continue;
            }
            let received = self.received.get(&(record.client, record.epoch));
            for (number, publication) in self.publications.iter().enumerate() {
                let is_due = publication.is_due(record) && !publication.is_deletion;
                let has_come = || received.is_some_and(|received| received.all.contains(&number));
                if is_due && !has_come() {
                    let words = format!("{number} {publication:?} did not reach {record:?}");
                    return complaint(Checker::Loss, words);
                }
            }
        }
        Ok(())
    }

    /// A group whose members' Sessions all last loses nothing.
    fn judge_shared_loss(&self, sessions: &Sessions) -> Result<(), Complaint> {
        let members = || self.subscriptions.iter().filter(|record| record.filter == SHARED_STABLE);
        let ended_at = members().map(|record| sessions.ended_at(record.client)).max().unwrap_or(0);
        for (number, publication) in self.publications.iter().enumerate() {
            let is_after = publication.first_sent.is_some_and(|at| at > ended_at);
            let is_due = is_after && members().any(|record| publication.is_due(record));
            let is_small = members().all(|record| publication.fits(record));
            if is_due && is_small && !self.shared.contains_key(&number) {
                let words = format!("{number} {publication:?} reached no member of its group");
                return complaint(Checker::Loss, words);
            }
        }
        Ok(())
    }

    /// The probe has the last message of every topic.
    fn judge_retained(&self) -> Result<(), Complaint> {
        for (topic, name) in TOPICS.iter().enumerate().skip(FIRST_RETAINED) {
            let sent = || {
                let numbered = self.publications.iter().enumerate();
                numbered.filter(move |(_, one)| one.topic == topic && one.first_sent.is_some())
            };
            let Some((last, publication)) = sent().rfind(|(_, one)| one.acknowledged.is_some())
            else {
                continue;
            };
            // One that the broker took and could not say so, or took once more.
            let may_be_last = |number: usize, one: &Publication| {
                number > last || (one.sends > 1 && one.qos == QoS::AtLeastOnce)
            };
            let is_right = match self.retained.get(&topic) {
                Some(&found) if found == last => !publication.is_deletion,
                Some(&found) => may_be_last(found, self.publication(found)),
                None if publication.is_deletion => true,
                None => sent().any(|(n, one)| one.is_deletion && may_be_last(n, one)),
            };
            if !is_right {
                let found = self.retained.get(&topic);
                let words = format!("{name}: {found:?} is retained, not {last} {publication:?}");
                return complaint(Checker::Retained, words);
            }
        }
        Ok(())
    }

    fn judge_expiry(&self, timed: &Timed) -> Result<(), Complaint> {
        let publication = self.publication(timed.publication);
        let (Some(expiry_secs), Some(sent_at)) = (publication.expiry_secs, publication.first_sent)
        else {
            return Ok(());
        };
        let whole = u64::from(expiry_secs) * 1_000;
        // It was taken between these two.
        let (earliest, latest) = (sent_at, publication.acknowledged.unwrap_or(timed.written_at));
        let latest =
            if publication.sends == 1 { latest.min(timed.written_at) } else { timed.written_at };
        let left =
            |taken_at: u64| whole.saturating_sub(timed.written_at - taken_at.min(timed.written_at));
        if !timed.dup && left(latest) == 0 {
            let words = format!("{} was sent after its end: {timed:?}", timed.publication);
            return complaint(Checker::MessageExpiry, words);
        }
        let Some(told) = timed.left_secs.map(u64::from) else { return Ok(()) };
        let is_right =
            (left(earliest).div_ceil(1_000)..=left(latest).div_ceil(1_000)).contains(&told);
        if !is_right || (!timed.dup && told == 0) {
            let words = format!("{told} s are left of {publication:?}: {timed:?}");
            return complaint(Checker::MessageExpiry, words);
        }
        Ok(())
    }
}

impl Publication {
    /// Whether the broker promised to deliver it to this Subscription.
    fn is_due(&self, record: &SubscriptionRecord) -> bool {
        let (Some(sent_at), Some(acknowledged)) = (self.first_sent, self.acknowledged) else {
            return false;
        };
        self.qos > QoS::AtMostOnce
            && record.qos > QoS::AtMostOnce
            && self.expiry_secs.is_none()
            && record.from < sent_at
            && record.until.is_none_or(|until| until > acknowledged)
            && matches(record.filter, self.topic)
            && self.fits(record)
    }

    fn fits(&self, record: &SubscriptionRecord) -> bool {
        self.payload_len + HEAD_BYTES_MAX <= record.packet_bytes_max
    }
}

/// More than the head of a simulated PUBLISH takes.
const HEAD_BYTES_MAX: usize = 64;
