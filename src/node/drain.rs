//! The end of a broker: every client is told, at a bounded rate, and given time to hear it.

use std::time::Duration;

use super::Node;
use crate::mqtt::ReasonCode;
use crate::net::CONNECTION_TASKS;
use crate::session::mailbox::Notice;

impl Node {
    /// Sends every client away and waits until they are gone, at most for `limit`.
    pub(super) async fn drain(&self, limit: Duration) {
        self.broker.start_draining();
        let mut connected = Vec::new();
        self.broker.registry().for_each(|listed| {
            connected.extend(listed.mailbox.filter(|_| listed.is_connected));
        });
        tracing::info!(clients = connected.len(), "draining: clients are sent away");
        let rate = self.config.drain.drain_rate_max.map(|rate| rate.get() as usize);
        let all_told = async {
            for batch in connected.chunks(rate.unwrap_or(usize::MAX).max(1)) {
                for mailbox in batch {
                    let notice = Notice::Disconnect(ReasonCode::ServerShuttingDown);
                    if let Some(owner) = mailbox.notify(notice) {
                        owner.wake();
                    }
                }
                if rate.is_some() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        let told = tokio::time::timeout(limit, all_told).await;
        let linger = if told.is_ok() { LINGER } else { Duration::ZERO };
        // Only clients: links to other brokers stand until the cluster has been left.
        let gone = self.shards.join_tasks(&CONNECTION_TASKS, linger).await;
        if let Err(unfinished) = gone {
            tracing::info!(%unfinished, "the connections that are left are cut");
        }
    }
}

/// How long the last bytes of a connection have.
const LINGER: Duration = Duration::from_secs(2);
