//! The integration tests: one binary, one module for each subject.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails here has found something"
)]

mod layering;
