//! The bounded queue between those who submit and the one who carries out.
//!
//! Invariants: a ticket is answered once, in its submitter's order, also when the store closes; what
//! one submitter has not fetched counts against its bound, so that nothing here grows without one; a
//! submitter that found no room is woken when there is, and until it has come back nobody goes before
//! it: what two submitters have of one Session stays in its order. What a submitter has handed over behind
//! a batch that is given up is given up with it: else what it offers again would come behind later messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::ports::store::{Batch, Completion, Done, Full, StoreError, Submitter, Ticket};
use crate::store::counters::StoreCounters;

/// The bounds of what waits.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "a bound is named for what it bounds")]
pub(super) struct IntakeLimits {
    /// Batches that all submitters together may have waiting.
    pub(super) batches_max: usize,
    /// Bytes of those.
    pub(super) bytes_max: usize,
    /// Batches of one submitter that it has no answer to, or has not fetched it.
    pub(super) unanswered_max: usize,
    /// Operations of one group.
    pub(super) group_operations_max: usize,
    /// Bytes of one group.
    pub(super) group_bytes_max: usize,
}

impl Default for IntakeLimits {
    fn default() -> Self {
        Self {
            batches_max: 65_536,
            bytes_max: 256 * 1_024 * 1_024,
            unanswered_max: 16_384,
            group_operations_max: 8_192,
            group_bytes_max: 16 * 1_024 * 1_024,
        }
    }
}

/// The queue. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Intake(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: IntakeLimits,
    counters: Arc<StoreCounters>,
    waiting: Mutex<Waiting>,
    /// For a thread that carries out,
    arrived: Condvar,
    /// or for a task.
    notify: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    bytes: usize,
    is_closed: bool,
    /// Submitters that found no room, in the order in which they came.
    line: VecDeque<Arc<Answers>>,
}

/// What a wait came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arrival {
    /// There is something to do.
    Batches,
    /// Nothing came in time.
    None,
    /// Nothing is to be done any more.
    Closed,
}

/// A batch that waits for its answer.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) batch: Batch,
    ticket: Ticket,
    bytes: usize,
    answers: Arc<Answers>,
}

/// What one submitter has not fetched.
#[derive(Debug, Default)]
struct Answers {
    state: Mutex<AnswersState>,
    /// A batch was given up, and its submitter has not fetched all of its answers. Written while the state
    /// is locked.
    has_given_up: AtomicBool,
}

#[derive(Debug, Default)]
struct AnswersState {
    completions: VecDeque<Completion>,
    waker: Option<Waker>,
}

impl Answers {
    fn push(&self, completions: impl IntoIterator<Item = Completion>) {
        self.state.lock().completions.extend(completions);
    }

