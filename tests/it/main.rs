//! The integration tests: one binary, real sockets, the broker as its users start it.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests time what they see, index what they have measured, and fail by panicking"
)]

mod activity;
mod admin;
mod auth;
mod churn;
mod cli;
mod clients;
mod cluster;
mod cluster_sim;
mod command_line;
mod conformance;
mod coordination;
mod durable;
mod foreign_sessions;
mod harness;
mod in_doubt;
mod layering;
mod limits;
mod links;
mod operation;
mod parking;
mod power;
mod seeds;
mod sim;
mod splits;
mod start_errors;
mod store;
mod stored_sim;
mod stories;
mod takeover;
