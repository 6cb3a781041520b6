//! What was published, who was promised it, and who has got it.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::identity::BootId;
use crate::mqtt::QoS;
use crate::sim::cluster::ensemble::SESSION_MILLIS;
use crate::sim::cluster::persistent::{Lasting, Received};
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};

/// The books of one run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// All brokers that had retained messages were gone then.
    pub(super) forgotten_at: u64,
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
    /// What came to clients whose Sessions are not bound to a broker.
    pub(super) received: BTreeMap<usize, Received>,
}

/// What a client is about to publish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft {
    pub(super) topic: usize,
    pub(super) qos: QoS,
    pub(super) is_deletion: bool,
}

impl Draft {
    /// A message.
    pub(super) fn new(topic: usize, qos: QoS) -> Self {
        Self { topic, qos, is_deletion: false }
    }
}

/// One message of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publication {
    connection: usize,
    pub(super) topic: usize,
    pub(super) qos: QoS,
    /// It takes the retained message of its topic away.
    pub(super) is_deletion: bool,
    pub(super) sent_at: u64,
    sends: u32,
    /// PUBRECs that said that it is refused: what comes after one is a new message [MQTT-4.3.3-9].
    refusals: u32,
    pub(super) accepted_at: Option<u64>,
}

#[derive(Clone, Debug)]
struct SessionRecord {
    client: usize,
    /// The lives of brokers that may have it: with one of them it may end.
    homes: BTreeSet<BootId>,
    lasting: Lasting,
    is_over: bool,
    away: Option<Away>,
}

/// The client of a Session is not there: it has left, or its broker has no lease.
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
pub(super) struct Subscription {
    pub(super) session: usize,
    filter: usize,
    pub(super) qos: QoS,
    /// When it was promised.
    pub(super) from: u64,
    /// Until when its client was there to have what it was promised.
    until: u64,
    /// When it was over.
    over_at: u64,
    /// Its Session was thought to be lost: nothing was subscribed to then.
    pub(super) is_revived: bool,
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

    /// From when on no broker comes upon it as something new; nothing when that cannot be told.
    pub(super) fn settled_at(&self) -> Option<u64> {
        let at = self.accepted_at.unwrap_or(self.sent_at + 2 * GRACE_MILLIS);
        (self.sends == 1).then_some(at)
    }

