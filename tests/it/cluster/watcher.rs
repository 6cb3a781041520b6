//! Takes a broker at its word, as a Service does: whoever says that it is ready lets clients in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::conformance::{Stage, Target, Version};
use crate::harness::{Broker, ask_admin_at, free_port};

/// Asks a broker again and again whether it is ready, and sends it a client whenever it says so.
pub(crate) struct Watcher {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What a watcher has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Clients that were let in.
    pub(crate) served: u32,
    /// How often it was not ready any more.
    pub(crate) relapses: u32,
    /// What clients met where it said before and behind that it was ready.
    pub(crate) lies: Vec<String>,
}

impl Watcher {
    /// Begins to watch a broker.
    pub(crate) fn of(broker: &Broker) -> Self {
        let admin = broker.ports().admin.expect("an administration port was asked for");
        let stage = broker.stage(Version::V5);
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || watch(admin, &stage, &is_over)
        });
        Self { is_over, thread }
    }

    /// What it has seen: no lies, and somebody who was let in.
    #[track_caller]
    pub(crate) fn finish(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        let seen = self.thread.join().expect("it does not panic");
        assert!(seen.lies.is_empty() && seen.served > 0, "{seen:?}");
        seen
    }
}

fn watch(admin: u16, stage: &Stage, is_over: &AtomicBool) -> Seen {
    let (mut seen, mut was_ready) = (Seen::default(), false);
    // Whoever ends it has seen the broker ready: one client at least is sent.
    while !is_over.load(Ordering::Relaxed) || (seen.served == 0 && seen.lies.is_empty()) {
        let is_ready = is_ready(admin);
        if is_ready {
            match be_served(stage) {
                Ok(()) => seen.served += 1,
                Err(fault) => seen.lies.extend(is_a_lie(admin, stage).then_some(fault)),
            }
        } else if was_ready {
            seen.relapses += 1;
        }
        was_ready = is_ready;
        thread::sleep(PAUSE);
    }
    seen
}

/// Whether it still says so and still does not mean it. Once may be a matter of when it was asked.
fn is_a_lie(admin: u16, stage: &Stage) -> bool {
    (0..2).all(|_| is_ready(admin) && be_served(stage).is_err()) && is_ready(admin)
}

fn is_ready(admin: u16) -> bool {
    ask_admin_at(admin, "GET", "/readyz").is_ok_and(|(status, _)| status == 200)
}

/// A client comes in, has something acknowledged, and goes.
fn be_served(stage: &Stage) -> Result<(), String> {
    let served = || {
        let mut client = stage.client("watcher")?;
        client.publish("watched", "x", 1)?;
        client.leave()
    };
    served().map_err(|fault| format!("{fault:?}"))
}

const PAUSE: Duration = Duration::from_millis(20);

/// A watcher that finds nothing would be content with everything.
#[test]
fn who_says_that_it_is_ready_and_lets_nobody_in_is_found_out() {
    let broker = Broker::start(&["--admin-port", "0"]);
    broker.wait_for_log("accepts connections");
    let nobody = Stage::new(Target::local(free_port()), Version::V5);
    let admin = broker.ports().admin.unwrap();
    let seen = watch(admin, &nobody, &AtomicBool::new(true));
    assert_eq!((seen.served, seen.lies.len()), (0, 1), "{seen:?}");
}
