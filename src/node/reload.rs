//! What SIGHUP has read again, and what of the configuration waits for the next start.

use std::error::Error;

use super::Node;
use crate::config::{ConfigError, Request, load};

/// What was read again, as the log names it.
#[derive(Default)]
struct Reloaded {
    things: Vec<String>,
}

impl Reloaded {
    /// Certain things were read, or stay as they were.
    fn note<E: Error + 'static>(&mut self, things: &str, outcome: Result<(), E>) {
        match outcome {
            Ok(()) => self.things.push(things.to_owned()),
            Err(error) => {
                tracing::error!(error = %super::chain(&error), "{things} stay as they were");
            }
        }
    }
}

impl Node {
    /// Reads certificates, passwords, access rules, the token and the log level again, and reopens
    /// the log file. What cannot be read stays as it was.
    pub(super) fn reload(&self) {
        let mut reloaded = Reloaded::default();
        if self.config.log.log_file.is_some() {
            reloaded.note("log files", self.logging.reopen());
        }
        if let Some(outcome) = self.guard_files.reload_passwords() {
            reloaded.note("passwords", outcome);
        }
        if let Some(outcome) = self.guard_files.reload_access() {
            reloaded.note("access rules", outcome);
        }
        for (listener, reloader) in &self.reloaders {
            reloaded.note(&format!("certificates of listener {listener}"), reloader.reload());
        }
        if self.config.admin.admin_token_file.is_some()
            && let Some(access) = &self.admin_access
        {
            reloaded.note("administration tokens", access.reload());
        }
        if self.config.cluster.link_cert.is_some()
            && let Some(cluster) = &self.cluster
        {
            reloaded.note("certificates of links", cluster.reload());
        }
        reloaded.note("log levels", self.reload_options());
        let again = reloaded.things.join(", ");
        tracing::info!(again, "reloaded; what could not be read stays as it was");
    }

    /// Takes the level of the log from the configuration as it is now, and says which other options
    /// are not as they were.
    fn reload_options(&self) -> Result<(), ConfigError> {
        let (Request::Run(config), _) = load(&self.surroundings)? else { return Ok(()) };
        self.logging.set_level(super::options::level(config.log.log));
        for option in config.changed(&self.config).into_iter().filter(|option| *option != "log") {
            tracing::warn!("{option}: takes effect at the next start");
        }
        Ok(())
    }
}
