//! Shards: one thread, one event loop, and the connections that live and die on it.

use super::tasks::{TaskCount, TaskHold, Tasks, UnfinishedTasks};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::Notify;

/// All shards of a broker.
#[derive(Debug)]
pub struct Shards {
    handles: Arc<ShardHandles>,
    threads: Vec<ShardThread>,
}

#[derive(Debug)]
struct ShardThread {
    stop: Arc<Notify>,
    /// Closed when the thread ends; nothing is ever sent.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

/// The handles of all shards: what an acceptor needs to place a connection.
#[derive(Debug)]
pub struct ShardHandles {
    /// Never empty.
    handles: Vec<ShardHandle>,
    /// Advanced by every choice; its first value is an input, so that choices can be repeated.
    choice: AtomicU64,
}

/// One shard, from any thread. Clones are the same shard.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    id: usize,
    connections: Arc<AtomicUsize>,
    tasks: Tasks,
}

/// A connection's place on its shard: counted until it is dropped.
#[derive(Debug)]
pub struct ShardPlace(Arc<AtomicUsize>);

impl Shards {
    /// Starts `count` shards (at least one). `seed` decides how ties between them are broken.
    ///
    /// # Errors
    ///
    /// When the system gives no thread or event loop.
    pub fn start(count: usize, seed: u64) -> io::Result<Self> {
        let mut handles = Vec::new();
        let mut threads = Vec::new();
        for id in 0..count.max(1) {
            let (handle, thread) = start_shard(id)?;
            handles.push(handle);
            threads.push(thread);
        }
        let handles = Arc::new(ShardHandles { handles, choice: AtomicU64::new(seed) });
        Ok(Self { handles, threads })
    }

    /// The handles of all shards.
    #[must_use]
    pub fn handles(&self) -> Arc<ShardHandles> {
        self.handles.clone()
    }

    /// Waits until no shard has a task of these names left, at most for `limit`.
    ///
    /// # Errors
    ///
    /// When tasks are left; the error names them.
    pub async fn join_tasks(&self, names: &[&str], limit: Duration) -> Result<(), UnfinishedTasks> {
        let is_wanted = |name: &str| names.contains(&name);
        let joins = self.handles.iter().map(|shard| shard.tasks.join_those(is_wanted, limit));
        let mut unfinished = Vec::new();
        for outcome in futures_util::future::join_all(joins).await {
            if let Err(UnfinishedTasks(counts)) = outcome {
                unfinished.extend(counts);
            }
        }
        if unfinished.is_empty() {
            return Ok(());
        }
        Err(UnfinishedTasks(TaskCount::sum_by_name(unfinished)))
    }

    /// Ends the threads and waits for each, at most for `limit`. Tasks still alive are dropped where
    /// they wait; a thread in a turn that takes longer ends with the process.
    ///
    /// Blocks: call it from the main thread or from one that may block.
    pub fn stop(self, limit: Duration) {
        for ShardThread { stop, .. } in &self.threads {
            stop.notify_one();
        }
        for ShardThread { ended, thread, .. } in self.threads {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected) {
                // A shard that panicked has said so; there is nothing left to wait for.
                let _ = thread.join();
            }
        }
    }
}

impl ShardHandles {
    /// Places one more connection: on the less loaded of two shards.
    #[must_use]
    pub fn pick(&self) -> &ShardHandle {
        let (first, second) = two_of(self.handles.len(), self.next_choice());
        match (self.handles.get(first), self.handles.get(second)) {
            (Some(a), Some(b)) if b.connection_count() < a.connection_count() => b,
            (Some(a), _) => a,
            (None, _) => unreachable!("`two_of` stays below the number of shards"),
        }
    }

    /// Every shard, in the order of their ids.
    pub fn iter(&self) -> std::slice::Iter<'_, ShardHandle> {
        self.handles.iter()
    }

    /// How many shards there are: at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// How many tasks of each name are alive on all shards together.
    #[must_use]
    pub fn task_counts(&self) -> Vec<TaskCount> {
        TaskCount::sum_by_name(self.handles.iter().flat_map(|shard| shard.tasks.counts()))
    }

    /// `SplitMix64`: one addition that threads may race for, then mixing that needs no state.
    fn next_choice(&self) -> u64 {
        let mut z = self.choice.fetch_add(GOLDEN_GAMMA, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl<'a> IntoIterator for &'a ShardHandles {
    type Item = &'a ShardHandle;
    type IntoIter = std::slice::Iter<'a, ShardHandle>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl ShardHandle {
    /// The number of this shard, from zero.
    #[must_use]
    pub fn id(&self) -> usize {
        self.id
    }

    /// How many connections have their place here.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Takes a place for one connection.
    #[must_use]
    pub fn take_place(&self) -> ShardPlace {
        self.connections.fetch_add(1, Ordering::Relaxed);
        ShardPlace(self.connections.clone())
    }

    /// Starts a task on this shard, from any thread. It never moves to another one.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(name, future);
    }

    /// Counts one more task of this name for as long as the answer is kept, without starting any.
    #[must_use]
    pub fn hold(&self, name: &'static str) -> TaskHold {
        self.tasks.hold(name)
    }

    /// Runs `f` where sockets and timers register with this shard, on the thread of the caller.
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        self.tasks.enter(f)
    }
}

