//! The closed loop: publishers that send a new message for each one that arrived.
//!
//! One thread and one epoll drive every connection of a row. A read is parsed to its end, the
//! windows it opened are refilled, and each connection is written to once.

use std::{io, ops::Range, time::Duration};

use hdrhistogram::Histogram;

use crate::{
    check::{Arrival, Faults, Track, Window},
    clock,
    conn::Conn,
    error::LoadError,
    floor::Side,
    frames::{self, DISCONNECT, Frame, PUBACK, PUBCOMP, PUBREC, PUBREL, Version},
    number::index,
    poll::{Poll, Ready},
    stamp::Stamp,
    target::{Opening, Target, hello},
    wire::{self, PublishOptions, Start, Template, Varied},
};

/// Everything a row needs to be set up.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The protocol version of every connection.
    pub version: Version,
    /// Quality of Service of publishing and subscribing.
    pub qos: u8,
    /// Messages under way per flow.
    pub window: usize,
    /// Bytes of payload.
    pub payload_len: usize,
    /// How often each message is to arrive.
    pub copies: u32,
    /// How arrivals are accounted.
    pub account: Account,
    /// One publisher each.
    pub flows: Vec<FlowPlan>,
    /// One subscriber each.
    pub receivers: Vec<ReceiverPlan>,
    /// In which order the connections are opened.
    pub order: Vec<Role>,
}

/// How arrivals are accounted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Account {
    /// Every receiver is owed every message of its flows.
    Each,
    /// The receivers share the messages of every flow; each sees its part in order.
    Shared,
    /// Every receiver is owed every message of its flows, in no order: each message under way is
    /// on a topic of its own, and order is promised within a topic only.
    Topics,
}

/// A publisher.
#[derive(Clone, Debug)]
pub struct FlowPlan {
    /// Where it publishes.
    pub topic: String,
    /// Whether the topic changes from message to message.
    pub varied: Option<Varied>,
    /// Its group with the byte copier.
    pub group: usize,
}

/// A subscriber.
#[derive(Clone, Debug)]
pub struct ReceiverPlan {
    /// What it subscribes to.
    pub filters: Vec<String>,
    /// The flows whose messages it gets.
    pub flows: Range<usize>,
    /// Its group with the byte copier.
    pub group: usize,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It publishes the flow with this index.
    Publisher(usize),
    /// It is the receiver with this index.
    Receiver(usize),
}

/// Whether messages still arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Pace {
    /// They do.
    Steady,
    /// Nothing has arrived for a while though something is owed.
    Stalled,
}

/// The load of one row.
#[derive(Debug)]
pub struct Engine {
    poll: Poll,
    ready: Vec<Ready>,
    buffer: Box<[u8]>,
    links: Vec<Link>,
    traffic: Traffic,
    target: Target,
    is_sending: bool,
}

#[derive(Debug)]
struct Link {
    conn: Conn,
    role: Role,
}

/// The part of the load that arrivals change.
#[derive(Debug)]
struct Traffic {
    version: Version,
    account: Account,
    flows: Vec<Flow>,
    receivers: Vec<Receiver>,
    /// Flows whose window may have opened.
    opened: Vec<usize>,
    faults: Faults,
    delivered: u64,
    last_arrival: u64,
    latency: Option<Histogram<u64>>,
}

#[derive(Debug)]
struct Flow {
    template: Template,
    window: Window,
    acknowledged: u64,
    unacknowledged_max: u64,
    qos: u8,
    link: usize,
    is_opened: bool,
}

#[derive(Debug)]
struct Receiver {
    first_flow: usize,
    tracks: Vec<Track>,
}

impl Engine {
    /// Opens every connection of `plan` and subscribes.
    ///
    /// # Errors
    /// A connection cannot be opened or a subscription is refused.
    pub fn open(target: &Target, plan: &Plan) -> Result<Self, LoadError> {
        let mut engine = Self {
            poll: Poll::new().map_err(LoadError::io("making an epoll"))?,
            ready: Vec::new(),
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            links: Vec::new(),
            traffic: Traffic::new(plan),
            target: target.clone(),
            is_sending: false,
        };
        for &role in &plan.order {
            engine.add(plan, role)?;
        }
        Ok(engine)
    }

