//! MQTT over any byte stream: a socket's driver around [`crate::broker::connection::Connection`].

pub mod driver;
pub mod log;
pub mod shard_context;

mod parking;
mod part;

pub use driver::{Driver, DriverOptions, Link};
pub use parking::{ParkingOptions, ParkingPlace};
pub use shard_context::{Observer, ShardContext};

#[cfg(test)]
mod driver_tests;
