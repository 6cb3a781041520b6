//! `bin/bench --durable`: what it costs to store, and what is left after a kill.
//!
//! * What is started: [`server`] (a broker that can be killed and started again), [`postgres`].
//! * Who talks to it: [`publisher`], [`receiver`].
//! * What is measured: [`rows`]. What comes of it: [`crate::cases`].

use std::path::PathBuf;

use crate::{
    brokers::StartError,
    child::{Cores, Pinning},
    stop::Stop,
};

mod idle_group;
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
    /// Where the database server may run.
    pub cores: Cores,
    /// Whether the run is to stop.
    pub stop: &'a Stop,
}

impl Ground<'_> {
    /// The same with a database server that has not done anything yet.
    ///
    /// # Errors
    /// It does not come up.
    pub fn with_fresh_postgres(&self) -> Result<Self, StartError> {
        Ok(Self {
            ours: self.ours.clone(),
            mosquitto: self.mosquitto.clone(),
            postgres: self.cores.open_to(Postgres::start)??,
            ..*self
        })
    }
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
activity-*: on a PostgreSQL server of their own, made for the row, whose first checkpoint is over before the turns
begin. Each broker has 24 turns of 2,000 messages, so a p99 is that of the 20th slowest; quiet: what a quarter of the
turns does not exceed. off again: another broker without a log, so what it is of off is what the yardstick is worth.
of off, from, to: the quotient of the quiet figures, and what it would be in 95 of 100 such runs (bootstrap over turns).
";
