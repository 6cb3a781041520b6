//! Room for Sessions: how many there may be, those on their way from other brokers included.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The places of one broker.
#[derive(Debug)]
pub(super) struct Places {
    /// By Sessions, and by those that are to come.
    taken: AtomicUsize,
    /// Those of them by Sessions that are to come.
    reserved: AtomicUsize,
    max: usize,
}

/// Room for a Session that is to come; given back unless it is used.
#[derive(Debug)]
#[must_use]
pub struct Place {
    places: Arc<Places>,
    is_used: bool,
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), reserved: AtomicUsize::new(0), max }
    }

    /// Takes a place. `false` when there is none.
    pub(super) fn take(&self) -> bool {
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.max {
            return true;
        }
        self.give_back();
        false
    }

    pub(super) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets a place aside. `None` when there is none.
    pub(super) fn reserve(self: &Arc<Self>) -> Option<Place> {
        if !self.take() {
            return None;
        }
        self.reserved.fetch_add(1, Ordering::Relaxed);
        Some(Place { places: Arc::clone(self), is_used: false })
    }

    /// Places taken by Sessions that are here.
    pub(super) fn used(&self) -> usize {
        // One may be given back between the two.
        let reserved = self.reserved.load(Ordering::Relaxed);
        self.taken.load(Ordering::Relaxed).saturating_sub(reserved)
    }
}

impl Place {
    /// The Session is here.
    pub(super) fn make_use(mut self) {
        self.is_used = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.reserved.fetch_sub(1, Ordering::Relaxed);
        if !self.is_used {
            self.places.give_back();
        }
    }
}
