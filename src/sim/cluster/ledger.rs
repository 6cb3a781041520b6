//! What was published, who was promised it, and who has got it.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::identity::BootId;
use crate::mqtt::QoS;
use crate::sim::cluster::ensemble::SESSION_MILLIS;
use crate::sim::cluster::persistent::Received;
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};

/// The books of one run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    publications: Vec<Publication>,
    sessions: Vec<SessionRecord>,
    subscriptions: Vec<Subscription>,
    /// By Session: what came, and how often not as a repetition, with which QoS.
    arrivals: BTreeMap<usize, BTreeMap<usize, Arrival>>,
    /// The last message by Session, connection of the publisher, topic and QoS.
    last: BTreeMap<(usize, usize, usize, QoS), usize>,
    /// By connection: its Session, as its client knows it.
    attached: BTreeMap<usize, usize>,
    /// Whether persistent Sessions are stored: they last when their broker does not.
    pub(super) is_stored: bool,
    /// What came to clients of those.
    pub(super) received: BTreeMap<usize, Received>,
}

/// One message of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publication {
    connection: usize,
    pub(super) topic: usize,
    pub(super) qos: QoS,
    sent_at: u64,
    sends: u32,
    /// PUBRECs that said that it is refused: what comes after one is a new message [MQTT-4.3.3-9].
    refusals: u32,
    pub(super) accepted_at: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct SessionRecord {
    client: usize,
    home: (usize, BootId),
    /// Whether QoS 0 passes it by while its client is away.
    is_persistent: bool,
    is_over: bool,
    away: Option<Away>,
}

/// A broker without a lease has let the client of a Session go.
#[derive(Clone, Copy, Debug)]
struct Away {
    since: u64,
    back_at: Option<u64>,
}

impl SessionRecord {
    /// Until when the client was there to be sent what is in memory of its broker, when it is over now.
    fn was_there_until(&self, now: u64) -> u64 {
        let settled = |away: &Away| away.back_at.is_some_and(|at| now >= at + GRACE_MILLIS);
        self.away.filter(|away| !settled(away)).map_or(now, |away| away.since)
    }
}

#[derive(Clone, Copy, Debug)]
struct Subscription {
    session: usize,
    filter: usize,
    qos: QoS,
    from: u64,
    until: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Arrival {
    count: u32,
    exactly_once: u32,
    dup: u32,
}

impl Publication {
    pub(super) fn connection(&self) -> usize {
        self.connection
    }

    /// Whether its publisher has sent it again.
    pub(super) fn was_repeated(&self) -> bool {
        self.sends > 1
    }
}

impl Ledger {
    pub(super) fn publication(&self, number: usize) -> Option<Publication> {
        self.publications.get(number).copied()
    }

    /// Whether a Session had a Subscription for a message before that was published, and has it still.
    pub(super) fn is_subscribed_since(&self, session: usize, publication: &Publication) -> bool {
        let of_session = self.subscriptions.iter().filter(|one| one.session == session);
        let mut matching = of_session.filter(|one| matches(one.filter, publication.topic));
        matching.any(|one| one.from < publication.sent_at && one.until == u64::MAX)
    }

    /// Whether a Session outlives its broker.
    fn lasts(&self, session: usize) -> bool {
        self.is_stored && self.sessions.get(session).is_some_and(|record| record.is_persistent)
    }

    /// Its broker does not have it any more.
    pub(super) fn lose_session(&mut self, session: usize, now: u64) {
        if !self.lasts(session) {
            self.end_session(session, now);
        }
    }

    pub(super) fn enter(&mut self, connection: usize, topic: usize, qos: QoS, now: u64) -> usize {
        let (sends, refusals, accepted_at) = (0, 0, None);
        self.publications.push(Publication {
            connection,
            topic,
            qos,
            sent_at: now,
            sends,
            refusals,
            accepted_at,
        });
        self.publications.len() - 1
    }

    pub(super) fn note_sent(&mut self, number: usize) -> Publication {
        let publication = self.publication_mut(number);
        publication.sends += 1;
        *publication
    }

    fn publication_mut(&mut self, number: usize) -> &mut Publication {
        self.publications.get_mut(number).expect("publications are numbered")
    }

    pub(super) fn open_session(
        &mut self,
        client: usize,
        home: (usize, BootId),
        is_persistent: bool,
    ) -> usize {
        let (is_over, away) = (false, None);
        self.sessions.push(SessionRecord { client, home, is_persistent, is_over, away });
        self.sessions.len() - 1
    }

    pub(super) fn attach(&mut self, connection: usize, session: usize) {
        self.attached.insert(connection, session);
    }

    pub(super) fn session_of(&self, connection: usize) -> Option<usize> {
        self.attached.get(&connection).copied()
    }

    /// A client has asked for a Subscription: nothing is promised yet, and it may get its share of a
    /// group.
    pub(super) fn note_asked(&mut self, session: usize, filter: usize, qos: QoS) {
        if self.standing(session, filter).is_none() {
            let (from, until) = (u64::MAX, u64::MAX);
            self.subscriptions.push(Subscription { session, filter, qos, from, until });
        }
    }

