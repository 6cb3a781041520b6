//! `bin/bench --durable`: what it costs to store, and what is left after a kill.
//!
//! * What is started: [`server`] (a broker that can be killed and started again), [`postgres`].
//! * Who talks to it: [`publisher`], [`receiver`].
//! * What is measured: [`rows`]. What comes of it: [`crate::cases`].

use std::path::PathBuf;

use crate::{child::Pinning, stop::Stop};

pub mod postgres;
pub mod publisher;
pub mod receiver;
pub mod rows;
pub mod server;

use postgres::Postgres;

/// What brokers are started with.
#[derive(Debug)]
pub struct Ground<'a> {
    /// This project's broker.
    pub ours: PathBuf,
    /// Mosquitto.
    pub mosquitto: PathBuf,
    /// The database server, where it is installed.
    pub postgres: Option<Postgres>,
    /// Which core brokers and load have.
    pub pinning: Pinning,
    /// Whether the run is to stop.
    pub stop: &'a Stop,
}

/// What the figures are.
pub const LEGEND: &str = "\
awake: the receiver is connected and acknowledges; away: its messages are queued.
acknowledged/s: PUBACKs that the publisher got, a thousand messages of 256 B under way.
us broker, us PostgreSQL: processor time (user and system, all threads or processes) per message.
lost: messages that were acknowledged before the broker was killed (SIGKILL, in the middle of the load) and did not
reach the receiver after the broker was started again on what it had written. Not lost in SIGKILL is not yet safe in
a power cut: this broker waits for the disk (fsync) before it acknowledges, and so does PostgreSQL.
FAIL: an acknowledged message of this project's broker was lost, or one came out of order.
";
