//! One Network Connection as a state machine: bytes and deliveries in, bytes out.
//!
//! A gateway drives it in turns: [`Connection::receive`] with what the socket gave,
//! [`Connection::advance`] for what others have for it, then it writes the outbox. The simulator does
//! the same without a socket.

mod dormant;
mod entry;
mod fetching;

use std::sync::{Arc, Weak};
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::broker::card::Origin;
use crate::broker::connect::{ConnectError, Entrant, Former};
pub use crate::broker::connection::dormant::Dormant;
use crate::broker::connection::entry::Newcomer;
use crate::broker::connection::fetching::Fetching;
use crate::broker::disconnect::{Client, EndCause, SessionFate, WillFate};
use crate::broker::event::Event;
use crate::broker::held::{HeldBack, HeldPublish, Retried, give_up};
use crate::broker::options::ConnectionOptions;
use crate::broker::parts;
use crate::broker::peers::ownership::admission::Admission;
use crate::broker::publish::{PublishOutcome, Refusal};
use crate::broker::registry::SessionClaim;
use crate::broker::sys_topics::is_reserved;
use crate::broker::throttle::Throttle;
use crate::broker::turn::Turn;
use crate::mqtt::{
    Answer as _, Connect, DecodeError, Disconnect, Frame, Packet, PacketId, Pingresp,
    ProtocolVersion, Publish, QoS, ReasonCode, ReasonString, Sender, connect_version,
};
use crate::ports::auth::{AuthRequest, AuthVerdict, Authenticator, Completion, Identity};
use crate::ports::clock::Tick;
use crate::ports::message::{Message, MessageId};
use crate::session::mailbox::Notice;
use crate::session::session::{Delivered, Published, Resent};

/// The broker's side of one Network Connection.
pub struct Connection {
    stage: Stage,
    origin: Origin,
    options: Arc<ConnectionOptions>,
    /// When a whole packet last came from the client.
    heard_at: Tick,
    /// When the first byte of a packet came that is not whole.
    partial_since: Option<Tick>,
    /// While the client is not read because it takes nothing.
    stalled: Option<Stalled>,
    throttle: Throttle,
    /// Whether what was read last had something for the store.
    burdens_store: bool,
    /// Whether a SUBSCRIBE came that waits for memory.
    is_subscribe_held: bool,
    /// Publishes that wait for room in a queue.
    held: Option<Box<HeldBack>>,
}

/// How a client stood when what it was sent became too much for its socket.
#[derive(Clone, Copy, Debug)]
struct Stalled {
    silent_millis: u64,
    partial_millis: Option<u64>,
}

enum Stage {
    /// Nothing but a CONNECT is welcome, and only until the deadline.
    Greeting { deadline: Tick, has_spoken: bool },
    /// The authenticator has been asked.
    Authenticating { connect: Box<Connect>, answer: Arc<Answer>, deadline: Tick },
    /// The broker is to get the Client Identifier from others.
    Entering { newcomer: Box<Newcomer>, admission: Arc<Admission> },
    /// Another connection is to give the Session up.
    Claiming { newcomer: Box<Newcomer>, claim: Arc<SessionClaim> },
    /// The store is asked for the Session, which nobody alive has.
    Fetching { newcomer: Box<Newcomer>, fetching: Fetching },
    /// The store is to have the Session, before the client is told that it has.
    Storing { newcomer: Box<Newcomer>, entrant: Box<Entrant> },
    /// Connected.
    Open(Box<Client>),
    /// Nothing more is read; what is in the outbox goes out.
    Closed,
}

/// Who a client is.
enum Identified {
    Known(Identity),
    /// The authenticator is to be asked.
    Claims(Arc<str>, Arc<dyn Authenticator>),
    /// It says nothing, and those who say nothing may not come in.
    Unwelcome,
}

/// Where the authenticator leaves its answer.
#[derive(Default)]
struct Answer(Mutex<AnswerState>);

/// What the authenticator has of an [`Answer`]: nothing, once the connection waits no more.
struct AnswerSlot(Weak<Answer>);

#[derive(Default)]
struct AnswerState {
    verdict: Option<AuthVerdict>,
    waker: Option<Waker>,
}

/// What a turn of deliveries left to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Nothing more can be done until somebody wakes the connection.
    Idle,
    /// There is more; it was only enough for one turn.
    More,
}

impl Connection {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(origin: Origin, options: Arc<ConnectionOptions>, now: Tick) -> Self {
        let deadline = now.plus_millis(options.connect_timeout_millis);
        Self {
            stage: Stage::Greeting { deadline, has_spoken: false },
            origin,
            heard_at: now,
            partial_since: None,
            stalled: None,
            throttle: Throttle::new(options.publish_rate_max, now),
            burdens_store: false,
            is_subscribe_held: false,
            held: None,
            options,
        }
    }

    /// Takes packets from the front of `chunk`, at most `packets_max`, and leaves what is not yet a
    /// whole packet. Returns how many were taken.
    pub fn receive(
        &mut self,
        turn: &mut Turn<'_>,
        chunk: &mut Bytes,
        packets_max: usize,
        waker: &Waker,
    ) -> usize {
        let mut taken = 0;
        let mut is_blocked = false;
        let pushed = turn.pushed_to_store();
        while taken < packets_max && self.is_reading() && !chunk.is_empty() {
            if let Stage::Greeting { has_spoken, .. } = &mut self.stage {
                *has_spoken = true;
            }
            let frame = match Frame::peek(chunk, self.packet_bytes_max()) {
                Ok(Some(frame)) if frame.total_len <= chunk.len() => frame,
                Ok(_) => break,
                Err(error) => {
                    self.refuse_packet(turn, chunk, &error);
                    break;
                }
            };
            is_blocked = self.held.as_mut().is_some_and(|held| held.blocks(frame.first_byte))
                || self.holds_back_subscribe(turn, frame);
            if is_blocked {
                break;
            }
            let bytes = chunk.split_to(frame.total_len);
            taken += 1;
            self.handle_frame(turn, &bytes, waker);
        }
        if std::mem::take(&mut turn.shard.is_congested) {
            self.throttle.note_congestion();
        }
        self.burdens_store = turn.pushed_to_store() != pushed;
        if taken > 0 {
            self.heard_at = turn.now;
            self.partial_since = None;
            turn.shard.counters.packets_received.add(taken as u64);
        }
        if !chunk.is_empty() && taken < packets_max && self.is_reading() && !is_blocked {
            self.partial_since.get_or_insert(turn.now);
        }
        taken
    }

