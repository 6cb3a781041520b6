//! Clients that went while the store did not answer: it is told when they went, and of their wills.
//!
//! Without it they would be gone since the next start, should the broker be killed before they are back.

use std::sync::Arc;

use crate::broker::durable::keeper::Keeper;
use crate::broker::registry::{Parked, Released};
use crate::broker::turn::Turn;
use crate::mqtt::ReasonCode;
use crate::ports::store::OwnerId;

impl Turn<'_> {
    /// Tells the store how Sessions are of which it has missed that. Nobody can come to one of them
    /// before it is told, so that what comes of that is told behind it.
    pub(super) fn tell_of_the_absent(&mut self) {
        let unsure = self.shard.keeper.as_mut().map(Keeper::take_unsure).unwrap_or_default();
        if unsure.is_empty() {
            return;
        }
        let life = self.life_in_store();
        let mut held: Vec<(Arc<str>, Box<Parked>)> = Vec::new();
        for client_id in unsure {
            let Some(mut parked) = self.broker.registry.hold_parked(&client_id) else { continue };
            // Whoever waits for the Session from now on does not look whether its will is due.
            if parked.will_at.take_if(|at| *at <= self.now).is_some()
                && let Some(will) = parked.client.will.take()
            {
                self.publish_will(&will);
            }
            self.keep_parked(&mut parked.client, parked.expires_at, parked.will_at);
            held.push((client_id, parked));
        }
        self.hand_over_kept();
        let client_ids: Vec<_> = held.iter().map(|(client_id, _)| Arc::clone(client_id)).collect();
        for (client_id, parked) in held {
            self.let_go_of(&client_id, parked);
        }
        if self.broker.peers().is_none() || life.is_some() && life == self.life_in_store() {
            return;
        }
        // Whoever ended that life meanwhile did not find them.
        for client_id in client_ids {
            self.let_client_go(&client_id, ReasonCode::SessionTakenOver);
        }
    }

    /// On whose behalf Sessions are kept; nobody's while the store does not know this broker.
    fn life_in_store(&self) -> Option<OwnerId> {
        let durable = self.broker.durable()?;
        durable.is_registered().then(|| durable.owner())
    }

    fn let_go_of(&mut self, client_id: &Arc<str>, parked: Box<Parked>) {
        let times = parked.times();
        match self.broker.registry.release(client_id, Some(parked)) {
            Released::Granted(successor) => {
                self.broker.timers.cancel(client_id, times);
                self.shard.wake_later(successor);
            }
            Released::Parked => self.schedule_parked(client_id, times),
        }
    }
}
