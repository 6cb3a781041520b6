//! What was published, who was promised it, and who has got it.
//!
//! The order of entries is the only time the checker knows: a publish is entered before its first
//! byte leaves, a subscription after its SUBACK has come. What is entered between the two is owed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mqttzoo::mqtt::{QoS, TopicFilter, TopicName};
use mqttzoo::sim::promises::{
    self, Breach, Draft, Finding, Kind, Leave, Manner, NEVER, Promises, Wish,
};
use parking_lot::Mutex;

/// A message: who published it, and its place among all that this publisher published.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key {
    pub(crate) publisher: u32,
    pub(crate) number: u64,
}

impl Key {
    /// What the payload of the message says.
    pub(crate) fn payload(self) -> String {
        format!("{} {}", self.publisher, self.number)
    }

    /// Reads a payload.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let (publisher, number) = std::str::from_utf8(payload).ok()?.split_once(' ')?;
        Some(Self { publisher: publisher.parse().ok()?, number: number.parse().ok()? })
    }
}

/// Who gets messages: one client, or all members of a group together.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Receiver {
    Client(&'static str),
    /// Members share the messages, so they have no order.
    Group(&'static str),
}

/// A message as a receiver got it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) receiver: Receiver,
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: u8,
    pub(crate) dup: bool,
}

/// A promise that was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Complaint {
    /// A message that was acknowledged did not come.
    Lost(Receiver, Key),
    /// A message came more often than it may.
    Doubled(Receiver, Key),
    /// A message came behind a later one of its publisher and topic.
    Overtaken(Receiver, Key, u64),
    /// A message came that its publisher had been refused.
    Refused(Receiver, Key),
    /// What came was never published so.
    Foreign(Receiver, String),
}

/// A Topic Filter, and who has it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Wanted {
    filter: TopicFilter,
    /// Members of a group are one receiver here: what they share is judged as it comes to all of them.
    is_group: bool,
}

impl Wish for Wanted {
    type Topic = String;

    fn matches(&self, topic: &String) -> bool {
        TopicName::parse(topic.clone().into()).is_ok_and(|topic| self.filter.matches(&topic))
    }

    fn is_shared(&self) -> bool {
        self.is_group
    }
}

/// The books of one run: names for what [`Promises`] judges by numbers, the same rules as those of the
/// simulation. Its moments are the numbers of entries.
#[derive(Debug)]
pub(crate) struct Books {
    entries: u64,
    promises: Promises<Wanted>,
    messages: BTreeMap<Key, usize>,
    keys: Vec<Key>,
    receivers: BTreeMap<Receiver, usize>,
    names: Vec<Receiver>,
    complaints: Vec<Complaint>,
}

impl Default for Books {
    fn default() -> Self {
        // Clients come back on their own, and whoever enters QoS 0 claims that nothing fails which
        // could cost it. Who has gone is owed nothing, however long ago it was.
        let leave = Leave { grace: NEVER, is_calm: true, outlive_brokers: false };
        Self {
            entries: 0,
            promises: Promises::new(leave),
            messages: BTreeMap::new(),
            keys: Vec::new(),
            receivers: BTreeMap::new(),
            names: Vec::new(),
            complaints: Vec::new(),
        }
    }
}

impl Books {
    fn next_entry(&mut self) -> u64 {
        self.entries += 1;
        self.entries
    }

    /// A message is about to leave its publisher: for the first time, or once more as a new one, where
    /// the Session is gone in which it was sent before.
    pub(crate) fn note_sent(&mut self, key: Key, topic: &str, qos: QoS) {
        let now = self.next_entry();
        let Some(&known) = self.messages.get(&key) else {
            let (publisher, topic) = (key.publisher as usize, topic.to_owned());
            let draft = Draft { publisher, topic, qos, kind: Kind::Passing };
            let number = self.promises.enter(draft, now);
            self.messages.insert(key, number);
            self.keys.push(key);
            return self.promises.note_sent(number);
        };
        self.promises.note_sent(known);
        if qos == QoS::ExactlyOnce {
            self.promises.note_anew(known);
        }
    }

    /// The same PUBLISH leaves once more, under its Packet Identifier and in its Session. At QoS 2 the
    /// broker knows by that what it has taken already, whichever broker it is by now.
    pub(crate) fn note_repeated(&mut self, key: Key) {
        let number = self.number_of(key);
        self.promises.note_sent(number);
    }

    /// A broker has taken a message over. QoS 0 is never acknowledged: whoever enters it claims
    /// that nothing fails which could cost it.
    pub(crate) fn note_acknowledged(&mut self, key: Key) {
        let (number, now) = (self.number_of(key), self.next_entry());
        self.promises.note_accepted(number, now);
    }

    /// A broker has refused a message.
    pub(crate) fn note_refused(&mut self, key: Key) {
        let number = self.number_of(key);
        self.promises.note_refused(number);
    }