    /// Above the high-water mark of memory a SUBSCRIBE waits, unless it is small and its client has
    /// few: those who come to take what fills memory are not to be kept from it.
    #[inline]
    fn holds_back_subscribe(&mut self, turn: &Turn<'_>, frame: Frame) -> bool {
        if frame.first_byte >> 4 != SUBSCRIBE_TYPE || !turn.broker.is_short_of_memory() {
            return false;
        }
        let Stage::Open(client) = &self.stage else { return false };
        let is_small = frame.total_len <= SMALL_SUBSCRIBE_BYTES
            && client.session.subscriptions().len() < FEW_SUBSCRIPTIONS;
        self.is_subscribe_held = !is_small;
        self.is_subscribe_held
    }

    #[inline]
    fn handle_frame(&mut self, turn: &mut Turn<'_>, bytes: &Bytes, waker: &Waker) {
        match &mut self.stage {
            Stage::Open(client) => {
                let version = client.session.version();
                match Packet::decode(version, Sender::Client, bytes) {
                    Ok(packet) => self.handle_packet(turn, packet),
                    Err(error) => self.refuse_packet(turn, bytes, &error),
                }
            }
            Stage::Greeting { .. } => self.handle_greeting(turn, bytes, waker),
            Stage::Authenticating { .. }
            | Stage::Entering { .. }
            | Stage::Claiming { .. }
            | Stage::Fetching { .. }
            | Stage::Storing { .. }
            | Stage::Closed => {}
        }
    }

