//! The way to the tree of znodes, held against a real ensemble.

mod adapter;
pub(crate) mod client;
pub(crate) mod contract;
mod failures;
mod first_word;
mod sessions;
