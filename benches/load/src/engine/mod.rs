//! The closed loop: publishers that send a new message for each one that arrived.
//!
//! One thread and one epoll drive every connection of a row. A read is parsed to its end, the
//! windows it opened are refilled, and each connection is written to once.

mod plan;
mod traffic;

use std::{io, time::Duration};

use hdrhistogram::Histogram;

pub use plan::{Account, FlowPlan, Plan, ReceiverPlan, Role};
use traffic::Traffic;

use crate::{
    check::Faults,
    clock,
    conn::Conn,
    error::LoadError,
    floor::Side,
    poll::{Poll, Ready},
    stop::Patience,
    target::{Ends, Opening, hello},
    wire::Start,
};

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
    patience: Patience,
    is_sending: bool,
}

#[derive(Debug)]
struct Link {
    conn: Conn,
    role: Role,
}

impl Engine {
    /// Opens every connection of `plan` and subscribes.
    ///
    /// # Errors
    /// A connection cannot be opened or a subscription is refused.
    pub fn open(ends: &Ends, plan: &Plan) -> Result<Self, LoadError> {
        let mut engine = Self {
            poll: Poll::new().map_err(LoadError::io("making an epoll"))?,
            ready: Vec::new(),
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            links: Vec::new(),
            traffic: Traffic::new(plan),
            patience: ends.publishers.patience.clone(),
            is_sending: false,
        };
        for &role in &plan.order {
            engine.add(ends, plan, role)?;
        }
        Ok(engine)
    }

    fn add(&mut self, ends: &Ends, plan: &Plan, role: Role) -> Result<(), LoadError> {
        let (side, at, group, target) = match role {
            Role::Publisher(at) => {
                let group = plan.flows.get(at).map(|it| it.group);
                (Side::Publisher, at, group, &ends.publishers)
            }
            Role::Receiver(at) => {
                let group = plan.receivers.get(at).map(|it| it.group);
                (Side::Subscriber, at, group, &ends.receivers)
            }
        };
        let frame_len = self.traffic.flows.first().map_or(0, |flow| flow.template.frame_len());
        let token = self.links.len();
        let client_id = format!("load-{token}");
        let mut session = target.open(&Opening {
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

    /// Publishes `rate` messages a second for `time`, on one flow after the other, whenever one is due
    /// and its window is open.
    ///
    /// # Errors
    /// A connection failed, or the run is to stop.
    pub fn run_paced(&mut self, rate: u64, time: Duration) -> Result<Pace, LoadError> {
        self.is_sending = false;
        let start = clock::now();
        let (until, period) = (start + nanos(time), 1_000_000_000 / rate.max(1));
        let (mut due, mut at) = (start, 0);
        self.traffic.last_arrival = start;
        loop {
            let now = clock::now();
            while due <= now && self.publish_one(at)? {
                due += period;
                at = (at + 1) % self.traffic.flows.len().max(1);
            }
            if now >= until {
                return Ok(Pace::Steady);
            }
            if self.traffic.is_stalled(now) {
                return Ok(Pace::Stalled);
            }
            // With a closed window nothing is due before something arrives.
            let wait = if due > now { due.min(until) - now } else { until - now };
            self.turn_within(Duration::from_nanos(wait))?;
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

    /// Starts to keep the latency of every message and of every acknowledgement.
    pub fn record_latency(&mut self) {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX, 3).ok();
        (self.traffic.latency, self.traffic.answer_latency) = (histogram(), histogram());
    }

    /// Takes what was kept of acknowledgements: PUBACK and PUBCOMP.
    pub fn take_answer_latency(&mut self) -> Option<Histogram<u64>> {
        self.traffic.answer_latency.take()
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
        self.turn_within(TURN_MAX)
    }

    fn turn_within(&mut self, time: Duration) -> Result<(), LoadError> {
        self.patience.check("running")?;
        let mut ready = std::mem::take(&mut self.ready);
        let wait = time.min(TURN_MAX);
        self.poll.wait(wait, &mut ready).map_err(LoadError::io("waiting for events"))?;
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

    /// Publishes one message, if the window of the flow is open.
    fn publish_one(&mut self, at: usize) -> Result<bool, LoadError> {
        let flow = self.traffic.flow(at);
        let link = flow.link;
        let Some(link) = self.links.get_mut(link) else { return Ok(false) };
        let is_sent = flow.fill(1, u32::try_from(at).unwrap_or(u32::MAX), &mut link.conn.out);
        link.conn.flush(&self.poll).map_err(LoadError::io("publishing"))?;
        Ok(is_sent)
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
            flow.fill(u64::MAX, u32::try_from(at).unwrap_or(u32::MAX), &mut link.conn.out);
            link.conn.flush(&self.poll)?;
        }
        Ok(())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

const BUFFER_LEN: usize = 512 * 1024;
const TURN_MAX: Duration = Duration::from_millis(50);
const LINGER: Duration = Duration::from_millis(60);
const LATENCY_MAX: u64 = 60_000_000_000;
