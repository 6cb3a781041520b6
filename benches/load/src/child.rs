//! A program the bench has started: on its core, and gone when dropped.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::clock;

/// Which core runs what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pinning {
    /// Broker and load have a core each.
    Apart {
        /// The broker's core.
        broker: usize,
        /// The load's core.
        load: usize,
    },
    /// Everything runs everywhere.
    Free,
}

impl Pinning {
    /// The first two cores this program may use: the load gets the first.
    ///
    /// # Errors
    /// There are fewer than two.
    pub fn from_machine() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        match (cores.next(), cores.next()) {
            (Some(load), Some(broker)) => Ok(Self::Apart { broker, load }),
            _ => Err(io::Error::other("the bench needs two cores")),
        }
    }
}

/// The cores that a thread may use, before it is put anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Cores(CpuSet);

impl Cores {
    /// Those of the calling thread.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn of_thread() -> io::Result<Self> {
        sched_getaffinity(None).map(Self).map_err(io::Error::from)
    }

    /// Does `work` on all of them, and puts the calling thread back to where it was: what is started
    /// meanwhile runs where there is room.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn open_to<R>(self, work: impl FnOnce() -> R) -> io::Result<R> {
        let before = sched_getaffinity(None)?;
        sched_setaffinity(None, &self.0)?;
        let outcome = work();
        sched_setaffinity(None, &before)?;
        Ok(outcome)
    }
}

/// A started program. Dropping it ends it.
#[derive(Debug)]
pub struct Started {
    child: Child,
}

impl Started {
    /// Starts `command` where `pinning` puts brokers, with its output going to `log`, and puts
    /// the calling thread where it puts the load.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn new(command: &[String], pinning: Pinning, log: File) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        // A child inherits the affinity of the thread that starts it, also in its first moments.
        if let Pinning::Apart { broker, .. } = pinning {
            pin(broker)?;
        }
        let error = log.try_clone()?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(OwnedFd::from(log))
            .stderr(OwnedFd::from(error))
            .spawn();
        if let Pinning::Apart { load, .. } = pinning {
            pin(load)?;
        }
        Ok(Self { child: child? })
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as a crash would: it has no moment left.
    pub fn kill(&mut self) {
        // An error means that it has just ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = Pid::from_raw(pid)
            && self.is_running()
        {
            // An error means that it has just ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..STOP_CHECKS {
            if !self.is_running() {
                return;
            }
            clock::pause(STOP_CHECK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

const STOP_CHECK: Duration = Duration::from_millis(10);
const STOP_CHECKS: u32 = 300;