    fn add(&mut self, plan: &Plan, role: Role) -> Result<(), LoadError> {
        let (side, at, group) = match role {
            Role::Publisher(at) => (Side::Publisher, at, plan.flows.get(at).map(|it| it.group)),
            Role::Receiver(at) => (Side::Subscriber, at, plan.receivers.get(at).map(|it| it.group)),
        };
        let frame_len = self.traffic.flows.first().map_or(0, |flow| flow.template.frame_len());
        let token = self.links.len();
        let client_id = format!("load-{token}");
        let mut session = self.target.open(&Opening {
            version: plan.version,
            client_id: &client_id,
            start: Start::Clean,
            hello: hello(side, group.unwrap_or(0), frame_len),
        })?;
        match role {
            Role::Publisher(_) => {
                let flow = self.traffic.flow(at);
                flow.link = token;
                flow.unacknowledged_max = session.receive_maximum;
            }
            Role::Receiver(_) => {
                let filters = plan.receivers.get(at).map_or(&[][..], |it| &it.filters);
                session.subscribe(filters, plan.qos)?;
            }
        }
        let conn = Conn::new(session.into_stream(), token, &self.poll);
        let conn = conn.map_err(LoadError::io("preparing a connection"))?;
        self.links.push(Link { conn, role });
        Ok(())
    }

    /// Fills every window.
    ///
    /// # Errors
    /// A connection failed.
    pub fn start(&mut self) -> Result<(), LoadError> {
        self.is_sending = true;
        self.traffic.last_arrival = clock::now();
        self.traffic.opened = (0..self.traffic.flows.len()).collect();
        self.refill().map_err(LoadError::io("publishing"))
    }

    /// Lets the load run for `time`, or until nothing arrives any more.
    ///
    /// # Errors
    /// A connection failed, or the run is to stop.
    pub fn run(&mut self, time: Duration) -> Result<Pace, LoadError> {
        let until = clock::now() + nanos(time);
        loop {
            self.turn()?;
            let now = clock::now();
            if now >= until {
                return Ok(Pace::Steady);
            }
            if self.traffic.is_stalled(now) {
                return Ok(Pace::Stalled);
            }
        }
    }

    /// Stops sending, waits for what is under way, and closes the account.
    ///
    /// # Errors
    /// A connection failed, or the run is to stop.
    pub fn finish(&mut self) -> Result<Faults, LoadError> {
        self.is_sending = false;
        while !self.traffic.is_idle() && !self.traffic.is_stalled(clock::now()) {
            self.turn()?;
        }
        // What comes now is a duplicate.
        let until = clock::now() + nanos(LINGER);
        while clock::now() < until {
            self.turn()?;
        }
        Ok(self.traffic.settle())
    }

    /// Starts to keep the latency of every message.
    pub fn record_latency(&mut self) {
        self.traffic.latency = Histogram::new_with_bounds(1, LATENCY_MAX, 3).ok();
    }

    /// Takes what was kept.
    pub fn take_latency(&mut self) -> Option<Histogram<u64>> {
        self.traffic.latency.take()
    }

