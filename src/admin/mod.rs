//! HTTP for the operator: probes, metrics, clients, the log level.
//!
//! [`bind()`] opens the socket, [`BoundAdmin::serve`] answers on the background runtime. Probes are
//! answered to everybody; the rest on loopback, or to who has the token (see [`access`]).
//!
//! Invariants: what a client sends is bounded in bytes and time, and so is the number of clients;
//! no answer waits for a shard longer than [`router`]'s time limit; `/livez` depends on nothing.

pub mod access;
mod bind;
mod clients;
mod error;
pub mod health;
mod log_level;
mod plain_answers;
mod router;
mod serve;

use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::turn::Turn;
use crate::metrics::Exposition;
use crate::runtime::Clock;
use crate::runtime::logging::LogHandle;

pub use access::{Access, TokenError};
pub use bind::{AdminBindError, BoundAdmin, bind};
pub use health::{Health, Standing};

/// What the answers are made from.
pub struct AdminContext {
    /// The broker.
    pub broker: Arc<Broker>,
    /// What time it is.
    pub clock: Clock,
    /// What is scraped.
    pub exposition: Exposition,
    /// Whether the broker is ready.
    pub health: Arc<Health>,
    /// The log.
    pub log: LogHandle,
    /// Where turns are had.
    pub turns: Box<dyn Turns>,
    /// What there is to say of the cluster; nothing when the broker is alone.
    pub cluster: Option<ClusterReport>,
    /// Who may ask for what.
    pub access: Arc<Access>,
    /// Who is told what an operator does.
    pub witness: Option<Witness>,
}

/// Is told of an act: the client it is done to, if there is one, and what it is, in words.
pub type Witness = Box<dyn Fn(Option<&str>, &str) + Send + Sync>;

impl AdminContext {
    fn note(&self, client_id: Option<&str>, act: &str) {
        if let Some(witness) = &self.witness {
            witness(client_id, act);
        }
    }
}

/// Makes the answer to `GET /cluster`.
pub type ClusterReport = Box<dyn Fn() -> serde_json::Value + Send + Sync>;

/// Runs work as a turn of the broker, on a shard.
pub trait Turns: Send + Sync + 'static {
    /// Runs `work` at the shard's next opportunity. It is dropped when the shard has ended.
    fn run(&self, work: Box<dyn FnOnce(&mut Turn<'_>) + Send>);
}
