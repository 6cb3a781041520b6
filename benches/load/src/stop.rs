//! The wish to stop, set by a signal and seen by every loop.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{clock, error::LoadError};

/// Whether the run was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A flag that SIGINT and SIGTERM raise.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    /// Asks every loop to end.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether loops are to end.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once the flag is raised.
    ///
    /// # Errors
    /// [`LoadError::Interrupted`].
    pub fn check(&self) -> Result<(), LoadError> {
        if self.is_raised() { Err(LoadError::Interrupted) } else { Ok(()) }
    }
}

/// How long a row may take, and whether it may go on at all.
#[derive(Clone, Debug)]
pub struct Patience {
    stop: Stop,
    until: u64,
}

impl Patience {
    /// Patience for `time` from now.
    #[must_use]
    pub fn new(stop: &Stop, time: Duration) -> Self {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self { stop: stop.clone(), until: clock::now().saturating_add(time) }
    }

    /// Fails when time is up or the run is to stop.
    ///
    /// # Errors
    /// [`LoadError::Interrupted`] or [`LoadError::OutOfTime`].
    pub fn check(&self, doing: &'static str) -> Result<(), LoadError> {
        self.stop.check()?;
        if clock::now() > self.until { Err(LoadError::OutOfTime(doing)) } else { Ok(()) }
    }
}
