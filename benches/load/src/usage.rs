//! What a running program has used, as `/proc` tells it.

use std::{fs, io};

/// Processor time used so far, in two accounts.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// Nanoseconds of all threads alive: exact, but forgets threads that have ended.
    threads: u64,
    /// User and system time of the process: counts every thread, in ticks of 10 ms.
    process: u64,
}

impl Cpu {
    /// Of a process that is gone.
    pub const NONE: Self = Self { threads: 0, process: 0 };

    /// Reads both accounts of process `pid`.
    ///
    /// # Errors
    /// The process is gone.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut threads = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            threads += text.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0);
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may hold blanks; fields are counted from behind its parenthesis.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
        Ok(Self { threads, process: ticks * TICK })
    }

    /// Nanoseconds used between `earlier` and `self`.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        let process = self.process.saturating_sub(earlier.process).saturating_sub(2 * TICK);
        self.threads.saturating_sub(earlier.threads).max(process)
    }
}

/// Resident memory of process `pid`, in bytes.
///
/// # Errors
/// The process is gone.
pub fn resident(pid: u32) -> io::Result<u64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Rss:")
}

/// The most resident memory process `pid` has had, in bytes.
///
/// # Errors
/// The process is gone.
pub fn peak(pid: u32) -> io::Result<u64> {
    field(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// The machine's load averages, as one text.
#[must_use]
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The processor's name, as one text.
#[must_use]
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned())
}

fn field(path: &str, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.ok_or(io::ErrorKind::InvalidData)? * 1024)
}

const TICK: u64 = 10_000_000;
