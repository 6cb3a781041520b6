//! A PostgreSQL of Debian's package, on a free port of the loopback interface.

use std::{
    fs::{self, File},
    io,
    os::unix::{fs::chown, process::CommandExt as _},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::{
    brokers::{StartError, free_port},
    child::{Pinning, Started},
    clock,
    directory::Directory,
    durable::idle_group::IdleGroup,
    guardian::Guardian,
};

/// A server with its defaults, which wait for the disk. Dropping it ends it.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    started: Started,
    // Dropped behind the server it watches over.
    _guardian: Guardian,
    _directory: Directory,
    databases: AtomicU32,
}

impl Postgres {
    /// Starts one; nothing where it is not installed.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start() -> Result<Option<Self>, StartError> {
        if !Path::new(PROGRAMS).exists() {
            return Ok(None);
        }
        let directory = Directory::new("postgres")?;
        if let Some((user, group)) = server_user() {
            chown(directory.path(), Some(user), Some(group))?;
        }
        let data = directory.path().join("data").display().to_string();
        let made = command("initdb", &["--username=mqtt", "--auth=trust", "--pgdata", &data]);
        let made = run(&made)?;
        if !made.status.success() {
            return Err(StartError::Ended(String::from_utf8_lossy(&made.stderr).into_owned()));
        }
        let port = free_port()?;
        let port_text = port.to_string();
        let settings = ["-h", "127.0.0.1", "-c", "unix_socket_directories="];
        let arguments = [&["-D", &data, "-p", &port_text][..], &settings].concat();
        let log = File::create(directory.path().join("output.log"))?;
        let started = Started::new(&command("postgres", &arguments), Pinning::Free, log)?;
        let guardian = Guardian::over(started.pid(), directory.path())?;
        let server = Self {
            port,
            started,
            _guardian: guardian,
            _directory: directory,
            databases: AtomicU32::new(0),
        };
        server.wait()?;
        Ok(Some(server))
    }

    /// The connection string of a new database.
    ///
    /// # Errors
    /// The server refuses.
    pub fn fresh_database(&self) -> Result<String, StartError> {
        let name = format!("bench{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.query(&format!("CREATE DATABASE {name}"))?;
        Ok(format!("host=127.0.0.1 port={} user=mqtt dbname={name}", self.port))
    }

    /// The server and what it has started.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let id = self.started.pid();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        std::iter::once(id).chain(children).collect()
    }

    /// Gives its processes time only where nobody else wants it, until what is returned is dropped: a
    /// database on the cores of a broker is not to hold it up more than one with cores of its own.
    ///
    /// # Errors
    /// The program `chrt` (of util-linux) is not there or may not do so.
    pub fn step_back(&self) -> Result<SteppedBack, StartError> {
        let pids = self.pids();
        schedule(&pids, "--idle")?;
        let group = IdleGroup::around(&pids);
        if group.is_none() {
            eprintln!(
                "PostgreSQL runs under chrt --idle alone: there is no control group with cpu.idle"
            );
        }
        Ok(SteppedBack { pids, _group: group })
    }

    /// Stops all of its processes where they are, until what is returned is dropped.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        let pids = self.pids();
        signal(&pids, Signal::STOP);
        Frozen(pids)
    }

    /// Writes down what it has in memory, so that it need not do so soon.
    ///
    /// # Errors
    /// The server refuses.
    pub fn settle(&self) -> Result<(), StartError> {
        self.query("CHECKPOINT")
    }

    fn wait(&self) -> Result<(), StartError> {
        for _ in 0..START_CHECKS {
            if self.query("SELECT 1").is_ok() {
                return Ok(());
            }
            clock::pause(START_CHECK);
        }
        Err(StartError::Silent("PostgreSQL does not answer".to_owned()))
    }

    fn query(&self, sql: &str) -> Result<(), StartError> {
        let port = self.port.to_string();
        let arguments = ["-X", "-q", "-h", "127.0.0.1", "-U", "mqtt", "-p", &port, "-c", sql];
        let asked = run(&command("psql", &[&arguments[..], &["postgres"]].concat()))?;
        if asked.status.success() {
            return Ok(());
        }
        Err(StartError::Ended(String::from_utf8_lossy(&asked.stderr).into_owned()))
    }
}

/// Processes, and what they start, that run only where nobody else would, until this is dropped.
#[derive(Debug)]
pub struct SteppedBack {
    pids: Vec<u32>,
    _group: Option<IdleGroup>,
}

impl Drop for SteppedBack {
    fn drop(&mut self) {
        // Who has ended needs nothing.
        let _ = schedule(&self.pids, "--other");
    }
}

/// Sets how these processes are scheduled. One that has just ended is left out.
fn schedule(pids: &[u32], policy: &str) -> Result<(), StartError> {
    for pid in pids {
        let words = ["chrt", policy, "--pid", "0"].map(str::to_owned);
        let set = run(&[&words[..], &[pid.to_string()]].concat())?;
        if !set.status.success() && Path::new(&format!("/proc/{pid}")).exists() {
            return Err(StartError::Ended(String::from_utf8_lossy(&set.stderr).into_owned()));
        }
    }
    Ok(())
}

/// Processes that do nothing until this is dropped.
#[derive(Debug)]
pub struct Frozen(Vec<u32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(&self.0, Signal::CONT);
    }
}

fn signal(pids: &[u32], signal: Signal) {
    let pids = pids.iter().filter_map(|&pid| Pid::from_raw(i32::try_from(pid).ok()?));
    for pid in pids {
        // An error means that it has just ended.
        let _ = kill_process(pid, signal);
    }
}

/// A program of the server, as the user of Debian's package when we are root: it refuses to run as
/// that.
fn command(program: &str, arguments: &[&str]) -> Vec<String> {
    let program = Path::new(PROGRAMS).join(program).display().to_string();
    let user: &[&str] = if server_user().is_some() { &AS_SERVER_USER } else { &[] };
    let words = user.iter().copied().chain([program.as_str()]).chain(arguments.iter().copied());
    words.map(str::to_owned).collect()
}

fn run(command: &[String]) -> io::Result<std::process::Output> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    Command::new(program).args(arguments).current_dir("/").process_group(0).output()
}

fn server_user() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2).map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
const AS_SERVER_USER: [&str; 5] =
    ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"];
const START_CHECK: Duration = Duration::from_millis(100);
const START_CHECKS: u32 = 300;