    fn wake(&self) {
        let waker = self.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What one submitter is told.
struct Told {
    answers: Arc<Answers>,
    completions: Vec<Completion>,
    /// Why the last batch that was given up was.
    given_up: Option<String>,
}

impl Job {
    fn answered(self, outcome: Result<Done, StoreError>) -> Completion {
        Completion { ticket: self.ticket, outcome }
    }

    /// Gives it up at once.
    fn give_up(self, why: &str) {
        let answers = Arc::clone(&self.answers);
        answers.push([self.answered(Err(given_up(why)))]);
        answers.wake();
    }
}

impl Intake {
    pub(super) fn new(limits: IntakeLimits, counters: Arc<StoreCounters>) -> Self {
        let (waiting, arrived, notify) = Default::default();
        Self(Arc::new(Shared { limits, counters, waiting, arrived, notify }))
    }

    /// A way in.
    pub(super) fn door(&self) -> Door {
        Door { intake: self.clone(), answers: Arc::default(), last: 0, unanswered: 0 }
    }

    /// Nothing is carried out any more: what waits and what comes is answered so.
    pub(super) fn close(&self) {
        let mut waiting = self.0.waiting.lock();
        waiting.is_closed = true;
        let line = std::mem::take(&mut waiting.line);
        drop(waiting);
        for answers in &line {
            answers.wake();
        }
        self.0.arrived.notify_all();
        self.0.notify.notify_one();
    }

    /// Waits for something to do, for as long as `patience` where there is a bound.
    pub(super) fn wait(&self, patience: Option<Duration>) -> Arrival {
        let mut waiting = self.0.waiting.lock();
        let is_idle = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.is_closed;
        match patience {
            None => self.0.arrived.wait_while(&mut waiting, is_idle),
            Some(patience) => {
                let _timed_out = self.0.arrived.wait_while_for(&mut waiting, is_idle, patience);
            }
        }
        match (waiting.jobs.is_empty(), waiting.is_closed) {
            (false, _) => Arrival::Batches,
            (true, false) => Arrival::None,
            (true, true) => Arrival::Closed,
        }
    }

    /// The same for a task.
    pub(super) async fn arrival(&self) -> bool {
        loop {
            {
                let waiting = self.0.waiting.lock();
                if !waiting.jobs.is_empty() || waiting.is_closed {
                    return !waiting.jobs.is_empty();
                }
            }
            // One waits, and an arrival before the wait leaves a permit behind.
            self.0.notify.notified().await;
        }
    }

    /// Lets `pause` pass, or less when the store closes; `false` says that it does.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let mut waiting = self.0.waiting.lock();
        if !waiting.is_closed {
            let is_closed = |waiting: &mut Waiting| !waiting.is_closed;
            let _timed_out = self.0.arrived.wait_while_for(&mut waiting, is_closed, pause);
        }
        !waiting.is_closed
    }

    /// The same for a task.
    pub(super) async fn rest(&self, pause: Duration) {
        let closed = async {
            while !self.is_closed() {
                self.0.notify.notified().await;
            }
        };
        let _timed_out = tokio::time::timeout(pause, closed).await;
    }

    /// Whether the store closes: what waits is still carried out, but nothing is waited for.
    pub(super) fn is_closed(&self) -> bool {
        self.0.waiting.lock().is_closed
    }

    /// All that waits, as far as one group goes.
    pub(super) fn take_group(&self) -> Vec<Job> {
        let limits = self.0.limits;
        let mut waiting = self.0.waiting.lock();
        let (mut group, mut bytes, mut operations) = (Vec::new(), 0, 0);
        while let Some(job) = waiting.jobs.front() {
            bytes += job.bytes;
            operations += job.batch.operations.len();
            let is_over =
                bytes > limits.group_bytes_max || operations > limits.group_operations_max;
            if is_over && !group.is_empty() {
                break;
            }
            group.extend(waiting.jobs.pop_front());
        }
        waiting.bytes -= group.iter().map(|job| job.bytes).sum::<usize>();
        let first = waiting.line.front().cloned();
        drop(waiting);
        if let Some(answers) = first {
            answers.wake();
        }
        group
    }

    /// Answers a group, batch by batch. Each submitter is woken once.
    pub(super) fn answer(&self, group: Vec<Job>, outcomes: Vec<Result<Done, StoreError>>) {
        debug_assert_eq!(group.len(), outcomes.len(), "each batch has one answer");
        let mut all: Vec<Told> = Vec::new();
        for (job, outcome) in group.into_iter().zip(outcomes) {
            match &outcome {
                Ok(done) => {
                    let operations = job.batch.operations.len();
                    self.0.counters.note_stored(operations, done.fenced.len());
                }
                Err(_) => self.0.counters.note_failure(),
            }
            let told = told_of(&mut all, &job.answers);
            if let Err(StoreError::Transient(why)) = &outcome {
                told.given_up = Some(why.clone());
            }
            told.completions.push(job.answered(outcome));
        }
        for Told { answers, completions, given_up } in all {
            match given_up {
                None => answers.push(completions),
                Some(why) => self.give_up_behind(&answers, completions, &why),
            }
            answers.wake();
        }
    }

    /// A batch was given up: all that its submitter has handed over since is, too, until it knows.
    fn give_up_behind(&self, answers: &Arc<Answers>, known: Vec<Completion>, why: &str) {
        let mut waiting = self.0.waiting.lock();
        let (behind, others) = std::mem::take(&mut waiting.jobs)
            .into_iter()
            .partition::<VecDeque<Job>, _>(|job| Arc::ptr_eq(&job.answers, answers));
        waiting.jobs = others;
        waiting.bytes -= behind.iter().map(|job| job.bytes).sum::<usize>();
        behind.iter().for_each(|_| self.0.counters.note_failure());
        let behind = behind.into_iter().map(|job| job.answered(Err(given_up(why))));
        let mut state = answers.state.lock();
        state.completions.extend(known.into_iter().chain(behind));
        answers.has_given_up.store(true, Ordering::Relaxed);
        drop(state);
        let first = waiting.line.front().cloned();
        drop(waiting);
        if let Some(answers) = first {
            answers.wake();
        }
    }

    fn submit(&self, job: Job) -> Result<(), Batch> {
        let limits = self.0.limits;
        let mut waiting = self.0.waiting.lock();
        if waiting.is_closed {
            drop(waiting);
            job.give_up(CLOSED);
            return Ok(());
        }
        if job.answers.has_given_up.load(Ordering::Relaxed) {
            drop(waiting);
            self.0.counters.note_failure();
            job.give_up(BEHIND);
            return Ok(());
        }
        let is_full = waiting.jobs.len() >= limits.batches_max
            || (waiting.bytes + job.bytes > limits.bytes_max && !waiting.jobs.is_empty());
        if is_full || waiting.is_behind(&job.answers) {
            waiting.queue_up(&job.answers);
            return Err(job.batch);
        }
        let next = waiting.leave_line(&job.answers);
        waiting.bytes += job.bytes;
        waiting.jobs.push_back(job);
        let is_first = waiting.jobs.len() == 1;
        drop(waiting);
        if let Some(next) = next {
            next.wake();
        }
        if is_first {
            self.0.arrived.notify_all();
            self.0.notify.notify_one();
        }
        Ok(())
    }
}

impl Waiting {
    /// Whether somebody else was there before.
    fn is_behind(&self, answers: &Arc<Answers>) -> bool {
        self.line.front().is_some_and(|first| !Arc::ptr_eq(first, answers))
    }