    /// Messages that have arrived.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.traffic.delivered
    }

    fn turn(&mut self) -> Result<(), LoadError> {
        self.target.patience.check("running")?;
        let mut ready = std::mem::take(&mut self.ready);
        self.poll.wait(TURN_MAX, &mut ready).map_err(LoadError::io("waiting for events"))?;
        for event in ready.drain(..) {
            self.on_ready(event)?;
        }
        self.ready = ready;
        Ok(())
    }

    fn on_ready(&mut self, event: Ready) -> Result<(), LoadError> {
        let Some(link) = self.links.get_mut(event.token) else { return Ok(()) };
        if event.readable {
            let bytes = link.conn.read(&mut self.buffer).map_err(LoadError::io("reading"))?;
            let Some(bytes) = bytes else { return Ok(()) };
            let rest = self.traffic.on_bytes(link.role, &mut link.conn.out, bytes)?;
            link.conn.keep(rest);
        }
        link.conn.flush(&self.poll).map_err(LoadError::io("writing"))?;
        self.refill().map_err(LoadError::io("publishing"))
    }

    /// Publishes on every flow whose window has opened.
    fn refill(&mut self) -> io::Result<()> {
        while let Some(at) = self.traffic.opened.pop() {
            let flow = self.traffic.flow(at);
            flow.is_opened = false;
            if !self.is_sending {
                continue;
            }
            let link = flow.link;
            let Some(link) = self.links.get_mut(link) else { continue };
            flow.fill(u32::try_from(at).unwrap_or(u32::MAX), &mut link.conn.out);
            link.conn.flush(&self.poll)?;
        }
        Ok(())
    }
}

impl Flow {
    /// Appends as many messages as the window has room for.
    fn fill(&mut self, flow: u32, out: &mut Vec<u8>) {
        let mut room = self.window.room();
        if self.qos > 0 {
            let unacknowledged = self.window.sent() - self.acknowledged;
            room = room.min(self.unacknowledged_max.saturating_sub(unacknowledged));
        }
        if room == 0 {
            return;
        }
        let sent = clock::now();
        for _ in 0..room {
            let Some(sequence) = self.window.send() else { return };
            self.template.append(out, Stamp { flow, sequence, sent });
        }
    }
}

impl Traffic {
    fn new(plan: &Plan) -> Self {
        let flow = |flow: &FlowPlan| Flow {
            template: Template::new(&PublishOptions {
                version: plan.version,
                topic: flow.topic.clone(),
                varied: flow.varied,
                qos: plan.qos,
                retain: false,
                payload_len: plan.payload_len,
            }),
            window: Window::new(plan.window, plan.copies),
            acknowledged: 0,
            unacknowledged_max: 0,
            qos: plan.qos,
            link: 0,
            is_opened: false,
        };
        let receiver = |receiver: &ReceiverPlan| Receiver {
            first_flow: receiver.flows.start,
            tracks: vec![Track::default(); receiver.flows.len()],
        };
        Self {
            version: plan.version,
            account: plan.account,
            flows: plan.flows.iter().map(flow).collect(),
            receivers: plan.receivers.iter().map(receiver).collect(),
            opened: Vec::new(),
            faults: Faults::default(),
            delivered: 0,
            last_arrival: 0,
            latency: None,
        }
    }

