//! What was published, who was promised it, and who has got it.
//!
//! The order of entries is the only time the checker knows: a publish is entered before its first
//! byte leaves, a subscription after its SUBACK has come. What is entered between the two is owed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mqttzoo::mqtt::{QoS, TopicFilter, TopicName};
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

#[derive(Debug)]
struct Publication {
    topic: String,
    first_sent: u64,
    /// How many messages the broker may take it for: a copy of each may come.
    sends: u32,
    is_acknowledged: bool,
    is_refused: bool,
}

#[derive(Debug)]
struct Promise {
    receiver: Receiver,
    filter: TopicFilter,
    from: u64,
    is_open: bool,
}

#[derive(Debug, Default)]
struct Received {
    all: BTreeSet<Key>,
    /// The last new one, by publisher and topic.
    last: BTreeMap<(u32, String), u64>,
}

/// The books of one run.
#[derive(Debug, Default)]
pub(crate) struct Books {
    entries: u64,
    publications: BTreeMap<Key, Publication>,
    promises: Vec<Promise>,
    received: BTreeMap<Receiver, Received>,
    complaints: Vec<Complaint>,
}

impl Books {
    fn next_entry(&mut self) -> u64 {
        self.entries += 1;
        self.entries
    }

    /// A message is about to leave its publisher: for the first time, or once more as a new one, where
    /// the Session is gone in which it was sent before.
    pub(crate) fn note_sent(&mut self, key: Key, topic: &str) {
        let first_sent = self.next_entry();
        let publication = self.publications.entry(key).or_insert_with(|| Publication {
            topic: topic.to_owned(),
            first_sent,
            sends: 0,
            is_acknowledged: false,
            is_refused: false,
        });
        publication.sends += 1;
    }

    /// The same PUBLISH leaves once more, under its Packet Identifier and in its Session. At QoS 2 the
    /// broker knows by that what it has taken already, whichever broker it is by now.
    pub(crate) fn note_repeated(&mut self, key: Key, qos: QoS) {
        self.publication_mut(key).sends += u32::from(qos == QoS::AtLeastOnce);
    }

    /// A broker has taken a message over. QoS 0 is never acknowledged: whoever enters it claims
    /// that nothing fails which could cost it.
    pub(crate) fn note_acknowledged(&mut self, key: Key) {
        self.publication_mut(key).is_acknowledged = true;
    }

    /// A broker has refused a message.
    pub(crate) fn note_refused(&mut self, key: Key) {
        self.publication_mut(key).is_refused = true;
    }

    fn publication_mut(&mut self, key: Key) -> &mut Publication {
        self.publications.get_mut(&key).expect("only what was sent is answered")
    }

    /// A SUBACK has come.
    pub(crate) fn note_subscribed(&mut self, receiver: Receiver, filter: &str) {
        let from = self.next_entry();
        let filter = TopicFilter::parse(filter).expect("tests subscribe to valid filters");
        self.promises.push(Promise { receiver, filter, from, is_open: true });
    }

    /// The receiver has unsubscribed from everything, left, or was cut off: it is owed nothing.
    pub(crate) fn note_gone(&mut self, receiver: Receiver) {
        for promise in self.promises.iter_mut().filter(|promise| promise.receiver == receiver) {
            promise.is_open = false;
        }
    }

    /// A message has come.
    pub(crate) fn note_arrival(&mut self, arrival: Arrival<'_>) {
        let whose = arrival.receiver;
        let known = Key::parse(arrival.payload)
            .and_then(|key| Some((key, self.publications.get(&key)?)))
            .filter(|(_, publication)| publication.topic == arrival.topic);
        let Some((key, publication)) = known else {
            let payload = String::from_utf8_lossy(arrival.payload);
            let words = format!("`{payload}` on {}", arrival.topic);
            return self.complaints.push(Complaint::Foreign(whose, words));
        };
        let received = self.received.entry(whose).or_default();
        if !received.all.insert(key) {
            let is_excused = publication.sends > 1 || (arrival.dup && arrival.qos == 1);
            if !is_excused {
                self.complaints.push(Complaint::Doubled(whose, key));
            }
            return;
        }
        let last = received.last.insert((key.publisher, publication.topic.clone()), key.number);
        if let (Receiver::Client(_), Some(last)) = (whose, last.filter(|it| *it > key.number)) {
            self.complaints.push(Complaint::Overtaken(whose, key, last));
        }
    }

    /// Messages that were promised and have not come.
    pub(crate) fn missing(&self) -> Vec<Complaint> {
        let mut missing = Vec::new();
        for promise in self.promises.iter().filter(|promise| promise.is_open) {
            let received = self.received.get(&promise.receiver);
            for (&key, publication) in &self.publications {
                let is_due = publication.is_acknowledged && publication.first_sent > promise.from;
                let has_come = || received.is_some_and(|received| received.all.contains(&key));
                if is_due && !has_come() && promise.covers(&publication.topic) {
                    missing.push(Complaint::Lost(promise.receiver, key));
                }
            }
        }
        missing
    }

