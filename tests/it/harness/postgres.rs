//! A real PostgreSQL 15, from Debian's package, on a free port of the loopback interface.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Authority;
use super::guardian::Guardian;
use super::{free_port, fresh_dir};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// A running server. Dropping it kills it and removes what it wrote.
pub(crate) struct Postgres {
    directory: PathBuf,
    port: u16,
    running: Option<(Child, Guardian)>,
}

impl Postgres {
    /// A server with settings of its own. Nothing, with a line, where PostgreSQL is not installed; an
    /// error on CI.
    pub(crate) fn start() -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let directory = server_directory("postgres");
        let made = program("initdb")
            .args(["--username=mqtt", "--auth=trust", "--no-sync", "--encoding=UTF8"])
            .args(["--locale=C", "--pgdata"])
            .arg(directory.join("data"))
            .output()
            .expect("initdb is there");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(Self::spawn_in(&directory))
    }

    /// A port that was free a moment ago may be taken now; then the server ends at once.
    fn spawn_in(directory: &Path) -> Self {
        for _ in 0..5 {
            let mut server =
                Self { directory: directory.to_owned(), port: free_port(), running: None };
            if server.spawn() {
                return server;
            }
            std::mem::forget(server);
        }
        panic!("no PostgreSQL came up in five attempts");
    }

    /// One for all tests of this process that do it no harm: each makes a database.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// The connection string of a new database.
    pub(crate) fn fresh_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.query("postgres", &format!("CREATE DATABASE {name}"));
        self.database(&name)
    }

    /// The connection string of a database.
    pub(crate) fn database(&self, name: &str) -> String {
        format!("host=127.0.0.1 port={} user=mqtt dbname={name}", self.port)
    }

    /// What `psql` prints for a statement in a database, without decoration.
    pub(crate) fn query(&self, database: &str, sql: &str) -> String {
        let asked = Command::new(Path::new(PROGRAMS).join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(self.database(database))
            .output()
            .expect("psql is there");
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8_lossy(&asked.stdout).trim().to_owned()
    }

    /// What `psql` shows of a statement to a person, with times in UTC.
    pub(crate) fn table(&self, database: &str, sql: &str) -> String {
        let asked = Command::new(Path::new(PROGRAMS).join("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(self.database(database))
            .env("PGTZ", "UTC")
            .output()
            .expect("psql is there");
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        let shown = String::from_utf8_lossy(&asked.stdout);
        shown.trim_end().lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
    }

    /// Keeps what a statement locks, until what is returned is dropped.
    pub(crate) fn hold(&self, database: &str, sql: &str) -> Held {
        let mut psql = Command::new(Path::new(PROGRAMS).join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
            .arg(self.database(database))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql is there");
        let input = psql.stdin.as_mut().expect("it is piped");
        write!(input, "BEGIN; {sql};\n\\echo held\n").expect("it reads");
        let said = BufReader::new(psql.stdout.take().expect("it is piped")).lines();
        let is_held = said.map_while(Result::ok).any(|line| line == "held");
        assert!(is_held, "{sql}");
        Held(psql)
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Lets in only who comes encrypted and knows this password, from its next start on.
    pub(crate) fn lock_up(&mut self, authority: &Authority, password: &str) {
        self.query("postgres", &format!("ALTER USER mqtt PASSWORD '{password}'"));
        self.query("postgres", "ALTER SYSTEM SET ssl = on");
        let data = self.directory.join("data");
        for (from, to) in [("server.pem", "server.crt"), ("server.key", "server.key")] {
            let to = data.join(to);
            fs::copy(authority.path(from), &to).expect("it was signed");
            fs::set_permissions(&to, Permissions::from_mode(0o600)).expect("it is ours");
            if let Some((user, group)) = server_user() {
                chown(&to, Some(user), Some(group)).expect("root may do so");
            }
        }
        fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 scram-sha-256\n")
            .expect("it is there");
        self.kill();
        self.start_again();
    }

    /// Kills it, and what it has started.
    pub(crate) fn kill(&mut self) {
        // Immediate: no checkpoint, as after a crash. One that was frozen does nothing before it ends.
        self.signal_all(Signal::QUIT);
        self.thaw();
        let Some((mut server, mut guardian)) = self.running.take() else { return };
        let _gone = server.wait();
        guardian.dismiss();
    }

    /// A standby that follows this server, and takes no writes until it is promoted.
    pub(crate) fn standby(&self) -> Self {
        let directory = server_directory("standby");
        let copied = program("pg_basebackup")
            .args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"])
            .args(["--no-sync", "--host=127.0.0.1", "--username=mqtt"])
            .arg(format!("--port={}", self.port))
            .arg("--pgdata")
            .arg(directory.join("data"))
            .output()
            .expect("pg_basebackup is there");
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        Self::spawn_in(&directory)
    }

    /// Makes a standby a server of its own.
    pub(crate) fn promote(&self) {
        assert_eq!(self.query("postgres", "SELECT pg_promote()"), "t");
    }

    /// Sets what can be set while it runs.
    pub(crate) fn set(&self, setting: &str, value: &str) {
        self.query("postgres", &format!("ALTER SYSTEM SET {setting} = '{value}'"));
        self.query("postgres", "SELECT pg_reload_conf()");
    }

    /// Kills all of its processes as the kernel would, without a word. They have gone when this returns:
    /// a server does not start while one of an earlier start has its memory.
    pub(crate) fn kill_hard(&mut self) {
        let all = self.running.as_ref().map(|(server, _)| processes(server.id()));
        self.signal_all(Signal::KILL);
        let Some((mut server, mut guardian)) = self.running.take() else { return };
        let _gone = server.wait();
        guardian.dismiss();
        wait_until_gone(&all.unwrap_or_default());
    }

    /// Starts it again on what it wrote before.
    pub(crate) fn start_again(&mut self) {
        assert!(self.spawn(), "it had come up before");
    }

    /// Leaves it to its guardian, as a test that was killed does; returns who is not to be there then.
    fn abandon(&mut self) -> Vec<u32> {
        let Some((mut server, guardian)) = self.running.take() else { return Vec::new() };
        let all = processes(server.id());
        guardian.abandon();
        let _gone = server.wait();
        all
    }

    /// Stops all of its processes where they are, until it is thawed.
    pub(crate) fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    /// The server is stopped first, so that it starts nothing meanwhile. Who its processes are is asked
    /// before it is killed: afterwards they are nobody's.
    fn signal_all(&self, signal: Signal) {
        let Some((server, _)) = &self.running else { return };
        let _gone = kill_process(Pid::from_child(server), Signal::STOP);
        for process in processes(server.id()) {
            let process = Pid::from_raw(process.cast_signed()).expect("it is no zero");
            let _gone = kill_process(process, signal);
        }
    }

    fn spawn(&mut self) -> bool {
        let mut server = program("postgres")
            .arg("-D")
            .arg(self.directory.join("data"))
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "deadlock_timeout=100ms"])
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("postgres is there");
        let log = server.stderr.take().expect("it is piped");
        let guardian = Guardian::over(server.id(), &self.directory);
        self.running = Some((server, guardian));
        wait_until_ready(log)
    }
}

/// A server and what it has started.
fn processes(server: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().map(|child| child.parse().expect("a process"));
    std::iter::once(server).chain(children).collect()
}

/// Reads the log until the server says that it is ready, and goes on reading: a full pipe would stop
/// it.
fn wait_until_ready(log: ChildStderr) -> bool {
    let mut lines = BufReader::new(log).lines();
    let is_ready = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains("database system is ready to accept"));
    thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    is_ready
}

/// A transaction that does nothing but last.
pub(crate) struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        // psql ends with its input, and the transaction with psql.
        drop(self.0.stdin.take());
        let _gone = self.0.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

/// A directory that belongs to whom the server runs as.
pub(crate) fn server_directory(name: &str) -> PathBuf {
    let directory = fresh_dir(name);
    if let Some((user, group)) = server_user() {
        chown(&directory, Some(user), Some(group)).expect("root may do so");
    }
    directory
}

/// A program of the server: it refuses to run as root.
fn program(name: &str) -> Command {
    let mut command = Command::new(Path::new(PROGRAMS).join(name));
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    command.current_dir("/");
    command
}

/// The user of Debian's package, when we are root.
pub(crate) fn server_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("there are users");
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2).map(|field| field.parse().expect("a number"));
    Some((fields.next()?, fields.next()?))
}

