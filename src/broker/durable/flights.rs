//! Sessions that the store was asked for, and that are not here yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// All of one broker, by numbers that ascend.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: u64,
    in_the_air: BTreeSet<u64>,
}

/// One of them; it has landed when this is dropped.
#[derive(Debug)]
pub(super) struct Flight {
    flights: Arc<Flights>,
    number: u64,
}

impl Flights {
    pub(super) fn begin(self: &Arc<Self>) -> Flight {
        let mut state = self.0.lock();
        state.last += 1;
        let number = state.last;
        state.in_the_air.insert(number);
        Flight { flights: Arc::clone(self), number }
    }

    /// The last that has begun.
    pub(crate) fn last(&self) -> u64 {
        self.0.lock().last
    }

    /// Whether all up to this one are here.
    pub(crate) fn have_landed(&self, last: u64) -> bool {
        self.0.lock().in_the_air.first().is_none_or(|first| *first > last)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.0.lock().in_the_air.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_begin_later_are_not_waited_for() {
        let flights = Arc::<Flights>::default();
        let (one, two) = (flights.begin(), flights.begin());
        let last = flights.last();
        let _three = flights.begin();
        drop(two);
        assert!(!flights.have_landed(last));
        drop(one);
        assert!(flights.have_landed(last));
    }
}