    fn queue_up(&mut self, answers: &Arc<Answers>) {
        if !self.line.iter().any(|known| Arc::ptr_eq(known, answers)) {
            self.line.push_back(Arc::clone(answers));
        }
    }

    /// Takes it out of the line; who is to be woken because he is the first now.
    fn leave_line(&mut self, answers: &Arc<Answers>) -> Option<Arc<Answers>> {
        let place = self.line.iter().position(|known| Arc::ptr_eq(known, answers))?;
        self.line.remove(place);
        self.line.front().filter(|_| place == 0).cloned()
    }
}

/// One submitter's end.
#[derive(Debug)]
pub(super) struct Door {
    intake: Intake,
    answers: Arc<Answers>,
    last: u64,
    unanswered: usize,
}

impl Submitter for Door {
    fn submit(&mut self, batch: Batch) -> Result<Ticket, Full> {
        if self.unanswered >= self.intake.0.limits.unanswered_max {
            self.intake.0.counters.note_full();
            self.intake.0.waiting.lock().queue_up(&self.answers);
            return Err(Full(batch));
        }
        let ticket = Ticket(self.last + 1);
        let bytes = batch.charged_bytes();
        let job = Job { batch, ticket, bytes, answers: Arc::clone(&self.answers) };
        match self.intake.submit(job) {
            Ok(()) => {
                self.last += 1;
                self.unanswered += 1;
                Ok(ticket)
            }
            Err(batch) => {
                self.intake.0.counters.note_full();
                Err(Full(batch))
            }
        }
    }

    fn poll(&mut self, waker: &Waker) -> Option<Completion> {
        let mut state = self.answers.state.lock();
        let Some(completion) = state.completions.pop_front() else {
            state.waker = Some(waker.clone());
            return None;
        };
        if state.completions.is_empty() {
            self.answers.has_given_up.store(false, Ordering::Relaxed);
        }
        self.unanswered -= 1;
        Some(completion)
    }
}

impl Drop for Door {
    /// Nobody waits for one that does not come back.
    fn drop(&mut self) {
        let next = self.intake.0.waiting.lock().leave_line(&self.answers);
        if let Some(next) = next {
            next.wake();
        }
    }
}

fn given_up(why: &str) -> StoreError {
    StoreError::Transient(why.to_owned())
}

fn told_of<'a>(all: &'a mut Vec<Told>, answers: &Arc<Answers>) -> &'a mut Told {
    let known = all.iter().position(|told| Arc::ptr_eq(&told.answers, answers));
    let place = known.unwrap_or_else(|| {
        let answers = Arc::clone(answers);
        all.push(Told { answers, completions: Vec::new(), given_up: None });
        all.len() - 1
    });
    all.get_mut(place).expect("it was found, or is the last")
}

