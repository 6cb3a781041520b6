//! What brokers promise of messages, and whether they kept it: one set of rules for the simulated
//! cluster and for tests of a real one.
//!
//! Whoever plays the clients enters what they send and what comes to them; what may not come is told at
//! once, what is missing in the end. There are no clocks here: a moment is a number that the caller gives
//! and that never goes back, milliseconds or the number of an entry.
//!
//! * **Loss.** A message that was accepted comes to everybody whose Subscription was promised before the
//!   message was sent, and who was there long enough after it was accepted.
//! * **Doubles.** A message comes once for each time that brokers may have taken it for a new one: with
//!   QoS 2 that is once, unless it was refused or its publisher's Session is gone; with QoS 1 once for
//!   each PUBLISH. With DUP and QoS 1 it may come again.
//! * **Order.** What comes for the first time comes in the order in which its publisher sent it, for each
//!   topic and QoS, also where it was sent again.
//! * **Shared Subscriptions.** All members together get a message as one Subscription does, in no order.
//! * **Refusals.** What nobody was to have comes to nobody.
//!
//! What is not asked, since it is not promised, is said where a caller may choose: [`Manner`] of one
//! receiver, [`Leave`] for all.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};

use crate::mqtt::QoS;

/// What a receiver wants: a Topic Filter, as far as there is a need to know.
pub trait Wish: Clone + Debug + PartialEq {
    /// What a message is published to.
    type Topic: Clone + Debug + Ord;

    /// Whether it takes messages of this topic.
    fn matches(&self, topic: &Self::Topic) -> bool;

    /// Whether others who have the same share its messages.
    fn is_shared(&self) -> bool;
}

/// A message that is about to be published.
#[derive(Clone, Copy, Debug)]
pub struct Draft<T> {
    /// Whose order it stands in: a connection, or a client.
    pub publisher: usize,
    /// Where it goes.
    pub topic: T,
    /// How surely.
    pub qos: QoS,
    /// What it leaves behind.
    pub kind: Kind,
}

/// What a message leaves behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Nothing.
    Passing,
    /// It is retained: it comes once more to whoever subscribes later.
    Retained,
    /// It takes the retained message of its topic away. Nobody is owed it.
    Deletion,
}

/// What is known of a message.
#[derive(Clone, Copy, Debug)]
pub struct Publication<T> {
    /// As it was entered.
    pub draft: Draft<T>,
    /// When it was sent first.
    pub sent_at: u64,
    /// How many PUBLISH packets of it were sent.
    pub sends: u32,
    /// For how many messages brokers may take it.
    pub copies: u32,
    /// When it was accepted.
    pub accepted_at: Option<u64>,
    /// Its publisher was told that nobody has it.
    is_refused: bool,
}

/// How messages come to a receiver, and what it is not owed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Manner {
    /// Arrivals are what its broker wrote, not what its client read: with DUP nothing new is.
    pub is_written: bool,
    /// It goes on when its connection ends. QoS 0 is lost then.
    pub is_lasting: bool,
    /// Its Session may go from broker to broker. What others hold for it may come behind what it gets at
    /// once, if it was not subscribed when that was sent; and with QoS 1 what came where it was may come
    /// where it is.
    pub may_come_late: bool,
}

/// What is not owed by anybody, as far as the caller knows why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Leave {
    /// How long somebody has to be there after a message was accepted to be owed it.
    pub grace: u64,
    /// Nothing fails, so that QoS 0 is owed as well.
    pub is_calm: bool,
    /// Sessions outlive their brokers. What members of Shared Subscriptions had at a broker that died,
    /// others may get again with QoS 2; what was sent again may come behind what was sent later; and
    /// nobody remembers what came with QoS 0.
    pub outlive_brokers: bool,
}

/// A message that comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arrival {
    /// Which one.
    pub message: usize,
    /// How surely.
    pub qos: QoS,
    /// Whether it says that it may have come before.
    pub dup: bool,
}

/// A promise that was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// How.
    pub breach: Breach,
    /// To whom; one of them, where they share.
    pub receiver: usize,
    /// With which message.
    pub message: usize,
    /// What is known of both.
    pub words: String,
}

/// How a promise was broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Breach {
    /// It did not come.
    Lost,
    /// It came too often.
    Doubled,
    /// It came behind this one, which was sent later.
    Overtaken(usize),
    /// It was refused, and came.
    Refused,
}

/// A Subscription.
#[derive(Clone, Debug)]
pub struct Promise<W> {
    /// What it is for.
    pub wish: W,
    /// How surely at most.
    pub qos: QoS,
    /// Since when it is promised; [`NEVER`] where it was only asked for.
    pub from: u64,
    /// Until when its receiver was there to have what it was promised; [`NEVER`] as long as it stands.
    pub until: u64,
    /// When it was over.
    pub over_at: u64,
    /// It was thought to be lost meanwhile.
    pub is_revived: bool,
}