    #[inline]
    fn handle_packet(&mut self, turn: &mut Turn<'_>, packet: Packet) {
        let Stage::Open(client) = &mut self.stage else { return };
        let is_known = match packet {
            Packet::Publish(publish) => {
                self.throttle.note();
                if let Some(held) = &mut self.held {
                    return held.push(turn, &publish);
                }
                return match handle_publish(turn, client, publish) {
                    Ok(()) => {}
                    Err(Undone::Ends(cause)) => self.close(turn, cause),
                    Err(Undone::Full(publish)) => self.hold(turn, publish),
                };
            }
            Packet::Puback(puback) => client.session.handle_puback(&puback),
            Packet::Pubrec(pubrec) => turn.handle_pubrec(client, &pubrec),
            Packet::Pubrel(pubrel) => {
                let _never_repeated = client.take_left_out(pubrel.packet_id);
                turn.handle_pubrel(client, pubrel);
                true
            }
            Packet::Pubcomp(pubcomp) => client.session.handle_pubcomp(&pubcomp),
            Packet::Subscribe(subscribe) => match turn.subscribe(client, &subscribe) {
                Ok(()) => true,
                Err(cause) => return self.close(turn, cause),
            },
            Packet::Unsubscribe(unsubscribe) => match turn.unsubscribe(client, &unsubscribe) {
                Ok(()) => true,
                Err(cause) => return self.close(turn, cause),
            },
            Packet::Pingreq => {
                Pingresp.encode(client.session.version(), turn.outbox.buffer());
                turn.shard.counters.packets_sent.increment();
                true
            }
            Packet::Disconnect(disconnect) => return self.handle_disconnect(turn, &disconnect),
            Packet::Connect(_) => return self.violate(turn, "a second CONNECT"),
            Packet::Auth(_) => {
                return self.violate(turn, "AUTH without an authentication method");
            }
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                return self.violate(turn, "a packet that only a server sends");
            }
        };
        if !is_known {
            turn.shard.counters.acknowledgements_unknown.increment();
        }
    }

    /// Holds a publish for which a queue has no room.
    fn hold(&mut self, turn: &mut Turn<'_>, publish: HeldPublish) {
        let Stage::Open(client) = &mut self.stage else { return };
        let hold_millis = self.options.publish_hold_millis;
        if hold_millis == 0 {
            let cause = give_up(turn, client, &publish);
            return self.close(turn, cause);
        }
        let gives_up_at = turn.now.plus_millis(hold_millis);
        self.held = Some(Box::new(HeldBack::new(turn, publish, gives_up_at)));
    }

    /// Tries what is held again.
    fn retry_held(&mut self, turn: &mut Turn<'_>, waker: &Waker) {
        let (Some(held), Stage::Open(client)) = (&mut self.held, &mut self.stage) else { return };
        // What the client has just acknowledged may be what takes the room.
        turn.settle_acknowledged(client);
        match held.retry(turn, client, self.options.publish_hold_millis) {
            Retried::Done => {
                let was_blocked = held.blocked_until().is_some();
                self.held = None;
                if was_blocked {
                    waker.wake_by_ref();
                }
            }
            Retried::Waits { can_read_on: true } => waker.wake_by_ref(),
            Retried::Waits { can_read_on: false } => {}
            Retried::Ends(cause) => self.close(turn, cause),
        }
    }

    fn violate(&mut self, turn: &mut Turn<'_>, reason: &'static str) {
        turn.shard.counters.violations.increment();
        self.close(turn, EndCause::new(ReasonCode::ProtocolError, reason));
    }

    /// DISCONNECT of the client [MQTT-3.14.4-3].
    fn handle_disconnect(&mut self, turn: &mut Turn<'_>, disconnect: &Disconnect) {
        let Stage::Open(client) = &mut self.stage else { return };
        if let Some(asked) = disconnect.session_expiry_interval_secs {
            if client.session_expiry_secs == 0 && asked > 0 {
                let reason = "a session that ends with its connection cannot be prolonged";
                return self.violate(turn, reason);
            }
            client.session_expiry_secs = asked.min(turn.broker.options().session_expiry_max_secs);
        }
        let will = if disconnect.reason_code == ReasonCode::Success {
            WillFate::Discarded
        } else {
            WillFate::Published
        };
        let reason = disconnect.reason_string.as_deref().unwrap_or("the client said good-bye");
        let cause = EndCause { will, ..EndCause::new(disconnect.reason_code, reason) };
        turn.shard.counters.disconnects_normal.increment();
        self.finish(turn, cause);
    }

    fn handle_greeting(&mut self, turn: &mut Turn<'_>, bytes: &Bytes, waker: &Waker) {
        match Packet::decode(ProtocolVersion::V5, Sender::Client, bytes) {
            Ok(Packet::Connect(connect)) => self.handle_connect(turn, connect, waker),
            Ok(packet) => {
                let reason = format!("{} came before CONNECT", packet.name());
                self.give_up_greeting(turn, ReasonCode::ProtocolError, reason);
            }
            Err(error) => self.refuse_packet(turn, bytes, &error),
        }
    }

    fn handle_connect(&mut self, turn: &mut Turn<'_>, connect: Box<Connect>, waker: &Waker) {
        if let Err(error) = turn.check_connect(&connect) {
            return self.refuse(turn, &connect, &error);
        }
        let client_id = turn.client_id_for(&connect);
        match self.identify(turn, &connect, client_id) {
            Identified::Known(identity) => self.admit(turn, connect, identity, waker),
            Identified::Unwelcome => self.refuse(turn, &connect, &ConnectError::NotAuthorized),
            Identified::Claims(client_id, authenticator) => {
                self.authenticate(turn, connect, client_id, &*authenticator, waker);
            }
        }
    }

    /// Who a client is: what its certificate proves, what the authenticator has to say, or nobody in
    /// particular.
    fn identify(&self, turn: &Turn<'_>, connect: &Connect, client_id: Arc<str>) -> Identified {
        if let Some(common_name) = &self.origin.tls_common_name {
            let user_name = Some(Arc::clone(common_name));
            return Identified::Known(Identity { client_id, user_name, anonymous: false });
        }
        match &turn.broker.authenticator {
            Some(authenticator) if connect.user_name.is_some() => {
                Identified::Claims(client_id, Arc::clone(authenticator))
            }
            _ if self.options.allow_anonymous => {
                Identified::Known(Identity { client_id, user_name: None, anonymous: true })
            }
            _ => Identified::Unwelcome,
        }
    }

    fn authenticate(
        &mut self,
        turn: &mut Turn<'_>,
        connect: Box<Connect>,
        client_id: Arc<str>,
        authenticator: &dyn Authenticator,
        waker: &Waker,
    ) {
        let answer = Arc::new(Answer::default());
        let slot = Box::new(AnswerSlot(Arc::downgrade(&answer)));
        let request = AuthRequest {
            client_id,
            user_name: connect.user_name.as_deref().map(Arc::from),
            password: connect.password.clone(),
            peer: Arc::clone(&self.origin.address),
            tls_common_name: self.origin.tls_common_name.clone(),
        };
        if authenticator.submit(request, slot).is_err() {
            return self.refuse(turn, &connect, &ConnectError::Busy);
        }
        let deadline = turn.now.plus_millis(self.options.auth_timeout_millis);
        self.stage = Stage::Authenticating { connect, answer, deadline };
        self.poll_authentication(turn, waker);
    }

    fn poll_authentication(&mut self, turn: &mut Turn<'_>, waker: &Waker) {
        let Stage::Authenticating { answer, .. } = &self.stage else { return };
        let Some(verdict) = answer.poll(waker) else { return };
        let stage = std::mem::replace(&mut self.stage, Stage::Closed);
        let Stage::Authenticating { connect, .. } = stage else { return };
        match verdict {
            AuthVerdict::Granted(identity) => self.admit(turn, connect, identity, waker),
            AuthVerdict::Refused(reason) => self.refuse(turn, &connect, &reason.into()),
        }
    }

    fn refuse(&mut self, turn: &mut Turn<'_>, connect: &Connect, error: &ConnectError) {
        let client_id = (!connect.client_id.is_empty()).then(|| Arc::from(&*connect.client_id));
        let refusal = (error.reason_code(), error.to_string());
        if let Some(bound) = error.bound(&turn.shard.counters) {
            bound.increment();
        }
        let maximum = connect.properties.maximum_packet_size;
        let maximum = maximum.map_or(usize::MAX, |maximum| maximum.get() as usize);
        let version = connect.protocol_version;
        turn.refuse_connect(version, &self.origin, client_id, refusal, maximum);
        self.stage = Stage::Closed;
    }

    /// A packet that cannot be decoded [MQTT-4.13.1-1].
    fn refuse_packet(&mut self, turn: &mut Turn<'_>, bytes: &[u8], error: &DecodeError) {
        turn.shard.counters.violations.increment();
        let (reason_code, reason) = (error.reason_code(), error.to_string());
        if reason_code == ReasonCode::PacketTooLarge {
            turn.shard.counters.packets_too_large.increment();
        }
        match &self.stage {
            Stage::Open(_) => self.close(turn, EndCause::new(reason_code, reason)),
            Stage::Greeting { .. } => {
                // A CONNECT that shows its version is answered in it.
                let version = if reason_code == ReasonCode::UnsupportedProtocolVersion {
                    // Who speaks an unknown version understands the oldest form [MQTT-3.1.2-2].
                    Some(ProtocolVersion::V311)
                } else {
                    connect_version(bytes).filter(|version| {
                        *version == ProtocolVersion::V5
                            || reason_code == ReasonCode::ClientIdentifierNotValid
                    })
                };
                if let Some(version) = version {
                    let refusal = (reason_code, reason);
                    turn.refuse_connect(version, &self.origin, None, refusal, usize::MAX);
                    self.stage = Stage::Closed;
                } else {
                    self.give_up_greeting(turn, reason_code, reason);
                }
            }
            Stage::Authenticating { .. }
            | Stage::Entering { .. }
            | Stage::Claiming { .. }
            | Stage::Fetching { .. }
            | Stage::Storing { .. }
            | Stage::Closed => {}
        }
    }

    /// The first bytes show that the client speaks something else.
    pub fn refuse_stranger(&mut self, turn: &mut Turn<'_>, diagnosis: &str) {
        self.give_up_greeting(turn, ReasonCode::ProtocolError, diagnosis.to_owned());
    }

    fn give_up_greeting(&mut self, turn: &mut Turn<'_>, reason_code: ReasonCode, reason: String) {
        turn.shard.counters.connects_refused.increment();
        let origin = self.origin.clone();
        turn.shard.events.push(Event::Refused { origin, client_id: None, reason_code, reason });
        self.stage = Stage::Closed;
    }

    /// Ends an open connection from our side: a client of 5.0 is told why [MQTT-4.13.2-1].
    fn close(&mut self, turn: &mut Turn<'_>, cause: EndCause) {
        let Stage::Open(client) = &self.stage else { return };
        let agreement = client.session.agreement();
        if agreement.version == ProtocolVersion::V5 {
            let disconnect = Disconnect {
                reason_code: cause.reason_code,
                session_expiry_interval_secs: None,
                reason_string: Some(ReasonString::from(&*cause.reason)),
                user_properties: Vec::new(),
                server_reference: None,
            };
            let out = turn.outbox.buffer();
            disconnect.encode_within(agreement.version, agreement.packet_bytes_max, out);
            turn.shard.counters.packets_sent.increment();
        }
        turn.shard.counters.disconnects_other.increment();
        self.finish(turn, cause);
    }

    fn finish(&mut self, turn: &mut Turn<'_>, cause: EndCause) {
        if let Stage::Open(client) = std::mem::replace(&mut self.stage, Stage::Closed) {
            self.let_go(turn, client, cause);
        }
    }

    fn let_go(&mut self, turn: &mut Turn<'_>, mut client: Box<Client>, cause: EndCause) {
        if let Some(held) = self.held.take() {
            held.abandon(turn, &mut client.session);
        }
        turn.release(client, cause);
    }

    /// What came is against the rules of what carries MQTT: bytes, though none of MQTT. The client has
    /// been told there as far as it can be.
    pub fn handle_violation(&mut self, turn: &mut Turn<'_>, reason: &str) {
        if matches!(self.stage, Stage::Greeting { .. }) {
            return self.give_up_greeting(turn, ReasonCode::ProtocolError, reason.to_owned());
        }
        if !matches!(self.stage, Stage::Open(_)) {
            return self.handle_lost(turn, reason);
        }
        turn.shard.counters.disconnects_other.increment();
        self.finish(turn, EndCause::new(ReasonCode::ProtocolError, reason));
    }

    /// The Network Connection is gone, whatever the state.
    pub fn handle_lost(&mut self, turn: &mut Turn<'_>, reason: &str) {
        match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Open(client) => {
                turn.shard.counters.disconnects_other.increment();
                self.let_go(turn, client, EndCause::new(ReasonCode::UnspecifiedError, reason));
            }
            Stage::Greeting { has_spoken: false, .. } => {
                turn.shard.events.push(Event::Silent { origin: self.origin.clone() });
            }
            Stage::Greeting { .. } => {
                let reason = format!("{reason} before CONNECT was whole");
                self.give_up_greeting(turn, ReasonCode::UnspecifiedError, reason);
            }
            Stage::Entering { newcomer, admission } => {
                newcomer.leave(turn, &admission);
                self.give_up_waiting(turn, newcomer.identity.client_id, reason);
            }
            Stage::Claiming { newcomer, claim } => {
                withdraw(turn, &claim, &newcomer.identity);
                self.give_up_waiting(turn, newcomer.identity.client_id, reason);
            }
            Stage::Fetching { newcomer, fetching } => {
                fetching.leave(turn, &newcomer.identity.client_id);
                self.give_up_waiting(turn, newcomer.identity.client_id, reason);
            }
            Stage::Storing { newcomer, entrant } => {
                turn.turn_away(*entrant);
                self.give_up_waiting(turn, newcomer.identity.client_id, reason);
            }
            Stage::Authenticating { connect, .. } => {
                self.give_up_waiting(turn, Arc::from(&*connect.client_id), reason);
            }
            Stage::Closed => {}
        }
    }

    /// The client did not wait for its CONNACK.
    fn give_up_waiting(&self, turn: &mut Turn<'_>, client_id: Arc<str>, reason: &str) {
        turn.shard.counters.connects_refused.increment();
        let reason = format!("{reason} before it was let in");
        let (origin, reason_code) = (self.origin.clone(), ReasonCode::UnspecifiedError);
        let client_id = Some(client_id);
        turn.shard.events.push(Event::Refused { origin, client_id, reason_code, reason });
    }

    /// Does what others have for this connection: an answer of the authenticator, a Session that
    /// was claimed, messages. Deliveries stop at `deliveries_max` and when the outbox has
    /// `outbox_max` bytes.
    pub fn advance(
        &mut self,
        turn: &mut Turn<'_>,
        deliveries_max: usize,
        outbox_max: usize,
        waker: &Waker,
    ) -> Progress {
        self.poll_authentication(turn, waker);
        self.poll_admission(turn, waker);
        self.poll_claim(turn, waker);
        self.poll_fetching(turn, waker);
        self.poll_stored(turn, waker);
        if self.held.is_some() {
            self.retry_held(turn, waker);
        }
        let Stage::Open(client) = &mut self.stage else { return Progress::Idle };
        turn.resend(client, outbox_max);
        if client.waiting.is_some()
            && let Err(cause) = turn.settle_waiting(client, self.options.publish_hold_millis, waker)
        {
            self.close(turn, cause);
            return Progress::Idle;
        }
        turn.settle_acknowledged(client);
        turn.take_page(client, waker);
        let mut left = deliveries_max;
        if client.has_replays() {
            match turn.replay(client, left.min(REPLAYS_MAX), outbox_max, waker) {
                Ok(sent) => left -= sent.min(left),
                Err(cause) => {
                    self.close(turn, cause);
                    return Progress::Idle;
                }
            }
        }
        loop {
            if turn.outbox.len() >= outbox_max || left == 0 {
                // Notices are not put off by a full outbox.
                let is_socket_full = turn.outbox.len() >= outbox_max;
                let rest = client.session.mailbox().rest(waker, is_socket_full);
                if rest.is_behind {
                    turn.call_for_relief(client.session.mailbox());
                }
                return match rest.notice {
                    Some(notice) => self.obey(turn, notice),
                    None => Progress::More,
                };
            }
            let window = client.session.window();
            let max = left.min(TAKE_MAX);
            let taken = client.session.mailbox().take(window, max, waker, &mut turn.shard.inbox);
            left -= turn.shard.inbox.len();
            let has_sent_all = deliver_inbox(turn, client);
            if let Some(notice) = taken.notice {
                return self.obey(turn, notice);
            }
            // What was not sent after all has left its place in the window to others.
            if let Some(page) = taken.page {
                turn.ask_for_page(client, page);
                turn.take_page(client, waker);
            }
            if taken.is_behind {
                turn.call_for_relief(client.session.mailbox());
            }
            if !taken.has_more && has_sent_all && !turn.relieve_others(client) {
                turn.settle_acknowledged(client);
                let can_replay = client.has_replays() && client.can_replay();
                return if can_replay { Progress::More } else { Progress::Idle };
            }
        }
    }

    fn obey(&mut self, turn: &mut Turn<'_>, notice: Notice) -> Progress {
        let cause = match notice {
            Notice::TakenOver => {
                turn.shard.counters.takeovers.increment();
                let reason = "another connection took the session over";
                EndCause::new(ReasonCode::SessionTakenOver, reason)
            }
            Notice::Disconnect(reason_code) => EndCause::new(reason_code, reason_for(reason_code)),
            Notice::EndSession(reason_code) => {
                turn.count_end(reason_code);
                let reason = end_reason_for(reason_code);
                EndCause { session: SessionFate::Ends, ..EndCause::new(reason_code, reason) }
            }
            Notice::LetGo(reason_code) => {
                let is_elsewhere = reason_code == ReasonCode::SessionTakenOver;
                let reason = if is_elsewhere { ELSEWHERE } else { reason_for(reason_code) };
                // Its client is back, elsewhere, before its will was due [MQTT-3.1.3-9].
                let will = if is_elsewhere { WillFate::Discarded } else { WillFate::Published };
                let session = SessionFate::IsAbandoned;
                EndCause { will, session, ..EndCause::new(reason_code, reason) }
            }
        };
        self.close(turn, cause);
        Progress::Idle
    }

    /// A deadline may have passed. Read first, or ask [`Self::may_read`]: what waits in the socket is
    /// not late [MQTT-3.1.2-22], and who is not to be read is excused by that.
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        if self.patience_ends().is_none_or(|deadline| turn.now < deadline) {
            return;
        }
        match &self.stage {
            Stage::Greeting { has_spoken, .. } => {
                turn.shard.counters.connect_timeouts.increment();
                let reason = if *has_spoken {
                    "half a CONNECT came in time"
                } else {
                    "no CONNECT came in time"
                };
                self.give_up_greeting(turn, ReasonCode::KeepAliveTimeout, reason.to_owned());
            }
            Stage::Authenticating { .. }
            | Stage::Entering { .. }
            | Stage::Claiming { .. }
            | Stage::Fetching { .. }
            | Stage::Storing { .. } => self.refuse_late(turn),
            Stage::Open(_) => {
                let counters = &turn.shard.counters;
                let (counter, reason) = match self.partial_since {
                    Some(_) => (&counters.packet_timeouts, "a packet did not come whole in time"),
                    None => (
                        &counters.keep_alive_timeouts,
                        "nothing came within one and a half times the keep alive",
                    ),
                };
                counter.increment();
                self.close(turn, EndCause::new(ReasonCode::KeepAliveTimeout, reason));
            }
            Stage::Closed => {}
        }
    }

    fn refuse_late(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.stage, Stage::Fetching { .. }) {
            return self.refuse_unfetched(turn);
        }
        match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Authenticating { connect, .. } => {
                self.refuse(turn, &connect, &ConnectError::AuthenticationUnavailable);
            }
            Stage::Entering { newcomer, admission } => {
                newcomer.leave(turn, &admission);
                self.refuse(turn, &newcomer.connect, &ConnectError::SessionElsewhere);
            }
            Stage::Claiming { newcomer, claim } => {
                withdraw(turn, &claim, &newcomer.identity);
                self.refuse(turn, &newcomer.connect, &ConnectError::Busy);
            }
            Stage::Storing { newcomer, entrant } => {
                turn.turn_away(*entrant);
                self.refuse(turn, &newcomer.connect, &ConnectError::Unstored);
            }
            Stage::Greeting { .. } | Stage::Fetching { .. } | Stage::Open(_) | Stage::Closed => {}
        }
    }

    /// When the next turn is due, whatever else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        let retry_at = self.held.as_ref().map(|held| held.retry_at());
        let late_at = match &self.stage {
            Stage::Open(client) => client.waiting.as_ref().and_then(|waiting| waiting.due_at()),
            Stage::Greeting { .. }
            | Stage::Authenticating { .. }
            | Stage::Entering { .. }
            | Stage::Claiming { .. }
            | Stage::Fetching { .. }
            | Stage::Storing { .. }
            | Stage::Closed => None,
        };
        self.patience_ends().into_iter().chain(retry_at).chain(late_at).min()
    }

    /// When [`Self::handle_timeout`] has something to do [MQTT-3.1.2-22].
    fn patience_ends(&self) -> Option<Tick> {
        match &self.stage {
            Stage::Greeting { deadline, .. } | Stage::Authenticating { deadline, .. } => {
                Some(*deadline)
            }
            Stage::Entering { newcomer, .. }
            | Stage::Claiming { newcomer, .. }
            | Stage::Fetching { newcomer, .. }
            | Stage::Storing { newcomer, .. } => Some(newcomer.deadline),
            Stage::Open(client) => {
                let silent = client.silent_at(self.heard_at);
                let packet_timeout = self.options.packet_timeout_millis;
                let partial = self.partial_since.map(|since| since.plus_millis(packet_timeout));
                silent.into_iter().chain(partial).min()
            }
            Stage::Closed => None,
        }
    }

    /// Whether packets are taken at all.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        match &self.stage {
            Stage::Greeting { .. } | Stage::Open(_) => true,
            Stage::Authenticating { .. }
            | Stage::Entering { .. }
            | Stage::Claiming { .. }
            | Stage::Fetching { .. }
            | Stage::Storing { .. }
            | Stage::Closed => false,
        }
    }

    /// Whether a CONNECT waits for somebody's answer. That the client leaves is to be noticed
    /// meanwhile: it would not hear of what comes of it.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match &self.stage {
            Stage::Authenticating { .. }
            | Stage::Entering { .. }
            | Stage::Claiming { .. }
            | Stage::Fetching { .. }
            | Stage::Storing { .. } => true,
            Stage::Greeting { .. } | Stage::Open(_) | Stage::Closed => false,
        }
    }

    /// Whether the socket is to be read now.
    ///
    /// # Errors
    ///
    /// It is not; until when, where time is the reason.
    pub fn may_read(&mut self, turn: &mut Turn<'_>) -> Result<(), Option<Tick>> {
        if !self.is_reading() {
            return Err(None);
        }
        if let Some(until) = self.throttle.until(turn.now) {
            turn.shard.counters.reads_deferred_by_rate.increment();
            self.excuse(turn.now);
            return Err(Some(until));
        }
        if let Stage::Open(client) = &self.stage
            && client.is_unanswered_at_bound()
        {
            turn.shard.counters.reads_deferred_by_peers.increment();
            self.excuse(turn.now);
            return Err(None);
        }
        if let Stage::Open(client) = &self.stage
            && client.has_steps_at_bound()
        {
            turn.shard.counters.reads_deferred_by_store.increment();
            self.excuse(turn.now);
            return Err(None);
        }
        if self.throttle.take_congestion() {
            turn.shard.counters.reads_deferred_by_peers.increment();
            self.excuse(turn.now);
            return Err(Some(turn.now.plus_millis(CONGESTION_RETRY_MILLIS)));
        }
        let burdens_memory = self.throttle.has_published() || self.is_subscribe_held;
        if burdens_memory && turn.broker.is_short_of_memory() {
            turn.shard.counters.reads_deferred_by_memory.increment();
            self.excuse(turn.now);
            return Err(Some(turn.now.plus_millis(MEMORY_RETRY_MILLIS)));
        }
        self.is_subscribe_held = false;
        if self.burdens_store && turn.is_store_full() {
            turn.shard.counters.reads_deferred_by_store.increment();
            self.excuse(turn.now);
            return Err(Some(turn.now.plus_millis(STORE_RETRY_MILLIS)));
        }
        if let Some(until) = self.held.as_ref().and_then(|held| held.blocked_until()) {
            turn.shard.counters.reads_deferred_by_hold.increment();
            self.excuse(turn.now);
            return Err(Some(until));
        }
        Ok(())
    }

    /// We do not listen now: what the client says meanwhile is not held against it.
    fn excuse(&mut self, now: Tick) {
        self.heard_at = now;
        if let Some(since) = &mut self.partial_since {
            *since = now;
        }
    }

    /// The socket does not take what is there: until it has, the client is not read.
    pub fn note_stalled(&mut self, now: Tick) {
        self.stalled = Some(Stalled {
            silent_millis: now.saturating_since(self.heard_at),
            partial_millis: self.partial_since.map(|since| now.saturating_since(since)),
        });
    }

    /// The rest of a packet is not read now: that is no silence, but the packet is to be whole in time
    /// all the same. What has come of it takes room from others.
    pub fn note_held_up(&mut self, now: Tick) {
        self.heard_at = now;
    }

    /// The largest packet that is taken now: a CONNECT has a bound of its own.
    #[inline]
    #[must_use]
    pub fn packet_bytes_max(&self) -> usize {
        let max = self.options.packet_bytes_max;
        if matches!(self.stage, Stage::Greeting { .. }) {
            max.min(self.options.connect_bytes_max)
        } else {
            max
        }
    }

    /// Whose packets these are.
    #[inline]
    #[must_use]
    pub fn sender(&self) -> parts::Sender {
        if self.is_open() { parts::Sender::Client } else { parts::Sender::Stranger }
    }

    /// The client took some of what it had let wait: it is there, though we do not read it.
    pub fn note_progress(&mut self, now: Tick) {
        self.excuse(now);
    }

    /// The socket has taken all: the client is read again. It is excused for as long as it was not,
    /// and was silent before for as long as it was [MQTT-3.1.2-22].
    pub fn note_drained(&mut self, now: Tick) {
        let Some(stalled) = self.stalled.take() else { return };
        self.heard_at = before(now, stalled.silent_millis);
        self.partial_since = stalled.partial_millis.map(|millis| before(now, millis));
    }

    /// Whether the connection is to be closed once the outbox is written.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    /// Whether the client has all it needs to be let in but the store's word: it takes no place from
    /// those who have not.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        matches!(self.stage, Stage::Open(_) | Stage::Fetching { .. } | Stage::Storing { .. })
    }

    /// Whether a CONNECT has been accepted and the connection lasts.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }
}