    /// The broker has sent a SUBACK.
    pub(super) fn note_subscribed(&mut self, session: usize, filter: usize, now: u64) {
        if let Some(one) = self.standing(session, filter) {
            one.from = one.from.min(now);
        }
    }

    fn standing(&mut self, session: usize, filter: usize) -> Option<&mut Subscription> {
        let key = (session, filter, u64::MAX);
        self.subscriptions.iter_mut().find(|one| (one.session, one.filter, one.until) == key)
    }

    pub(super) fn end_subscription(&mut self, session: usize, filter: usize, now: u64) {
        let now = self.sessions.get(session).map_or(now, |record| record.was_there_until(now));
        for one in &mut self.subscriptions {
            if one.session == session && one.filter == filter {
                one.until = one.until.min(now);
            }
        }
    }

    pub(super) fn end_session(&mut self, session: usize, now: u64) {
        let mut now = now;
        if let Some(record) = self.sessions.get_mut(session) {
            record.is_over = true;
            now = record.was_there_until(now);
        }
        for one in self.subscriptions.iter_mut().filter(|one| one.session == session) {
            one.until = one.until.min(now);
        }
    }

    /// A broker lets its clients go: what ends with their connections does.
    pub(super) fn end_connections(&mut self, boot_id: BootId, now: u64) {
        for session in 0..self.sessions.len() {
            let Some(record) = self.sessions.get_mut(session) else { continue };
            if record.home.1 != boot_id || record.is_over || self.is_stored && record.is_persistent
            {
                continue;
            }
            if !record.is_persistent {
                self.end_session(session, now);
                continue;
            }
            let since = record.was_there_until(now);
            record.away = Some(Away { since, back_at: None });
        }
    }

    /// The client of a Session has found it again.
    pub(super) fn note_back(&mut self, session: usize, now: u64) {
        if let Some(away) = self.sessions.get_mut(session).and_then(|one| one.away.as_mut()) {
            away.back_at.get_or_insert(now);
        }
    }

    /// Whether a Session goes on, as far as anybody has reason to think.
    pub(super) fn is_standing(&self, session: usize) -> bool {
        self.sessions.get(session).is_some_and(|record| !record.is_over)
    }

    /// A life of a broker has ended.
    pub(super) fn end_life(&mut self, boot_id: BootId, now: u64) {
        for session in 0..self.sessions.len() {
            if self.sessions.get(session).is_some_and(|record| record.home.1 == boot_id) {
                self.lose_session(session, now);
            }
        }
    }

    /// The broker has sent PUBACK or PUBREC.
    pub(super) fn note_accepted(&mut self, number: usize, now: u64) {
        self.publication_mut(number).accepted_at.get_or_insert(now);
    }

    /// The broker has sent a PUBREC that refuses it. If that does not reach its client, it comes again.
    pub(super) fn note_refused(&mut self, number: usize) {
        self.publication_mut(number).refusals += 1;
    }

    /// The broker has sent a message to a client.
    pub(super) fn note_delivered(
        &mut self,
        session: usize,
        number: usize,
        (qos, dup): (QoS, bool),
    ) -> Result<(), Complaint> {
        let Some(publication) = self.publications.get(number).copied() else {
            return complaint(Checker::Protocol, "a message that nobody published");
        };
        let arrival = self.arrivals.entry(session).or_default().entry(number).or_default();
        arrival.count += 1;
        if dup {
            arrival.dup += 1;
        }
        // What is written by a broker that dies may not come: the client tells.
        let is_told =
            self.is_stored && self.sessions.get(session).is_some_and(|record| record.is_persistent);
        if dup || is_told {
            return Ok(());
        }
        arrival.exactly_once += u32::from(qos == QoS::ExactlyOnce);
        let words = |what: &str| {
            let client = self.sessions.get(session).map(|record| record.client);
            format!(
                "session {session} of client {client:?}: message {number} {what}: {publication:?}"
            )
        };
        if arrival.exactly_once > 1 + publication.refusals {
            return complaint(Checker::Duplicate, words("came twice with QoS 2"));
        }
        if publication.topic >= FIRST_SHARED || publication.sends > 1 {
            return Ok(());
        }
        let key = (session, publication.connection, publication.topic, publication.qos);
        match self.last.insert(key, number) {
            Some(last) if last == number => complaint(Checker::Duplicate, words("came twice")),
            Some(last) if last > number => {
                complaint(Checker::Order, words(&format!("came after {last}")))
            }
            _ => Ok(()),
        }
    }

    /// Everybody has got what was promised. Without faults QoS 0 is promised, too.
    pub(super) fn judge(&self, is_calm: bool) -> Result<(), Complaint> {
        for (number, publication) in self.publications.iter().enumerate() {
            self.judge_subscribers(number, publication, is_calm)?;
            for filter in SHARED {
                if matches(filter, publication.topic) {
                    self.judge_group(number, publication, filter)?;
                }
            }
        }
        Ok(())
    }

