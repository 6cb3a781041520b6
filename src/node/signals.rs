//! Signals: SIGTERM and SIGINT end the broker, SIGHUP makes it read its files again.

use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::cluster::Phase;
use super::{Node, StartError};
use crate::runtime::Background;

/// Sent to whoever writes beyond the largest size a file may have (`ulimit -f`).
const FILE_SIZE: rustix::process::Signal = rustix::process::Signal::XFSZ;

/// The signals a broker hears.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Heard, so that it does not end the process: a file that may not grow is trouble of the store,
    /// which says so.
    _file_size: Signal,
}

impl Signals {
    pub(super) fn new(background: &Background) -> io::Result<Self> {
        background.handle().enter(|| {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hang_up: signal(SignalKind::hangup())?,
                _file_size: signal(SignalKind::from_raw(FILE_SIZE.as_raw()))?,
            })
        })
    }

    /// Returns when the broker is to end.
    ///
    /// # Errors
    ///
    /// It cannot be part of its cluster any more.
    pub(super) async fn serve(&mut self, node: &Node) -> Result<(), StartError> {
        let mut phase = node.cluster.as_ref().map(|cluster| cluster.phase.clone());
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
                _ = self.hang_up.recv() => node.reload(),
                failure = failed(phase.as_mut()) => return Err(failure),
            }
        }
    }

    /// What `work` comes to; nothing when the broker is to end first.
    pub(super) async fn unless_ended<T>(
        &mut self,
        node: &Node,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return None,
                _ = self.interrupt.recv() => return None,
                _ = self.hang_up.recv() => node.reload(),
                done = &mut work => return Some(done),
            }
        }
    }

    /// Goes on until load balancers have noticed that no traffic is welcome here any more, which
    /// takes `secs`. Somebody who signals again wants no more patience.
    pub(super) async fn wait_for_traffic_to_turn(&mut self, secs: NonZeroU32) {
        tracing::info!(wait_secs = secs, "not ready any more: waits until traffic goes elsewhere");
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = tokio::time::sleep(Duration::from_secs(secs.get().into())) => {}
        }
    }

    /// Waits until the broker is part of its cluster. `false` when it is to end instead.
    ///
    /// # Errors
    ///
    /// It cannot be.
    pub(super) async fn wait_until_joined(
        &mut self,
        node: &Node,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<bool, StartError> {
        let mut failing = phase.clone();
        loop {
            tokio::select! {
                // Whoever cannot be part of the cluster goes as well: why counts, and not that it is gone.
                biased;
                _ = self.terminate.recv() => return Ok(false),
                _ = self.interrupt.recv() => return Ok(false),
                _ = self.hang_up.recv() => node.reload(),
                failure = failed(Some(&mut failing)) => return Err(failure),
                joined = phase.wait_for(Phase::takes_clients) => return Ok(joined.is_ok()),
            }
        }
    }
}

/// Waits until the broker cannot be part of its cluster; for ever when it is alone.
async fn failed(phase: Option<&mut watch::Receiver<Phase>>) -> StartError {
    if let Some(phase) = phase
        && let Ok(failed) = phase.wait_for(|phase| matches!(phase, Phase::Failed(_))).await
        && let Phase::Failed(reason) = &*failed
    {
        return StartError::LeftCluster(reason.clone());
    }
    std::future::pending().await
}
