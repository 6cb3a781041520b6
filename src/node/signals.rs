//! Signals: SIGTERM and SIGINT end the broker, SIGHUP makes it read its files again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Node;
use crate::config::{Request, load};
use crate::runtime::Background;

/// The signals a broker hears.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn new(background: &Background) -> io::Result<Self> {
        background.handle().enter(|| {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hang_up: signal(SignalKind::hangup())?,
            })
        })
    }

    /// Returns when the broker is to end.
    pub(super) async fn serve(mut self, node: &Node) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => node.reload(),
            }
        }
    }
}

impl Node {
    /// Reads certificates, passwords, access rules, the token and the log level again, and reopens
    /// the log file. What cannot be read
    /// stays as it was.
    fn reload(&self) {
        if let Err(error) = self.logging.reopen() {
            tracing::error!(error = %super::chain(&error), "the log stays where it was");
        }
        self.guard_files.reload();
        for reloader in &self.reloaders {
            if let Err(error) = reloader.reload() {
                tracing::error!(error = %super::chain(&error), "certificates stay as they were");
            }
        }
        if let Some(Err(error)) = self.admin_access.as_ref().map(|access| access.reload()) {
            tracing::error!(error = %super::chain(&error), "the token stays as it was");
        }
        match load(&self.surroundings) {
            Ok((Request::Run(config), _)) => {
                self.logging.set_level(super::options::level(config.log.log));
            }
            Ok((Request::Show(_) | Request::Passwd(_), _)) => {}
            Err(error) => {
                tracing::error!(error = %super::chain(&error), "the configuration stays as it was");
            }
        }
        tracing::info!("reloaded; what could not be read stays as it was");
    }
}
