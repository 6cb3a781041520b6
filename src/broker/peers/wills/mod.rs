//! The wills of clients, kept by a second broker: when theirs is killed, nobody else could publish
//! them.
//!
//! A broker tells every will of its clients to a *keeper*: the coordinator of the client's slot, or,
//! where it coordinates that slot itself, the broker that would be the next to do so. The keeper holds
//! it until it hears that the will is gone, published or withdrawn; when its owner is declared dead,
//! the keeper publishes it, after its delay.
//!
//! **What holds.** A will that has been confirmed by its keeper is published although its broker is
//! killed. It is lost when the broker dies before the keeper has it, a few milliseconds after CONNACK;
//! when both die at once; and when the keeper has no room, which is counted. It is published twice when
//! the broker dies after it has published it and before the keeper has heard that; and when it dies
//! while its wills go from one keeper to another, as slots move. A delay begins anew when the broker is
//! declared dead.

mod kept;
mod own;

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use self::kept::KeptForOthers;
use self::own::OwnWills;
use crate::broker::peers::Peers;
use crate::broker::peers::peer::Peer;
use crate::broker::turn::Turn;
use crate::broker::wills::{KeptWill, WillBudget};
use crate::cluster::frame::{ControlFrame, WillFrame};
use crate::cluster::identity::BootId;
use crate::cluster::slots::SlotMap;
use crate::ports::clock::Tick;

/// The wills of this broker's clients, and those that it keeps for others. Whoever changes something
/// wakes the task when the turn ends.
#[derive(Default)]
pub struct Wills {
    state: Mutex<State>,
    ended: Arc<EndedWills>,
}

#[derive(Default)]
struct State {
    own: OwnWills,
    kept: KeptForOthers,
    task: Option<Waker>,
}

/// Numbers of own wills that are gone. There is one for each will at most.
#[derive(Debug, Default)]
pub(crate) struct EndedWills(Mutex<Ended>);

#[derive(Debug, Default)]
struct Ended {
    numbers: Vec<u64>,
    task: Option<Waker>,
}

/// How much there is, for gauges.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WillCounts {
    /// Wills of clients of this broker.
    pub own: usize,
    /// Those of them that another broker is known to have.
    pub secured: usize,
    /// Wills kept for other brokers.
    pub kept: usize,
    /// Their bytes.
    pub kept_bytes: u64,
}

impl EndedWills {
    pub(crate) fn push(&self, number: u64) {
        let task = {
            let mut ended = self.0.lock();
            ended.numbers.push(number);
            ended.task.take()
        };
        // Whoever drops a will may be in no turn.
        if let Some(task) = task {
            task.wake();
        }
    }

    fn take(&self, waker: &Waker) -> Vec<u64> {
        let mut ended = self.0.lock();
        ended.task = Some(waker.clone());
        std::mem::take(&mut ended.numbers)
    }
}

impl Wills {
    /// A client has connected with a will.
    #[must_use]
    pub(crate) fn watch(
        &self,
        client_id: &Arc<str>,
        will: &Arc<KeptWill>,
        expiry_secs: u32,
    ) -> Option<Waker> {
        let mut state = self.state.lock();
        let number = state.own.add(client_id, will, expiry_secs);
        will.tell_end(number, Arc::clone(&self.ended));
        state.task.take()
    }

    /// Other brokers coordinate now.
    #[must_use]
    pub(crate) fn set_slots(&self, map: Arc<SlotMap>) -> Option<Waker> {
        let mut state = self.state.lock();
        state.own.set_slots(map);
        state.task.take()
    }

    /// Somebody has come, or is dead: what it kept is kept by nobody, and what was kept for it is due.
    #[must_use]
    pub(super) fn note_change(&self) -> Option<Waker> {
        let mut state = self.state.lock();
        state.own.assign_again();
        state.task.take()
    }

    /// Words of a broker are lost: it tells all that is to be kept again.
    pub(super) fn lose_words_of(&self, from: BootId) {
        self.state.lock().kept.forget_all(from);
    }

    /// A broker may have lost words of ours, or we words of its: it is told all again.
    #[must_use]
    pub(super) fn repeat_to(&self, keeper: BootId) -> Option<Waker> {
        let mut state = self.state.lock();
        state.own.repeat_to(keeper);
        state.task.take()
    }

    #[must_use]
    pub(super) fn bury(&self, dead: BootId, now: Tick) -> Option<Waker> {
        let mut state = self.state.lock();
        state.own.bury(dead);
        state.kept.bury(dead, now);
        state.task.take()
    }

