//! What arrivals change: windows, accounts, latencies.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{
    nanos,
    plan::{Account, FlowPlan, Plan, ReceiverPlan, Role},
};
use crate::{
    check::{Arrival, Faults, Track, Window},
    clock,
    error::LoadError,
    frames::{self, DISCONNECT, Frame, PUBACK, PUBCOMP, PUBREC, PUBREL, Version},
    number::index,
    stamp::Stamp,
    wire::{self, PublishOptions, Template},
};

/// The part of the load that arrivals change.
#[derive(Debug)]
pub(super) struct Traffic {
    version: Version,
    account: Account,
    pub(super) flows: Vec<Flow>,
    receivers: Vec<Receiver>,
    /// Flows whose window may have opened.
    pub(super) opened: Vec<usize>,
    faults: Faults,
    pub(super) delivered: u64,
    pub(super) last_arrival: u64,
    pub(super) latency: Option<Histogram<u64>>,
    pub(super) answer_latency: Option<Histogram<u64>>,
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) template: Template,
    window: Window,
    acknowledged: u64,
    pub(super) unacknowledged_max: u64,
    qos: u8,
    /// When the messages that wait for an acknowledgement were sent; empty at QoS 0.
    sent_at: Box<[u64]>,
    pub(super) link: usize,
    pub(super) is_opened: bool,
}

#[derive(Debug)]
struct Receiver {
    first_flow: usize,
    tracks: Vec<Track>,
}

impl Flow {
    /// Appends as many messages as the window has room for, at most `max`. Whether there was any.
    pub(super) fn fill(&mut self, max: u64, flow: u32, out: &mut Vec<u8>) -> bool {
        let mut room = self.window.room().min(max);
        if self.qos > 0 {
            let unacknowledged = self.window.sent() - self.acknowledged;
            room = room.min(self.unacknowledged_max.saturating_sub(unacknowledged));
        }
        let sent = clock::now();
        for _ in 0..room {
            let Some(sequence) = self.window.send() else { break };
            self.template.append(out, Stamp { flow, sequence, sent });
            if let Some(slot) = self.sent_at.get_mut(index(sequence % SENT_MAX)) {
                *slot = sent;
            }
        }
        room > 0
    }

    /// Takes in that the oldest message is acknowledged; tells when it was sent.
    fn acknowledge(&mut self) -> u64 {
        let sent = self.sent_at.get(index(self.acknowledged % SENT_MAX)).copied();
        self.acknowledged += 1;
        sent.unwrap_or_default()
    }
}

impl Traffic {
    pub(super) fn new(plan: &Plan) -> Self {
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
            sent_at: if plan.qos > 0 { vec![0; index(SENT_MAX)] } else { Vec::new() }.into(),
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
            answer_latency: None,
        }
    }

    /// Takes in what came on a connection; returns the start of an unfinished packet.
    pub(super) fn on_bytes<'b>(
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
                Role::Publisher(flow) => self.on_acknowledgement(flow, out, frame, now),
                Role::Receiver(receiver) => self.on_delivery(receiver, out, frame, now),
            }
            bytes = rest;
        }
        Ok(bytes)
    }

    fn on_acknowledgement(&mut self, at: usize, out: &mut Vec<u8>, frame: Frame, now: u64) {
        match (frame.first, frame.ack_id()) {
            (PUBREC, Some(id)) => wire::ack(out, PUBREL, id),
            (PUBACK | PUBCOMP, _) => {
                let sent = self.flow(at).acknowledge();
                if let Some(latency) = &mut self.answer_latency {
                    latency.saturating_record(now.saturating_sub(sent));
                }
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

    pub(super) fn flow(&mut self, at: usize) -> &mut Flow {
        self.flows.get_mut(at).expect("roles and stamps were checked against the flows")
    }

    pub(super) fn is_idle(&self) -> bool {
        self.flows.iter().all(|flow| flow.window.is_idle())
    }

    pub(super) fn is_stalled(&self, now: u64) -> bool {
        now.saturating_sub(self.last_arrival) > nanos(STALL)
    }

    /// The faults seen, with what never arrived.
    pub(super) fn settle(&self) -> Faults {
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

const STALL: Duration = Duration::from_secs(2);
/// More than a publisher leaves unacknowledged.
const SENT_MAX: u64 = 1_024;