    fn judge_subscribers(
        &self,
        number: usize,
        publication: &Publication,
        is_calm: bool,
    ) -> Result<(), Complaint> {
        let accepted_at = match (publication.qos, publication.accepted_at) {
            (QoS::AtMostOnce, _) if is_calm => publication.sent_at,
            (QoS::AtLeastOnce | QoS::ExactlyOnce, Some(at)) => at,
            _ => return Ok(()),
        };
        for one in self.subscriptions.iter().filter(|one| !SHARED.contains(&one.filter)) {
            let record = self.sessions.get(one.session);
            let is_at_most_once = one.qos.min(publication.qos) == QoS::AtMostOnce;
            let is_present = is_calm && record.is_some_and(|record| !record.is_persistent);
            let is_promised = (!is_at_most_once || is_present)
                && matches(one.filter, publication.topic)
                && one.from < publication.sent_at
                && (one.until == u64::MAX || one.until > accepted_at + GRACE_MILLIS);
            let has_come = if self.lasts(one.session) {
                self.received.get(&one.session).is_some_and(|received| received.has(number))
            } else {
                self.arrival(one.session, number).is_some()
            };
            if is_promised && !has_come {
                return complaint(
                    Checker::Loss,
                    format!("message {number} {publication:?} did not reach {one:?} {record:?}"),
                );
            }
        }
        Ok(())
    }

    fn judge_group(
        &self,
        number: usize,
        publication: &Publication,
        filter: usize,
    ) -> Result<(), Complaint> {
        if publication.qos == QoS::AtMostOnce {
            return Ok(());
        }
        let members: Vec<_> =
            self.subscriptions.iter().filter(|one| one.filter == filter).collect();
        // A dead broker's members may have had theirs, and others get it again (docs/design/0015).
        if self.is_stored {
            return Ok(());
        }
        let left_meanwhile = members
            .iter()
            .any(|one| one.until != u64::MAX && one.until + GRACE_MILLIS > publication.sent_at);
        if left_meanwhile {
            return Ok(());
        }
        let sessions: BTreeSet<usize> = members.iter().map(|one| one.session).collect();
        let arrivals = sessions.iter().filter_map(|session| self.arrival(*session, number));
        let (mut all, mut exactly_once) = (0, 0);
        for arrival in arrivals {
            all += arrival.count;
            exactly_once += arrival.exactly_once;
        }
        let is_promised =
            members.iter().any(|one| one.from < publication.sent_at && one.until == u64::MAX)
                && publication.accepted_at.is_some();
        if is_promised && all == 0 {
            let records: Vec<_> =
                members.iter().filter_map(|one| self.sessions.get(one.session)).collect();
            let words = format!(
                "message {number} {publication:?} reached nobody of {members:?} {records:?}"
            );
            return complaint(Checker::Loss, words);
        }
        if publication.qos == QoS::ExactlyOnce && exactly_once > 1 + publication.refusals {
            let words = format!("message {number} {publication:?} reached {exactly_once} members");
            return complaint(Checker::Duplicate, words);
        }
        Ok(())
    }

    fn arrival(&self, session: usize, number: usize) -> Option<&Arrival> {
        self.arrivals.get(&session)?.get(&number)
    }

    pub(super) fn counts(&self) -> [(&'static str, u64); 4] {
        let accepted = self.publications.iter().filter(|one| one.accepted_at.is_some()).count();
        let arrivals: usize = self.arrivals.values().map(BTreeMap::len).sum();
        [
            ("publications", self.publications.len() as u64),
            ("publications accepted", accepted as u64),
            ("deliveries", arrivals as u64),
            ("subscriptions", self.subscriptions.len() as u64),
        ]
    }
}

/// Whether the filter of this number matches the topic of that one.
fn matches(filter: usize, topic: usize) -> bool {
    MATCHES.get(filter).is_some_and(|topics| topics.contains(&topic))
}

pub(super) const TOPICS: [&str; 6] = ["t/0", "t/1", "t/2", "t/3", "s/0", "s/1"];
/// The first of the topics that only Shared Subscriptions match.
pub(super) const FIRST_SHARED: usize = 4;
/// The last two are shared.
pub(super) const FILTERS: [&str; 7] =
    ["t/0", "t/1", "t/+", "t/2", "t/3/#", "$share/g/s/+", "$share/h/s/1"];
const MATCHES: [&[usize]; 7] = [&[0], &[1], &[0, 1, 2, 3], &[2], &[3], &[4, 5], &[5]];
const SHARED: [usize; 2] = [5, 6];
/// How long a subscriber must have been there after an acknowledgement for its absence to be held
/// against anybody: a process may stand still with the message in its hands, three session time-outs
/// at most.
const GRACE_MILLIS: u64 = 3 * SESSION_MILLIS + 1_000;
