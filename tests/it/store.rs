//! The store: one contract for memory, SQLite and PostgreSQL, and what each adds to it.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what is not the answer that is asked for is a failure, whatever it is"
)]

mod client;
mod contract;
mod crash;
mod faults;
mod model;
mod words;
