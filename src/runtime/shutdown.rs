//! The word that it is time to end, said once and heard by every task that waits for it.

use std::sync::Arc;
use tokio::sync::watch;

/// A token that tasks await and one place triggers. Clones are the same token.
#[derive(Clone, Debug)]
pub struct Shutdown {
    begun: Arc<watch::Sender<bool>>,
}

impl Shutdown {
    /// A token on which nothing has happened yet.
    #[must_use]
    pub fn new() -> Self {
        Self { begun: Arc::new(watch::Sender::new(false)) }
    }

    /// Begins the shutdown: every waiting task wakes. Saying it twice changes nothing.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Whether the shutdown has begun.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Waits until the shutdown begins; returns at once when it has.
    pub async fn begun(&self) {
        // The sender lives in `self`, so that the wait can only end by the value becoming true.
        let _ = self.begun.subscribe().wait_for(|begun| *begun).await;
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn waiting_ends_when_it_begins_and_never_before() {
        let shutdown = Shutdown::new();
        let waiting = shutdown.clone();
        let mut wait = Box::pin(waiting.begun());
        assert!(wait.as_mut().now_or_never().is_none());
        shutdown.begin();
        shutdown.begin();
        assert!(wait.as_mut().now_or_never().is_some());
        assert!(waiting.is_begun());
        assert!(waiting.begun().now_or_never().is_some());
    }
}