    /// This broker is dead to the others and begins anew: they have told others what it kept.
    pub(super) fn begin_life(&self) {
        let mut state = self.state.lock();
        state.own = state.own.of_next_life();
        state.kept = KeptForOthers::default();
    }

    /// A client is somewhere again whose will may wait for its delay.
    pub(crate) fn note_return(&self, at: Option<BootId>, client_id: &str, wants_session: bool) {
        self.state.lock().kept.note_return(at, client_id, wants_session);
    }

    /// Wills of dead brokers that are due, at most `max`.
    pub(crate) fn take_due(&self, now: Tick, max: usize) -> Vec<Arc<KeptWill>> {
        self.state.lock().kept.take_due(now, max)
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> WillCounts {
        let state = self.state.lock();
        let (own, secured) = state.own.counts();
        let (kept, kept_bytes) = state.kept.counts();
        WillCounts { own, secured, kept, kept_bytes }
    }
}

impl Turn<'_> {
    /// Tells keepers what is new of this broker's wills. To be called once when the broker starts, and
    /// whenever `waker` is woken.
    pub fn poll_wills(&mut self, peers: &Peers, waker: &Waker) {
        let ended = peers.wills().ended.take(waker);
        let mut state = peers.wills().state.lock();
        state.task = Some(waker.clone());
        state.own.end(&ended);
        let is_live = |boot_id| peers.find(boot_id).is_some();
        state.own.assign(peers.boot_id(), is_live);
        let mut told = Vec::new();
        for (to, frame) in state.own.take_tellings(&mut told) {
            if let Some(peer) = peers.find(to) {
                self.tell(&peer, &frame);
            }
        }
        drop(state);
        // Others may have let go of them meanwhile: then they end here, and that wakes somebody.
        drop(told);
    }

    /// A word of `peer` about wills.
    pub(super) fn receive_will(&mut self, peers: &Peers, peer: &Peer, frame: WillFrame) {
        let from = peer.boot_id();
        match frame {
            WillFrame::Keep { number, client_id, delay_secs, will } => {
                let budget: &Arc<WillBudget> = &self.broker.others_will_budget;
                let is_kept = budget.keep(&will).is_some_and(|will| {
                    let mut state = peers.wills().state.lock();
                    state.kept.keep((from, number), Arc::from(client_id), delay_secs, will);
                    true
                });
                if !is_kept {
                    self.shard.counters.wills_of_others_exceeded.increment();
                }
                let answer = WillFrame::Kept { number, is_kept };
                self.tell(peer, &ControlFrame::Will(Box::new(answer)));
            }
            WillFrame::Kept { number, is_kept } => {
                let mut state = peers.wills().state.lock();
                state.own.note_kept(from, number, is_kept);
                self.shard.wake_later(state.task.take());
            }
            WillFrame::Gone(numbers) => {
                let mut state = peers.wills().state.lock();
                for number in numbers {
                    state.kept.forget(from, number);
                }
            }
        }
    }

    /// Publishes wills of clients whose brokers are dead, a bounded number. `true` when there may be
    /// more.
    pub(crate) fn publish_wills_of_the_dead(&mut self, max: usize) -> bool {
        let Some(peers) = self.broker.peers() else { return false };
        let due = peers.wills().take_due(self.now, max);
        for will in &due {
            self.shard.counters.wills_of_the_dead_published.increment();
            self.publish_will(will);
        }
        due.len() == max
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    /// Looks at what has ended as soon as it is woken.
    struct Eager {
        ended: Arc<EndedWills>,
        found_free: AtomicU32,
    }

    impl Wake for Eager {
        fn wake(self: Arc<Self>) {
            let is_free = self.ended.0.try_lock().is_some();
            self.found_free.fetch_add(is_free.into(), Ordering::Relaxed);
        }
    }

    /// It was woken under the lock, by whoever dropped the last of a will.
    #[test]
    fn who_is_woken_for_a_will_that_ends_can_look_at_once() {
        let ended = Arc::new(EndedWills::default());
        let eager = Arc::new(Eager { ended: Arc::clone(&ended), found_free: AtomicU32::new(0) });
        assert!(ended.take(&Waker::from(Arc::clone(&eager))).is_empty());
        ended.push(7);
        assert_eq!(eager.found_free.load(Ordering::Relaxed), 1);
        assert_eq!(ended.take(Waker::noop()), [7]);
    }
}
