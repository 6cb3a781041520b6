//! The story: a publisher and a sleeper, what each of them saw, and how far the journal was by then.

use std::path::Path;

use crate::conformance::{Client, Connect, Stage, ack, kind};
use crate::durable::Mortal;

/// What a client knows, and how long the journal was when it did.
pub(super) struct Seen {
    at: u64,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    SleeperIsKept,
    SleeperSubscribes,
    PublisherIsKept,
    /// A message is about to be sent.
    Sends(u32),
    /// PUBREC came.
    Received(u32),
    /// PUBACK or PUBCOMP came.
    Completed(u32),
    /// The sleeper has got a message, with this identifier.
    Got(u32, u16),
    /// The sleeper was sent PUBREL.
    Released(u16),
    /// A retained message is about to be sent.
    Retains(u32),
    /// PUBACK of it came.
    Retained(u32),
}

/// What the clients know at one moment.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) is_sleeper_kept: bool,
    pub(super) is_subscribed: bool,
    pub(super) is_publisher_kept: bool,
    pub(super) sent: u32,
    pub(super) received: Vec<u32>,
    pub(super) completed: Vec<u32>,
    pub(super) got: Vec<u32>,
    /// Of QoS 2, and PUBREL has not come.
    pub(super) unreleased: Vec<u16>,
    pub(super) retains: u32,
    pub(super) retained: u32,
}

impl View {
    /// What they knew when the journal was no longer than this.
    pub(super) fn at(seen: &[Seen], end: u64) -> Self {
        let mut view = Self::default();
        for what in seen.iter().filter(|seen| seen.at <= end).map(|seen| seen.what) {
            view.note(what);
        }
        view
    }

    fn note(&mut self, what: What) {
        match what {
            What::SleeperIsKept => self.is_sleeper_kept = true,
            What::SleeperSubscribes => self.is_subscribed = true,
            What::PublisherIsKept => self.is_publisher_kept = true,
            What::Sends(number) => self.sent = number + 1,
            What::Received(number) => self.received.push(number),
            What::Completed(number) => self.completed.push(number),
            What::Got(number, id) => {
                self.got.push(number);
                if qos_of(number) == 2 {
                    self.unreleased.push(id);
                }
            }
            What::Released(id) => self.unreleased.retain(|one| *one != id),
            What::Retains(number) => self.retains = number,
            What::Retained(number) => self.retained = number,
        }
    }
}

/// Plays it, and says what the clients saw.
pub(super) fn play(mortal: &mut Mortal, journal: &Path) -> Vec<Seen> {
    let mut story = Story { journal, seen: Vec::new(), next: 0 };
    {
        let mut sleeper = story.enter(mortal, "sleeper", What::SleeperIsKept);
        sleeper.subscribe("q/#", 2).unwrap();
        story.note(What::SleeperSubscribes);
        sleeper.leave().unwrap();
    }
    let mut publisher = story.enter(mortal, "publisher", What::PublisherIsKept);
    story.publish(&mortal.stage, &mut publisher, 3);
    story.retain(&mortal.stage, &mut publisher, 1);
    story.take_some(mortal, 5);
    story.publish(&mortal.stage, &mut publisher, 2);
    drop(publisher);
    // The log is brought home, and begins anew.
    mortal.restart();
    let mut publisher = story.enter(mortal, "publisher", What::PublisherIsKept);
    story.publish(&mortal.stage, &mut publisher, 2);
    story.retain(&mortal.stage, &mut publisher, 2);
    story.take_some(mortal, 4);
    story.publish(&mortal.stage, &mut publisher, 2);
    mortal.broker.kill();
    story.seen
}

struct Story<'a> {
    journal: &'a Path,
    seen: Vec<Seen>,
    /// The number of the next message.
    next: u32,
}

impl Story<'_> {
    fn note(&mut self, what: What) {
        let at = std::fs::metadata(self.journal).unwrap().len();
        self.seen.push(Seen { at, what });
    }

    fn enter(&mut self, mortal: &Mortal, name: &str, what: What) -> Client {
        let client = mortal.stage.enter(&connect(&mortal.stage, name)).unwrap();
        self.note(what);
        client
    }

    /// Publishes so many groups of messages that are under way together.
    fn publish(&mut self, stage: &Stage, publisher: &mut Client, groups: u32) {
        for _ in 0..groups {
            let group = self.next..self.next + GROUP;
            self.next = group.end;
            for number in group.clone() {
                self.note(What::Sends(number));
                publisher.send(&message(stage, number));
            }
            for number in group.clone() {
                if qos_of(number) == 1 {
                    publisher.expect_ack(kind::PUBACK, id_of(number)).unwrap();
                    self.note(What::Completed(number));
                } else {
                    publisher.expect_ack(kind::PUBREC, id_of(number)).unwrap();
                    self.note(What::Received(number));
                }
            }
            for number in group.filter(|number| qos_of(*number) == 2) {
                publisher.send(&ack(kind::PUBREL, id_of(number)));
                publisher.expect_ack(kind::PUBCOMP, id_of(number)).unwrap();
                self.note(What::Completed(number));
            }
        }
    }

    fn retain(&mut self, stage: &Stage, publisher: &mut Client, number: u32) {
        self.note(What::Retains(number));
        let message = stage.message("r/v", number.to_string()).qos(1, RETAINED_ID).retained();
        publisher.send(&message.bytes());
        publisher.expect_ack(kind::PUBACK, RETAINED_ID).unwrap();
        self.note(What::Retained(number));
    }

    /// The sleeper comes for some of what waits for it.
    fn take_some(&mut self, mortal: &Mortal, count: usize) {
        let mut sleeper = self.enter(mortal, "sleeper", What::SleeperIsKept);
        let (mut taken, mut unreleased) = (0, 0);
        while taken < count || unreleased > 0 {
            let packet = sleeper.packet().unwrap();
            if packet.kind() == kind::PUBREL {
                let id = packet.acknowledgement().unwrap().id;
                self.note(What::Released(id));
                sleeper.send(&ack(kind::PUBCOMP, id));
                unreleased -= 1;
                continue;
            }
            if taken == count {
                continue;
            }
            let message = packet.publish().unwrap();
            self.note(What::Got(number_of(&message.payload), message.id));
            taken += 1;
            if message.qos == 1 {
                sleeper.send(&ack(kind::PUBACK, message.id));
            } else {
                sleeper.send(&ack(kind::PUBREC, message.id));
                unreleased += 1;
            }
        }
        sleeper.leave().unwrap();
    }
}

pub(super) fn connect(stage: &Stage, name: &str) -> Connect {
    stage.connect(name).kept()
}

/// Some are large: their pages are many.
pub(super) fn message(stage: &Stage, number: u32) -> Vec<u8> {
    let padding = if number % 5 == 2 { 20_000 } else { 10 };
    let payload = format!("{number} {}", "x".repeat(padding));
    stage.message("q/x", payload).qos(qos_of(number), id_of(number)).bytes()
}

pub(super) fn number_of(payload: &[u8]) -> u32 {
    let text = std::str::from_utf8(payload).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

pub(super) fn qos_of(number: u32) -> u8 {
    if number % 3 == 1 { 1 } else { 2 }
}

/// They are given again.
pub(super) fn id_of(number: u32) -> u16 {
    u16::try_from(number % (2 * GROUP)).unwrap() + 1
}

/// Messages under way at a time.
const GROUP: u32 = 4;
const RETAINED_ID: u16 = 100;
