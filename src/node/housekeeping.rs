//! What a broker does by itself: ends what has expired, lets routes go, watches its memory, tells
//! about itself.

use std::sync::Arc;
use std::time::Duration;

use super::Node;
use super::queue_watch::QueueWatch;
use crate::broker::sys_topics::{SysReading, SysTopics};
use crate::broker::turn::Turn;
use crate::net::TransportKind;
use crate::runtime::limits::{memory_limit_bytes, resident_bytes};

impl Node {
    pub(super) fn start_housekeeping(&self) {
        self.expire_what_is_due();
        self.watch_memory();
        self.watch_queues();
        self.tell_about_itself();
        for (shard, context) in self.shards.handles().iter().zip(&*self.contexts) {
            let (context, broker) = (Arc::clone(context), Arc::clone(&self.broker));
            let shutdown = self.shutdown.clone();
            shard.spawn("sweeper", async move {
                while !ended(&shutdown, SWEEP_PERIOD).await {
                    context.sweep_routes(&broker);
                }
            });
        }
    }

    /// Wills that are due, Sessions and retained messages that expire: on the first shard, as one
    /// more turn among those of its connections.
    fn expire_what_is_due(&self) {
        let shards = self.shards.handles();
        let (Some(shard), Some(context)) = (shards.iter().next(), self.contexts.first()) else {
            return;
        };
        let (context, broker) = (Arc::clone(context), Arc::clone(&self.broker));
        let (clock, shutdown) = (self.clock, self.shutdown.clone());
        shard.spawn("expirer", async move {
            while !ended(&shutdown, EXPIRE_PERIOD).await {
                while context.run(&broker, clock.now(), expire) {
                    tokio::task::yield_now().await;
                }
            }
        });
    }

    /// `$SYS`: read off beside the shards, published on the first one.
    fn tell_about_itself(&self) {
        let Some(secs) = self.config.broker.sys_interval_secs else { return };
        let period = Duration::from_secs(secs.get().into());
        let shards = self.shards.handles();
        let (Some(shard), Some(context)) = (shards.iter().next(), self.contexts.first()) else {
            return;
        };
        let (shard, context) = (shard.clone(), Arc::clone(context));
        let (broker, clock, shutdown) =
            (Arc::clone(&self.broker), self.clock, self.shutdown.clone());
        let counters = Arc::clone(&self.net_counters);
        let cluster = self.cluster_status.clone();
        self.background.handle().spawn("$SYS", async move {
            let mut topics = SysTopics::new(SYS_VERSION);
            loop {
                let sockets = TransportKind::ALL.map(|kind| counters.accepted(kind).value());
                let resident = resident_bytes().unwrap_or(0);
                let reading = SysReading {
                    bank: cluster.as_ref().map(|status| status.registry().1),
                    ..SysReading::of(&broker, clock.now(), sockets.iter().sum(), resident)
                };
                let messages = topics.round(reading);
                let (context, broker) = (Arc::clone(&context), Arc::clone(&broker));
                shard.spawn("$SYS round", async move {
                    context.run(&broker, clock.now(), |turn| {
                        for message in messages {
                            turn.publish_own(message);
                        }
                    });
                });
                if ended(&shutdown, period).await {
                    return;
                }
            }
        });
    }

    /// Publishers wait while memory is above its high-water mark.
    fn watch_memory(&self) {
        let percent = u64::from(self.config.limits.memory_high_water_percent.0);
        let Some(limit) = memory_limit_bytes() else { return };
        let mark = limit / 100 * percent;
        let (broker, shutdown) = (Arc::clone(&self.broker), self.shutdown.clone());
        self.background.handle().spawn("memory watcher", async move {
            while !ended(&shutdown, MEMORY_PERIOD).await {
                let Some(resident) = resident_bytes() else { continue };
                let is_short = resident > mark;
                if is_short != broker.is_short_of_memory() {
                    broker.set_short_of_memory(is_short);
                    tracing::warn!(resident, mark, is_short, "memory and its high-water mark");
                }
            }
        });
    }

    /// The operator hears that all queues together are full.
    fn watch_queues(&self) {
        let (broker, shutdown) = (Arc::clone(&self.broker), self.shutdown.clone());
        self.background.handle().spawn("queue watcher", async move {
            let mut watch = QueueWatch::default();
            while !ended(&shutdown, QUEUES_PERIOD).await {
                watch.look(&broker);
            }
        });
    }
}

fn expire(turn: &mut Turn<'_>) -> bool {
    turn.expire()
}

/// Waits for one period; `true` when the broker ends instead.
async fn ended(shutdown: &crate::runtime::Shutdown, period: Duration) -> bool {
    tokio::time::timeout(period, shutdown.begun()).await.is_ok()
}

/// As Mosquitto names itself.
const SYS_VERSION: &str = concat!("mqttzoo version ", env!("CARGO_PKG_VERSION"));
const EXPIRE_PERIOD: Duration = Duration::from_millis(100);
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
const MEMORY_PERIOD: Duration = Duration::from_secs(1);
const QUEUES_PERIOD: Duration = Duration::from_secs(1);