/// So long before `now`.
fn before(now: Tick, millis: u64) -> Tick {
    Tick::from_millis(now.as_millis().saturating_sub(millis))
}

impl Answer {
    fn give(&self, verdict: AuthVerdict) {
        let waker = {
            let mut state = self.0.lock();
            state.verdict = Some(verdict);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, waker: &Waker) -> Option<AuthVerdict> {
        let mut state = self.0.lock();
        let verdict = state.verdict.take();
        if verdict.is_none() {
            state.waker = Some(waker.clone());
        }
        verdict
    }
}

impl Completion for AnswerSlot {
    fn is_wanted(&self) -> bool {
        self.0.strong_count() > 0
    }

    fn complete(self: Box<Self>, verdict: AuthVerdict) {
        if let Some(answer) = self.0.upgrade() {
            answer.give(verdict);
        }
    }
}

/// Why the broker sends a client away, in words.
fn reason_for(reason_code: ReasonCode) -> &'static str {
    if reason_code == ReasonCode::ServerShuttingDown {
        return "the broker is shutting down";
    }
    if reason_code == ReasonCode::QuotaExceeded {
        return "the queue of this client is full";
    }
    if reason_code == ReasonCode::ServerBusy {
        return "this broker has lost touch with its cluster";
    }
    reason_code.name()
}

