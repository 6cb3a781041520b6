//! A client of MQTT 3.1, 3.1.1 and 5.0: the library under `mqtt_pub` and `mqtt_sub`.
//!
//! * [`session`]: the protocol, as a state machine without I/O.
//! * [`driver`]: the machine on a transport, as one future without tasks.
//! * [`endpoint`], [`tls`], `transport`: the ways to a server.
//! * [`cli`]: what the two programs are made of.

pub mod cli;
#[cfg(test)]
mod conformance;
pub mod driver;
pub mod endpoint;
pub mod message;
pub mod session;
#[cfg(test)]
mod testing;
pub mod tls;
mod transport;

pub use driver::{Client, Event};
pub use message::Message;
pub use transport::OpenError;
