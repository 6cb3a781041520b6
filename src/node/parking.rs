//! Where connections with nothing to do wait: one place for each shard.

use std::io;
use std::sync::Arc;

use crate::config::Config;
use crate::gateway::mqtt::{ParkingOptions, ParkingPlace, ShardContext};
use crate::net::{CONNECTION, Transport};
use crate::runtime::Clock;
use crate::runtime::shard::ShardHandles;

/// Opens them all; each has an attendant on its shard from now on.
pub(super) fn open(
    config: &Config,
    clock: Clock,
    shards: &ShardHandles,
    contexts: &[Arc<ShardContext>],
) -> io::Result<Arc<[Arc<ParkingPlace<Transport>>]>> {
    let idle_millis = u64::from(config.limits.park_after_secs) * 1_000;
    let options = ParkingOptions { clock, idle_millis, task_name: CONNECTION };
    let each = shards.iter().zip(contexts);
    each.map(|(shard, context)| ParkingPlace::open(options, shard, context)).collect()
}