impl<W> Promise<W> {
    /// One that is asked for.
    fn of(wish: W, qos: QoS) -> Self {
        Self { wish, qos, from: NEVER, until: NEVER, over_at: NEVER, is_revived: false }
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.until == NEVER
    }

    fn end(&mut self, until: u64, now: u64) {
        self.until = self.until.min(until);
        self.over_at = self.over_at.min(now);
    }
}

#[derive(Debug)]
struct Receiver<W: Wish> {
    manner: Manner,
    promises: Vec<Promise<W>>,
    came: BTreeMap<usize, Came>,
    /// The last message that came for the first time, in each order.
    last: BTreeMap<(usize, W::Topic, QoS), usize>,
}

/// How often a message came to a receiver.
#[derive(Clone, Copy, Debug, Default)]
struct Came {
    /// Not as a repetition.
    anew: u32,
    /// Of these, with QoS 2.
    exactly_once: u32,
}

/// The books of one run.
#[derive(Debug)]
pub struct Promises<W: Wish> {
    leave: Leave,
    publications: Vec<Publication<W::Topic>>,
    receivers: Vec<Receiver<W>>,
}

impl<W: Wish> Promises<W> {
    /// Nothing is promised yet.
    #[must_use]
    pub fn new(leave: Leave) -> Self {
        Self { leave, publications: Vec::new(), receivers: Vec::new() }
    }

    /// A message is about to be sent for the first time. Messages of one publisher are entered in its
    /// order. Returns its number.
    pub fn enter(&mut self, draft: Draft<W::Topic>, now: u64) -> usize {
        let (sends, copies, accepted_at) = (0, 0, None);
        let is_refused = false;
        let one = Publication { draft, sent_at: now, sends, copies, accepted_at, is_refused };
        self.publications.push(one);
        self.publications.len() - 1
    }

    /// A PUBLISH of it leaves: the first one, or the same once more, under its Packet Identifier and in
    /// its Session. With QoS 2 brokers know by that what they have.
    pub fn note_sent(&mut self, message: usize) {
        let publication = self.publication_mut(message);
        publication.sends += 1;
        let is_new = publication.draft.qos < QoS::ExactlyOnce || publication.copies == 0;
        publication.copies += u32::from(is_new);
    }

    /// What is sent of it from here on may be a new message to brokers: they have refused it
    /// [MQTT-4.3.3-9], or have nothing of its Session.
    pub fn note_anew(&mut self, message: usize) {
        self.publication_mut(message).copies += 1;
    }

    /// Brokers have taken it over.
    pub fn note_accepted(&mut self, message: usize, now: u64) {
        self.publication_mut(message).accepted_at.get_or_insert(now);
    }

    /// Its publisher was told that nobody has it.
    pub fn note_refused(&mut self, message: usize) {
        self.publication_mut(message).is_refused = true;
    }

    fn publication_mut(&mut self, message: usize) -> &mut Publication<W::Topic> {
        self.publications.get_mut(message).expect("messages are numbered")
    }

    /// Somebody may subscribe from here on. Returns its number.
    pub fn open(&mut self, manner: Manner) -> usize {
        let (promises, came, last) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        self.receivers.push(Receiver { manner, promises, came, last });
        self.receivers.len() - 1
    }

    /// A Subscription is asked for: nothing is promised yet, but a share of a group may come.
    pub fn note_asked(&mut self, receiver: usize, wish: &W, qos: QoS) {
        let promises = &mut self.receiver_mut(receiver).promises;
        if !promises.iter().any(|one| one.stands() && one.wish == *wish) {
            promises.push(Promise::of(wish.clone(), qos));
        }
    }

    /// A SUBACK has promised it.
    pub fn note_promised(&mut self, receiver: usize, wish: &W, now: u64) {
        let promises = &mut self.receiver_mut(receiver).promises;
        for one in promises.iter_mut().filter(|one| one.stands() && one.wish == *wish) {
            one.from = one.from.min(now);
        }
    }

    /// What was thought to be lost is there: it is promised from here on.
    pub fn revive(&mut self, receiver: usize, wish: W, qos: QoS, now: u64) {
        let one = Promise { from: now, is_revived: true, ..Promise::of(wish, qos) };
        self.receiver_mut(receiver).promises.push(one);
    }

    /// A Subscription has ended; its receiver was there until then to be sent what it was owed.
    pub fn end(&mut self, receiver: usize, wish: &W, until: u64, now: u64) {
        let promises = &mut self.receiver_mut(receiver).promises;
        promises.iter_mut().filter(|one| one.wish == *wish).for_each(|one| one.end(until, now));
    }

    /// The same of all that a receiver has.
    pub fn end_all(&mut self, receiver: usize, until: u64, now: u64) {
        let promises = &mut self.receiver_mut(receiver).promises;
        for one in promises.iter_mut() {
            one.end(until, now);
        }
    }

