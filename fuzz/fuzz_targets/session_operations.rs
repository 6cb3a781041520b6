//! Sequences of operations on a Session and its mailbox, against a simple model: what is in flight,
//! that the window is kept, that identifiers in use are not given again, what acknowledgements do.

#![no_main]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use mqttzoo::mqtt::{
    Frame, PACKET_SIZE_MAX, Packet, PacketId, ProtocolVersion, Puback, Pubcomp, Pubrec, QoS,
    ReasonCode, Sender, TopicName,
};
use mqttzoo::ports::clock::Tick;
use mqttzoo::ports::message::{Delivery, Message, MessageId, Progress, Publisher, SessionKey};
use mqttzoo::session::agreement::Agreement;
use mqttzoo::session::mailbox::{Mailbox, MailboxOptions, Offer, Overflow, QueueBudget};
use mqttzoo::session::outbox::Outbox;
use mqttzoo::session::session::{Delivered, Received, Session};

fuzz_target!(|input: &[u8]| {
    let mut bytes = input.iter().copied();
    let Some(window_max) = bytes.next() else { return };
    let mut run = Run::new(usize::from(window_max % 7) + 1);
    while let Some(operation) = bytes.next() {
        let argument = bytes.next().unwrap_or(0);
        match operation % 8 {
            0 | 1 => run.offer(argument),
            2 => run.take(argument),
            3 => run.acknowledge(argument, ReasonCode::Success),
            4 => run.acknowledge(argument, ReasonCode::QuotaExceeded),
            5 => run.acknowledge_at_random(argument),
            6 => run.reconnect(usize::from(argument % 7) + 1),
            _ => run.now = run.now.plus_millis(u64::from(argument) * 10),
        }
        run.check();
    }
    run.end();
});

/// Where the model says that a message stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stand {
    Puback,
    Pubrec,
    Pubcomp,
}

struct Run {
    session: Session,
    budget: Arc<QueueBudget>,
    outbox: Outbox,
    now: Tick,
    window_max: usize,
    /// Numbers of QoS 1 and 2 messages that wait in the mailbox, and when they expire.
    waiting: VecDeque<(u32, Option<Tick>)>,
    /// In flight, in the order in which they were sent first.
    in_flight: Vec<(PacketId, Stand, u32)>,
    /// Those of an earlier connection that are to be sent again.
    unsent: Vec<PacketId>,
    next_number: u32,
}

impl Run {
    fn new(window_max: usize) -> Self {
        let options = MailboxOptions {
            messages_max: MESSAGES_MAX,
            bytes_max: BYTES_MAX,
            qos0_messages_max: 4,
            qos0_bytes_max: BYTES_MAX,
            overflow: Overflow::Reject,
            full_max_millis: u64::MAX,
        };
        let budget = Arc::new(QueueBudget::new(1 << 20));
        let mailbox =
            Mailbox::new(SessionKey(1), Arc::from("c"), Arc::new(options), Arc::clone(&budget));
        let mut session = Session::new(Arc::new(mailbox), 1);
        session.attach(link(window_max));
        Self {
            session,
            budget,
            outbox: Outbox::new(),
            now: Tick::ZERO,
            window_max,
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            unsent: Vec::new(),
            next_number: 0,
        }
    }

    fn offer(&mut self, argument: u8) {
        let qos = QoS::from_bits(argument % 3).expect("less than three");
        let expires_at = (argument & 0x80 != 0).then(|| self.now.plus_millis(500));
        let number = self.next_number;
        self.next_number += 1;
        let message = Message {
            topic: TopicName::try_from("t").expect("a topic"),
            payload: Bytes::copy_from_slice(&number.to_be_bytes()),
            properties: None,
            qos,
            retain: false,
            publisher: Publisher::BROKER,
            id: MessageId::NONE,
            expires_at,
            is_in_transit: argument & 0x40 != 0,
        };
        let delivery = Delivery {
            message: Arc::new(message),
            tag: None,
            qos,
            retain: false,
            sequence: 0,
            progress: Progress::New,
        };
        let had_room = self.counted() < MESSAGES_MAX;
        let offer = self.session.mailbox().offer(delivery, self.now, &mut None);
        if qos == QoS::AtMostOnce {
            assert!(matches!(offer, Offer::Queued(_) | Offer::Dropped(_)));
            return;
        }
        assert_eq!(matches!(offer, Offer::Queued(_)), had_room, "{offer:?}");
        if had_room {
            self.waiting.push_back((number, expires_at));
        }
    }

