//! The ground the adapters stand on: time, threads, tasks, and what the machine allows.
//!
//! Invariants: the clock is read in [`clock`] and nowhere else; every task is spawned through
//! [`tasks`], has a name, and is counted until it has ended; nothing that blocks runs on a shard.

pub mod background;
pub mod clock;
pub mod limits;
pub mod line_limit;
pub mod logging;
pub mod pem;
pub mod port_owner;
pub mod shard;
pub mod shutdown;
pub mod sql_state;
pub mod tasks;
pub mod tls;

pub use background::Background;
pub use clock::Clock;
pub use shard::{ShardHandle, Shards};
pub use shutdown::Shutdown;
pub use tasks::{TaskCount, TaskHold, UnfinishedTasks};