    fn receiver_mut(&mut self, receiver: usize) -> &mut Receiver<W> {
        self.receivers.get_mut(receiver).expect("receivers are numbered")
    }

    /// A message that was entered has come.
    ///
    /// # Errors
    ///
    /// It may not come, or not any more, or not now.
    pub fn note_arrival(&mut self, receiver: usize, arrival: Arrival) -> Result<(), Finding> {
        let Arrival { message, qos, dup } = arrival;
        let publication = self.publications.get(message).expect("messages are numbered");
        let place = self.receivers.get_mut(receiver).expect("receivers are numbered");
        let is_first = !place.came.contains_key(&message);
        let is_repetition =
            dup && (place.manner.is_written || (qos == QoS::AtLeastOnce && !is_first));
        let came = place.came.entry(message).or_default();
        if is_repetition {
            return Ok(());
        }
        let is_remembered = qos > QoS::AtMostOnce || !self.leave.outlive_brokers;
        came.anew += u32::from(is_remembered);
        came.exactly_once += u32::from(qos == QoS::ExactlyOnce);
        if publication.draft.kind != Kind::Passing {
            // It may be replayed besides.
            return Ok(());
        }
        let came = *came;
        let breach = if place.has_too_many(publication, came, &self.leave) {
            Some(Breach::Doubled)
        } else if is_first {
            place.overtaken(publication, message, qos, &self.leave).map(Breach::Overtaken)
        } else {
            None
        };
        breach.map_or(Ok(()), |breach| Err(self.finding(breach, receiver, message)))
    }

    /// Every promise that is not kept by now, but for what was told at once.
    #[must_use]
    pub fn broken(&self) -> Vec<Finding> {
        let (mut broken, shared) = (self.lost(), self.shared_wishes());
        for (message, publication) in self.publications.iter().enumerate() {
            if publication.is_refused && publication.copies == 1 {
                let got = |receiver: &usize| self.has_come(*receiver, message);
                let findings = (0..self.receivers.len()).filter(got);
                broken.extend(findings.map(|one| self.finding(Breach::Refused, one, message)));
            }
            for wish in &shared {
                broken.extend(self.doubled_in_group(message, publication, wish));
            }
        }
        broken
    }

    /// What was promised and has not come.
    #[must_use]
    pub fn lost(&self) -> Vec<Finding> {
        let (mut lost, shared) = (Vec::new(), self.shared_wishes());
        for (message, publication) in self.publications.iter().enumerate() {
            let Some(accepted_at) = owed_since(publication) else { continue };
            for (number, receiver) in self.receivers.iter().enumerate() {
                let has_come = || receiver.came.contains_key(&message);
                let is_owed = |one: &Promise<W>| {
                    let is_due = self.is_due((publication, accepted_at), receiver.manner, one);
                    is_due && !has_come() && one.wish.matches(&publication.draft.topic)
                };
                if receiver.promises.iter().any(is_owed) {
                    lost.push(self.finding(Breach::Lost, number, message));
                }
            }
            for wish in &shared {
                lost.extend(self.lost_in_group(message, publication, wish));
            }
        }
        lost
    }

    /// Whether what is published at that time is owed for a Subscription, which nobody shares.
    fn is_due(
        &self,
        (publication, accepted_at): (&Publication<W::Topic>, u64),
        manner: Manner,
        promise: &Promise<W>,
    ) -> bool {
        let grace = self.leave.grace;
        promise.from < publication.sent_at
            && (promise.stands() || promise.until > accepted_at.saturating_add(grace))
            && self.is_sure(publication, manner, promise)
            && !promise.wish.is_shared()
    }

    /// Whether it has a QoS with which it comes, as things are.
    fn is_sure(
        &self,
        publication: &Publication<W::Topic>,
        manner: Manner,
        promise: &Promise<W>,
    ) -> bool {
        let qos = promise.qos.min(publication.draft.qos);
        qos > QoS::AtMostOnce || (self.leave.is_calm && !manner.is_lasting)
    }

    fn lost_in_group(
        &self,
        message: usize,
        publication: &Publication<W::Topic>,
        wish: &W,
    ) -> Option<Finding> {
        let members = self.members_if_judged(publication, wish)?;
        let is_owed = |(receiver, one): &&(usize, &Promise<W>)| {
            let manner = self.receivers.get(*receiver).map(|receiver| receiver.manner);
            let is_sure = manner.is_some_and(|manner| self.is_sure(publication, manner, one));
            is_sure && one.from < publication.sent_at && one.stands()
        };
        let (owed, _) = members.iter().find(is_owed)?;
        let is_lost = !members.iter().any(|(receiver, _)| self.has_come(*receiver, message));
        is_lost.then(|| self.finding(Breach::Lost, *owed, message))
    }

