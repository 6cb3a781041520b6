//! The ports: traits towards the world outside the broker, and the values that cross them.
//!
//! Nothing here does I/O. A port is *submit + completion*: the caller hands a request over and the
//! answer comes back as an input, so a simulator can run several brokers in one thread.

pub mod auth;
pub mod clock;
pub mod coordination;
pub mod message;
pub mod store;

pub use clock::Tick;
