//! The gateways: protocols of the outside, each over the same broker verbs.

pub mod mqtt;