    fn doubled_in_group(
        &self,
        message: usize,
        publication: &Publication<W::Topic>,
        wish: &W,
    ) -> Option<Finding> {
        if self.leave.outlive_brokers {
            return None;
        }
        let members = self.members_if_judged(publication, wish)?;
        let mut counted: Vec<usize> = members.iter().map(|(receiver, _)| *receiver).collect();
        counted.dedup();
        let came = |receiver: &usize| self.came(*receiver, message).map_or(0, |it| it.exactly_once);
        let times: u32 = counted.iter().map(came).sum();
        let last = counted.iter().rfind(|receiver| came(receiver) > 0)?;
        (times > publication.copies).then(|| self.finding(Breach::Doubled, *last, message))
    }

    /// The members of a group, where what they got of a message can be told: who leaves meanwhile may have
    /// it, and passes on what it has not been sent.
    fn members_if_judged(
        &self,
        publication: &Publication<W::Topic>,
        wish: &W,
    ) -> Option<Vec<(usize, &Promise<W>)>> {
        if !wish.matches(&publication.draft.topic) {
            return None;
        }
        let members: Vec<_> = self.promises().filter(|(_, one)| one.wish == *wish).collect();
        let has_left = |one: &Promise<W>| {
            !one.stands() && one.over_at.saturating_add(self.leave.grace) > publication.sent_at
        };
        (!members.iter().any(|(_, one)| has_left(one))).then_some(members)
    }

    fn shared_wishes(&self) -> Vec<W> {
        let mut wishes: Vec<W> = Vec::new();
        for (_, one) in self.promises().filter(|(_, one)| one.wish.is_shared()) {
            if !wishes.contains(&one.wish) {
                wishes.push(one.wish.clone());
            }
        }
        wishes
    }

    /// All Subscriptions, with whose they are.
    pub fn promises(&self) -> impl Iterator<Item = (usize, &Promise<W>)> {
        let each = self.receivers.iter().enumerate();
        each.flat_map(|(number, receiver)| receiver.promises.iter().map(move |one| (number, one)))
    }

    /// Whether a message has come to a receiver.
    #[must_use]
    pub fn has_come(&self, receiver: usize, message: usize) -> bool {
        self.came(receiver, message).is_some()
    }

    fn came(&self, receiver: usize, message: usize) -> Option<&Came> {
        self.receivers.get(receiver)?.came.get(&message)
    }

    /// A message.
    #[must_use]
    pub fn publication(&self, message: usize) -> Option<&Publication<W::Topic>> {
        self.publications.get(message)
    }

    /// All messages.
    pub fn publications(&self) -> impl Iterator<Item = (usize, &Publication<W::Topic>)> {
        self.publications.iter().enumerate()
    }

    /// How many different messages have come to a receiver.
    #[must_use]
    pub fn received(&self, receiver: usize) -> usize {
        self.receivers.get(receiver).map_or(0, |one| one.came.len())
    }

    fn finding(&self, breach: Breach, receiver: usize, message: usize) -> Finding {
        let mut words = format!("{breach:?}: message {message} to {receiver}");
        if let (Some(publication), Some(place)) =
            (self.publications.get(message), self.receivers.get(receiver))
        {
            let topic = &publication.draft.topic;
            let concerned: Vec<_> =
                place.promises.iter().filter(|one| one.wish.matches(topic)).collect();
            let came = place.came.get(&message);
            let _infallible = write!(words, "; {publication:?} {came:?} {concerned:?}");
        }
        Finding { breach, receiver, message, words }
    }
}

/// When a message was accepted that somebody is owed.
fn owed_since<T>(publication: &Publication<T>) -> Option<u64> {
    publication.accepted_at.filter(|_| publication.draft.kind != Kind::Deletion)
}

impl<W: Wish> Receiver<W> {
    /// Whether a message has come more often than it may.
    fn has_too_many(&self, one: &Publication<W::Topic>, came: Came, leave: &Leave) -> bool {
        let shares = self.shares_of(&one.draft.topic);
        // Each group that it is a member of may choose it.
        let ways = u32::try_from(shares).unwrap_or(u32::MAX).max(1);
        let times = match shares {
            // What its former broker had not answered for comes to the next one, too.
            0 if self.manner.may_come_late && !leave.is_calm => came.exactly_once,
            0 => came.anew,
            _ if leave.is_calm => came.anew,
            _ if leave.outlive_brokers => 0,
            // With QoS 1 what a member had may have gone to another one, and come back.
            _ => came.exactly_once,
        };
        times > one.copies.saturating_mul(ways)
    }

