//! Where connections wait that have nothing to do.
//!
//! A task, a timer and a registration with the event loop cost more than the connection they are
//! for. One that has been quiet for a while leaves them: what has to be kept of it lies in a
//! `Spot`, its socket is watched by an event loop of its own that lies inside the shard's, and one
//! attendant a shard looks after all of them.
//!
//! Invariants: all of this happens on the thread of the shard but for the calling of wakers, which
//! only puts a spot on a list. A waker that is called before its connection lies in the spot is
//! answered after it does. A socket that has something when the watching begins is seen. So nothing
//! that comes between two looks is lost, and whoever is called twice comes back once.

mod attendant;
mod roll;
mod spot;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Registry, Token};
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::broker::connection::{Connection, Dormant};
use crate::gateway::mqtt::ShardContext;
use crate::gateway::mqtt::driver::{Driver, DriverOptions, Link};
use crate::gateway::mqtt::parking::roll::Roll;
use crate::gateway::mqtt::parking::spot::{Parked, Spot};
use crate::ports::clock::Tick;
use crate::runtime::{Clock, ShardHandle, TaskHold};

/// What a parking place is to know.
#[derive(Clone, Copy, Debug)]
pub struct ParkingOptions {
    /// The time.
    pub clock: Clock,
    /// How long a connection has nothing to do before it is parked.
    pub idle_millis: u64,
    /// What the task of a connection is called.
    pub task_name: &'static str,
}

/// The parking place of one shard.
pub struct ParkingPlace<L: Link> {
    options: ParkingOptions,
    shard: ShardHandle,
    context: Arc<ShardContext>,
    /// Of the event loop that watches the sockets.
    watching: Registry,
    state: Mutex<State<L>>,
    /// Those whose wakers were called.
    calls: Mutex<Vec<Arc<Spot<L>>>>,
    bell: Notify,
    /// How many there are, for whoever asks from another thread.
    count: AtomicUsize,
}

struct State<L: Link> {
    roll: Roll<Arc<Spot<L>>>,
    /// Shutdown waits for the tasks of connections: while somebody is parked it waits for us.
    hold: Option<TaskHold>,
    /// The second until which the attendant sleeps.
    alarm_secs: u32,
    /// Nobody comes to look any more.
    is_closed: bool,
}

impl<L: Link> ParkingPlace<L> {
    /// Opens the parking place of `shard` and sends an attendant there.
    ///
    /// # Errors
    ///
    /// When the system gives no event loop.
    pub fn open(
        options: ParkingOptions,
        shard: &ShardHandle,
        context: &Arc<ShardContext>,
    ) -> io::Result<Arc<Self>> {
        let poll = Poll::new()?;
        let state = State { roll: Roll::new(), hold: None, alarm_secs: u32::MAX, is_closed: false };
        let place = Arc::new(Self {
            options,
            shard: shard.clone(),
            context: Arc::clone(context),
            watching: poll.registry().try_clone()?,
            state: Mutex::new(state),
            calls: Mutex::new(Vec::new()),
            bell: Notify::new(),
            count: AtomicUsize::new(0),
        });
        let watch = shard.enter(|| watch(poll))?;
        shard.spawn("parking attendant", attendant::attend(Arc::clone(&place), watch));
        Ok(place)
    }