    /// Every promise that was broken.
    pub(crate) fn complaints(&self) -> Vec<Complaint> {
        let mut complaints = self.complaints.clone();
        for (&receiver, received) in &self.received {
            let refused = |key: &&Key| {
                let publication = &self.publications[key];
                publication.is_refused && publication.sends == 1
            };
            complaints.extend(
                received.all.iter().filter(refused).map(|key| Complaint::Refused(receiver, *key)),
            );
        }
        complaints.extend(self.missing());
        complaints
    }

    /// Messages that came more often than they may.
    pub(crate) fn doubled(&self) -> Vec<Complaint> {
        let doubled = |complaint: &&Complaint| matches!(complaint, Complaint::Doubled(..));
        self.complaints.iter().filter(doubled).cloned().collect()
    }

    /// How many different messages a receiver has got.
    pub(crate) fn received(&self, receiver: Receiver) -> usize {
        self.received.get(&receiver).map_or(0, |received| received.all.len())
    }

    /// How many messages were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.publications.values().filter(|publication| publication.is_acknowledged).count()
    }
}

impl Promise {
    fn covers(&self, topic: &str) -> bool {
        TopicName::parse(topic.into()).is_ok_and(|topic| self.filter.matches(&topic))
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
    use super::*;

    const SUB: Receiver = Receiver::Client("sub");
    const GROUP: Receiver = Receiver::Group("group");

    fn key(number: u64) -> Key {
        Key { publisher: 1, number }
    }

    /// A subscriber to `t/#`, and messages 1 to 3 of QoS 1 that were acknowledged.
    fn three_acknowledged(receiver: Receiver) -> Books {
        let mut books = Books::default();
        books.note_subscribed(receiver, "t/#");
        for number in 1..=3 {
            books.note_sent(key(number), "t/x");
            books.note_acknowledged(key(number));
        }
        books
    }

    fn arrive(books: &mut Books, receiver: Receiver, number: u64) {
        arrive_as(books, receiver, number, |_| {});
    }

    fn arrive_as(
        books: &mut Books,
        receiver: Receiver,
        number: u64,
        change: impl FnOnce(&mut Arrival<'_>),
    ) {
        let payload = key(number).payload();
        let payload = payload.as_bytes();
        let mut arrival = Arrival { receiver, topic: "t/x", payload, qos: 1, dup: false };
        change(&mut arrival);
        books.note_arrival(arrival);
    }

    #[track_caller]
    fn check(books: &Books, expected: &[Complaint]) {
        assert_eq!(books.complaints(), expected);
    }

    #[test]
    fn all_that_came_once_and_in_order_is_well() {
        let mut books = three_acknowledged(SUB);
        (1..=3).for_each(|number| arrive(&mut books, SUB, number));
        check(&books, &[]);
        assert_eq!((books.received(SUB), books.acknowledged()), (3, 3));
    }

    #[test]
    fn a_message_that_did_not_come_is_lost() {
        let mut books = three_acknowledged(SUB);
        arrive(&mut books, SUB, 1);
        arrive(&mut books, SUB, 3);
        check(&books, &[Complaint::Lost(SUB, key(2))]);
    }

    #[test]
    fn what_was_not_acknowledged_is_not_owed() {
        let mut books = three_acknowledged(SUB);
        (1..=3).for_each(|number| arrive(&mut books, SUB, number));
        books.note_sent(key(4), "t/x");
        check(&books, &[]);
        books.note_acknowledged(key(4));
        check(&books, &[Complaint::Lost(SUB, key(4))]);
    }

    #[test]
    fn only_what_was_sent_after_the_suback_is_owed() {
        let mut books = Books::default();
        books.note_sent(key(1), "t/x");
        books.note_subscribed(SUB, "t/x");
        books.note_acknowledged(key(1));
        check(&books, &[]);
        books.note_sent(key(2), "t/x");
        books.note_acknowledged(key(2));
        check(&books, &[Complaint::Lost(SUB, key(2))]);
    }

    #[test]
    fn a_delivery_before_the_suback_is_allowed() {
        let mut books = Books::default();
        books.note_sent(key(1), "t/x");
        arrive(&mut books, SUB, 1);
        books.note_subscribed(SUB, "t/x");
        check(&books, &[]);
    }

    #[test]
    fn who_has_gone_is_owed_nothing_and_who_comes_again_what_follows() {
        let mut books = three_acknowledged(SUB);
        books.note_gone(SUB);
        books.note_subscribed(SUB, "t/#");
        check(&books, &[]);
        books.note_sent(key(4), "t/x");
        books.note_acknowledged(key(4));
        check(&books, &[Complaint::Lost(SUB, key(4))]);
    }

    #[test]
    fn another_topic_is_not_owed() {
        let mut books = three_acknowledged(SUB);
        (1..=3).for_each(|number| arrive(&mut books, SUB, number));
        books.note_sent(key(4), "u");
        books.note_acknowledged(key(4));
        check(&books, &[]);
    }

    #[test]
    fn a_second_copy_is_doubled() {
        for qos in 0..=2 {
            let mut books = three_acknowledged(SUB);
            (1..=3).for_each(|number| arrive(&mut books, SUB, number));
            arrive_as(&mut books, SUB, 2, |arrival| arrival.qos = qos);
            check(&books, &[Complaint::Doubled(SUB, key(2))]);
        }
    }

    #[test]
    fn a_second_copy_is_excused_when_it_says_so_at_qos_1_or_was_sent_twice() {
        let mut books = three_acknowledged(SUB);
        (1..=3).for_each(|number| arrive(&mut books, SUB, number));
        arrive_as(&mut books, SUB, 3, |arrival| arrival.dup = true);
        books.note_sent(key(2), "t/x");
        arrive(&mut books, SUB, 2);
        check(&books, &[]);
        arrive_as(&mut books, SUB, 1, |arrival| (arrival.dup, arrival.qos) = (true, 2));
        check(&books, &[Complaint::Doubled(SUB, key(1))]);
    }

    /// Whatever was sent twice was excused, and so hid what QoS 2 is there to prevent.
    #[test]
    fn a_second_copy_of_what_was_repeated_in_its_session_is_doubled_at_qos_2() {
        for (qos, expected) in
            [(QoS::AtLeastOnce, vec![]), (QoS::ExactlyOnce, vec![Complaint::Doubled(SUB, key(2))])]
        {
            let mut books = three_acknowledged(SUB);
            books.note_repeated(key(2), qos);
            for number in [1, 2, 3, 2] {
                arrive_as(&mut books, SUB, number, |arrival| arrival.qos = qos.bits());
            }
            check(&books, &expected);
        }
    }

    /// The Session was lost, and the message became a new one: who had it may get it again.
    #[test]
    fn a_second_copy_of_what_was_published_anew_is_excused_at_qos_2() {
        let mut books = three_acknowledged(SUB);
        books.note_repeated(key(3), QoS::ExactlyOnce);
        books.note_sent(key(3), "t/x");
        for number in [1, 2, 3, 3] {
            arrive_as(&mut books, SUB, number, |arrival| arrival.qos = 2);
        }
        check(&books, &[]);
    }

    #[test]
    fn a_message_behind_a_later_one_is_overtaken() {
        let mut books = three_acknowledged(SUB);
        for number in [1, 3, 2] {
            arrive(&mut books, SUB, number);
        }
        check(&books, &[Complaint::Overtaken(SUB, key(2), 3)]);
    }

    #[test]
    fn topics_and_publishers_have_orders_of_their_own() {
        let mut books = three_acknowledged(SUB);
        let other = Key { publisher: 2, number: 1 };
        books.note_sent(key(4), "t/y");
        books.note_sent(other, "t/x");
        arrive_as(&mut books, SUB, 4, |arrival| arrival.topic = "t/y");
        (1..=3).for_each(|number| arrive(&mut books, SUB, number));
        let payload = other.payload();
        let payload = payload.as_bytes();
        books.note_arrival(Arrival { receiver: SUB, topic: "t/x", payload, qos: 1, dup: false });
        check(&books, &[]);
    }

    #[test]
    fn members_of_a_group_have_no_order_but_lose_and_double_nothing() {
        let mut books = three_acknowledged(GROUP);
        for number in [3, 1] {
            arrive(&mut books, GROUP, number);
        }
        check(&books, &[Complaint::Lost(GROUP, key(2))]);
        for number in [2, 1] {
            arrive(&mut books, GROUP, number);
        }
        check(&books, &[Complaint::Doubled(GROUP, key(1))]);
    }

    #[test]
    fn what_was_refused_must_not_come() {
        let mut books = Books::default();
        books.note_subscribed(SUB, "t/#");
        books.note_sent(key(1), "t/x");
        books.note_refused(key(1));
        check(&books, &[]);
        arrive(&mut books, SUB, 1);
        check(&books, &[Complaint::Refused(SUB, key(1))]);
    }

    #[test]
    fn what_nobody_published_or_under_another_topic_is_foreign() {
        let mut books = three_acknowledged(SUB);
        (1..=3).for_each(|number| arrive(&mut books, SUB, number));
        arrive(&mut books, SUB, 9);
        arrive_as(&mut books, SUB, 1, |arrival| arrival.topic = "t/y");
        arrive_as(&mut books, SUB, 1, |arrival| arrival.payload = b"noise");
        let words = ["`1 9` on t/x", "`1 1` on t/y", "`noise` on t/x"];
        check(&books, &words.map(|words| Complaint::Foreign(SUB, words.to_owned())));
    }
}