const CLOSED: &str = "the store is closed";
const BEHIND: &str = "a batch before it was given up";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::store::{Operation, OwnerId, SessionId};

    fn intake(batches_max: usize) -> Intake {
        let limits = IntakeLimits { batches_max, unanswered_max: 3, ..IntakeLimits::default() };
        Intake::new(limits, Arc::default())
    }

    fn batch() -> Batch {
        let read = Operation::ReadQueue { session: SessionId(1), after: 0, limit: 1, bytes_max: 1 };
        Batch { owner: OwnerId(1), now_millis: 0, operations: vec![read] }
    }

    fn answer_all(intake: &Intake) {
        let group = intake.take_group();
        let outcomes = group.iter().map(|_| Ok(Done::default())).collect();
        intake.answer(group, outcomes);
    }

    #[test]
    fn all_that_waits_makes_a_group_and_each_submitter_has_its_answers_in_order() {
        let intake = intake(8);
        let mut doors = [intake.door(), intake.door()];
        for _ in 0..2 {
            for door in &mut doors {
                door.submit(batch()).unwrap();
            }
        }
        assert_eq!(intake.wait(None), Arrival::Batches);
        answer_all(&intake);
        assert_eq!(intake.wait(Some(Duration::ZERO)), Arrival::None);
        for door in &mut doors {
            let mut tickets = Vec::new();
            while let Some(completion) = door.poll(Waker::noop()) {
                tickets.push(completion.ticket.0);
            }
            assert_eq!(tickets, [1, 2]);
        }
    }

    #[test]
    fn what_finds_no_room_comes_back_and_its_submitter_is_woken_when_there_is() {
        let intake = intake(1);
        let (mut one, mut other) = (intake.door(), intake.door());
        one.submit(batch()).unwrap();
        let Err(Full(back)) = other.submit(batch()) else { panic!("there was room") };
        assert_eq!(back, batch());
        let (waker, woken) = counting_waker();
        assert!(other.poll(&waker).is_none());
        answer_all(&intake);
        assert_eq!(woken.count(), 1);
        assert_eq!(other.submit(back).unwrap(), Ticket(1), "the number was not used up");
    }

    /// A shard had taken a Subscription of a client into a batch that came back. The client went on
    /// at another shard, and its UNSUBSCRIBE was stored first.
    #[test]
    fn nobody_goes_before_one_that_found_no_room() {
        let intake = intake(1);
        let (mut one, mut other, mut third) = (intake.door(), intake.door(), intake.door());
        third.submit(batch()).unwrap();
        assert!(one.submit(batch()).is_err());
        let (waker, woken) = counting_waker();
        let (next_waker, next_woken) = counting_waker();
        assert!(one.poll(&waker).is_none() && other.poll(&next_waker).is_none());
        answer_all(&intake);
        assert!(other.submit(batch()).is_err(), "there is room, for the other one");
        assert_eq!((woken.count(), next_woken.count()), (1, 0));
        assert!(one.submit(batch()).is_ok());
        assert_eq!(next_woken.count(), 1);
        assert!(other.submit(batch()).is_err(), "there is no room again");
        answer_all(&intake);
        assert!(third.submit(batch()).is_err());
        drop(other);
        assert!(third.submit(batch()).is_ok(), "who has gone holds nobody up");
    }

    #[test]
    fn answers_that_are_not_fetched_count() {
        let intake = intake(8);
        let mut door = intake.door();
        for ticket in 1..=3 {
            assert_eq!(door.submit(batch()).unwrap(), Ticket(ticket));
        }
        answer_all(&intake);
        assert!(door.submit(batch()).is_err());
        assert!(door.poll(Waker::noop()).is_some());
        assert!(door.submit(batch()).is_ok());
    }

    #[test]
    fn a_closed_store_answers_everything() {
        let intake = intake(8);
        let mut door = intake.door();
        door.submit(batch()).unwrap();
        intake.close();
        assert_eq!(intake.wait(None), Arrival::Batches, "what waits is carried out");
        answer_all(&intake);
        assert_eq!(intake.wait(None), Arrival::Closed);
        door.submit(batch()).unwrap();
        let outcomes: Vec<_> =
            std::iter::from_fn(|| door.poll(Waker::noop())).map(|it| it.outcome.is_ok()).collect();
        assert_eq!(outcomes, [true, false]);
    }

    /// The story: a message was given up after a server had been away for long, and one that was handed over
    /// behind it was stored, since the server was there again. Whoever offered the first one again found
    /// it behind the second.
    #[test]
    fn what_is_handed_over_behind_a_batch_that_is_given_up_is_given_up_with_it() {
        let intake = intake(8);
        let (mut door, mut other) = (intake.door(), intake.door());
        door.submit(batch()).unwrap();
        let group = intake.take_group();
        other.submit(batch()).unwrap();
        door.submit(batch()).unwrap();
        intake.answer(group, vec![Err(StoreError::Transient("away".to_owned()))]);
        door.submit(batch()).unwrap();
        let mut outcomes = Vec::new();
        while let Some(Completion { ticket, outcome }) = door.poll(Waker::noop()) {
            outcomes.push((ticket.0, outcome.is_ok()));
        }
        assert_eq!(outcomes, [(1, false), (2, false), (3, false)]);
        // It knows by now: what it has from here on is in its order.
        door.submit(batch()).unwrap();
        answer_all(&intake);
        for door in [&mut door, &mut other] {
            assert!(door.poll(Waker::noop()).unwrap().outcome.is_ok(), "the others wait on");
        }
    }

    fn counting_waker() -> (Waker, Arc<Woken>) {
        let woken = Arc::<Woken>::default();
        (Waker::from(Arc::clone(&woken)), woken)
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicUsize);

    impl Woken {
        fn count(&self) -> usize {
            self.0.load(std::sync::atomic::Ordering::SeqCst)
        }
    }

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
}