fn end_reason_for(reason_code: ReasonCode) -> &'static str {
    if reason_code == ReasonCode::AdministrativeAction {
        return "the session was ended by an operator";
    }
    "this broker was declared dead by its cluster"
}

/// Leaves a claim. A Session granted meanwhile is parked as if it had been owned.
fn withdraw(turn: &mut Turn<'_>, claim: &Arc<SessionClaim>, identity: &Identity) {
    let granted = turn.broker.registry().withdraw(&identity.client_id, claim);
    if let Some(granted) = granted {
        turn.abandon_claim(&identity.client_id, granted.map_or(Former::None, Former::Kept));
    }
}

impl Turn<'_> {
    /// Sends what an earlier connection left unacknowledged, as far as there is room for it. What
    /// waits for the store first is waited for with the rest.
    #[inline]
    fn resend(&mut self, client: &mut Client, outbox_max: usize) {
        while self.outbox.len() < outbox_max
            && let Some(resent) = client.session.resend(self.now, self.outbox)
        {
            let counters = &self.shard.counters;
            match resent {
                Resent::Publish => counters.publishes_sent.increment(),
                Resent::Pubrel => counters.packets_sent.increment(),
                Resent::ToBeStored(id, finished) => self.release_when_stored(client, id, finished),
                Resent::TooLarge => counters.deliveries_too_large.increment(),
            }
        }
    }
}

