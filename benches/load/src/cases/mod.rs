//! Rows that compare arrangements instead of brokers: `--cluster` and `--durable`.
//!
//! [`findings`] are named figures with their medians and bars, [`outcome`] runs the rows, [`report`]
//! prints.

pub mod findings;
pub mod outcome;
pub mod report;
