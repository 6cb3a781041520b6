//! A simulation of a whole cluster: brokers, their links, the tree of znodes and the clients in one
//! thread under virtual time.
//!
//! Each broker is a real [`crate::broker::Broker`] with its peers and a real membership. What is
//! simulated is what lies between them: links that break at any batch and resume, sessions with the
//! ensemble that are lost, expire, or are served by a follower that is cut off, processes that are
//! killed or stopped. Then the faults end, and what clients saw is compared with what they were
//! promised. The same seed gives the same run; a [`Plant`] breaks one rule of the protocol and shows
//! that a checker notices.
//!
//! [`Habits`] are what clients do in some runs only: a Session in memory goes where its client goes. In
//! some, brokers register topics in use, pay for them, and relay through the tree what no link carries.
//! [`run_stored`] is the same of brokers whose Sessions are in one database: their clients sleep, and
//! come back to another broker.
//!
//! Start reading in `world`; `process` is one broker, `ensemble` and `link` what is between them,
//! `client` and `ledger` are what is seen from outside. What is promised of messages is not decided here:
//! [`crate::sim::promises`] judges, as it does for the tests of real clusters.

mod client;
mod database;
mod ensemble;
mod faults;
mod forging;
mod habits;
mod keeping;
mod latest;
mod ledger;
mod link;
mod persistent;
mod process;
mod retaining;
mod spreading;
mod verdict;
mod world;

pub use habits::Habits;
pub use verdict::{Checker, Failure, Plant, Report};
pub use world::{run, run_stored, run_with};
