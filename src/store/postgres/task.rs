//! The task that owns the connection.

use std::sync::Arc;

use parking_lot::Mutex;

use super::PostgresOptions;
use super::connect::Link;
use super::group::Group;
use super::promise::Promise;
use crate::ports::store::{Batch, StoreError, StoreHealth};
use crate::runtime::background::BackgroundHandle;
use crate::store::backoff::Backoff;
use crate::store::counters::StoreCounters;
use crate::store::intake::{Intake, Job};
use crate::store::retry::{Failure, Outcomes};

pub(super) struct Task {
    options: PostgresOptions,
    tasks: BackgroundHandle,
    intake: Intake,
    health: Arc<Mutex<StoreHealth>>,
    counters: Arc<StoreCounters>,
    link: Option<Link>,
    /// What was said of its commits.
    told: Option<Promise>,
    /// Behind which message the search for those that nobody needs goes on.
    sweep_place: i64,
}

impl Task {
    pub(super) fn new(
        options: PostgresOptions,
        tasks: BackgroundHandle,
        intake: Intake,
        health: Arc<Mutex<StoreHealth>>,
        counters: Arc<StoreCounters>,
    ) -> Self {
        let (link, told, sweep_place) = (None, None, i64::MIN);
        Self { options, tasks, intake, health, counters, link, told, sweep_place }
    }

    pub(super) async fn run(mut self) {
        // Health tells what is wrong before anybody needs the store.
        let _outcomes = self.store(&[]).await;
        while self.intake.arrival().await {
            let group = self.intake.take_group();
            let outcomes = self.carry_out(&group).await;
            self.intake.answer(group, outcomes);
        }
    }

    /// All of a group in one transaction; if it is refused, each batch in one of its own.
    async fn carry_out(&mut self, group: &[Job]) -> Outcomes {
        let batches: Vec<&Batch> = group.iter().map(|job| &job.batch).collect();
        match self.store(&batches).await {
            Ok(outcomes) => outcomes,
            Err(Failure::Refused(_)) if batches.len() > 1 => {
                let mut outcomes = Outcomes::with_capacity(batches.len());
                for batch in batches {
                    match self.store(&[batch]).await {
                        Ok(alone) => outcomes.extend(alone),
                        Err(failure) => outcomes.push(Err(failure.into())),
                    }
                }
                outcomes
            }
            Err(failure) => {
                let error = StoreError::from(failure);
                batches.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    /// Stores batches, or finds that they cannot be stored, or that the time for it is up.
    async fn store(&mut self, batches: &[&Batch]) -> Result<Outcomes, Failure> {
        let mut backoff = Backoff::new(self.options.patience);
        loop {
            let limit = self.options.answer_within;
            let tried = tokio::time::timeout(limit, self.try_once(batches)).await;
            let failure = match tried {
                Ok(Ok(outcomes)) => {
                    self.set_health(StoreHealth::Good);
                    self.counters.note_group();
                    return Ok(outcomes);
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Transient(format!("no answer within {} s", limit.as_secs())),
            };
            // What was begun there is rolled back with the connection, or was committed: then it
            // changes nothing to do it again.
            self.link = None;
            let (Failure::Transient(why) | Failure::Damaged(why)) = &failure else {
                return Err(failure);
            };
            self.set_health(StoreHealth::Degraded(why.clone()));
            let pause = backoff.next().filter(|_| !self.intake.is_closed());
            let Some(pause) = pause else { return Err(failure) };
            self.counters.note_retry();
            self.intake.rest(pause).await;
        }
    }

    async fn try_once(&mut self, batches: &[&Batch]) -> Result<Outcomes, Failure> {
        if self.link.is_none() {
            let opened = Link::open(&self.options, &self.tasks).await;
            if let Err(Failure::Refused(why)) = &opened {
                self.set_health(StoreHealth::Broken(why.clone()));
            }
            let opened = opened?;
            self.tell(opened.promise);
            self.link = Some(opened);
        }
        let link = self.link.as_ref().expect("it was opened");
        if batches.is_empty() {
            return Ok(Outcomes::new());
        }
        let mut group = Group::begin(link, batches, self.sweep_place).await?;
        let mut outcomes = Outcomes::with_capacity(batches.len());
        for batch in batches {
            outcomes.push(group.carry_out(batch).await?);
        }
        self.sweep_place = group.commit().await?;
        Ok(outcomes)
    }

    /// Says what a commit is worth, when that is not what it was.
    fn tell(&mut self, promise: Promise) {
        if self.told.replace(promise) == Some(promise) {
            return;
        }
        let place = self.options.place();
        if promise.is_broken() {
            tracing::warn!("PostgreSQL at {place}: {promise}");
        } else {
            tracing::info!("PostgreSQL at {place}: {promise}");
        }
    }

    fn set_health(&self, health: StoreHealth) {
        let mut known = self.health.lock();
        if *known == health {
            return;
        }
        match &health {
            StoreHealth::Good => tracing::info!("the store is good again"),
            StoreHealth::Degraded(why) | StoreHealth::Broken(why) => {
                let place = self.options.place();
                tracing::error!(why, place, "the store is degraded: what must be stored waits");
            }
        }
        *known = health;
    }
}
