//! What must be true of Sessions and wills: a model fed with what the broker says it does.

use std::collections::{BTreeMap, BTreeSet};

use super::failure::{Checker, Complaint, complaint};
use crate::broker::event::Event;
use crate::mqtt::ReasonCode;

/// The model of all Sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_client: Vec<SessionModel>,
    /// What each connection asked for.
    asked: Vec<Asked>,
    /// When to look at whom.
    due: BTreeSet<(u64, usize)>,
    /// Connections whose will was to be published, and when.
    expected_wills: Vec<(usize, u64)>,
    /// Those that the watcher saw.
    seen_wills: Vec<(usize, u64)>,
    /// What happened, by name: shows that a run does something.
    pub(super) tally: BTreeMap<&'static str, u64>,
}

/// What a CONNECT said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) client: usize,
    pub(super) clean_start: bool,
    pub(super) will_delay_secs: Option<u32>,
}

/// One Session.
#[derive(Clone, Debug, Default)]
struct SessionModel {
    exists: bool,
    owner: Option<usize>,
    /// Counts the Sessions of this client.
    epoch: u32,
    /// When the last one ended.
    ended_at: u64,
    expiry_secs: u32,
    ends_at: Option<u64>,
    /// The connection whose will waits, and when it is due.
    pending_will: Option<(usize, u64)>,
}

impl Sessions {
    pub(super) fn new(clients: usize) -> Self {
        Self { by_client: vec![SessionModel::default(); clients], ..Self::default() }
    }

    /// A connection was opened: they are numbered in their order.
    pub(super) fn note_asked(&mut self, asked: Asked) {
        self.asked.push(asked);
    }

    pub(super) fn epoch(&self, client: usize) -> u32 {
        self.model(client).epoch
    }

    pub(super) fn exists(&self, client: usize) -> bool {
        self.model(client).exists
    }

    pub(super) fn ended_at(&self, client: usize) -> u64 {
        self.model(client).ended_at
    }

    pub(super) fn ends_at(&self, client: usize) -> Option<u64> {
        self.model(client).ends_at
    }