/// Why a publish is not done with.
pub(crate) enum Undone {
    /// The connection is to be closed.
    Ends(EndCause),
    /// The queue of a subscriber is full, and the client speaks a version that cannot say so.
    Full(HeldPublish),
}

#[inline]
pub(crate) fn handle_publish(
    turn: &mut Turn<'_>,
    client: &mut Client,
    publish: Publish,
) -> Result<(), Undone> {
    turn.shard.counters.publishes_received.increment();
    turn.shard.counters.publish_bytes_received.add(publish.payload.len() as u64);
    let published = client.session.handle_publish(turn.now, publish).map_err(|violation| {
        turn.shard.counters.violations.increment();
        if violation.reason_code() == ReasonCode::ReceiveMaximumExceeded {
            turn.shard.counters.receive_maximum_exceeded.increment();
        }
        if violation.reason_code() == ReasonCode::QuotaExceeded {
            turn.shard.counters.topic_alias_sizes_exceeded.increment();
        }
        Undone::Ends(EndCause::new(violation.reason_code(), violation.to_string()))
    })?;
    match published {
        Published::New(message, None) => {
            publish_at_most_once(turn, client, message);
            Ok(())
        }
        Published::New(message, Some(id)) if may_publish(turn, client, &message) => {
            turn.tell_of_publish(client, &message);
            let message = Arc::new(turn.named(message));
            answer_when_published(turn, client, HeldPublish { message, id })
        }
        Published::New(message, Some(id)) => {
            answer(turn, client, (message.qos, id), ReasonCode::NotAuthorized, Some(NOT_AUTHORIZED))
        }
        Published::Duplicate(message, id) => handle_repeat(turn, client, message, id),
    }
}

