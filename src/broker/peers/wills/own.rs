//! Wills of this broker's clients, on their way to their keepers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use crate::broker::wills::{KeptWill, will_bytes};
use crate::cluster::frame::{ControlFrame, WillFrame};
use crate::cluster::identity::BootId;
use crate::cluster::slots::{Slot, SlotMap};

/// All of them, by a number of ours.
#[derive(Default)]
pub(super) struct OwnWills {
    wills: BTreeMap<u64, Own>,
    next_number: u64,
    slots: Option<Arc<SlotMap>>,
    /// Wills without a keeper, or whose keeper may be another one now.
    is_unassigned: bool,
    ways: BTreeMap<BootId, Way>,
}

struct Own {
    client_id: Arc<str>,
    /// The connection, or whoever parks its Session, has it.
    will: Weak<KeptWill>,
    expiry_secs: u32,
    keeper: Option<BootId>,
    /// Whether the keeper has confirmed it.
    is_secured: bool,
    /// Who kept it before, until the keeper has it.
    former: Option<BootId>,
}

/// What goes to one keeper: so much of it at a time that its control stream is not flooded.
#[derive(Default)]
struct Way {
    /// Bounded by the wills there are.
    waiting: VecDeque<u64>,
    unanswered: BTreeMap<u64, usize>,
    bytes: usize,
    gone: Vec<u64>,
}

impl OwnWills {
    /// None, in a life after this one: numbers are not used twice.
    pub(super) fn of_next_life(&self) -> Self {
        Self { next_number: self.next_number, ..Self::default() }
    }

    pub(super) fn add(
        &mut self,
        client_id: &Arc<str>,
        will: &Arc<KeptWill>,
        expiry_secs: u32,
    ) -> u64 {
        self.next_number += 1;
        let own = Own {
            client_id: Arc::clone(client_id),
            will: Arc::downgrade(will),
            expiry_secs,
            keeper: None,
            is_secured: false,
            former: None,
        };
        self.wills.insert(self.next_number, own);
        self.is_unassigned = true;
        self.next_number
    }

    /// These are gone: published, or withdrawn.
    pub(super) fn end(&mut self, numbers: &[u64]) {
        for number in numbers {
            let Some(own) = self.wills.remove(number) else { continue };
            for keeper in own.keeper.into_iter().chain(own.former) {
                if let Some(way) = self.ways.get_mut(&keeper) {
                    way.gone.push(*number);
                }
            }
        }
    }

    pub(super) fn set_slots(&mut self, map: Arc<SlotMap>) {
        if self.slots.as_ref().is_none_or(|known| known.epoch() < map.epoch()) {
            self.slots = Some(map);
            self.is_unassigned = true;
        }
    }

    pub(super) fn assign_again(&mut self) {
        self.is_unassigned = true;
    }

    pub(super) fn bury(&mut self, dead: BootId) {
        self.ways.remove(&dead);
        self.is_unassigned = true;
        for own in self.wills.values_mut() {
            own.former = own.former.filter(|former| *former != dead);
            if own.keeper == Some(dead) {
                own.keeper = None;
                own.is_secured = false;
            }
        }
    }

    /// A keeper may have lost what it was told, or we what it has said: it is told all again.
    pub(super) fn repeat_to(&mut self, keeper: BootId) {
        let Some(way) = self.ways.get_mut(&keeper) else { return };
        let kept = self.wills.iter().filter(|(_, own)| own.keeper == Some(keeper));
        let waiting = kept.map(|(number, _)| *number).collect();
        *way = Way { waiting, gone: std::mem::take(&mut way.gone), ..Way::default() };
    }

