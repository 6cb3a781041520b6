//! Waiting for a program that was started, as long as it runs.

use std::{fs, path::Path, time::Duration};

use super::StartError;
use crate::{child::Started, clock, stop::Stop};

/// Patience with a start.
#[derive(Debug)]
pub struct Wait<'a> {
    stop: &'a Stop,
    until: u64,
}

impl<'a> Wait<'a> {
    /// So long from now.
    #[must_use]
    pub fn new(stop: &'a Stop, max: Duration) -> Self {
        let max = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        Self { stop, until: clock::now().saturating_add(max) }
    }

    /// Waits a little before it is worth looking again.
    ///
    /// # Errors
    /// The program has ended, time is up, or the run is to stop. What the program said last is in
    /// `log`.
    pub fn again(&self, started: &mut Started, log: &Path) -> Result<(), StartError> {
        if self.stop.is_raised() {
            return Err(StartError::Interrupted);
        }
        if !started.is_running() {
            return Err(StartError::Ended(last_words(log)));
        }
        if clock::now() > self.until {
            return Err(StartError::Silent(last_words(log)));
        }
        clock::pause(CHECK);
        Ok(())
    }
}

/// The last line of a log.
#[must_use]
pub fn last_words(log: &Path) -> String {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    log.lines().last().unwrap_or("it said nothing").to_owned()
}

const CHECK: Duration = Duration::from_millis(10);
