//! What was published, who was promised it, and who has got it: where Sessions are and until when their
//! clients are there is kept here, and what follows from it is judged by [`Promises`].

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::identity::BootId;
use crate::mqtt::QoS;
use crate::sim::cluster::ensemble::SESSION_MILLIS;
use crate::sim::cluster::persistent::Lasting;
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};
use crate::sim::promises::{
    self, Arrival, Breach, Finding, Kind, Leave, Manner, Promise, Promises,
};

/// The books of one run.
#[derive(Debug)]
pub(super) struct Ledger {
    /// All brokers that had retained messages were gone then.
    pub(super) forgotten_at: u64,
    promises: Promises<Filter>,
    /// Nothing fails: QoS 0 is promised as well.
    is_calm: bool,
    /// By the number of their receiver in `promises`.
    sessions: Vec<SessionRecord>,
    /// What brokers wrote to which Session.
    written: BTreeSet<(usize, usize)>,
    /// By connection: its Session, as its client knows it.
    attached: BTreeMap<usize, usize>,
}

/// One of [`FILTERS`], by its number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Filter(usize);

impl promises::Wish for Filter {
    type Topic = usize;

    fn matches(&self, topic: &usize) -> bool {
        MATCHES.get(self.0).is_some_and(|topics| topics.contains(topic))
    }

    fn is_shared(&self) -> bool {
        SHARED.contains(&self.0)
    }
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

    fn kind(self) -> Kind {
        if self.is_deletion {
            return Kind::Deletion;
        }
        if self.topic >= FIRST_RETAINED { Kind::Retained } else { Kind::Passing }
    }
}

/// One message of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publication {
    pub(super) topic: usize,
    pub(super) qos: QoS,
    /// It takes the retained message of its topic away.
    pub(super) is_deletion: bool,
    pub(super) sent_at: u64,
    sends: u32,
    pub(super) accepted_at: Option<u64>,
}

impl From<&promises::Publication<usize>> for Publication {
    fn from(one: &promises::Publication<usize>) -> Self {
        let promises::Draft { topic, qos, kind, .. } = one.draft;
        let promises::Publication { sent_at, sends, accepted_at, .. } = *one;
        let is_deletion = kind == Kind::Deletion;
        Self { topic, qos, is_deletion, sent_at, sends, accepted_at }
    }
}

#[derive(Clone, Debug)]
struct SessionRecord {
    /// For whoever reads a complaint.
    #[expect(dead_code, reason = "it is shown with the rest")]
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

impl Lasting {
    /// How messages come to a Session that lasts so.
    fn manner(self) -> Manner {
        Manner {
            // What is written for one that may be anywhere counts when its client has it: what a broker
            // writes that dies, or that the client has left behind, may not come.
            is_written: !self.is_anywhere(),
            is_lasting: self != Self::Connection,
            // One that subscribed later, or anew, may get what was held before behind what it got at
            // once.
            may_come_late: self.is_anywhere(),
        }
    }
}

impl Publication {
    /// From when on no broker comes upon it as something new; nothing when that cannot be told.
    pub(super) fn settled_at(&self) -> Option<u64> {
        let at = self.accepted_at.unwrap_or(self.sent_at + 2 * GRACE_MILLIS);
        (!self.was_repeated()).then_some(at)
    }

    /// Whether its publisher has sent it again.
    pub(super) fn was_repeated(&self) -> bool {
        self.sends > 1
    }
}

impl Ledger {
    /// Of a run in which brokers keep Sessions in one database, or in which nothing fails.
    pub(super) fn new(is_stored: bool, is_calm: bool) -> Self {
        // A dead broker's members may have had theirs, and others get it again (docs/design/0015).
        let leave = Leave { grace: GRACE_MILLIS, is_calm, outlive_brokers: is_stored };
        Self {
            forgotten_at: 0,
            promises: Promises::new(leave),
            is_calm,
            sessions: Vec::new(),
            written: BTreeSet::new(),
            attached: BTreeMap::new(),
        }
    }

    pub(super) fn publication(&self, number: usize) -> Option<Publication> {
        self.promises.publication(number).map(Publication::from)
    }

    pub(super) fn publications(&self) -> impl Iterator<Item = (usize, Publication)> {
        self.promises.publications().map(|(number, one)| (number, one.into()))
    }

    /// Its broker does not have it any more.
    pub(super) fn lose_session(&mut self, session: usize, now: u64) {
        let lasting = self.sessions.get(session).map(|record| record.lasting);
        if lasting != Some(Lasting::Stored) {
            self.end_session(session, now);
        }
    }

    /// A broker is asked for it: from here on that may have it as well.
    pub(super) fn note_suitor(&mut self, session: usize, home: BootId) {
        if let Some(record) = self.sessions.get_mut(session) {
            record.homes.insert(home);
        }
    }

