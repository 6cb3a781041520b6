//! Servers the tests talk to: our broker as a child, Debian's Mosquitto, and one that says nothing.
//!
//! Each is stopped when its handle is dropped; should the test process itself be killed, a small
//! guardian notices and stops the server in its place.

mod broker;
mod certificates;
mod ensemble;
mod guardian;
mod metrics;
mod mosquitto;
mod ports;
mod postgres;
mod silent;

pub(crate) use broker::{Broker, shared};
pub(crate) use certificates::Authority;
pub(crate) use ensemble::{Ensemble, Ttl};
pub(crate) use metrics::{Metrics, ask_admin_at};
pub(crate) use mosquitto::Mosquitto;
pub(crate) use postgres::{Postgres, server_directory, server_user};
pub(crate) use silent::SilentServer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A new empty directory under the system's temporary one; whoever asks removes it.
pub(crate) fn fresh_dir(purpose: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("mqttzoo-{purpose}-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).expect("the temporary directory can be written");
    path
}

/// A TCP port that was free a moment ago, for servers that cannot choose one themselves.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
    listener.local_addr().expect("a bound socket has an address").port()
}
