//! The store: one contract for memory, SQLite and PostgreSQL, and what each adds to it.

mod client;
mod contract;
mod crash;
mod faults;
mod model;
mod words;