fn is_installed() -> bool {
    let is_there = Path::new(PROGRAMS).join("postgres").exists();
    if !is_there {
        eprintln!("skipped: PostgreSQL 15 is not installed (Debian: postgresql-15)");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI leaves nothing out");
    }
    is_there
}

/// Tests that were killed left servers behind that nobody could end but by hand: stopped processes do
/// not hear that they are to end, nor that their server has gone.
#[test]
fn a_frozen_server_ends_with_its_test() {
    let Some(mut server) = Postgres::start() else { return };
    server.freeze();
    let all = server.abandon();
    wait_until_gone(&all);
}

/// The test of a failover left a frozen server's processes behind, each time: killed, it had none to name.
#[test]
fn a_frozen_server_that_is_killed_takes_its_processes_along() {
    let Some(mut server) = Postgres::start() else { return };
    server.freeze();
    let all = server.running.as_ref().map(|(server, _)| processes(server.id())).unwrap_or_default();
    server.kill_hard();
    wait_until_gone(&all);
}

fn wait_until_gone(all: &[u32]) {
    assert!(all.len() > 1, "it has processes");
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Some(left) = all.iter().find(|id| is_there(**id)) {
        assert!(Instant::now() < deadline, "{left} of {all:?} is still there");
        thread::yield_now();
    }
}

/// A zombie whom nobody has fetched yet has ended.
fn is_there(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/stat"));
    status.is_ok_and(|status| !status.contains(") Z "))
}