    /// The later message that came before this one, which comes for the first time.
    fn overtaken(
        &mut self,
        one: &Publication<W::Topic>,
        message: usize,
        qos: QoS,
        leave: &Leave,
    ) -> Option<usize> {
        let topic = &one.draft.topic;
        if self.shares_of(topic) > 0 || self.may_come_late(one, qos, leave) {
            return None;
        }
        let order = (one.draft.publisher, topic.clone(), qos);
        self.last.insert(order, message).filter(|last| *last > message)
    }

    /// Whether a message may come behind a later one: of one that was sent again the first copy may have
    /// come to nobody here, with QoS 0 or before there was a Subscription. One with QoS 0 is none for what
    /// comes with more by another one.
    fn may_come_late(&self, one: &Publication<W::Topic>, qos: QoS, leave: &Leave) -> bool {
        let may_be_second = one.sends > 1;
        if may_be_second && (qos == QoS::AtMostOnce || leave.outlive_brokers) {
            return true;
        }
        let was_there = |promise: &Promise<W>| {
            promise.from < one.sent_at
                && promise.stands()
                && promise.qos.min(QoS::AtLeastOnce) >= qos.min(QoS::AtLeastOnce)
                && promise.wish.matches(&one.draft.topic)
        };
        (self.manner.may_come_late || may_be_second) && !self.promises.iter().any(was_there)
    }

    /// In how many groups that want a topic it has been a member.
    fn shares_of(&self, topic: &W::Topic) -> usize {
        let mut found: Vec<&W> = Vec::new();
        for one in self.promises.iter().filter(|one| one.wish.is_shared()) {
            if one.wish.matches(topic) && !found.contains(&&one.wish) {
                found.push(&one.wish);
            }
        }
        found.len()
    }
}