    /// Whether it was refused, and may have been sent as a new one.
    pub(super) fn was_refused(&self) -> bool {
        self.refusals > 0
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

    /// How long a Session lasts.
    fn lasting(&self, session: usize) -> Option<Lasting> {
        self.sessions.get(session).map(|record| record.lasting)
    }

    /// Whether what is written for it counts only when its client has it: what a broker writes that
    /// dies, or that the client has left behind, may not come.
    fn is_heard(&self, session: usize) -> bool {
        self.lasting(session).is_some_and(Lasting::is_anywhere)
    }

    pub(super) fn publications(&self) -> impl Iterator<Item = (usize, &Publication)> {
        self.publications.iter().enumerate()
    }

    /// Its broker does not have it any more.
    pub(super) fn lose_session(&mut self, session: usize, now: u64) {
        if self.lasting(session) != Some(Lasting::Stored) {
            self.end_session(session, now);
        }
    }

    /// A broker is asked for it: from here on that may have it as well.
    pub(super) fn note_suitor(&mut self, session: usize, home: BootId) {
        if let Some(record) = self.sessions.get_mut(session) {
            record.homes.insert(home);
        }
    }

    /// All of it is here, and it may come to nobody but these.
    pub(super) fn note_here(&mut self, session: usize, homes: BTreeSet<BootId>) {
        if let Some(record) = self.sessions.get_mut(session) {
            record.homes = homes;
        }
    }

    /// It is there, although a broker has died that may have had it: what it is subscribed to is
    /// promised from here on.
    pub(super) fn revive(
        &mut self,
        session: usize,
        filters: impl Iterator<Item = (usize, QoS)>,
        now: u64,
    ) {
        let Some(record) = self.sessions.get_mut(session).filter(|record| record.is_over) else {
            return;
        };
        record.is_over = false;
        self.subscriptions.extend(filters.map(|(filter, qos)| Subscription {
            session,
            filter,
            qos,
            from: now,
            until: u64::MAX,
            over_at: u64::MAX,
            is_revived: true,
        }));
    }

    pub(super) fn enter(&mut self, connection: usize, draft: Draft, now: u64) -> usize {
        let Draft { topic, qos, is_deletion } = draft;
        let (sends, refusals, accepted_at) = (0, 0, None);
        self.publications.push(Publication {
            connection,
            topic,
            qos,
            is_deletion,
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

    pub(super) fn open_session(&mut self, client: usize, home: BootId, lasting: Lasting) -> usize {
        let (is_over, away, homes) = (false, None, BTreeSet::from([home]));
        self.sessions.push(SessionRecord { client, homes, lasting, is_over, away });
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
            let is_revived = false;
            let over_at = until;
            let one = Subscription { session, filter, qos, from, until, over_at, is_revived };
            self.subscriptions.push(one);
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
        let until = self.sessions.get(session).map_or(now, |record| record.was_there_until(now));
        for one in &mut self.subscriptions {
            if one.session == session && one.filter == filter {
                one.until = one.until.min(until);
                one.over_at = one.over_at.min(now);
            }
        }
    }

    pub(super) fn end_session(&mut self, session: usize, now: u64) {
        let mut until = now;
        if let Some(record) = self.sessions.get_mut(session) {
            record.is_over = true;
            until = record.was_there_until(now);
        }
        for one in self.subscriptions.iter_mut().filter(|one| one.session == session) {
            one.until = one.until.min(until);
            one.over_at = one.over_at.min(now);
        }
    }

    /// A broker lets its clients go: what ends with their connections does.
    pub(super) fn end_connections(&mut self, boot_id: BootId, now: u64) {
        for session in 0..self.sessions.len() {
            let Some(record) = self.sessions.get_mut(session) else { continue };
            let is_here = record.homes.contains(&boot_id) && !record.is_over;
            if !is_here || record.lasting == Lasting::Stored {
                continue;
            }
            if record.lasting == Lasting::Connection {
                self.end_session(session, now);
                continue;
            }
            self.note_away(session, now);
        }
    }

    /// The client of a Session has left it where it is.
    pub(super) fn note_away(&mut self, session: usize, now: u64) {
        if let Some(record) = self.sessions.get_mut(session) {
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
            if self.sessions.get(session).is_some_and(|record| record.homes.contains(&boot_id)) {
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
        let is_heard = self.is_heard(session);
        let arrival = self.arrivals.entry(session).or_default().entry(number).or_default();
        arrival.count += 1;
        if dup {
            arrival.dup += 1;
        }
        if dup || is_heard || publication.topic >= FIRST_RETAINED {
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
            _ if publication.is_deletion => return Ok(()),
            (QoS::AtMostOnce, _) if is_calm => publication.sent_at,
            (QoS::AtLeastOnce | QoS::ExactlyOnce, Some(at)) => at,
            _ => return Ok(()),
        };
        for one in self.subscriptions.iter().filter(|one| !SHARED.contains(&one.filter)) {
            let record = self.sessions.get(one.session);
            let is_at_most_once = one.qos.min(publication.qos) == QoS::AtMostOnce;
            let is_present =
                is_calm && record.is_some_and(|record| record.lasting == Lasting::Connection);
            let is_promised = (!is_at_most_once || is_present)
                && matches(one.filter, publication.topic)
                && one.from < publication.sent_at
                && (one.until == u64::MAX || one.until > accepted_at + GRACE_MILLIS);
            if is_promised && !self.has_come(one.session, number) {
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
            .any(|one| one.until != u64::MAX && one.over_at + GRACE_MILLIS > publication.sent_at);
        if left_meanwhile {
            return Ok(());
        }
        let sessions: BTreeSet<usize> = members.iter().map(|one| one.session).collect();
        let (mut all, mut exactly_once) = (0, 0);
        for session in sessions {
            if self.is_heard(session) {
                let has_heard = u32::from(self.has_heard(session, number));
                (all, exactly_once) = (all + has_heard, exactly_once + has_heard);
            } else if let Some(arrival) = self.arrival(session, number) {
                all += arrival.count;
                exactly_once += arrival.exactly_once;
            }
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

    /// Whether a message has come to a Session.
    pub(super) fn has_come(&self, session: usize, number: usize) -> bool {
        if self.is_heard(session) {
            return self.has_heard(session, number);
        }
        self.arrival(session, number).is_some()
    }

    /// The Subscriptions that stand, of a topic.
    pub(super) fn standing_of(&self, topic: usize) -> impl Iterator<Item = &Subscription> {
        let is_it = move |one: &&Subscription| one.until == u64::MAX && matches(one.filter, topic);
        self.subscriptions.iter().filter(is_it)
    }

    fn has_heard(&self, session: usize, number: usize) -> bool {
        self.received.get(&session).is_some_and(|received| received.has(number))
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

pub(super) const TOPICS: [&str; 11] =
    ["t/0", "t/1", "t/2", "t/3", "s/0", "s/1", "r/0", "r/1", "r/2", "l/0", "l/1"];
/// The first of the topics that only Shared Subscriptions match.
pub(super) const FIRST_SHARED: usize = 4;
/// The first of those that are published to with RETAIN.
pub(super) const FIRST_RETAINED: usize = 6;
/// The first of those of which brokers may keep the latest value.
pub(super) const FIRST_LATEST: usize = 9;
pub(super) const FILTERS: [&str; 10] =
    ["t/0", "t/1", "t/+", "t/2", "t/3/#", "$share/g/s/+", "$share/h/s/1", "r/+", "r/1", "l/+"];
const MATCHES: [&[usize]; 10] =
    [&[0], &[1], &[0, 1, 2, 3], &[2], &[3], &[4, 5], &[5], &[6, 7, 8], &[7], &[9, 10]];
pub(super) const SHARED: [usize; 2] = [5, 6];
/// Filters of retained messages.
pub(super) const RETAINED: [usize; 2] = [7, 8];
/// The filter of latest values.
pub(super) const LATEST: usize = 9;
/// How long a subscriber must have been there after an acknowledgement for its absence to be held
/// against anybody: a process may stand still with the message in its hands, three session time-outs
/// at most.
pub(super) const GRACE_MILLIS: u64 = 3 * SESSION_MILLIS + 1_000;