    /// Gives every will the keeper it should have.
    pub(super) fn assign(&mut self, me: BootId, is_live: impl Fn(BootId) -> bool) {
        if !std::mem::take(&mut self.is_unassigned) {
            return;
        }
        let Some(map) = &self.slots else { return };
        let others: Vec<_> = map
            .coordinators()
            .into_iter()
            .filter(|broker| *broker != me && is_live(*broker))
            .collect();
        for (number, own) in &mut self.wills {
            let keeper = keeper_of(map, &own.client_id, &others);
            if keeper.is_none() || keeper == own.keeper {
                continue;
            }
            if keeper == own.former {
                // It has it still.
                own.keeper = own.former.take();
                own.is_secured = true;
                continue;
            }
            if own.is_secured {
                own.former = own.keeper;
            }
            own.keeper = keeper;
            own.is_secured = false;
            if let Some(keeper) = keeper {
                self.ways.entry(keeper).or_default().waiting.push_back(*number);
            }
        }
    }

    /// A keeper has it, or has no room for it.
    pub(super) fn note_kept(&mut self, from: BootId, number: u64, is_kept: bool) {
        if let Some(way) = self.ways.get_mut(&from) {
            way.bytes -= way.unanswered.remove(&number).unwrap_or(0);
        }
        let own = self.wills.get_mut(&number).filter(|own| own.keeper == Some(from));
        // Whoever has one that is gone, or has another keeper by now, is to let go of it.
        let outdated = match own {
            Some(own) => {
                own.is_secured = is_kept;
                // Where there is no room the former one goes on keeping it.
                if is_kept { own.former.take() } else { None }
            }
            None => Some(from),
        };
        if let Some(way) = outdated.and_then(|keeper| self.ways.get_mut(&keeper)) {
            way.gone.push(number);
        }
    }

    /// What is to be told, and to whom. The wills of it go into `told`: they may be the last of them,
    /// which are not to be dropped under a lock.
    pub(super) fn take_tellings(
        &mut self,
        told: &mut Vec<Arc<KeptWill>>,
    ) -> Vec<(BootId, ControlFrame)> {
        let mut tellings = Vec::new();
        for (keeper, way) in &mut self.ways {
            // First: what it is to let go of it may be given anew.
            let gone = std::mem::take(&mut way.gone);
            for numbers in gone.chunks(GONE_MAX) {
                let frame = WillFrame::Gone(numbers.to_vec());
                tellings.push((*keeper, ControlFrame::Will(Box::new(frame))));
            }
            while way.bytes < WINDOW_BYTES
                && let Some(number) = way.waiting.pop_front()
            {
                if way.unanswered.contains_key(&number) {
                    continue;
                }
                // It may be gone, or have another keeper by now.
                let own = self.wills.get(&number).filter(|own| own.keeper == Some(*keeper));
                let Some((own, will)) = own.and_then(|own| Some((own, own.will.upgrade()?))) else {
                    continue;
                };
                let bytes = will_bytes(&will) + FRAME_BYTES;
                way.bytes += bytes;
                way.unanswered.insert(number, bytes);
                let frame = WillFrame::Keep {
                    number,
                    client_id: own.client_id.to_string(),
                    delay_secs: will.delay_interval_secs.min(own.expiry_secs),
                    will: (**will).clone(),
                };
                tellings.push((*keeper, ControlFrame::Will(Box::new(frame))));
                told.push(will);
            }
        }
        tellings
    }

    /// How many there are, and how many of them are secured.
    pub(super) fn counts(&self) -> (usize, usize) {
        let secured = self.wills.values().filter(|own| own.is_secured || own.former.is_some());
        (self.wills.len(), secured.count())
    }
}

/// The coordinator of the client's slot, or who comes after it, among these.
fn keeper_of(map: &SlotMap, client_id: &str, others: &[BootId]) -> Option<BootId> {
    let slot = Slot::of(client_id);
    let coordinator = map.owner(slot).filter(|owner| others.contains(owner));
    coordinator.or_else(|| slot.highest_of(others))
}

/// Bytes of wills that one keeper has not confirmed.
const WINDOW_BYTES: usize = 512 * 1_024;
/// What a frame has beside the will.
const FRAME_BYTES: usize = 64;
/// Numbers in one frame.
const GONE_MAX: usize = 4_096;
