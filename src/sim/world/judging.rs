//! What is wrong at once, or when all is over: silence, and bounds that were passed.

use super::{CLIENTS, Happening, World};
use crate::sim::failure::{Checker, Complaint, Plant, complaint};
use crate::sim::profile::Profile;

impl World {
    /// Who is let go for its silence was silent for one and a half times the Keep Alive, no longer
    /// and no shorter [MQTT-3.1.2-22].
    pub(super) fn judge_silence(&mut self, connection: usize) -> Result<(), Complaint> {
        let (now, early) = (self.now, u64::from(self.plant == Plant::ShortKeepAlive));
        let line = self.line(connection);
        let due = line.endpoint.heard_at + u64::from(line.keep_alive_secs) * 1_500 + early;
        self.sessions.count("silent clients let go");
        if due == now {
            return Ok(());
        }
        let words = format!("connection {connection} was let go at {now} ms instead of {due} ms");
        complaint(Checker::KeepAlive, words)
    }

    /// A connection whose client was not heard for longer than it may must be gone.
    pub(super) fn look_for_silence(&mut self, connection: usize) -> Result<(), Complaint> {
        let now = self.now;
        let line = self.line(connection);
        if !line.endpoint.is_open() {
            return Ok(());
        }
        let due = line.endpoint.heard_at + u64::from(line.keep_alive_secs) * 1_500;
        if due < now {
            let words = format!("connection {connection} should have been let go at {due} ms");
            return complaint(Checker::KeepAlive, words);
        }
        self.at(due + 1, Happening::Silence { connection });
        Ok(())
    }

    /// What has not come to an end.
    pub(super) fn undrained(&self) -> Option<String> {
        let busy = self
            .clients
            .iter()
            .take(CLIENTS + 1)
            .find(|client| !client.is_online() || !client.is_done() || !client.is_subscribed());
        if let Some(client) = busy {
            let (done, phase) = (client.is_done(), client.phase);
            return Some(format!("client {}: {phase:?}, has published: {done}", client.number));
        }
        let mut found = None;
        self.broker.registry().for_each(|listed| {
            let counts = listed.mailbox.map(|mailbox| mailbox.counts()).unwrap_or_default();
            if counts.messages > 0 || counts.qos0_messages > 0 {
                found = Some(format!("{} has {counts:?}", listed.client_id));
            }
        });
        found
    }

    pub(super) fn judge_bounds(&self) -> Result<(), Complaint> {
        let queue = &self.queue;
        let less = if self.plant == Plant::SmallerBound { queue.messages_max / 2 } else { 0 };
        let mut found = None;
        for client in 1..=CLIENTS {
            let Some(listed) = self.broker.registry().find(&format!("client-{client}")) else {
                continue;
            };
            let profile = self.clients.get(client).map(|client| &client.profile);
            let is_bounded = listed.card.is_none_or(|card| card.session_expiry_secs > 0);
            let Some(mailbox) = listed.mailbox.filter(|_| is_bounded) else { continue };
            let counts = mailbox.counts();
            // What is replayed to it comes on top, as far as its window goes.
            let replayed = profile.is_some_and(Profile::is_replayed_to);
            let is_over =
                counts.messages > queue.messages_max - less || counts.bytes > queue.bytes_max;
            if (is_over && !replayed) || counts.qos0_messages > queue.qos0_messages_max {
                found = Some(format!("client {client}: {counts:?}, bounds {queue:?}"));
            }
        }
        let (held, max) = (self.broker.queued_bytes(), self.broker.options().queued_bytes_max);
        let (timers, sessions) = (self.broker.timers().len(), self.broker.registry().len());
        match found {
            Some(words) => complaint(Checker::Bound, words),
            None if timers > 2 * sessions => {
                complaint(Checker::Bound, format!("{timers} timers of {sessions} sessions"))
            }
            None if held > max => complaint(Checker::Bound, format!("{held} bytes in all queues")),
            None => Ok(()),
        }
    }

    pub(super) fn judge_gauges(&mut self) -> Result<(), Complaint> {
        self.shard.sweep_routes(&self.broker);
        let broker = &self.broker;
        let gauges = [
            ("subscriptions", broker.subscription_count()),
            ("index nodes", broker.index_node_count()),
            ("sessions", broker.registry().len()),
            ("timers", broker.timers().len()),
            ("queued bytes", usize::try_from(broker.queued_bytes()).unwrap_or(usize::MAX)),
            ("will bytes", usize::try_from(broker.will_bytes()).unwrap_or(usize::MAX)),
        ];
        match gauges.iter().find(|(_, value)| *value > 0) {
            Some((name, value)) => complaint(Checker::Gauges, format!("{name}: {value}")),
            None => Ok(()),
        }
    }
}
