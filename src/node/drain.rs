//! The end of a broker: every client is told, at a bounded rate, and given time to hear it.

use std::time::Duration;

use super::Node;
use crate::broker::left_behind::HandingOn;
use crate::broker::turn::Turn;
use crate::gateway::mqtt::ShardContext;
use crate::mqtt::ReasonCode;
use crate::net::CONNECTION_TASKS;
use crate::session::mailbox::Notice;

impl Node {
    /// Sends every client away and waits until they are gone, at most for `limit`.
    pub(super) async fn drain(&self, limit: Duration) {
        let start = self.clock.now();
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
        if self.broker.peers().is_some() {
            let passed = Duration::from_millis(self.clock.now().saturating_since(start));
            self.hand_on(limit.saturating_sub(passed)).await;
        }
    }

    /// Gives members of Shared Subscriptions at other brokers what those here were not sent.
    async fn hand_on(&self, limit: Duration) {
        let context = ShardContext::new(&self.broker);
        let mut handing = HandingOn::default();
        let all_handed_on = async {
            loop {
                context.run(&self.broker, self.clock.now(), |turn| turn.hand_on(&mut handing));
                if handing.is_done() {
                    return;
                }
                tokio::time::sleep(HAND_ON_PERIOD).await;
            }
        };
        let _in_time = tokio::time::timeout(limit, all_handed_on).await;
        let end = |turn: &mut Turn<'_>| turn.end_handing_on(&mut handing);
        context.run(&self.broker, self.clock.now(), end);
        let HandingOn { taken, lost, .. } = handing;
        if lost > 0 {
            tracing::warn!(
                taken,
                lost,
                "messages of Shared Subscriptions here are lost: no member at another broker took them"
            );
        } else if taken > 0 {
            tracing::info!(
                taken,
                "other brokers have taken what members of Shared Subscriptions left"
            );
        }
    }
}

/// How long the last bytes of a connection have.
const LINGER: Duration = Duration::from_secs(2);
/// How often other brokers are asked whether they take more.
const HAND_ON_PERIOD: Duration = Duration::from_millis(5);