    /// A Session has begun in the place of another one: brokers that were asked for that by connections
    /// which stand beside may be given this one.
    pub(super) fn pass_suitors_on(&mut self, former: usize, next: usize) {
        let suitors = self.sessions.get(former).map(|record| record.homes.clone());
        if let Some(record) = self.sessions.get_mut(next) {
            record.homes.extend(suitors.unwrap_or_default());
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
        for (filter, qos) in filters {
            self.promises.revive(session, Filter(filter), qos, now);
        }
    }

    pub(super) fn enter(&mut self, connection: usize, draft: Draft, now: u64) -> usize {
        let Draft { topic, qos, .. } = draft;
        let draft = promises::Draft { publisher: connection, topic, qos, kind: draft.kind() };
        let number = self.promises.enter(draft, now);
        // Of a group, who leaves may be the one that is chosen.
        if qos == QoS::AtMostOnce && self.is_calm && topic < FIRST_SHARED {
            self.promises.note_accepted(number, now);
        }
        number
    }

    pub(super) fn note_sent(&mut self, number: usize) -> Publication {
        self.promises.note_sent(number);
        self.publication(number).expect("publications are numbered")
    }

    pub(super) fn open_session(&mut self, client: usize, home: BootId, lasting: Lasting) -> usize {
        let (is_over, away, homes) = (false, None, BTreeSet::from([home]));
        self.sessions.push(SessionRecord { client, homes, lasting, is_over, away });
        self.promises.open(lasting.manner())
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
        self.promises.note_asked(session, &Filter(filter), qos);
    }

    /// The broker has sent a SUBACK.
    pub(super) fn note_subscribed(&mut self, session: usize, filter: usize, now: u64) {
        self.promises.note_promised(session, &Filter(filter), now);
    }

    pub(super) fn end_subscription(&mut self, session: usize, filter: usize, now: u64) {
        let until = self.sessions.get(session).map_or(now, |record| record.was_there_until(now));
        self.promises.end(session, &Filter(filter), until, now);
    }

    pub(super) fn end_session(&mut self, session: usize, now: u64) {
        let Some(record) = self.sessions.get_mut(session) else { return };
        record.is_over = true;
        let until = record.was_there_until(now);
        self.promises.end_all(session, until, now);
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
        self.promises.note_accepted(number, now);
    }

    /// The broker has sent a PUBREC that refuses it, of which others may have it. If that does not reach
    /// its client, it comes again.
    pub(super) fn note_refused(&mut self, number: usize) {
        self.promises.note_anew(number);
    }

    /// The broker has sent a message to a client.
    pub(super) fn note_delivered(
        &mut self,
        session: usize,
        number: usize,
        (qos, dup): (QoS, bool),
    ) -> Result<(), Complaint> {
        if self.promises.publication(number).is_none() {
            return complaint(Checker::Protocol, "a message that nobody published");
        }
        self.written.insert((session, number));
        let lasting = self.sessions.get(session).map(|record| record.lasting);
        if lasting.is_some_and(Lasting::is_anywhere) {
            return Ok(());
        }
        self.note_arrival(session, Arrival { message: number, qos, dup })
    }

    /// A message has come to the client of a Session that may be anywhere, and not as a repetition that
    /// it knows.
    pub(super) fn note_received(
        &mut self,
        session: usize,
        number: usize,
        (qos, dup): (QoS, bool),
    ) -> Result<(), Complaint> {
        if self.promises.publication(number).is_none() {
            return complaint(Checker::Protocol, "a message that nobody published");
        }
        self.note_arrival(session, Arrival { message: number, qos, dup })
    }

    fn note_arrival(&mut self, session: usize, arrival: Arrival) -> Result<(), Complaint> {
        let noted = self.promises.note_arrival(session, arrival);
        noted.map_err(|finding| self.complaint(&finding))
    }

    /// Everybody has got what was promised.
    pub(super) fn judge(&self) -> Result<(), Complaint> {
        let found = self.promises.broken();
        found.first().map_or(Ok(()), |finding| Err(self.complaint(finding)))
    }

    fn complaint(&self, finding: &Finding) -> Complaint {
        let checker = match finding.breach {
            Breach::Lost => Checker::Loss,
            Breach::Doubled | Breach::Refused => Checker::Duplicate,
            Breach::Overtaken(_) => Checker::Order,
        };
        let session = self.sessions.get(finding.receiver);
        Complaint { checker, words: format!("{} {session:?}", finding.words) }
    }

    /// Whether a message has come to a Session.
    pub(super) fn has_come(&self, session: usize, number: usize) -> bool {
        self.promises.has_come(session, number)
    }

    /// The Subscriptions that stand, of a topic, and whose they are.
    pub(super) fn standing_of(
        &self,
        topic: usize,
    ) -> impl Iterator<Item = (usize, &Promise<Filter>)> {
        use promises::Wish as _;
        let all = self.promises.promises();
        all.filter(move |(_, one)| one.stands() && one.wish.matches(&topic))
    }

    pub(super) fn counts(&self) -> [(&'static str, u64); 4] {
        let publications = self.promises.publications();
        let is_accepted = |one: &promises::Publication<usize>| {
            one.accepted_at.is_some() && one.draft.qos > QoS::AtMostOnce
        };
        let accepted = publications.filter(|(_, one)| is_accepted(one)).count();
        [
            ("publications", self.promises.publications().count() as u64),
            ("publications accepted", accepted as u64),
            ("deliveries", self.written.len() as u64),
            ("subscriptions", self.promises.promises().count() as u64),
        ]
    }
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