    /// When something happens by itself next.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// Time has come to `now`: returns whose Session ended or published its will.
    pub(super) fn advance(&mut self, now: u64) -> Vec<usize> {
        let mut touched = Vec::new();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, client)) = self.due.pop_first() else { break };
            touched.push(client);
            let model = self.model(client).clone();
            if model.ends_at.is_some_and(|at| at <= now) {
                self.count("sessions expired");
                self.end(client, now);
            } else if let Some((connection, at)) = model.pending_will
                && at <= now
            {
                self.count("wills delayed");
                self.model_mut(client).pending_will = None;
                self.expected_wills.push((connection, now));
            }
        }
        touched
    }

    pub(super) fn note_event(&mut self, now: u64, event: &Event) -> Result<(), Complaint> {
        match event {
            Event::Connected { card, session_present } => {
                let connection = card.origin.address.parse().unwrap_or(usize::MAX);
                self.connected(now, connection, card.session_expiry_secs, *session_present)
            }
            Event::Disconnected { card, reason_code, reason, .. } => {
                let connection = card.origin.address.parse().unwrap_or(usize::MAX);
                self.disconnected(now, connection, *reason_code, reason)
            }
            Event::PublishRefused { .. } => {
                self.count("publishes refused");
                Ok(())
            }
            Event::Refused { .. }
            | Event::Foreign { .. }
            | Event::Silent { .. }
            | Event::Denied { .. }
            | Event::SubackLate { .. }
            | Event::OwnMessageMissed { .. }
            | Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::Published { .. }
            | Event::SessionEnded { .. } => Ok(()),
        }
    }

    fn connected(
        &mut self,
        now: u64,
        connection: usize,
        expiry_secs: u32,
        session_present: bool,
    ) -> Result<(), Complaint> {
        let asked = self.asked(connection);
        let model = self.model(asked.client).clone();
        if let Some(owner) = model.owner {
            let words = format!("connection {connection} is let in beside {owner}");
            return complaint(Checker::Ownership, words);
        }
        if session_present != (model.exists && !asked.clean_start) {
            let words = format!("connection {connection}: session present is {session_present}");
            return complaint(Checker::SessionExpiry, words);
        }
        if session_present {
            if model.pending_will.is_some() {
                self.count("wills cancelled");
            }
            self.count("sessions resumed");
            self.model_mut(asked.client).pending_will = None;
        } else {
            if model.exists {
                self.end(asked.client, now);
            }
            self.model_mut(asked.client).epoch += 1;
        }
        let model = self.model_mut(asked.client);
        model.exists = true;
        model.owner = Some(connection);
        model.expiry_secs = expiry_secs;
        model.ends_at = None;
        Ok(())
    }

    fn disconnected(
        &mut self,
        now: u64,
        connection: usize,
        reason_code: ReasonCode,
        reason: &str,
    ) -> Result<(), Complaint> {
        let Asked { client, will_delay_secs, .. } = self.asked(connection);
        let was_abandoned = reason == ABANDONED;
        let model = self.model_mut(client);
        if !was_abandoned && model.owner != Some(connection) {
            let words = format!("connection {connection} left what {:?} owned", model.owner);
            return complaint(Checker::Ownership, words);
        }
        model.owner = None;
        if let Some(secs) = reason.strip_prefix(EXPIRY_CHANGED) {
            model.expiry_secs = secs.parse().unwrap_or(0);
        }
        let expiry_secs = model.expiry_secs;
        let will = if was_abandoned {
            model.pending_will.and(will_delay_secs)
        } else {
            will_delay_secs.filter(|_| reason_code != ReasonCode::Success)
        };
        model.pending_will = None;
        let delay_secs = will.map(|delay| delay.min(expiry_secs));
        match delay_secs {
            Some(0) => self.expected_wills.push((connection, now)),
            Some(delay) => {
                let at = now + u64::from(delay) * 1_000;
                self.model_mut(client).pending_will = Some((connection, at));
                self.due.insert((at, client));
            }
            None => {}
        }
        if expiry_secs == 0 {
            self.end(client, now);
            return Ok(());
        }
        let at = now + u64::from(expiry_secs) * 1_000;
        self.model_mut(client).ends_at = Some(at);
        self.due.insert((at, client));
        Ok(())
    }

    fn end(&mut self, client: usize, now: u64) {
        let model = self.model_mut(client);
        model.exists = false;
        model.ends_at = None;
        model.ended_at = now;
        if let Some((connection, _)) = model.pending_will.take() {
            self.expected_wills.push((connection, now));
        }
    }

    pub(super) fn note_will_seen(&mut self, connection: usize, at: u64) {
        self.seen_wills.push((connection, at));
    }

    /// Every will was published when it should have been, and no other.
    pub(super) fn judge_wills(&mut self) -> Result<(), Complaint> {
        self.expected_wills.sort_unstable();
        self.seen_wills.sort_unstable();
        *self.tally.entry("wills").or_default() += self.seen_wills.len() as u64;
        let missing = self.expected_wills.iter().find(|will| !self.seen_wills.contains(will));
        if let Some((connection, at)) = missing {
            let words = format!("the will of connection {connection} was due at {at} ms");
            return complaint(Checker::Will, words);
        }
        if self.expected_wills != self.seen_wills {
            return complaint(Checker::Will, "a will was published that was not due");
        }
        Ok(())
    }

    fn asked(&self, connection: usize) -> Asked {
        self.asked.get(connection).copied().unwrap_or_default()
    }

    fn model(&self, client: usize) -> &SessionModel {
        self.by_client.get(client).expect("clients are numbered")
    }

    fn model_mut(&mut self, client: usize) -> &mut SessionModel {
        self.by_client.get_mut(client).expect("clients are numbered")
    }
}

/// The Reason String of a DISCONNECT that changes the Session Expiry Interval begins so.
pub(super) const EXPIRY_CHANGED: &str = "expiry is now ";
const ABANDONED: &str = "the connection that took the session over is gone";
