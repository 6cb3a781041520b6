//! The newest slot map that any broker has read, for those that cannot read the tree of znodes.
//!
//! When the ensemble is lost to all, some brokers may have read the last map and others not. They
//! would disagree about who coordinates what for as long as the outage lasts. So whoever is without
//! the ensemble asks the others now and then for a later map than its own, and who has one tells it.

use std::collections::BTreeMap;
use std::task::Waker;

use parking_lot::Mutex;

use crate::broker::peers::Peers;
use crate::broker::peers::peer::Peer;
use crate::broker::turn::Turn;
use crate::cluster::frame::ControlFrame;
use crate::cluster::identity::BootId;
use crate::cluster::slot_record::SlotRecord;

/// What this broker can tell of slot maps, and what it has been told.
#[derive(Debug, Default)]
pub struct SlotNews(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The map that this broker goes by, and its epoch.
    own: Option<(i64, SlotRecord)>,
    /// What others have told, the last of each: no more than there are brokers.
    told: BTreeMap<BootId, SlotRecord>,
    /// Who takes it.
    task: Option<Waker>,
}

impl SlotNews {
    /// This broker goes by this map from now on.
    pub fn set_own(&self, epoch: i64, record: SlotRecord) {
        self.0.lock().own = Some((epoch, record));
    }

    /// What has been told since this was asked last. `waker` is called when there is more.
    pub fn take_told(&self, waker: &Waker) -> impl Iterator<Item = SlotRecord> + use<> {
        let mut state = self.0.lock();
        if !state.task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            state.task = Some(waker.clone());
        }
        std::mem::take(&mut state.told).into_values()
    }

    fn epoch(&self) -> Option<i64> {
        self.0.lock().own.as_ref().map(|(epoch, _)| *epoch)
    }

    fn later_than(&self, epoch: i64) -> Option<SlotRecord> {
        let state = self.0.lock();
        let (own_epoch, record) = state.own.as_ref()?;
        (*own_epoch > epoch).then(|| record.clone())
    }

    /// Whom to wake.
    fn note_told(&self, from: BootId, record: SlotRecord) -> Option<Waker> {
        let mut state = self.0.lock();
        state.told.insert(from, record);
        state.task.clone()
    }
}

impl Turn<'_> {
    /// Asks every broker for a later slot map. To be called now and then while the tree of znodes is
    /// out of reach.
    pub fn ask_for_slots(&mut self, peers: &Peers) {
        let Some(epoch) = peers.slot_news().epoch() else { return };
        let frame = ControlFrame::SlotsWanted { after: epoch };
        for peer in peers.live().iter().filter(|peer| peer.wire() >= WIRE_MIN) {
            if let Ok(wake) = peer.tell_unless_behind(&frame) {
                self.shard.wake_later(wake);
            }
        }
    }

    /// `peer` goes by the map of this epoch, and wants a later one.
    pub(crate) fn tell_slots(&mut self, peers: &Peers, peer: &Peer, epoch: i64) {
        if let Some(record) = peers.slot_news().later_than(epoch) {
            self.tell(peer, &ControlFrame::Slots(record));
        }
    }

    /// `peer` goes by this map. It is looked at by whoever looks at those of the tree.
    pub(crate) fn note_slots(&mut self, peers: &Peers, peer: &Peer, record: SlotRecord) {
        let wake = peers.slot_news().note_told(peer.boot_id(), record);
        self.shard.wake_later(wake);
    }
}

/// The version of the wire that knows of these frames. Others are not told what they cannot read.
const WIRE_MIN: u16 = 2;