/// A message of QoS 2 comes again that was taken before.
fn handle_repeat(
    turn: &mut Turn<'_>,
    client: &mut Client,
    message: Message,
    id: PacketId,
) -> Result<(), Undone> {
    if client.waiting.as_mut().is_some_and(|waiting| waiting.ask_again(id)) {
        return Ok(());
    }
    if let (Some(peers), Some(unfinished)) = (turn.broker.peers(), client.take_left_out(id)) {
        if !may_publish(turn, client, &message) {
            let code = ReasonCode::NotAuthorized;
            return answer(turn, client, (message.qos, id), code, Some(NOT_AUTHORIZED));
        }
        // Under the name it had: whoever has it knows it by that.
        let name = unfinished.message;
        let is_named = name != MessageId::NONE;
        let message = if is_named { Message { id: name, ..message } } else { turn.named(message) };
        let ticket = turn.publish_again(peers, &Arc::new(message), &unfinished.left_out);
        client.answer_repeat(id, Some(ticket));
        return Ok(());
    }
    if client.has_asked() || !turn.may_acknowledge() {
        client.answer_repeat(id, None);
        return Ok(());
    }
    client.session.answer_publish(QoS::ExactlyOnce, id, ReasonCode::Success, None, turn.outbox);
    turn.shard.counters.packets_sent.increment();
    Ok(())
}

