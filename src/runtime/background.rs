//! The runtime beside the shards: acceptors, signals, HTTP for operators, files.
//!
//! Work here may wait for other servers and may block briefly. It never carries messages.

use super::tasks::{TaskCount, Tasks, UnfinishedTasks};
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// The background runtime. Whoever holds it decides when it ends.
#[derive(Debug)]
pub struct Background {
    runtime: Runtime,
    handle: BackgroundHandle,
}

/// Spawns on the background runtime from any thread. Clones are the same runtime.
#[derive(Clone, Debug)]
pub struct BackgroundHandle {
    tasks: Tasks,
}

impl Background {
    /// Starts the runtime with `threads` workers (at least one).
    ///
    /// # Errors
    ///
    /// When the system gives no thread or event loop.
    pub fn start(threads: usize) -> io::Result<Self> {
        let runtime = runtime("background", threads.max(1))?;
        let handle = BackgroundHandle { tasks: Tasks::new(runtime.handle().clone()) };
        Ok(Self { runtime, handle })
    }

    /// A thread of this name with an event loop of its own, for work that takes the processor for longer
    /// than others should wait. Tasks that wake each other there need no second thread for it. They are
    /// counted and joined with those that are here.
    ///
    /// # Errors
    ///
    /// When the system gives no thread or event loop.
    pub fn beside(&self, name: &'static str) -> io::Result<Self> {
        let runtime = runtime(name, 1)?;
        let handle = BackgroundHandle { tasks: self.handle.tasks.on(runtime.handle().clone()) };
        Ok(Self { runtime, handle })
    }

    /// The handle to spawn with.
    #[must_use]
    pub fn handle(&self) -> BackgroundHandle {
        self.handle.clone()
    }

    /// Runs `future` on the calling thread until it is done: the main thread's way in.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Waits until no task is left, at most for `limit`.
    ///
    /// # Errors
    ///
    /// When tasks are left; the error names them.
    pub async fn join_tasks(&self, limit: Duration) -> Result<(), UnfinishedTasks> {
        self.handle.tasks.join(limit).await
    }

    /// Ends the runtime, at most `limit` after now; what has not ended is left behind.
    pub fn stop(self, limit: Duration) {
        self.runtime.shutdown_timeout(limit);
    }
}

impl BackgroundHandle {
    /// Starts a task, from any thread.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(name, future);
    }

    /// Runs `f` where sockets and timers register with this runtime, on the caller's thread.
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        self.tasks.enter(f)
    }

    /// How many tasks of each name are alive.
    #[must_use]
    pub fn task_counts(&self) -> Vec<TaskCount> {
        self.tasks.counts()
    }
}

fn runtime(name: &'static str, threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name(name)
        .enable_io()
        .enable_time()
        .build()
}

/// Lets a shard go first that waits for the same processor. Work of some hundred microseconds that never
/// waits calls it between its parts: a shard would have to wait for the end of a time slice, which is
/// longer than all that a message takes.
pub fn give_way() {
    std::thread::yield_now();
}

/// Name look-ups and file reads of the runtime itself.
const BLOCKING_THREADS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn tasks_run_are_counted_and_joined() {
        let background = Background::start(1).unwrap();
        let handle = background.handle();
        let (stop, stopped) = oneshot::channel::<()>();
        handle.spawn("waits", async move {
            let _ = stopped.await;
        });
        assert_eq!(handle.task_counts(), [TaskCount { name: "waits", running: 1 }]);
        stop.send(()).unwrap();
        background.block_on(background.join_tasks(Duration::from_secs(10))).unwrap();
        background.stop(Duration::from_secs(10));
    }

    #[test]
    fn tasks_beside_run_elsewhere_and_are_counted_here() {
        let background = Background::start(1).unwrap();
        let beside = background.beside("beside").unwrap();
        let (tell, told) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        beside.handle().spawn("waits", async move {
            tell.send(std::thread::current().name().map(str::to_owned)).unwrap();
            let _ = stopped.await;
        });
        assert_eq!(background.block_on(told).unwrap().as_deref(), Some("beside"));
        assert_eq!(background.handle().task_counts(), [TaskCount { name: "waits", running: 1 }]);
        stop.send(()).unwrap();
        background.block_on(background.join_tasks(Duration::from_secs(10))).unwrap();
        beside.stop(Duration::from_secs(10));
        background.stop(Duration::from_secs(10));
    }
}
