//! A simulation: one broker, its clients and the links between them in one thread under virtual
//! time.
//!
//! Everything that may go wrong does, as a seed has it: connections break with bytes under way or
//! stay half open, clients take their own Sessions over, stop reading, stop acknowledging, fall
//! silent, leave for good. Then the faults stop, the queues drain, and what clients saw is compared
//! with what they were promised. The same seed gives the same run, bit by bit; a [`Plant`] is a
//! fault of the simulated world that shows that a checker can fail.
//!
//! Start reading in `world`; `endpoint` is the broker's side of a link, `client` the other one,
//! `sessions` and `ledger` are the models and checkers.

mod chance;
mod client;
pub mod cluster;
mod endpoint;
mod failure;
mod ledger;
mod pipe;
mod profile;
pub mod promises;
mod sessions;
mod world;

pub use failure::{Checker, Failure, Plant};
pub use world::{Report, run};
