//! The task that owns the connection.

use std::sync::Arc;
use std::time::Duration;

use super::PostgresOptions;
use super::connect::Link;
use super::group::Group;
use super::promise::Promise;
use crate::ports::clock::Tick;
use crate::ports::store::{Batch, StoreError, StoreHealth};
use crate::runtime::Clock;
use crate::runtime::background::BackgroundHandle;
use crate::store::backoff::Backoff;
use crate::store::condition::Condition;
use crate::store::counters::StoreCounters;
use crate::store::intake::{Intake, Job};
use crate::store::retry::{Failure, Outcomes, given_up_before};

pub(super) struct Task {
    options: PostgresOptions,
    tasks: BackgroundHandle,
    clock: Clock,
    intake: Intake,
    condition: Arc<Condition>,
    counters: Arc<StoreCounters>,
    link: Option<Link>,
    /// What was said of its commits.
    told: Option<Promise>,
    /// When it is asked again.
    ask_at: Tick,
    /// Behind which message the search for those that nobody needs goes on.
    sweep_place: i64,
}

impl Task {
    pub(super) fn new(
        options: PostgresOptions,
        tasks: BackgroundHandle,
        clock: Clock,
        intake: Intake,
        condition: Arc<Condition>,
        counters: Arc<StoreCounters>,
    ) -> Self {
        let (link, told, ask_at, sweep_place) = (None, None, clock.now(), i64::MIN);
        Self { options, tasks, clock, intake, condition, counters, link, told, ask_at, sweep_place }
    }

    pub(super) async fn run(mut self) {
        // Health tells what is wrong before anybody needs the store.
        let _outcomes = self.store(&[]).await;
        while self.arrival().await {
            let group = self.intake.take_group();
            let outcomes = self.carry_out(&group).await;
            self.intake.answer(group, outcomes);
        }
    }

    /// Waits for something to do; `false` when nothing will come. Whether trouble is over is not left
    /// to the next who has something to store, and nobody waits for a probe that hangs.
    async fn arrival(&mut self) -> bool {
        let intake = self.intake.clone();
        while !self.condition.is_good() {
            tokio::select! {
                biased;
                is_any = intake.arrival() => return is_any,
                () = self.probe() => {}
            }
        }
        intake.arrival().await
    }

    async fn probe(&mut self) {
        tokio::time::sleep(PROBE_PAUSE).await;
        // What is wrong is in the condition.
        let _outcomes = self.try_within(ANSWER_WITHIN, &[]).await;
    }

    /// All of a group in one transaction; if it is refused, each batch in one of its own.
    async fn carry_out(&mut self, group: &[Job]) -> Outcomes {
        let batches: Vec<&Batch> = group.iter().map(|job| &job.batch).collect();
        match self.store(&batches).await {
            Ok(outcomes) => outcomes,
            Err(Failure::Refused(_)) if batches.len() > 1 => {
                let mut outcomes = Outcomes::with_capacity(batches.len());
                for batch in batches {
                    if let Some(error) = given_up_before(&outcomes) {
                        outcomes.push(Err(error));
                        continue;
                    }
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
        let patience = u64::try_from(self.options.patience.as_millis()).unwrap_or(u64::MAX);
        let deadline = self.clock.now().plus_millis(patience);
        let mut backoff = Backoff::new(self.options.patience);
        loop {
            // A server that is silent takes no more of the time than there is.
            let limit = self.left_until(deadline).clamp(TRY_MIN, ANSWER_WITHIN);
            let failure = match self.try_within(limit, batches).await {
                Err(failure @ (Failure::Transient(_) | Failure::Damaged(_))) => failure,
                ended => return ended,
            };
            let left = self.left_until(deadline);
            let is_over = left.is_zero() || self.intake.is_closed();
            let pause = backoff.next().filter(|_| !is_over);
            let Some(pause) = pause else { return Err(failure) };
            self.counters.note_retry();
            self.intake.rest(pause.min(left)).await;
        }
    }

    fn left_until(&self, deadline: Tick) -> Duration {
        Duration::from_millis(deadline.saturating_since(self.clock.now()))
    }

    /// One try, and what it says of the server.
    async fn try_within(
        &mut self,
        limit: Duration,
        batches: &[&Batch],
    ) -> Result<Outcomes, Failure> {
        self.condition.begin();
        let tried = tokio::time::timeout(limit, self.try_once(batches)).await;
        self.condition.end();
        let tried = tried.unwrap_or_else(|_| Err(Failure::Transient(SILENT.to_owned())));
        match &tried {
            Ok(_) => self.condition.set(StoreHealth::Good),
            Err(Failure::Transient(why) | Failure::Damaged(why)) => {
                self.condition.set(StoreHealth::Degraded(why.clone()));
            }
            Err(Failure::Refused(_)) => {}
        }
        tried
    }

    async fn try_once(&mut self, batches: &[&Batch]) -> Result<Outcomes, Failure> {
        // A connection comes back when all went well. What was begun on another one is rolled back
        // with it, or was committed: then it changes nothing to do it again.
        let link = match self.link.take() {
            Some(link) => link,
            None => self.open().await?,
        };
        self.ask_again(&link).await?;
        let mut outcomes = Outcomes::with_capacity(batches.len());
        if batches.is_empty() {
            link.client.batch_execute(PROBE).await?;
        } else {
            let mut group = Group::begin(&link, batches, self.sweep_place).await?;
            for batch in batches {
                outcomes.push(group.carry_out(batch).await?);
            }
            self.sweep_place = group.commit().await?;
            self.counters.note_group();
        }
        self.link = Some(link);
        Ok(outcomes)
    }

    async fn open(&mut self) -> Result<Link, Failure> {
        // Whatever is wrong, it is wrong now: a password may be set, a database made.
        let client = self.options.connect(&self.tasks).await.map_err(Failure::Transient)?;
        // Told before anything is written: that may be what has to wait.
        let promise = Promise::of(&client).await?;
        self.tell(promise.clone());
        let opened = Link::open(client, promise, &self.options).await;
        if let Err(Failure::Refused(why)) = &opened {
            self.condition.set(StoreHealth::Broken(why.clone()));
        }
        opened
    }

    /// Standbys come and go, and so does what is asked of them, while a connection lasts.
    async fn ask_again(&mut self, link: &Link) -> Result<(), Failure> {
        if self.clock.now() >= self.ask_at {
            let promise = link.promise.again(&link.client).await?;
            self.tell(promise);
        }
        Ok(())
    }

    /// Says what a commit is worth, when that is not what it was.
    fn tell(&mut self, promise: Promise) {
        self.ask_at = self.clock.now().plus_millis(ASK_MILLIS);
        if self.told.as_ref() == Some(&promise) {
            return;
        }
        let place = self.options.place();
        if promise.is_broken() {
            tracing::warn!("PostgreSQL at {place}: {promise}");
        } else {
            tracing::info!("PostgreSQL at {place}: {promise}");
        }
        self.condition.set_promise(promise.to_string());
        self.told = Some(promise);
    }
}

/// How long after a failure the server is tried although nobody asks for anything.
const PROBE_PAUSE: Duration = Duration::from_millis(500);
/// How often somebody who stores something asks what that is worth.
const ASK_MILLIS: u64 = 10_000;
/// How long the server may take for one try, before the connection is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// What a try has at least, also where the time is nearly up.
const TRY_MIN: Duration = Duration::from_millis(500);
/// It has no number in it: a condition that says the same is not told again.
const SILENT: &str = "the server has not answered in time";
/// Writes something that means nothing, into the only row of a table.
const PROBE: &str = "UPDATE cluster SET numbers = numbers";
