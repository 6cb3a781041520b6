//! The thread that owns the file.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use super::SqliteOptions;
use super::group::Group;
use super::open::Place;
use crate::ports::store::{Batch, Done, OwnerId, Registered, Reply, StoreHealth};
use crate::runtime::Clock;
use crate::store::backoff::Backoff;
use crate::store::codec::{millis, owner_bytes};
use crate::store::condition::Condition;
use crate::store::counters::StoreCounters;
use crate::store::intake::{Arrival, Intake, Job};
use crate::store::retry::{Failure, Outcomes, given_up_before};

/// A moment at which the process may end.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Step {
    /// The file is open and its schema is up to date.
    Opened,
    /// A transaction has begun.
    Begun,
    /// A batch is written, and not committed.
    Written,
    /// The transaction is committed, and nobody knows.
    Committed,
    /// The batches are answered.
    Answered,
}

/// Called at every [`Step`].
pub type Hook = Box<dyn FnMut(Step) + Send>;

pub(super) struct Worker {
    options: SqliteOptions,
    place: Place,
    clock: Clock,
    intake: Intake,
    condition: Arc<Condition>,
    counters: Arc<StoreCounters>,
    connection: Option<Connection>,
    /// Who works on the file, since this process began.
    registered: Option<(OwnerId, Registered)>,
    /// Behind which message the search for those that nobody needs goes on.
    sweep_place: i64,
}

impl Worker {
    pub(super) fn new(
        options: SqliteOptions,
        clock: Clock,
        intake: Intake,
        condition: Arc<Condition>,
        counters: Arc<StoreCounters>,
    ) -> Self {
        let place = Place::new(options.directory.clone());
        let (connection, registered, sweep_place) = (None, None, i64::MIN);
        Self {
            options,
            place,
            clock,
            intake,
            condition,
            counters,
            connection,
            registered,
            sweep_place,
        }
    }

    pub(super) fn run(mut self) {
        // A file that cannot be opened now may be when there is something to write.
        let _known = self.with_patience(|_connection, _steps| Ok(()));
        loop {
            // Whether trouble is over is not left to the next who has something to store.
            let patience = (!self.condition.is_good()).then_some(PROBE_PAUSE);
            match self.intake.wait(patience) {
                Arrival::Batches => self.serve(),
                Arrival::None => self.probe(),
                Arrival::Closed => break,
            }
        }
        self.close();
    }

    fn serve(&mut self) {
        let group = self.intake.take_group();
        let outcomes = self.carry_out(&group);
        self.intake.answer(group, outcomes);
        self.step(Step::Answered);
    }

