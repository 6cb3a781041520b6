//! Use case: time passes. Sessions end, delayed wills are published, retained messages expire.

use std::sync::Arc;

use crate::broker::registry::{Parked, ParkedFate};
use crate::broker::turn::Turn;
use crate::broker::wills::KeptWill;
use crate::ports::clock::Tick;
use crate::ports::store::Operation;

impl Turn<'_> {
    /// Does what is due at the time of this turn, in a bounded batch. `true` when more is due.
    pub fn expire(&mut self) -> bool {
        let due = self.broker.timers.take_due(self.now, BATCH_MAX);
        for client_id in &due {
            self.expire_parked(client_id);
        }
        let millis = self.now.as_millis();
        let retained = self.broker.retained.write().remove_expired(millis, BATCH_MAX);
        self.forget_retained(&retained);
        let has_more_wills = self.publish_wills_of_the_dead(BATCH_MAX);
        has_more_wills || due.len() == BATCH_MAX || retained.len() == BATCH_MAX
    }

    fn expire_parked(&mut self, client_id: &Arc<str>) {
        let now = self.now;
        let decided = self.broker.registry.decide_parked(client_id, |parked| due(parked, now));
        // A client that came back has cancelled its timers, or is about to.
        let Some((will, ended)) = decided else { return };
        if let Some(Due { will, removal }) = will {
            self.publish_will(&will);
            if let Some(removal) = removal {
                self.keep(removal);
            }
        }
        if let Some(client) = ended {
            self.shard.counters.sessions_expired.increment();
            self.end_session(*client);
            self.surrender(client_id);
        }
    }
}

/// A will whose time has come, and what takes it out of the store.
struct Due {
    will: Arc<KeptWill>,
    removal: Option<Operation>,
}

/// What is due of a parked Session: its will, taken out, or its end.
fn due(parked: &mut Parked, now: Tick) -> ParkedFate<Option<Due>> {
    if parked.expires_at.is_some_and(|at| at <= now) {
        return ParkedFate::Ends(None);
    }
    if parked.will_at.is_some_and(|at| at <= now) {
        parked.will_at = None;
        let removal = parked.client.stored.as_mut().and_then(|stored| stored.forget_will());
        return ParkedFate::Stays(parked.client.will.take().map(|will| Due { will, removal }));
    }
    ParkedFate::Stays(None)
}

/// Sessions, and retained messages, that one turn ends at most.
const BATCH_MAX: usize = 256;