    /// QoS 1 and 2 from offer to acknowledgement, as the mailbox counts them.
    fn counted(&self) -> usize {
        let held = self.in_flight.iter().filter(|(_, stand, _)| *stand != Stand::Pubcomp).count();
        self.waiting.len() + held
    }

    fn take(&mut self, argument: u8) {
        self.session.resend(self.now, &mut self.outbox);
        self.read_again();
        let window = self.session.window();
        let live = self.in_flight.len();
        assert!(window <= self.window_max.saturating_sub(live), "{window} beside {live}");
        let mut inbox = VecDeque::new();
        let max = usize::from(argument % 16);
        let mailbox = Arc::clone(self.session.mailbox());
        let _taken = mailbox.take(window, max, Waker::noop(), &mut inbox);
        assert!(inbox.len() <= max);
        let acknowledged = inbox.iter().filter(|one| one.qos > QoS::AtMostOnce).count();
        assert!(acknowledged <= window);
        for delivery in inbox {
            self.deliver(delivery);
        }
        self.session.settle_acknowledged();
    }

    fn deliver(&mut self, delivery: Delivery) {
        let (qos, expires_at) = (delivery.qos, delivery.message.expires_at);
        let sent = self.session.deliver(self.now, &delivery, &mut self.outbox);
        let is_expired = expires_at.is_some_and(|at| at <= self.now);
        assert_eq!(sent, if is_expired { Delivered::Expired } else { Delivered::Sent });
        let number =
            (qos > QoS::AtMostOnce).then(|| self.waiting.pop_front().expect("the model has it").0);
        let packets = self.written();
        assert_eq!(packets.len(), usize::from(!is_expired));
        let (Some(number), Some(Packet::Publish(publish))) = (number, packets.first()) else {
            return;
        };
        assert_eq!(&publish.payload[..], number.to_be_bytes(), "in the order of the offers");
        assert!(!publish.dup);
        let id = publish.packet_id.expect("QoS 1 and 2 have one");
        assert!(self.in_flight.iter().all(|(used, ..)| *used != id), "{id:?} is in use");
        let stand = if qos == QoS::ExactlyOnce { Stand::Pubrec } else { Stand::Puback };
        self.in_flight.push((id, stand, number));
    }

    /// What was sent again: in order, under the same identifiers.
    fn read_again(&mut self) {
        let stands: BTreeMap<_, _> =
            self.in_flight.iter().map(|(id, stand, number)| (*id, (*stand, *number))).collect();
        for packet in self.written() {
            let next = loop {
                let id = self.unsent.remove(0);
                if stands.contains_key(&id) {
                    break id;
                }
            };
            match packet {
                Packet::Publish(publish) => {
                    assert!(publish.dup && publish.packet_id == Some(next));
                    let (stand, number) = stands[&next];
                    assert_ne!(stand, Stand::Pubcomp);
                    assert_eq!(&publish.payload[..], number.to_be_bytes());
                }
                Packet::Pubrel(pubrel) => {
                    assert_eq!(pubrel.packet_id, next);
                    assert_eq!(stands[&next].0, Stand::Pubcomp);
                }
                other => panic!("{} was sent again", other.name()),
            }
        }
    }

