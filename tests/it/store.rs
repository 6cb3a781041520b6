//! The store: one contract for memory, SQLite and PostgreSQL, and what each adds to it.

#![allow(
    clippy::similar_names,
    clippy::wildcard_enum_match_arm,
    reason = "a story is told of a store; what is not the answer that is asked for is a failure, whatever it is"
)]

mod client;
mod contract;
mod crash;
mod cut;
mod faults;
mod model;
mod released;
mod server_crash;
mod shared_bodies;
mod words;
