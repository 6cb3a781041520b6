//! Word from the lanes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Raised by whoever offers something to a lane that the relay has emptied.
#[derive(Debug)]
pub(super) struct News {
    is_raised: AtomicBool,
    /// Whom to wake then.
    caller: Waker,
}

impl News {
    pub(super) fn new(caller: Waker) -> Arc<Self> {
        Arc::new(Self { is_raised: AtomicBool::new(false), caller })
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    pub(super) fn is_raised(&self) -> bool {
        self.is_raised.load(Ordering::Acquire)
    }

    /// Before the lanes are looked at: what comes later raises it again.
    pub(super) fn lower(&self) {
        self.is_raised.store(false, Ordering::Release);
    }
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_raised.store(true, Ordering::Release);
        self.caller.wake_by_ref();
    }
}
