//! The place of one parked connection, and the waker that stands for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use parking_lot::Mutex;

use crate::broker::connection::Dormant;
use crate::gateway::mqtt::driver::{DriverOptions, Link};
use crate::gateway::mqtt::parking::ParkingPlace;

/// One allocation for all there is of a parked connection beside its Session.
pub(super) struct Spot<L: Link> {
    place: Arc<ParkingPlace<L>>,
    /// Whether it is on the list of those who are called: it is there once.
    is_called: AtomicBool,
    /// Nothing before and after.
    content: Mutex<Option<Parked<L>>>,
}

/// What a connection leaves when it is parked.
pub(super) struct Parked<L: Link> {
    pub(super) link: L::Parked,
    pub(super) dormant: Dormant,
    pub(super) options: Arc<DriverOptions>,
    /// Its number on the roll.
    pub(super) number: u32,
}

impl<L: Link> Spot<L> {
    pub(super) fn new(place: Arc<ParkingPlace<L>>) -> Self {
        const { assert!(size_of::<Self>() + COUNTS_BYTES <= SPOT_BYTES_MAX, "a spot is too large") };
        Self { place, is_called: AtomicBool::new(false), content: Mutex::new(None) }
    }

    pub(super) fn put(&self, parked: Parked<L>) {
        *self.content.lock() = Some(parked);
    }

    /// Takes it out; only once there is something.
    pub(super) fn take(&self) -> Option<Parked<L>> {
        self.content.lock().take()
    }
}

impl<L: Link> Wake for Spot<L> {
    /// Wakers are called from any thread and under any lock: the attendant does what is to be done.
    fn wake(self: Arc<Self>) {
        if !self.is_called.swap(true, Ordering::AcqRel) {
            let place = Arc::clone(&self.place);
            place.call(self);
        }
    }
}

/// One size class of the allocator: the next one takes a sixth more for each idle connection.
const SPOT_BYTES_MAX: usize = 192;
/// What an [`Arc`] adds.
const COUNTS_BYTES: usize = 2 * size_of::<usize>();
