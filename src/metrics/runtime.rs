//! What the process holds: memory, time, tasks, and log lines that were lost.

use std::sync::Arc;

use super::readings::{Readings, Source};
use crate::runtime::Clock;
use crate::runtime::background::BackgroundHandle;
use crate::runtime::limits::{memory_limit_bytes, resident_bytes};
use crate::runtime::logging::LogHandle;
use crate::runtime::shard::ShardHandles;
use crate::runtime::tasks::TaskCount;

/// The ground the adapters stand on, as numbers.
#[derive(Debug)]
pub struct RuntimeSource {
    /// Since when it runs.
    pub clock: Clock,
    /// The shards.
    pub shards: Arc<ShardHandles>,
    /// The runtime beside them.
    pub background: BackgroundHandle,
    /// The log.
    pub log: LogHandle,
    /// The version of the program.
    pub version: &'static str,
}

impl Source for RuntimeSource {
    fn read(&self, readings: &mut Readings) {
        readings.gauges(
            "build_info",
            "Always 1; the label says which version runs.",
            "version",
            [(self.version, 1)],
        );
        let uptime = self.clock.now().as_millis() / 1_000;
        readings.gauge("uptime_seconds", "Seconds since the start.", uptime);
        // Where the system does not tell, there is no reading rather than a wrong one.
        if let Some(bytes) = resident_bytes() {
            readings.gauge("resident_bytes", "Memory the process holds.", bytes);
        }
        if let Some(bytes) = memory_limit_bytes() {
            readings.gauge("limit_memory_bytes", "Memory of the machine or cgroup.", bytes);
        }
        readings.counter(
            "log_lines_dropped",
            "Log lines lost because the log could not be written fast enough.",
            self.log.dropped_lines(),
        );
        readings.gauge("shards", "Threads that serve connections.", self.shards.count() as u64);
        readings.gauges(
            "shard_connections",
            "Connections that have their place on a shard.",
            "shard",
            self.shards
                .iter()
                .map(|shard| (shard.id().to_string(), shard.connection_count() as u64)),
        );
        let named = |count: TaskCount| (count.name, count.running as u64);
        let counts = TaskCount::sum_by_name(
            self.shards.task_counts().into_iter().chain(self.background.task_counts()),
        );
        readings.gauges("tasks", "Tasks alive.", "name", counts.into_iter().map(named));
    }
}