    /// Writes something that means nothing.
    fn probe(&mut self) {
        let tried = self.try_once(&mut |connection: &mut Connection, _: &mut dyn FnMut(Step)| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let number: i32 =
                transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
            transaction.pragma_update(None, "user_version", number.wrapping_add(1))?;
            transaction.commit()?;
            Ok(())
        });
        match tried {
            Ok(()) => self.condition.set(StoreHealth::Good),
            Err(failure) => {
                self.connection = None;
                self.condition.set(StoreHealth::Degraded(failure.to_string()));
            }
        }
    }

    /// All of a group in one transaction; if it is refused, each batch in one of its own.
    fn carry_out(&mut self, group: &[Job]) -> Outcomes {
        let batches: Vec<&Batch> = group.iter().map(|job| &job.batch).collect();
        match self.store(&batches) {
            Ok(outcomes) => outcomes,
            Err(Failure::Refused(_)) if batches.len() > 1 => {
                let mut outcomes = Outcomes::with_capacity(batches.len());
                for batch in batches {
                    if let Some(error) = given_up_before(&outcomes) {
                        outcomes.push(Err(error));
                        continue;
                    }
                    match self.store(&[batch]) {
                        Ok(alone) => outcomes.extend(alone),
                        Err(failure) => outcomes.push(Err(failure.into())),
                    }
                }
                outcomes
            }
            Err(failure) => {
                let error = crate::ports::store::StoreError::from(failure);
                batches.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn store(&mut self, batches: &[&Batch]) -> Result<Outcomes, Failure> {
        let mut sweep_place = self.sweep_place;
        let outcomes = self.with_patience(|connection, steps| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            steps(Step::Begun);
            let mut group = Group::new(&transaction, sweep_place);
            let mut outcomes = Outcomes::with_capacity(batches.len());
            for batch in batches {
                outcomes.push(group.carry_out(batch)?);
                steps(Step::Written);
            }
            sweep_place = group.sweep_place();
            transaction.commit()?;
            steps(Step::Committed);
            Ok(outcomes)
        })?;
        self.sweep_place = sweep_place;
        self.counters.note_group();
        self.note_registered(batches, &outcomes);
        Ok(outcomes)
    }

    fn note_registered(&mut self, batches: &[&Batch], outcomes: &Outcomes) {
        for (batch, outcome) in batches.iter().zip(outcomes) {
            let Ok(Done { replies, .. }) = outcome else { continue };
            if let Some(Reply::Registered(registered)) = replies.first() {
                self.registered = Some((batch.owner, *registered));
            }
        }
    }

    /// Does `work` until it is done, cannot be done, or the time for it is up.
    fn with_patience<T>(
        &mut self,
        mut work: impl FnMut(&mut Connection, &mut dyn FnMut(Step)) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut backoff = Backoff::new(self.options.patience);
        let mut repairs_left = REPAIRS_MAX;
        loop {
            let failure = match self.try_once(&mut work) {
                Ok(done) => {
                    self.condition.set(StoreHealth::Good);
                    return Ok(done);
                }
                Err(failure) => failure,
            };
            match &failure {
                Failure::Refused(_) => return Err(failure),
                Failure::Damaged(why) if repairs_left > 0 => {
                    repairs_left -= 1;
                    self.repair(why);
                }
                Failure::Damaged(why) | Failure::Transient(why) => {
                    self.condition.set(StoreHealth::Degraded(why.clone()));
                    // After a failed flush nobody knows what the system kept of the log.
                    self.connection = None;
                    let pause = backoff.next().filter(|_| !self.intake.is_closed());
                    let Some(pause) = pause else { return Err(failure) };
                    self.counters.note_retry();
                    self.intake.pause(pause);
                }
            }
        }
    }

    fn try_once<T>(
        &mut self,
        work: &mut impl FnMut(&mut Connection, &mut dyn FnMut(Step)) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.condition.begin();
        let tried = self.work_once(work);
        self.condition.end();
        tried
    }

    fn work_once<T>(
        &mut self,
        work: &mut impl FnMut(&mut Connection, &mut dyn FnMut(Step)) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.connection.is_none() {
            self.connection = Some(self.place.open()?);
            self.step(Step::Opened);
        }
        let hook = &mut self.options.hook;
        let mut steps = |step| {
            if let Some(hook) = hook {
                hook(step);
            }
        };
        let connection = self.connection.as_mut().expect("it was opened");
        work(connection, &mut steps)
    }

    fn repair(&mut self, why: &str) {
        self.connection = None;
        let newest = self.registered.map(|(_, registered)| registered.number);
        let replaced = self.place.replace_damaged(why, self.clock.unix_millis(), newest);
        let known = replaced.and_then(|connection| self.introduce(connection));
        match known {
            Ok(connection) => {
                self.connection = Some(connection);
                self.condition.note_replaced();
            }
            Err(failure) => tracing::error!(%failure, "the damaged store could not be replaced"),
        }
    }

    /// A file that was replaced may not know who works on it, and would take nothing from him.
    fn introduce(&self, connection: Connection) -> Result<Connection, Failure> {
        if let Some((owner, registered)) = self.registered {
            let (owner, number) = (owner_bytes(owner), registered.number.cast_signed());
            connection
                .execute(INTRODUCE, params![owner, number, millis(self.clock.unix_millis())])?;
        }
        Ok(connection)
    }

    fn step(&mut self, step: Step) {
        if let Some(hook) = &mut self.options.hook {
            hook(step);
        }
    }

    fn close(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if let Err((_, error)) = connection.close() {
            tracing::warn!(%error, "the store was not closed properly: it will be read again from its log");
        }
    }
}

/// How long after a failure the store is tried although nobody asks for anything.
const PROBE_PAUSE: Duration = Duration::from_millis(500);
/// How often one group may find the file damaged.
const REPAIRS_MAX: u32 = 1;
const INTRODUCE: &str = "INSERT INTO broker (owner, number, since) VALUES (?1, ?2, ?3)
    ON CONFLICT DO NOTHING";
