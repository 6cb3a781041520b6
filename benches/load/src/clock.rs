//! The one clock of the bench: monotonic nanoseconds, and waiting.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds since an arbitrary fixed point.
#[must_use]
pub fn now() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// Processor time this thread has used, in nanoseconds.
#[must_use]
pub fn thread_cpu() -> u64 {
    nanos(clock_gettime(ClockId::ThreadCPUTime))
}

/// Waits; the bench has nothing else to do on this thread meanwhile.
pub fn pause(time: Duration) {
    let wanted = timespec(time);
    // An early return through a signal is welcome: callers check the stop flag.
    let _ = rustix::thread::nanosleep(&wanted);
}

/// The kernel's form of a duration.
#[must_use]
pub fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
