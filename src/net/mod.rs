//! The ways in: listeners, handshakes, and the byte streams that come out of them.
//!
//! [`bind()`] opens the sockets of one listener, [`BoundListener::accept`] hands every connection
//! that is through its handshakes to a [`Serve`], on the shard where it will live. Whatever the
//! kind of listener, what arrives is a [`Transport`]: bytes in both directions.
//!
//! Invariants: a connection is placed on its shard before its first handshake; handshakes are
//! bounded in bytes, time and number; a connection counts against its bounds exactly as long as
//! its [`Transport`] exists.

mod accept;
mod admission;
mod bind;
mod certificate_name;
mod counters;
mod first_bytes;
mod handshake;
#[cfg(test)]
mod listener_tests;
mod options;
mod peer;
mod proxy;
mod tls;
mod transport;
mod websocket;
mod websocket_frame;
mod websocket_handshake;

pub use accept::{AcceptContext, CONNECTION, CONNECTION_TASKS, Serve};
pub use admission::ConnectionBudget;
pub use bind::{BindError, BoundListener, ListenAddress, bind};
pub use counters::{Count, NetCounters, Refusal, Setback};
pub use first_bytes::diagnose_first_bytes;
pub use options::{
    ConnectRate, Endpoint, ListenerLimits, ListenerOptions, TlsOptions, WebSocketOptions,
};
pub use peer::{Peer, PeerAddress, TransportKind};
pub use tls::TlsReloader;
pub use transport::{ParkedTransport, Transport};
pub use websocket::WebSocketViolation;