    /// The acknowledgement that a message in flight waits for, or a refusal of it.
    fn acknowledge(&mut self, argument: u8, reason_code: ReasonCode) {
        if self.in_flight.is_empty() {
            return;
        }
        let place = usize::from(argument) % self.in_flight.len();
        let (id, stand, _) = self.in_flight[place];
        match stand {
            Stand::Puback => {
                assert!(self.session.handle_puback(&Puback::new(id, reason_code)));
                self.in_flight.remove(place);
            }
            Stand::Pubrec => {
                assert!(
                    self.session.handle_pubrec(&Pubrec::new(id, reason_code), &mut self.outbox)
                        != Received::Unknown
                );
                if reason_code.is_error() {
                    self.in_flight.remove(place);
                } else {
                    assert!(matches!(self.written()[..], [Packet::Pubrel(_)]));
                    self.in_flight[place].1 = Stand::Pubcomp;
                }
            }
            Stand::Pubcomp => {
                assert!(self.session.handle_pubcomp(&Pubcomp::new(id, ReasonCode::Success)));
                self.in_flight.remove(place);
            }
        }
        self.session.settle_acknowledged();
    }

    /// Any acknowledgement for any identifier: one that fits nothing changes nothing.
    fn acknowledge_at_random(&mut self, argument: u8) {
        let Some(id) = PacketId::new(u16::from(argument >> 2)) else { return };
        let place = self.in_flight.iter().position(|(used, ..)| *used == id);
        let stand = place.map(|place| self.in_flight[place].1);
        let fits = match argument & 0b11 {
            0 => {
                let fits = self.session.handle_puback(&Puback::new(id, ReasonCode::Success));
                assert_eq!(fits, stand == Some(Stand::Puback));
                fits
            }
            1 => {
                let fits = self.session.handle_pubcomp(&Pubcomp::new(id, ReasonCode::Success));
                assert_eq!(fits, stand == Some(Stand::Pubcomp));
                fits
            }
            _ => {
                let pubrec = Pubrec::new(id, ReasonCode::Success);
                let fits =
                    self.session.handle_pubrec(&pubrec, &mut self.outbox) != Received::Unknown;
                assert_eq!(fits, matches!(stand, Some(Stand::Pubrec | Stand::Pubcomp)));
                self.written();
                if let (true, Some(place)) = (fits, place) {
                    self.in_flight[place].1 = Stand::Pubcomp;
                }
                false
            }
        };
        if let (true, Some(place)) = (fits, place) {
            self.in_flight.remove(place);
        }
        self.session.settle_acknowledged();
    }

    /// The client leaves and comes back at once, with another Receive Maximum.
    fn reconnect(&mut self, window_max: usize) {
        self.session.detach();
        assert!(self.session.mailbox().detach().is_empty(), "nothing is shared");
        self.session.attach(link(window_max));
        self.window_max = window_max;
        self.unsent = self.in_flight.iter().map(|(id, ..)| *id).collect();
    }

    fn written(&mut self) -> Vec<Packet> {
        let bytes = self.outbox.contiguous().expect("small packets lie in one piece");
        let mut bytes = BytesMut::from(bytes).freeze();
        self.outbox.clear();
        let mut packets = Vec::new();
        while let Ok(Some(frame)) = Frame::peek(&bytes, PACKET_SIZE_MAX) {
            let packet = bytes.split_to(frame.total_len);
            let packet = Packet::decode(ProtocolVersion::V5, Sender::Server, &packet);
            packets.push(packet.expect("what is written can be read"));
        }
        packets
    }

    fn check(&self) {
        let used = self.in_flight.len();
        assert!(self.session.window() <= self.window_max.saturating_sub(used));
        let counts = self.session.mailbox().counts();
        assert_eq!(counts.messages, self.counted());
        assert!(counts.messages <= MESSAGES_MAX && counts.bytes <= BYTES_MAX);
        assert!(counts.qos0_messages <= 4);
    }

    fn end(mut self) {
        assert!(self.session.end().is_empty() && self.session.mailbox().close().is_empty());
        drop(self.session);
        assert_eq!(self.budget.leased(), 0);
    }
}

fn link(window_max: usize) -> Agreement {
    Agreement {
        version: ProtocolVersion::V5,
        window_max,
        packet_bytes_max: usize::MAX,
        receive_maximum: 10,
        topic_alias_maximum: 0,
        client_topic_alias_maximum: 0,
        wants_problem_information: false,
    }
}

const MESSAGES_MAX: usize = 12;
const BYTES_MAX: usize = 1 << 16;
