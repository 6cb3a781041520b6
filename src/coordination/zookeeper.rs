//! The handle that the broker holds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::connect::Connector;
use super::counters::ZooKeeperCounters;
use super::driver::Driver;
use super::intake::{IntakeSender, intake};
use super::options::Options;
use crate::ports::coordination::{Coordination, CoordinationEvent, Request, Ticket};
use crate::runtime::background::BackgroundHandle;
use crate::runtime::{Clock, Shutdown};

/// The way to a ZooKeeper ensemble. Dropping it ends the session, and with it everything ephemeral.
#[derive(Debug)]
pub struct ZooKeeper {
    intake: IntakeSender,
    counters: Arc<ZooKeeperCounters>,
    /// Begun when the task has ended.
    ended: Shutdown,
}

/// Why there can be no way to the ensemble, however long one waits.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A certificate or a key is none.
    #[error("cannot speak TLS with ZooKeeper")]
    Tls(#[source] zookeeper_client::Error),
}

impl ZooKeeper {
    /// Starts the task that makes a session and keeps it. An ensemble that cannot be reached is no
    /// error: the log says so, and the task tries on.
    ///
    /// # Errors
    ///
    /// When the options cannot work.
    pub fn start(
        options: Options,
        clock: Clock,
        events: mpsc::Sender<CoordinationEvent>,
        background: &BackgroundHandle,
    ) -> Result<Self, StartError> {
        let connector = Connector::new(options)?;
        let (sender, intake) = intake(QUEUE_MAX);
        let counters = Arc::<ZooKeeperCounters>::default();
        let driver = Driver::new(connector, clock, intake, events, Arc::clone(&counters));
        let ended = Shutdown::new();
        let end = ended.clone();
        background.spawn("zookeeper", async move {
            driver.run().await;
            end.begin();
        });
        Ok(Self { intake: sender, counters, ended })
    }

    /// What is counted on the way.
    #[must_use]
    pub fn counters(&self) -> Arc<ZooKeeperCounters> {
        Arc::clone(&self.counters)
    }

    /// How long the ensemble lets the present session live without a word from us; zero before the
    /// first. It may be another time than was asked for.
    #[must_use]
    pub fn session_timeout(&self) -> Duration {
        self.counters.session_timeout()
    }

    /// Ends the session, and with it everything ephemeral. What is outstanding is not answered any
    /// more. Saying it twice changes nothing; dropping the handle says it too.
    pub fn close(&self) {
        self.intake.stop();
    }

    /// Waits until the session has ended, after [`Self::close`]. The client panics where the runtime
    /// ends sooner than what listens to it.
    pub async fn closed(&self) {
        self.ended.begun().await;
    }
}

impl Coordination for ZooKeeper {
    fn submit(&self, ticket: Ticket, request: Request) {
        self.intake.submit(ticket, request);
    }

    fn note_expired(&self) {
        self.intake.note_end_heard();
    }

    fn session_timeout_millis(&self) -> Option<u64> {
        let millis = u64::try_from(self.session_timeout().as_millis()).ok()?;
        (millis > 0).then_some(millis)
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.close();
    }
}

/// Requests that wait to be sent: what a broker that comes back re-lists, several times over.
const QUEUE_MAX: usize = 4_096;