    fn number_of(&self, key: Key) -> usize {
        *self.messages.get(&key).expect("only what was sent is answered")
    }

    fn receiver(&mut self, receiver: Receiver) -> usize {
        let Self { receivers, names, promises, .. } = self;
        *receivers.entry(receiver).or_insert_with(|| {
            names.push(receiver);
            let manner = Manner { is_written: false, is_lasting: false, may_come_late: false };
            promises.open(manner)
        })
    }

    /// A SUBACK has come.
    pub(crate) fn note_subscribed(&mut self, receiver: Receiver, filter: &str) {
        let (now, number) = (self.next_entry(), self.receiver(receiver));
        let filter = TopicFilter::parse(filter).expect("tests subscribe to valid filters");
        let wanted = Wanted { filter, is_group: matches!(receiver, Receiver::Group(_)) };
        self.promises.note_asked(number, &wanted, QoS::ExactlyOnce);
        self.promises.note_promised(number, &wanted, now);
    }

    /// The receiver has unsubscribed from everything, left, or was cut off: it is owed nothing.
    pub(crate) fn note_gone(&mut self, receiver: Receiver) {
        let (now, number) = (self.next_entry(), self.receiver(receiver));
        self.promises.end_all(number, now, now);
    }

    /// A message has come.
    pub(crate) fn note_arrival(&mut self, arrival: Arrival<'_>) {
        let (whose, number) = (arrival.receiver, self.receiver(arrival.receiver));
        let is_it = |message: &usize| {
            let publication = self.promises.publication(*message);
            publication.is_some_and(|publication| publication.draft.topic == arrival.topic)
        };
        let key = Key::parse(arrival.payload);
        let known = key.and_then(|key| self.messages.get(&key)).copied().filter(is_it);
        let Some(message) = known else {
            let payload = String::from_utf8_lossy(arrival.payload);
            let words = format!("`{payload}` on {}", arrival.topic);
            return self.complaints.push(Complaint::Foreign(whose, words));
        };
        let qos = QoS::from_bits(arrival.qos).expect("clients decode what comes");
        let arrival = promises::Arrival { message, qos, dup: arrival.dup };
        if let Err(finding) = self.promises.note_arrival(number, arrival) {
            let complaint = self.complaint(&finding);
            self.complaints.push(complaint);
        }
    }

    fn complaint(&self, finding: &Finding) -> Complaint {
        let (whose, key) = (self.names[finding.receiver], self.keys[finding.message]);
        match finding.breach {
            Breach::Lost => Complaint::Lost(whose, key),
            Breach::Doubled => Complaint::Doubled(whose, key),
            Breach::Overtaken(later) => Complaint::Overtaken(whose, key, self.keys[later].number),
            Breach::Refused => Complaint::Refused(whose, key),
        }
    }

    /// Messages that were promised and have not come.
    pub(crate) fn missing(&self) -> Vec<Complaint> {
        self.promises.lost().iter().map(|finding| self.complaint(finding)).collect()
    }

    /// Every promise that was broken.
    pub(crate) fn complaints(&self) -> Vec<Complaint> {
        let mut complaints = self.complaints.clone();
        for finding in self.promises.broken() {
            let complaint = self.complaint(&finding);
            // A group's doubles are told as they come.
            if !complaints.contains(&complaint) {
                complaints.push(complaint);
            }
        }
        complaints
    }

    /// Messages that came more often than they may.
    pub(crate) fn doubled(&self) -> Vec<Complaint> {
        let doubled = |complaint: &&Complaint| matches!(complaint, Complaint::Doubled(..));
        self.complaints.iter().filter(doubled).cloned().collect()
    }

    /// How many different messages a receiver has got.
    pub(crate) fn received(&self, receiver: Receiver) -> usize {
        self.receivers.get(&receiver).map_or(0, |number| self.promises.received(*number))
    }

    /// How many messages were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        let publications = self.promises.publications();
        publications.filter(|(_, publication)| publication.accepted_at.is_some()).count()
    }
}

/// The books, open to all clients of a run.
#[derive(Clone, Default)]
pub(crate) struct Checker(Arc<Mutex<Books>>);

impl Checker {
    /// Reads or writes.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Books) -> R) -> R {
        work(&mut self.0.lock())
    }

    /// Waits until all that was promised has come, and fails on every other promise broken.
    #[track_caller]
    pub(crate) fn settle(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !self.with(|books| books.missing().is_empty()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let complaints = self.with(|books| books.complaints());
        assert!(complaints.is_empty(), "{}", Shown(&complaints));
    }
}

/// The first of many complaints, and how many there are of each kind and receiver.
struct Shown<'a>(&'a [Complaint]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: BTreeMap<(&str, Receiver), usize> = BTreeMap::new();
        for complaint in self.0 {
            *counts.entry(complaint.kind()).or_default() += 1;
        }
        writeln!(f, "promises were broken: {counts:?}")?;
        self.0.iter().take(40).try_for_each(|complaint| writeln!(f, "  {complaint:?}"))
    }
}

