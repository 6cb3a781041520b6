//! Who of many that wait is to be looked at: each has a waker of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// The numbers of those whose wait is over. There are no more of them than there are that wait.
#[derive(Debug, Default)]
pub(super) struct Bells(Mutex<BTreeSet<u64>>);

struct Bell {
    number: u64,
    bells: Arc<Bells>,
    /// Who looks.
    task: Waker,
}

impl Bells {
    /// The waker of one of them.
    pub(super) fn waker(self: &Arc<Self>, number: u64, task: &Waker) -> Waker {
        let (bells, task) = (Arc::clone(self), task.clone());
        Waker::from(Arc::new(Bell { number, bells, task }))
    }

    /// Those that have rung since this was asked last.
    pub(super) fn take(&self) -> BTreeSet<u64> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.bells.0.lock().insert(self.number);
        self.task.wake_by_ref();
    }
}
