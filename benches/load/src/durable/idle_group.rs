//! A control group whose processes run only where nobody else would.
//!
//! `chrt --idle` alone does not do it where the kernel makes a group of each session
//! (`sched_autogroup_enabled`): within its own group a process is first, whatever its policy.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Some processes, and what they start, until this is dropped.
#[derive(Debug)]
pub(super) struct IdleGroup {
    directory: PathBuf,
    parent: PathBuf,
}

impl IdleGroup {
    /// Moves these there; nothing where the kernel has no such groups, or we may not make one.
    pub(super) fn around(pids: &[u32]) -> Option<Self> {
        // Of version 1, and of version 2.
        ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"].iter().find_map(|parent| {
            let group = Self::below(Path::new(parent)).ok()?;
            pids.iter().all(|pid| group.take(*pid).is_ok()).then_some(group)
        })
    }

    fn below(parent: &Path) -> io::Result<Self> {
        let directory = parent.join(format!("mqttzoo-bench-{}", std::process::id()));
        fs::create_dir(&directory)?;
        let group = Self { directory, parent: parent.to_owned() };
        fs::write(group.directory.join("cpu.idle"), "1")?;
        Ok(group)
    }

    /// One that has just ended is left out.
    fn take(&self, pid: u32) -> io::Result<()> {
        let moved = fs::write(self.directory.join(MEMBERS), pid.to_string());
        if Path::new(&format!("/proc/{pid}")).exists() { moved } else { Ok(()) }
    }
}

impl Drop for IdleGroup {
    fn drop(&mut self) {
        let members = fs::read_to_string(self.directory.join(MEMBERS)).unwrap_or_default();
        for pid in members.split_whitespace() {
            // Who has ended needs nothing.
            let _ = fs::write(self.parent.join(MEMBERS), pid);
        }
        let _ = fs::remove_dir(&self.directory);
    }
}

const MEMBERS: &str = "cgroup.procs";