impl Drop for ShardPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn start_shard(id: usize) -> io::Result<(ShardHandle, ShardThread)> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .event_interval(POLLS_BETWEEN_EVENTS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()?;
    let tasks = Tasks::new(runtime.handle().clone());
    let handle = ShardHandle { id, connections: Arc::default(), tasks };
    let stop = Arc::new(Notify::new());
    let stopped = stop.clone();
    let (ends, ended) = sync_channel(0);
    let thread = thread::Builder::new().name(format!("shard-{id}")).spawn(move || {
        let _ends: SyncSender<()> = ends;
        runtime.block_on(stopped.notified());
        drop(runtime);
    })?;
    Ok((handle, ShardThread { stop, ended, thread }))
}

/// Two different numbers below `count`, as far as there are two.
fn two_of(count: usize, choice: u64) -> (usize, usize) {
    let below = |bound: usize, bits: u64| {
        let bound = bound.max(1) as u64;
        usize::try_from(bits % bound).expect("what is below a usize fits one")
    };
    let first = below(count, choice >> 32);
    let step = 1 + below(count.saturating_sub(1), choice & 0xFFFF_FFFF);
    (first, (first + step) % count.max(1))
}

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// Tasks that are ready run before sockets are asked again. Asking in the middle of a fan-out would
/// bring the publisher's next message to those who have had their turn, and cost each a write more.
const POLLS_BETWEEN_EVENTS: u32 = 1_024;

/// Nothing on a shard may block; name look-ups inside the runtime are the exception it allows for.
const BLOCKING_THREADS_MAX: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_task_runs_on_the_thread_of_its_shard() {
        let shards = Shards::start(2, 7).unwrap();
        for shard in shards.handles().iter() {
            let (tell, told) = oneshot::channel();
            shard.spawn("says its thread", async move {
                tell.send(thread::current().name().map(str::to_owned)).unwrap();
            });
            assert_eq!(told.await.unwrap().unwrap(), format!("shard-{}", shard.id()));
        }
        shards.join_tasks(&["says its thread"], Duration::from_secs(10)).await.unwrap();
        let counts = shards.handles().task_counts();
        assert_eq!(counts, [TaskCount { name: "says its thread", running: 0 }]);
        shards.stop(Duration::from_secs(10));
    }

    #[test]
    fn stop_drops_tasks_that_would_wait_for_ever() {
        let shards = Shards::start(1, 7).unwrap();
        let held = Arc::new(());
        let holder = held.clone();
        shards.handles().pick().spawn("waits", async move {
            std::future::pending::<()>().await;
            drop(holder);
        });
        shards.stop(Duration::from_secs(10));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn connections_go_to_the_less_loaded_of_two() {
        let shards = Shards::start(4, 7).unwrap();
        let handles = shards.handles();
        let places: Vec<_> = (0..400).map(|_| handles.pick().take_place()).collect();
        let loads: Vec<_> = handles.iter().map(ShardHandle::connection_count).collect();
        assert_eq!(loads.iter().sum::<usize>(), 400);
        assert!(loads.iter().all(|load| (90..=110).contains(load)), "{loads:?}");
        drop(places);
        assert!(handles.iter().all(|shard| shard.connection_count() == 0));
        shards.stop(Duration::from_secs(10));
    }

    #[test]
    fn the_two_are_different_and_all_are_chosen() {
        for count in 1..6 {
            let mut chosen = vec![0; count];
            for choice in 0..1_000_u64 {
                let (a, b) = two_of(count, choice.wrapping_mul(GOLDEN_GAMMA));
                assert!(a != b || count == 1);
                chosen[a] += 1;
                chosen[b] += 1;
            }
            assert!(chosen.iter().all(|times| *times > 0));
        }
    }
}
