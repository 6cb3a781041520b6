//! Spawning: every task has a name, is counted while it lives, and can be waited for.
//!
//! A spawned future is wrapped in eight bytes more than it has, because an idle connection is a
//! task and there may be a million of them.

use parking_lot::Mutex;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// The tasks of one runtime.
///
/// Clones share the counts. There is one count for each name; names are literals in the source,
/// which bounds their number.
#[derive(Clone, Debug)]
pub(super) struct Tasks {
    handle: Handle,
    counters: Arc<Mutex<Vec<Arc<Counter>>>>,
    ended: Arc<Notify>,
}

/// How many tasks of one name are alive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TaskCount {
    /// What the tasks do.
    pub name: &'static str,
    /// How many of them have not ended.
    pub running: usize,
}

/// Tasks that had not ended when the time for it was up.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("tasks have not ended in time: {}", list(.0))]
pub struct UnfinishedTasks(pub Vec<TaskCount>);

/// Counts as a task of its name until it is dropped, for what waits without a task of its own.
pub struct TaskHold(#[expect(dead_code, reason = "it is dropped, not read")] Alive);

impl Tasks {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, counters: Arc::default(), ended: Arc::default() }
    }

    /// The same for tasks on another runtime, counted together with these.
    pub(super) fn on(&self, handle: Handle) -> Self {
        Self { handle, ..self.clone() }
    }

    /// Starts `future` as a task. It must not panic: a release build aborts the whole broker then,
    /// because what the task shared with others may be half changed. Where panics unwind, as in
    /// tests, the task ends and is no longer counted.
    pub(super) fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let alive = Alive::new(self.counter(name));
        // The handle to join is dropped: the count is what shutdown waits for.
        drop(self.handle.spawn(Counted { future, _alive: alive }));
    }

    /// Counts one more task of this name, without starting any.
    pub(super) fn hold(&self, name: &'static str) -> TaskHold {
        TaskHold(Alive::new(self.counter(name)))
    }

    /// Waits until no task is left, at most for `limit`.
    pub(super) async fn join(&self, limit: Duration) -> Result<(), UnfinishedTasks> {
        self.join_those(|_name| true, limit).await
    }

    /// Waits until none is left of the tasks whose names are wanted, at most for `limit`.
    pub(super) async fn join_those(
        &self,
        is_wanted: impl Fn(&str) -> bool,
        limit: Duration,
    ) -> Result<(), UnfinishedTasks> {
        let all_ended = async {
            loop {
                let ended = self.ended.notified();
                tokio::pin!(ended);
                // Listen first, look second: an end in between is not missed.
                ended.as_mut().enable();
                if self.alive(&is_wanted).is_empty() {
                    return;
                }
                ended.await;
            }
        };
        let joined = tokio::time::timeout(limit, all_ended).await;
        joined.map_err(|_| UnfinishedTasks(self.alive(&is_wanted)))
    }

    /// The count of every name, also of those that have ended.
    pub(super) fn counts(&self) -> Vec<TaskCount> {
        self.counters.lock().iter().map(|counter| counter.count()).collect()
    }

    /// Runs `f` where sockets and timers register with this runtime.
    pub(super) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        let _context = self.handle.enter();
        f()
    }

    fn alive(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<TaskCount> {
        let is_alive = |count: &TaskCount| count.running > 0 && is_wanted(count.name);
        self.counts().into_iter().filter(is_alive).collect()
    }

    fn counter(&self, name: &'static str) -> Arc<Counter> {
        let mut counters = self.counters.lock();
        if let Some(counter) = counters.iter().find(|counter| counter.name == name) {
            return counter.clone();
        }
        let counter =
            Arc::new(Counter { name, running: AtomicUsize::new(0), ended: self.ended.clone() });
        counters.push(counter.clone());
        counter
    }
}

impl TaskCount {
    /// Adds up the counts of several runtimes by name.
    #[must_use]
    pub fn sum_by_name(counts: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut sums: Vec<Self> = Vec::new();
        for count in counts {
            match sums.iter_mut().find(|sum| sum.name == count.name) {
                Some(sum) => sum.running += count.running,
                None => sums.push(count),
            }
        }
        sums
    }
}

fn list(counts: &[TaskCount]) -> String {
    let each: Vec<_> =
        counts.iter().map(|count| format!("{} of {}", count.running, count.name)).collect();
    each.join(", ")
}

#[derive(Debug)]
struct Counter {
    name: &'static str,
    running: AtomicUsize,
    ended: Arc<Notify>,
}

impl Counter {
    fn count(&self) -> TaskCount {
        TaskCount { name: self.name, running: self.running.load(Ordering::Acquire) }
    }
}

/// One task of the count, from spawning until its future is dropped.
struct Alive(Arc<Counter>);

impl Alive {
    fn new(counter: Arc<Counter>) -> Self {
        counter.running.fetch_add(1, Ordering::AcqRel);
        Self(counter)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

pin_project! {
    // An `async` block around the future would hold it twice, as captured and as awaited.
    struct Counted<F> {
        #[pin]
        future: F,
        // Dropped after the future: what is not counted has let go of everything.
        _alive: Alive,
    }
}

impl<F: Future<Output = ()>> Future for Counted<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().future.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn join_waits_for_every_task_and_names_those_that_do_not_end() {
        let tasks = Tasks::new(Handle::current());
        let (stop, stopped) = oneshot::channel::<()>();
        tasks.spawn("waits", async move {
            let _ = stopped.await;
        });
        tasks.spawn("ends", async {});

        let unfinished = tasks.join(Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(unfinished.0, [TaskCount { name: "waits", running: 1 }]);
        assert_eq!(unfinished.to_string(), "tasks have not ended in time: 1 of waits");

        stop.send(()).unwrap();
        tasks.join(Duration::from_secs(10)).await.unwrap();
        assert!(tasks.counts().iter().all(|count| count.running == 0));
    }

    #[tokio::test]
    async fn some_tasks_can_be_waited_for_while_others_go_on() {
        let tasks = Tasks::new(Handle::current());
        tasks.spawn("stays", std::future::pending());
        let (stop, stopped) = oneshot::channel::<()>();
        tasks.spawn("goes", async move {
            let _ = stopped.await;
        });
        let goes = |name: &str| name == "goes";
        let unfinished = tasks.join_those(goes, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(unfinished.0, [TaskCount { name: "goes", running: 1 }]);
        stop.send(()).unwrap();
        tasks.join_those(goes, Duration::from_secs(10)).await.unwrap();
    }

    #[tokio::test]
    async fn a_panicking_task_is_not_counted_for_ever() {
        let tasks = Tasks::new(Handle::current());
        tasks.spawn("panics", async { panic!("as the test wants it") });
        tasks.join(Duration::from_secs(10)).await.unwrap();
    }

    #[test]
    fn the_count_costs_eight_bytes_a_task() {
        assert_eq!(size_of::<Counted<[u64; 8]>>(), size_of::<[u64; 8]>() + 8);
    }

    #[test]
    fn sums_are_by_name() {
        let one = TaskCount { name: "a", running: 1 };
        let other = TaskCount { name: "b", running: 2 };
        let sums = TaskCount::sum_by_name([one, other, one]);
        assert_eq!(sums, [TaskCount { name: "a", running: 2 }, other]);
    }
}
