//! `bin/bench --cluster`: three brokers and three ZooKeeper servers on the loopback interface.
//!
//! * What is started: [`ensemble`], [`brokers`], watched over by [`guardian`]; [`admin`] asks a broker
//!   how it is.
//! * What is measured: [`rows`], with [`stretch`] for the loads across two brokers.
//! * What comes of it: [`findings`] condenses, [`report`] prints.

pub mod admin;
pub mod brokers;
pub mod ensemble;
pub mod findings;
pub mod guardian;
pub mod report;
pub mod rows;
pub mod runner;
pub mod stretch;