/// What has not come to pass.
pub const NEVER: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything whose topic begins like this; a group where a name stands before it.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Prefix(&'static str);

    impl Wish for Prefix {
        type Topic = &'static str;

        fn matches(&self, topic: &&'static str) -> bool {
            topic.starts_with(self.0.rsplit(':').next().unwrap())
        }

        fn is_shared(&self) -> bool {
            self.0.contains(':')
        }
    }

    const ALL: Prefix = Prefix("t");
    const GROUP: Prefix = Prefix("group:t");
    const CLIENT: Manner = Manner { is_written: false, is_lasting: false, may_come_late: false };
    const FAILING: Leave = Leave { grace: 10, is_calm: false, outlive_brokers: false };
    const CALM: Leave = Leave { is_calm: true, ..FAILING };

    /// Books in which every entry has a moment of its own.
    struct Story {
        promises: Promises<Prefix>,
        now: u64,
        found: Vec<(Breach, usize, usize)>,
    }

    impl Story {
        fn new(leave: Leave) -> Self {
            Self { promises: Promises::new(leave), now: 0, found: Vec::new() }
        }

        fn tick(&mut self) -> u64 {
            self.now += 1;
            self.now
        }

        fn receiver(&mut self, manner: Manner) -> usize {
            self.promises.open(manner)
        }

        fn subscribed(&mut self, manner: Manner, wish: Prefix, qos: QoS) -> usize {
            let receiver = self.receiver(manner);
            self.subscribe(receiver, wish, qos);
            receiver
        }

        fn subscribe(&mut self, receiver: usize, wish: Prefix, qos: QoS) {
            let now = self.tick();
            self.promises.note_asked(receiver, &wish, qos);
            self.promises.note_promised(receiver, &wish, now);
        }

        fn publish_as(&mut self, draft: Draft<&'static str>) -> usize {
            let now = self.tick();
            let message = self.promises.enter(draft, now);
            self.promises.note_sent(message);
            message
        }

        fn publish(&mut self, topic: &'static str, qos: QoS) -> usize {
            self.publish_as(Draft { publisher: 1, topic, qos, kind: Kind::Passing })
        }

        fn accept(&mut self, message: usize) -> usize {
            let now = self.tick();
            self.promises.note_accepted(message, now);
            message
        }

        fn arrive(&mut self, receiver: usize, message: usize, qos: QoS) {
            self.arrive_as(receiver, Arrival { message, qos, dup: false });
        }

        fn arrive_as(&mut self, receiver: usize, arrival: Arrival) {
            if let Err(Finding { breach, receiver, message, .. }) =
                self.promises.note_arrival(receiver, arrival)
            {
                self.found.push((breach, receiver, message));
            }
        }

        #[track_caller]
        fn check(&self, expected: &[(Breach, usize, usize)]) {
            let broken = self.promises.broken();
            let broken = broken.iter().map(|one| (one.breach, one.receiver, one.message));
            let all: Vec<_> = self.found.iter().copied().chain(broken).collect();
            assert_eq!(all, expected);
        }
    }

    use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

    /// A subscriber, and three messages that were accepted.
    fn three_accepted(leave: Leave, manner: Manner, qos: QoS) -> (Story, usize) {
        let mut story = Story::new(leave);
        let receiver = story.subscribed(manner, ALL, ExactlyOnce);
        for _ in 0..3 {
            let message = story.publish("t/x", qos);
            story.accept(message);
        }
        (story, receiver)
    }

    #[test]
    fn what_was_accepted_after_the_suback_is_owed_and_nothing_else() {
        let mut story = Story::new(FAILING);
        let receiver = story.receiver(CLIENT);
        story.promises.note_asked(receiver, &ALL, ExactlyOnce);
        let early = story.publish("t/x", AtLeastOnce);
        story.subscribe(receiver, ALL, ExactlyOnce);
        story.accept(early);
        let [accepted, _unanswered, elsewhere] =
            ["t/x", "t/x", "u"].map(|topic| story.publish(topic, AtLeastOnce));
        story.accept(elsewhere);
        story.check(&[]);
        story.accept(accepted);
        story.check(&[(Breach::Lost, receiver, accepted)]);
        // What was sent before it was promised may come.
        story.arrive(receiver, early, AtLeastOnce);
        story.arrive(receiver, accepted, AtLeastOnce);
        story.check(&[]);
    }

    #[test]
    fn who_was_there_long_enough_is_owed_what_was_accepted() {
        for (stayed, is_owed) in [(10, false), (11, true)] {
            let (mut story, receiver) = three_accepted(FAILING, CLIENT, AtLeastOnce);
            for message in [0, 1] {
                story.arrive(receiver, message, AtLeastOnce);
            }
            let until = story.now + stayed;
            story.promises.end_all(receiver, until, until + 100);
            let expected = (Breach::Lost, receiver, 2);
            story.check(if is_owed { std::slice::from_ref(&expected) } else { &[] });
        }
    }

    #[test]
    fn what_is_revived_is_promised_from_then_on() {
        let (mut story, receiver) = three_accepted(FAILING, CLIENT, AtLeastOnce);
        let now = story.now;
        story.promises.end(receiver, &ALL, now, now);
        story.promises.revive(receiver, ALL, ExactlyOnce, now);
        story.check(&[]);
        let message = story.publish("t/x", AtLeastOnce);
        story.accept(message);
        story.check(&[(Breach::Lost, receiver, message)]);
    }

    #[test]
    fn at_most_once_is_owed_where_nothing_fails_to_whoever_does_not_outlive_its_connection() {
        let lasting = Manner { is_lasting: true, ..CLIENT };
        for (leave, manner, is_owed) in
            [(CALM, CLIENT, true), (CALM, lasting, false), (FAILING, CLIENT, false)]
        {
            for (subscribed, published) in [(AtMostOnce, AtLeastOnce), (AtLeastOnce, AtMostOnce)] {
                let mut story = Story::new(leave);
                let receiver = story.subscribed(manner, ALL, subscribed);
                let message = story.publish("t/x", published);
                story.accept(message);
                let expected = (Breach::Lost, receiver, message);
                story.check(if is_owed { std::slice::from_ref(&expected) } else { &[] });
            }
        }
    }

    #[test]
    fn a_second_copy_is_one_too_many_whatever_its_qos() {
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let (mut story, receiver) = three_accepted(FAILING, CLIENT, ExactlyOnce);
            for message in [0, 1, 2, 1] {
                story.arrive(receiver, message, qos);
            }
            story.check(&[(Breach::Doubled, receiver, 1)]);
        }
    }

    #[test]
    fn what_says_that_it_may_have_come_may_have_with_qos_1() {
        let (mut story, receiver) = three_accepted(FAILING, CLIENT, ExactlyOnce);
        for message in [0, 1, 2] {
            story.arrive(receiver, message, AtLeastOnce);
        }
        let dup = |qos| Arrival { message: 1, qos, dup: true };
        story.arrive_as(receiver, dup(AtLeastOnce));
        story.check(&[]);
        story.arrive_as(receiver, dup(ExactlyOnce));
        story.check(&[(Breach::Doubled, receiver, 1)]);
    }

    /// Its client may have lost the first one with its connection.
    #[test]
    fn what_a_broker_writes_with_dup_is_what_it_wrote_before() {
        let written = Manner { is_written: true, ..CLIENT };
        let (mut story, receiver) = three_accepted(FAILING, written, ExactlyOnce);
        for message in [0, 1, 2] {
            story.arrive(receiver, message, ExactlyOnce);
            story.arrive_as(receiver, Arrival { message, qos: ExactlyOnce, dup: true });
        }
        story.check(&[]);
        story.arrive(receiver, 0, ExactlyOnce);
        story.check(&[(Breach::Doubled, receiver, 0)]);
    }

    #[test]
    fn each_publish_of_qos_1_is_perhaps_a_message_and_one_of_qos_2_is_not() {
        for (qos, copies) in [(AtLeastOnce, 3), (ExactlyOnce, 1)] {
            let mut story = Story::new(FAILING);
            let receiver = story.subscribed(CLIENT, ALL, ExactlyOnce);
            let message = story.publish("t/x", qos);
            story.promises.note_sent(message);
            story.promises.note_sent(message);
            (0..copies).for_each(|_| story.arrive(receiver, message, qos));
            story.check(&[]);
            story.arrive(receiver, message, qos);
            story.check(&[(Breach::Doubled, receiver, message)]);
        }
    }

    #[test]
    fn what_was_refused_may_be_another_message_when_it_is_sent_again() {
        let (mut story, receiver) = three_accepted(FAILING, CLIENT, ExactlyOnce);
        story.promises.note_anew(2);
        for message in [0, 1, 2, 2] {
            story.arrive(receiver, message, ExactlyOnce);
        }
        story.check(&[]);
        story.arrive(receiver, 2, ExactlyOnce);
        story.check(&[(Breach::Doubled, receiver, 2)]);
    }

    #[test]
    fn what_nobody_was_to_have_comes_to_nobody() {
        let mut story = Story::new(FAILING);
        let receiver = story.subscribed(CLIENT, ALL, ExactlyOnce);
        let message = story.publish("t/x", ExactlyOnce);
        story.promises.note_refused(message);
        story.check(&[]);
        story.arrive(receiver, message, ExactlyOnce);
        story.check(&[(Breach::Refused, receiver, message)]);
    }

    #[test]
    fn orders_are_those_of_publisher_topic_and_qos() {
        let mut story = Story::new(FAILING);
        let receiver = story.subscribed(CLIENT, ALL, ExactlyOnce);
        let first = story.publish("t/x", ExactlyOnce);
        let other_topic = story.publish("t/y", ExactlyOnce);
        let draft = Draft { publisher: 2, topic: "t/x", qos: ExactlyOnce, kind: Kind::Passing };
        let other_publisher = story.publish_as(draft);
        let other_qos = story.publish("t/x", AtLeastOnce);
        let last = story.publish("t/x", ExactlyOnce);
        for message in [other_topic, other_publisher, last, first] {
            story.arrive(receiver, message, ExactlyOnce);
        }
        story.arrive(receiver, other_qos, AtLeastOnce);
        story.check(&[(Breach::Overtaken(last), receiver, first)]);
    }

    /// It is the first copies that have an order, also of what was sent again.
    #[test]
    fn a_message_that_was_repeated_does_not_come_before_an_earlier_one() {
        let (mut story, receiver) = three_accepted(FAILING, CLIENT, AtLeastOnce);
        (0..3).for_each(|message| story.promises.note_sent(message));
        for message in [0, 1, 0, 2, 1, 2] {
            story.arrive(receiver, message, AtLeastOnce);
        }
        story.check(&[]);
        let (mut story, receiver) = three_accepted(FAILING, CLIENT, AtLeastOnce);
        story.promises.note_sent(1);
        for message in [0, 2, 1] {
            story.arrive(receiver, message, AtLeastOnce);
        }
        story.check(&[(Breach::Overtaken(2), receiver, 1)]);
    }

    /// The only Subscription that stood when a message was sent had QoS 0, and the client was away: the message
    /// came to nobody. By another one, with QoS 1, a later message came, and then the first one, which was sent
    /// again (schedule 229 of brokers that register).
    #[test]
    fn what_was_lost_with_qos_0_may_come_late_by_another_subscription() {
        for (other, is_promised) in [(AtMostOnce, false), (AtLeastOnce, true)] {
            let mut story = Story::new(FAILING);
            let receiver = story.subscribed(CLIENT, Prefix("t/x"), other);
            let first = story.publish("t/x", AtLeastOnce);
            story.subscribe(receiver, ALL, AtLeastOnce);
            let second = story.publish("t/x", AtLeastOnce);
            story.promises.note_sent(first);
            story.arrive(receiver, second, AtLeastOnce);
            story.arrive(receiver, first, AtLeastOnce);
            let overtaken = (Breach::Overtaken(second), receiver, first);
            story.check(if is_promised { std::slice::from_ref(&overtaken) } else { &[] });
        }
    }

    #[test]
    fn what_was_held_for_one_that_subscribed_later_may_come_late() {
        let late = Manner { may_come_late: true, ..CLIENT };
        let mut story = Story::new(FAILING);
        let held = story.publish("t/x", AtLeastOnce);
        let receiver = story.subscribed(late, ALL, ExactlyOnce);
        let [first, second] = ["t/x"; 2].map(|topic| story.publish(topic, AtLeastOnce));
        for message in [second, held, first] {
            story.arrive(receiver, message, AtLeastOnce);
        }
        story.check(&[(Breach::Overtaken(second), receiver, first)]);
    }

    #[test]
    fn what_is_retained_may_be_replayed_and_a_deletion_is_owed_to_nobody() {
        let mut story = Story::new(FAILING);
        let receiver = story.subscribed(CLIENT, ALL, ExactlyOnce);
        let draft = |kind| Draft { publisher: 1, topic: "t/x", qos: ExactlyOnce, kind };
        let retained = story.publish_as(draft(Kind::Retained));
        let deletion = story.publish_as(draft(Kind::Deletion));
        story.accept(retained);
        story.accept(deletion);
        story.check(&[(Breach::Lost, receiver, retained)]);
        story.arrive(receiver, retained, ExactlyOnce);
        story.arrive(receiver, retained, ExactlyOnce);
        story.check(&[]);
    }

    /// Two members, and a message that was accepted.
    fn group(leave: Leave) -> (Story, [usize; 2], usize) {
        let mut story = Story::new(leave);
        let members = [CLIENT; 2].map(|manner| story.subscribed(manner, GROUP, ExactlyOnce));
        let message = story.publish("t/x", ExactlyOnce);
        story.accept(message);
        (story, members, message)
    }

    #[test]
    fn one_of_all_members_gets_a_message_and_no_other_does() {
        let (mut story, [one, other], message) = group(FAILING);
        story.check(&[(Breach::Lost, one, message)]);
        story.arrive(other, message, ExactlyOnce);
        story.check(&[]);
        story.arrive(one, message, ExactlyOnce);
        story.check(&[(Breach::Doubled, other, message)]);
    }

    /// It may have had it, or what it left is on its way to another one.
    #[test]
    fn who_leaves_meanwhile_makes_it_impossible_to_tell() {
        let (mut story, [one, other], message) = group(FAILING);
        let now = story.now;
        story.promises.end_all(one, now, now);
        story.check(&[]);
        story.arrive(one, message, ExactlyOnce);
        story.arrive(other, message, ExactlyOnce);
        story.check(&[]);
        // From then on it can be told again.
        story.now += FAILING.grace;
        let later = story.publish("t/x", ExactlyOnce);
        story.accept(later);
        story.check(&[(Breach::Lost, other, later)]);
    }

    #[test]
    fn members_have_no_order_and_get_qos_1_again_when_something_fails() {
        for (leave, is_told) in [(FAILING, false), (CALM, true)] {
            let (mut story, [one, _other], message) = group(leave);
            let later = story.publish("t/x", AtLeastOnce);
            story.accept(later);
            story.arrive(one, later, AtLeastOnce);
            story.arrive(one, message, ExactlyOnce);
            story.check(&[]);
            story.arrive(one, later, AtLeastOnce);
            let expected = (Breach::Doubled, one, later);
            story.check(if is_told { std::slice::from_ref(&expected) } else { &[] });
        }
    }

    #[test]
    fn what_a_broker_had_that_died_another_member_may_have_again() {
        let leave = Leave { outlive_brokers: true, ..FAILING };
        let (mut story, [one, other], message) = group(leave);
        story.check(&[(Breach::Lost, one, message)]);
        for member in [one, other, other] {
            story.arrive(member, message, ExactlyOnce);
        }
        story.check(&[]);
    }

    #[test]
    fn who_goes_from_broker_to_broker_may_get_qos_1_again_and_not_qos_2() {
        let moving = Manner { may_come_late: true, ..CLIENT };
        for (qos, expected) in [(AtLeastOnce, vec![]), (ExactlyOnce, vec![(Breach::Doubled, 0, 1)])]
        {
            let (mut story, receiver) = three_accepted(FAILING, moving, qos);
            for message in [0, 1, 2, 1] {
                story.arrive(receiver, message, qos);
            }
            story.check(&expected);
        }
    }

    /// The second one did not wait for the first, which its broker had when it died.
    #[test]
    fn where_sessions_outlive_brokers_what_was_repeated_may_come_late_and_no_other() {
        let leave = Leave { outlive_brokers: true, ..FAILING };
        for (sends, expected) in [(1, vec![(Breach::Overtaken(2), 0, 1)]), (2, vec![])] {
            let (mut story, receiver) = three_accepted(leave, CLIENT, AtLeastOnce);
            (1..sends).for_each(|_| story.promises.note_sent(1));
            for message in [0, 2, 1] {
                story.arrive(receiver, message, AtLeastOnce);
            }
            // Nobody knows any more what came with QoS 0.
            story.arrive(receiver, 1, AtMostOnce);
            story.check(&expected);
        }
    }

    #[test]
    fn who_is_in_two_groups_may_be_chosen_by_both() {
        let (mut story, [one, _], message) = group(FAILING);
        story.subscribe(one, Prefix("second:t"), ExactlyOnce);
        story.arrive(one, message, ExactlyOnce);
        story.arrive(one, message, ExactlyOnce);
        assert_eq!(story.found, []);
        story.arrive(one, message, ExactlyOnce);
        assert_eq!(story.found, [(Breach::Doubled, one, message)]);
    }
}