    /// How many connections are parked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn context(&self) -> &Arc<ShardContext> {
        &self.context
    }

    /// When a connection is parked that has nothing to do from now on.
    pub(super) fn quiet_until(&self, now: Tick) -> Tick {
        now.plus_millis(self.options.idle_millis)
    }

    /// Takes a connection over whose task ends with that. `false` when it has been woken by now and
    /// goes on as before.
    pub(super) fn park(
        self: &Arc<Self>,
        stream: &mut L,
        connection: &mut Connection,
        options: &Arc<DriverOptions>,
    ) -> bool {
        if self.state.lock().is_closed {
            return false;
        }
        let spot = Arc::new(Spot::new(Arc::clone(self)));
        let waker = Waker::from(Arc::clone(&spot));
        let Some(dormant) = connection.fall_asleep(&waker) else { return false };
        match stream.park() {
            Ok(link) => self.keep(&spot, link, dormant, options),
            Err(_) => self.lose(dormant, options, "the socket could not be parked"),
        }
        true
    }

    fn keep(
        &self,
        spot: &Arc<Spot<L>>,
        link: L::Parked,
        dormant: Dormant,
        options: &Arc<DriverOptions>,
    ) {
        let due_secs = due_secs(&dormant);
        let mut state = self.state.lock();
        let number = state.roll.add(Arc::clone(spot), due_secs);
        state.hold.get_or_insert_with(|| self.shard.hold(self.options.task_name));
        self.count.store(state.roll.len(), Ordering::Relaxed);
        let is_sooner = due_secs.is_some_and(|secs| secs < state.alarm_secs);
        drop(state);
        let watched = self.watching.register(
            &mut SourceFd(&link.as_fd().as_raw_fd()),
            Token(number as usize),
            Interest::READABLE,
        );
        spot.put(Parked { link, dormant, options: Arc::clone(options), number });
        if watched.is_err() {
            // Nobody would see what comes: back to where somebody does.
            Waker::from(Arc::clone(spot)).wake();
        } else if is_sooner {
            self.bell.notify_one();
        }
    }

    /// Somebody called the waker of `spot`.
    fn call(&self, spot: Arc<Spot<L>>) {
        self.calls.lock().push(spot);
        self.bell.notify_one();
    }

    async fn called(&self) {
        self.bell.notified().await;
    }

    fn clock(&self) -> Clock {
        self.options.clock
    }

    /// Sends back who was called, at most so many.
    fn answer_calls(self: &Arc<Self>, max: usize) {
        let mut calls = self.calls.lock();
        let count = calls.len().min(max);
        let later = calls.split_off(count);
        let has_more = !later.is_empty();
        let called = std::mem::replace(&mut *calls, later);
        drop(calls);
        if has_more {
            self.bell.notify_one();
        }
        for spot in called {
            self.resume(&spot);
        }
    }

    /// Sends back whose socket has something, or is closed.
    fn answer_socket(self: &Arc<Self>, number: usize) {
        let spot = self.state.lock().roll.get(number).cloned();
        if let Some(spot) = spot {
            self.resume(&spot);
        }
    }

    /// Sends back whose time is up, at most so many; when the next one is due.
    fn heed_deadlines(self: &Arc<Self>, max: usize) -> Option<Tick> {
        let now_secs = u32::try_from(self.clock().now().as_millis() / 1_000).unwrap_or(u32::MAX);
        let due: Vec<_> = self.state.lock().roll.due(now_secs).take(max).cloned().collect();
        for spot in due {
            self.resume(&spot);
        }
        let mut state = self.state.lock();
        let next = state.roll.next_due();
        state.alarm_secs = next.unwrap_or(u32::MAX);
        next.map(|secs| Tick::from_millis(u64::from(secs) * 1_000))
    }

    /// Gives a connection a task of its own again.
    fn resume(self: &Arc<Self>, spot: &Spot<L>) {
        let Some(Parked { link, dormant, options, number }) = spot.take() else { return };
        // One that could not be registered is not known there.
        let _unknown = self.watching.deregister(&mut SourceFd(&link.as_fd().as_raw_fd()));
        let mut state = self.state.lock();
        let _spot = state.roll.remove(number, due_secs(&dormant));
        self.count.store(state.roll.len(), Ordering::Relaxed);
        let hold = if state.roll.is_empty() { state.hold.take() } else { None };
        drop(state);
        match L::resume(link) {
            Ok(stream) => {
                let connection = dormant.wake_up(&options.broker, Arc::clone(&options.connection));
                let driver = Driver::resumed(stream, connection, options, Arc::clone(self));
                self.shard.spawn(self.options.task_name, driver);
            }
            Err(_) => self.lose(dormant, &options, "the socket could not be watched any more"),
        }
        // Only now: shutdown is not to miss it between two tasks.
        drop(hold);
    }

    fn lose(&self, dormant: Dormant, options: &DriverOptions, reason: &str) {
        let mut connection = dormant.wake_up(&options.broker, Arc::clone(&options.connection));
        self.context.run(&options.broker, self.clock().now(), |turn| {
            connection.handle_lost(turn, reason);
        });
    }

    /// The shard ends.
    fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let spots = state.roll.take_all();
        let hold = state.hold.take();
        self.count.store(0, Ordering::Relaxed);
        drop(state);
        for parked in spots.filter_map(|spot| spot.take()) {
            self.lose(parked.dormant, &parked.options, "the broker has stopped");
        }
        drop(hold);
    }
}

/// Makes the event loop of the sockets known to that of the caller.
#[expect(
    deprecated,
    reason = "the other way needs unsafe code: what is watched must keep its descriptor, as a Poll does"
)]
fn watch(poll: Poll) -> io::Result<AsyncFd<Poll>> {
    AsyncFd::with_interest(poll, tokio::io::Interest::READABLE)
}

/// The first whole second that is not before the deadline.
fn due_secs(dormant: &Dormant) -> Option<u32> {
    let millis = dormant.deadline()?.as_millis();
    Some(u32::try_from(millis.div_ceil(1_000)).unwrap_or(u32::MAX))
}