    /// Takes in what came on a connection; returns the start of an unfinished packet.
    fn on_bytes<'b>(
        &mut self,
        role: Role,
        out: &mut Vec<u8>,
        mut bytes: &'b [u8],
    ) -> Result<&'b [u8], LoadError> {
        let now = clock::now();
        while let Some((frame, rest)) = frames::split(bytes)? {
            if frame.first == DISCONNECT {
                let code = frame.body.first().copied().unwrap_or(0);
                return Err(LoadError::Refused(format!("DISCONNECT with code {code:#04x}")));
            }
            match role {
                Role::Publisher(flow) => self.on_acknowledgement(flow, out, frame),
                Role::Receiver(receiver) => self.on_delivery(receiver, out, frame, now),
            }
            bytes = rest;
        }
        Ok(bytes)
    }

    fn on_acknowledgement(&mut self, at: usize, out: &mut Vec<u8>, frame: Frame) {
        match (frame.first, frame.ack_id()) {
            (PUBREC, Some(id)) => wire::ack(out, PUBREL, id),
            (PUBACK | PUBCOMP, _) => {
                self.flow(at).acknowledged += 1;
                self.open(at);
            }
            _ => {}
        }
    }

    fn on_delivery(&mut self, receiver: usize, out: &mut Vec<u8>, frame: Frame, now: u64) {
        if frame.is_publish() {
            let Some(publish) = frame.publish(self.version) else { return self.stray() };
            match publish.qos {
                0 => {}
                1 => wire::ack(out, PUBACK, publish.id),
                _ => wire::ack(out, PUBREC, publish.id),
            }
            let Some(stamp) = Stamp::read(publish.payload) else { return self.stray() };
            self.on_message(receiver, stamp, now);
        } else if let (PUBREL, Some(id)) = (frame.first, frame.ack_id()) {
            wire::ack(out, PUBCOMP, id);
        }
    }

    fn on_message(&mut self, receiver: usize, stamp: Stamp, now: u64) {
        let at = index(u64::from(stamp.flow));
        let Some(receiver) = self.receivers.get_mut(receiver) else { return };
        let track = at.checked_sub(receiver.first_flow).and_then(|at| receiver.tracks.get_mut(at));
        let (Some(track), Some(flow)) = (track, self.flows.get_mut(at)) else {
            return self.stray();
        };
        if stamp.sequence >= flow.window.sent() {
            return self.stray();
        }
        let arrival = match self.account {
            Account::Each => track.note(stamp.sequence, &mut self.faults),
            Account::Shared | Account::Topics => {
                flow.window.note(stamp.sequence).unwrap_or(Arrival::Again)
            }
        };
        match (self.account, arrival) {
            (Account::Each, Arrival::Again) => return,
            (Account::Each, Arrival::First) => drop(flow.window.note(stamp.sequence)),
            (Account::Shared | Account::Topics, Arrival::Again) => {
                return self.faults.duplicates += 1;
            }
            (Account::Topics, Arrival::First) => {}
            (Account::Shared, Arrival::First) => track.note_share(stamp.sequence, &mut self.faults),
        }
        self.delivered += 1;
        self.last_arrival = now;
        if let Some(latency) = &mut self.latency {
            latency.saturating_record(now.saturating_sub(stamp.sent));
        }
        self.open(at);
    }

    fn stray(&mut self) {
        self.faults.strays += 1;
    }

    fn open(&mut self, at: usize) {
        let flow = self.flow(at);
        if !flow.is_opened {
            flow.is_opened = true;
            self.opened.push(at);
        }
    }

    fn flow(&mut self, at: usize) -> &mut Flow {
        self.flows.get_mut(at).expect("roles and stamps were checked against the flows")
    }

    fn is_idle(&self) -> bool {
        self.flows.iter().all(|flow| flow.window.is_idle())
    }

    fn is_stalled(&self, now: u64) -> bool {
        now.saturating_sub(self.last_arrival) > nanos(STALL)
    }

    /// The faults seen, with what never arrived.
    fn settle(&self) -> Faults {
        let mut faults = self.faults;
        match self.account {
            Account::Shared | Account::Topics => {
                faults.lost = self.flows.iter().map(|flow| flow.window.owed()).sum();
            }
            Account::Each => {
                for receiver in &self.receivers {
                    let flows = self.flows.iter().skip(receiver.first_flow);
                    for (track, flow) in receiver.tracks.iter().zip(flows) {
                        faults.lost += track.lost(flow.window.sent());
                    }
                }
            }
        }
        faults
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Plan {
    /// Receivers first, then publishers: the order for rows that do not care.
    pub fn order_receivers_first(&mut self) {
        let receivers = (0..self.receivers.len()).map(Role::Receiver);
        self.order = receivers.chain((0..self.flows.len()).map(Role::Publisher)).collect();
    }
}

const BUFFER_LEN: usize = 512 * 1024;
const TURN_MAX: Duration = Duration::from_millis(50);
const LINGER: Duration = Duration::from_millis(60);
const STALL: Duration = Duration::from_secs(2);
const LATENCY_MAX: u64 = 60_000_000_000;