#[inline]
fn publish_at_most_once(turn: &mut Turn<'_>, client: &mut Client, message: Message) {
    if may_publish(turn, client, &message) {
        turn.tell_of_publish(client, &message);
        // There is nobody to tell; the counters have it.
        let _outcome = turn.publish(message);
    }
}

/// Publishes a message of QoS 1 or 2 that the client may publish, and answers it.
#[inline]
pub(crate) fn answer_when_published(
    turn: &mut Turn<'_>,
    client: &mut Client,
    publish: HeldPublish,
) -> Result<(), Undone> {
    let HeldPublish { message, id } = &publish;
    let level = turn.level_for(&message.topic, client.level);
    let outcome = turn.try_publish(message, level);
    let outcome = turn.keep_if_incoming(client, outcome, message, *id, level);
    let (reason_code, reason) = match outcome {
        PublishOutcome::NoMatchingSubscribers => (ReasonCode::NoMatchingSubscribers, None),
        PublishOutcome::Pending(ticket) if level.waits_for(&ticket) => {
            client.answer_later(message.qos, *id, ticket);
            return Ok(());
        }
        PublishOutcome::Accepted | PublishOutcome::Pending(_) => (ReasonCode::Success, None),
        PublishOutcome::Refused(Refusal::QueueFull)
            if client.session.version() != ProtocolVersion::V5 =>
        {
            return Err(Undone::Full(publish));
        }
        PublishOutcome::Refused(refusal) => {
            note_refusal(turn, client, message, refusal);
            (refusal.reason_code(), Some(refusal.reason()))
        }
    };
    answer(turn, client, (message.qos, *id), reason_code, reason)
}

/// Counts a refused publish, and tells the log unless it has just been told of another one.
pub(crate) fn note_refusal(
    turn: &mut Turn<'_>,
    client: &mut Client,
    message: &Message,
    refusal: Refusal,
) {
    turn.count_refusal(refusal);
    if let Some(suppressed) = client.complaints.note(turn.now) {
        turn.shard.events.push(Event::PublishRefused {
            card: Arc::clone(&client.card),
            topic: message.topic.as_str().to_owned(),
            reason: refusal.reason(),
            suppressed,
        });
    }
}

#[inline]
fn answer(
    turn: &mut Turn<'_>,
    client: &mut Client,
    (qos, id): (QoS, PacketId),
    reason_code: ReasonCode,
    reason: Option<&'static str>,
) -> Result<(), Undone> {
    let can_be_told = client.session.version() == ProtocolVersion::V5 && !client.is_in_doubt(id);
    if reason_code.is_error() && !can_be_told {
        // It is not acknowledged and comes again, as new: a client of 3.1.1 cannot be told, and of
        // what the store may have nobody can say that it was refused.
        client.session.forget_publish(id);
        return Err(Undone::Ends(EndCause::new(reason_code, reason.unwrap_or(NOT_AUTHORIZED))));
    }
    if client.has_unanswered() || !turn.may_acknowledge() {
        client.answer_in_turn(qos, id, reason_code, reason);
        return Ok(());
    }
    client.session.answer_publish(qos, id, reason_code, reason, turn.outbox);
    turn.shard.counters.packets_sent.increment();
    Ok(())
}

#[inline]
fn may_publish(turn: &mut Turn<'_>, client: &mut Client, message: &Message) -> bool {
    let topic = message.topic.as_str();
    let is_allowed = !is_reserved(topic)
        && turn.broker.authorizer.as_ref().is_none_or(|authorizer| {
            let who = &client.card.identity;
            client.permissions.may_publish(&**authorizer, who, topic)
        });
    if !is_allowed {
        turn.shard.counters.publishes_denied.increment();
        if let Some(suppressed) = client.complaints.note(turn.now) {
            turn.shard.events.push(Event::Denied {
                card: Arc::clone(&client.card),
                action: "publish",
                topic: topic.to_owned(),
                suppressed,
            });
        }
    }
    is_allowed
}

/// Sends what was taken out of the mailbox; `false` when some of it was not to be sent.
#[inline]
fn deliver_inbox(turn: &mut Turn<'_>, client: &mut Client) -> bool {
    let mut has_sent_all = true;
    while let Some(delivery) = turn.shard.inbox.pop_front() {
        let payload_bytes = delivery.message.payload.len() as u64;
        match client.session.deliver(turn.now, &delivery, turn.outbox) {
            Delivered::Sent => {
                turn.shard.counters.publishes_sent.increment();
                turn.shard.counters.publish_bytes_sent.add(payload_bytes);
            }
            Delivered::Expired => {
                has_sent_all = false;
                turn.shard.counters.deliveries_expired.increment();
            }
            Delivered::TooLarge => {
                has_sent_all = false;
                turn.shard.counters.deliveries_too_large.increment();
            }
        }
    }
    has_sent_all
}

const ELSEWHERE: &str = "another broker has this session";
const NOT_AUTHORIZED: &str = "not authorized to publish to this topic";
/// Deliveries taken out of a mailbox under one lock.
const TAKE_MAX: usize = 256;
/// Retained messages sent in a turn before the mailbox has its share.
const REPLAYS_MAX: usize = 1_024;
/// How long a publisher is not read when the way to another broker is getting full.
const CONGESTION_RETRY_MILLIS: u64 = 5;
/// How long a publisher is not read when the store has no room.
const STORE_RETRY_MILLIS: u64 = 5;
/// How long a publisher is not read when memory is short.
const MEMORY_RETRY_MILLIS: u64 = 100;
/// The Control Packet type of SUBSCRIBE.
const SUBSCRIBE_TYPE: u8 = 8;
/// A SUBSCRIBE that is not held back has no more bytes than this,
const SMALL_SUBSCRIBE_BYTES: usize = 4 * 1_024;
/// and its client fewer Subscriptions.
const FEW_SUBSCRIPTIONS: usize = 128;