impl Complaint {
    fn kind(&self) -> (&'static str, Receiver) {
        match self {
            Self::Lost(receiver, _) => ("lost", *receiver),
            Self::Doubled(receiver, _) => ("doubled", *receiver),
            Self::Overtaken(receiver, ..) => ("overtaken", *receiver),
            Self::Refused(receiver, _) => ("refused and delivered", *receiver),
            Self::Foreign(receiver, _) => ("foreign", *receiver),
        }
    }
}

mod tests {
    //! What the names have to do with it: the rules are tested where they are.

    use super::*;

    const SUB: Receiver = Receiver::Client("sub");
    const GROUP: Receiver = Receiver::Group("group");

    fn key(number: u64) -> Key {
        Key { publisher: 1, number }
    }

    /// A subscriber to `t/#`, and messages 1 to 3 of this QoS that were acknowledged.
    fn three_acknowledged(receiver: Receiver, qos: QoS) -> Books {
        let mut books = Books::default();
        books.note_subscribed(receiver, "t/#");
        for number in 1..=3 {
            books.note_sent(key(number), "t/x", qos);
            books.note_acknowledged(key(number));
        }
        books
    }

    /// These come, with the QoS they have.
    fn arrive(books: &mut Books, receiver: Receiver, numbers: &[u64]) {
        for number in numbers {
            arrive_as(books, receiver, "t/x", &key(*number).payload());
        }
    }

    fn arrive_as(books: &mut Books, receiver: Receiver, topic: &str, payload: &str) {
        let payload = payload.as_bytes();
        books.note_arrival(Arrival { receiver, topic, payload, qos: 2, dup: false });
    }

    #[track_caller]
    fn check(books: &Books, expected: &[Complaint]) {
        assert_eq!(books.complaints(), expected);
    }

    #[test]
    fn what_is_lost_doubled_or_overtaken_has_its_name() {
        let mut books = three_acknowledged(SUB, QoS::ExactlyOnce);
        arrive(&mut books, SUB, &[1, 3]);
        check(&books, &[Complaint::Lost(SUB, key(2))]);
        arrive(&mut books, SUB, &[2, 1]);
        let (overtaken, doubled) =
            (Complaint::Overtaken(SUB, key(2), 3), Complaint::Doubled(SUB, key(1)));
        check(&books, &[overtaken, doubled.clone()]);
        assert_eq!(books.doubled(), [doubled]);
        assert_eq!((books.received(SUB), books.acknowledged()), (3, 3));
    }

    #[test]
    fn members_of_a_group_are_one_receiver_without_an_order() {
        let mut books = three_acknowledged(GROUP, QoS::AtLeastOnce);
        arrive(&mut books, GROUP, &[3, 1]);
        check(&books, &[Complaint::Lost(GROUP, key(2))]);
        arrive(&mut books, GROUP, &[2, 1]);
        check(&books, &[Complaint::Doubled(GROUP, key(1))]);
    }

    #[test]
    fn who_has_gone_is_owed_nothing_and_who_comes_again_what_follows() {
        let mut books = three_acknowledged(SUB, QoS::AtLeastOnce);
        books.note_gone(SUB);
        books.note_subscribed(SUB, "t/#");
        check(&books, &[]);
        books.note_sent(key(4), "t/x", QoS::AtLeastOnce);
        books.note_acknowledged(key(4));
        check(&books, &[Complaint::Lost(SUB, key(4))]);
    }

    /// The Session was lost, and the message became a new one: who had it may get it again.
    #[test]
    fn what_is_published_anew_may_come_once_more_and_what_is_repeated_may_not() {
        let mut books = three_acknowledged(SUB, QoS::ExactlyOnce);
        (1..=3).for_each(|number| books.note_repeated(key(number)));
        books.note_sent(key(3), "t/x", QoS::ExactlyOnce);
        arrive(&mut books, SUB, &[1, 2, 3, 3]);
        check(&books, &[]);
        arrive(&mut books, SUB, &[2, 3]);
        check(&books, &[2, 3].map(|number| Complaint::Doubled(SUB, key(number))));
    }

    #[test]
    fn what_nobody_published_or_under_another_topic_is_foreign() {
        let mut books = three_acknowledged(SUB, QoS::AtLeastOnce);
        arrive(&mut books, SUB, &[1, 2, 3, 9]);
        arrive_as(&mut books, SUB, "t/y", "1 1");
        arrive_as(&mut books, SUB, "t/x", "noise");
        let words = ["`1 9` on t/x", "`1 1` on t/y", "`noise` on t/x"];
        check(&books, &words.map(|words| Complaint::Foreign(SUB, words.to_owned())));
    }
}
