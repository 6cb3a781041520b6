//! The composition root: a broker put together from its configuration.

use std::process::ExitCode;

use crate::config::Config;

/// Runs a broker until it is told to stop.
#[must_use]
pub fn run(config: Config) -> ExitCode {
    drop(config);
    ExitCode::FAILURE
}
