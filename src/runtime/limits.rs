//! What the machine allows: open files, memory, and how much of it we hold.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The limit of open files, before and after it was raised. `None` is "no limit".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OpenFiles {
    /// As we were started.
    pub before: Option<u64>,
    /// As it is now.
    pub after: Option<u64>,
}

/// Raises the number of files this process may open to the hard limit.
///
/// Every connection is a file; most systems start programs with 1,024 and allow far more.
///
/// # Errors
///
/// When the system refuses; the limit is then as it was.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    if before == limit.maximum {
        return Ok(OpenFiles { before, after: before });
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(OpenFiles { before, after: getrlimit(Resource::Nofile).current })
}

/// The memory this process may use: the tightest limit of its control groups, or the machine's.
///
/// `None` where the system tells neither.
#[must_use]
pub fn memory_limit_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| kib_field(&text, "MemTotal:"));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = cgroup_limit_files(&groups);
    let limits = limits.iter().filter_map(|path| fs::read_to_string(path).ok());
    limits.filter_map(|text| text.trim().parse().ok()).chain(machine).min()
}

/// The memory this process holds now.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    kib_field(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// The files that may limit the groups named in `/proc/self/cgroup`, from leaf to root: a parent's
/// limit binds its children. Version 2 has one line `0::/path`, version 1 one for each controller.
fn cgroup_limit_files(groups: &str) -> Vec<PathBuf> {
    groups.lines().flat_map(limit_files_of_line).collect()
}

fn limit_files_of_line(line: &str) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (root, file) = match controllers {
        "" => (Path::new("/sys/fs/cgroup"), "memory.max"),
        v1 if v1.split(',').any(|name| name == "memory") => {
            (Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let leaf = root.join(group.trim_start_matches('/'));
    leaf.ancestors().take_while(|at| at.starts_with(root)).map(|at| at.join(file)).collect()
}

/// The value of a line like `MemTotal:  8039996 kB`, in bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_end_at_the_hard_limit() {
        let raised = raise_open_files().unwrap();
        assert_eq!(raised.after, getrlimit(Resource::Nofile).maximum);
        assert_eq!(raise_open_files().unwrap().before, raised.after);
    }

    #[test]
    fn this_process_holds_memory_and_less_than_it_may() {
        let held = resident_bytes().unwrap();
        assert!(held > 100_000);
        assert!(memory_limit_bytes().unwrap() > held);
    }

    #[test]
    fn limits_are_looked_up_from_the_leaf_to_the_root() {
        let files = |text: &str| {
            let files = cgroup_limit_files(text);
            files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            files("0::/pods/broker\n"),
            [
                "/sys/fs/cgroup/pods/broker/memory.max",
                "/sys/fs/cgroup/pods/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            files("5:cpu,cpuacct:/a\n4:memory:/a\n"),
            [
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert!(files("nonsense\n").is_empty());
    }

    #[test]
    fn fields_are_kibibytes() {
        assert_eq!(kib_field("A: 1 kB\nMemTotal:    12 kB\n", "MemTotal:"), Some(12 * 1024));
        assert_eq!(kib_field("MemTotal: many kB\n", "MemTotal:"), None);
        assert_eq!(kib_field("", "MemTotal:"), None);
    }
}
