//! How shards call the task of the cluster.

use std::sync::Arc;
use std::task::{Wake, Waker};

use tokio::sync::Notify;

/// Rung by whoever has something for the task.
#[derive(Debug, Default)]
pub(super) struct Bell(Notify);

impl Bell {
    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Waits until it is rung; it may have been before.
    pub(super) async fn rung(&self) {
        self.0.notified().await;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}
