//! A real ZooKeeper ensemble, from Debian's package, on ports of the loopback interface.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::certificates::Authority;
use super::guardian::Guardian;
use super::ports::Ports;
use super::{free_port, fresh_dir};

const JAR: &str = "/usr/share/java/zookeeper.jar";
/// Debian's jar names what it needs, but for this part of Netty, which TLS needs.
const CLASSES: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar:\
                       /usr/share/java/netty-codec.jar";
const MAIN: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
const TRANSACTIONS: &str = "org.apache.zookeeper.server.persistence.TxnLogToolkit";

/// What goes wrong, and how elections go; not that clients come while there is one.
const LOGGING: [&str; 5] = [
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.org.apache.zookeeper.server.NIOServerCnxn=error",
    "-Dorg.slf4j.simpleLogger.log.org.apache.zookeeper.server.quorum=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
];
/// Lines of a server's log that say how its last elections went.
const LAST_LINES: usize = 150;

/// How long a start, an election or an end may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Running servers. Dropping it kills them and removes what they wrote; where a test fails, their last
/// words are told.
pub(crate) struct Ensemble {
    servers: Vec<Server>,
    directory: PathBuf,
    _ports: Ports,
}

/// Whether the servers keep znodes with a time to live.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ttl {
    Enabled,
    Disabled,
}

struct Server {
    directory: PathBuf,
    port: u16,
    running: Option<(Child, Guardian)>,
}

impl Ensemble {
    /// Three servers. Nothing, with a line, where ZooKeeper is not installed; an error on CI.
    pub(crate) fn start() -> Option<Self> {
        is_installed().then(|| Self::of(3, &extended_types(Ttl::Enabled)))
    }

    /// A single server, which is ready sooner.
    pub(crate) fn start_one(ttl: Ttl) -> Option<Self> {
        is_installed().then(|| Self::of(1, &extended_types(ttl)))
    }

    /// A single server that speaks TLS as well, with the certificate `server` of `authority`, and
    /// wants to see one of its clients; and where it speaks it.
    pub(crate) fn start_tls(authority: &Authority) -> Option<(Self, String)> {
        Self::start_tls_with(authority, "need")
    }

    /// The same without a look at its clients.
    pub(crate) fn start_tls_for_anybody(authority: &Authority) -> Option<(Self, String)> {
        Self::start_tls_with(authority, "none")
    }

    fn start_tls_with(authority: &Authority, client_auth: &str) -> Option<(Self, String)> {
        let port = free_port();
        // One file holds the key and the certificate.
        let read = |name| fs::read_to_string(authority.path(name)).expect("it was signed");
        let keys = authority.path("server-keys.pem");
        fs::write(&keys, read("server.key") + &read("server.pem")).expect("the directory is ours");
        fs::write(authority.path("clients.pem"), authority.pem()).expect("the directory is ours");
        let configuration = format!(
            "secureClientPort={port}\nsecureClientPortAddress=127.0.0.1\n\
             serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
             ssl.keyStore.location={keys}\nssl.trustStore.location={}\n\
             ssl.clientAuth={client_auth}\nssl.hostnameVerification=false\n{}",
            authority.path("clients.pem"),
            extended_types(Ttl::Enabled),
        );
        let ensemble = is_installed().then(|| Self::of(1, &configuration))?;
        Some((ensemble, format!("localhost:{port}")))
    }

    /// Three servers for all tests of this process that do them no harm: each takes a chroot.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Ensemble>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    fn of(count: usize, configuration: &str) -> Self {
        // A test that was killed a moment ago may have its servers still: then one of ours ends at once.
        for _ in 0..5 {
            if let Some(ensemble) = Self::try_start(count, configuration) {
                return ensemble;
            }
        }
        panic!("no ensemble came up in five attempts");
    }

    fn try_start(count: usize, configuration: &str) -> Option<Self> {
        let directory = fresh_dir("zookeeper");
        let ports = Ports::claim();
        let port = |index: usize, which: usize| ports.port(3 * index + which);
        let mut more = configuration.to_owned();
        for index in (0..count).filter(|_| count > 1) {
            let (id, followers, election) = (index + 1, port(index, 1), port(index, 2));
            writeln!(more, "server.{id}=127.0.0.1:{followers}:{election}").unwrap();
        }
        let servers = (0..count).map(|index| {
            let (directory, port) = (directory.join((index + 1).to_string()), port(index, 0));
            write_configuration(&directory, index + 1, port, &more);
            Server { directory, port, running: None }
        });
        let servers = servers.collect();
        let mut ensemble = Self { servers, directory, _ports: ports };
        (0..count).for_each(|index| ensemble.spawn(index));
        ensemble.wait_until_serving(0..count).then_some(ensemble)
    }

    /// The connect string of all of them.
    pub(crate) fn servers(&self) -> String {
        let each: Vec<_> = (0..self.servers.len()).map(|index| self.server(index)).collect();
        each.join(",")
    }

    /// The connect string of one of them.
    pub(crate) fn server(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.servers[index].port)
    }

    /// The connect string with a chroot that nobody else has.
    pub(crate) fn with_fresh_chroot(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("{}/test/{}-{number}", self.servers(), std::process::id())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// Kills a server.
    pub(crate) fn kill(&mut self, index: usize) {
        self.servers[index].kill();
    }

    /// Kills all servers.
    pub(crate) fn kill_all(&mut self) {
        self.servers.iter_mut().for_each(Server::kill);
    }

    /// Starts a server again on what it wrote before, and waits until it serves.
    pub(crate) fn start_again(&mut self, index: usize) {
        self.spawn(index);
        assert!(self.wait_until_serving(index..index + 1), "{}", self.log(index));
    }

    /// Starts all servers again, and waits until they serve.
    pub(crate) fn start_all_again(&mut self) {
        (0..self.len()).for_each(|index| self.spawn(index));
        assert!(self.wait_until_serving(0..self.len()), "{}", self.log(0));
    }

    /// All servers have new disks: what was in the tree is gone. None of them may run.
    pub(crate) fn wipe(&mut self) {
        for server in &self.servers {
            assert!(server.running.is_none(), "it holds its files open");
            let _written = fs::remove_dir_all(server.directory.join("version-2"));
        }
    }

    /// Stops a server in its tracks: its sockets stay open, and it says nothing.
    pub(crate) fn pause(&self, index: usize) {
        self.servers[index].signal(Signal::STOP);
        // A thread that runs on another core may answer once more before it notices.
        let deadline = Instant::now() + PATIENCE;
        while !self.servers[index].is_stopped() {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets a paused server go on.
    pub(crate) fn resume(&self, index: usize) {
        self.servers[index].signal(Signal::CONT);
    }

    /// Which server leads now.
    pub(crate) fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leads = |server: &Server| server.mode().is_some_and(|mode| mode != "follower");
            if let Some(index) = self.servers.iter().position(leads) {
                return index;
            }
            assert!(Instant::now() < deadline, "nobody leads");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What a server has logged.
    pub(crate) fn log(&self, index: usize) -> String {
        fs::read_to_string(self.servers[index].directory.join("log")).unwrap_or_default()
    }

    /// Every change that a server has written down, a line each, in the words of ZooKeeper's own tool.
    pub(crate) fn transactions(&self, index: usize) -> String {
        let written = self.servers[index].directory.join("version-2");
        let files = fs::read_dir(written).expect("it has written").flatten();
        let is_log = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == "log");
        let mut files: Vec<_> = files.map(|file| file.path()).filter(is_log).collect();
        files.sort();
        let mut told = String::new();
        for file in files {
            let mut command = Command::new("java");
            command.args(["-cp", CLASSES, TRANSACTIONS]).arg("--dump").arg(file);
            let output = command.output().expect("java is installed");
            told.push_str(&String::from_utf8_lossy(&output.stdout));
        }
        told
    }

    /// The end of what a server has logged, without where in its code that was.
    fn last_words(&self, index: usize) -> String {
        let log = self.log(index);
        let lines: Vec<_> = log.lines().filter(|line| !line.starts_with("\tat ")).collect();
        let words = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        format!("the last of {} lines of ZooKeeper server {}:\n{words}", lines.len(), index + 1)
    }

    fn spawn(&mut self, index: usize) {
        let whole = self.directory.clone();
        self.servers[index].spawn(&whole);
    }

    /// Whether all of these come to serve; not when one of them ends.
    fn wait_until_serving(&mut self, range: Range<usize>) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while range.clone().any(|index| self.servers[index].mode().is_none()) {
            if range.clone().any(|index| self.servers[index].has_ended()) {
                return false;
            }
            assert!(Instant::now() < deadline, "it does not serve:\n{}", self.log(range.start));
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        self.kill_all();
        if std::thread::panicking() {
            (0..self.len()).for_each(|index| eprintln!("{}", self.last_words(index)));
        }
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

impl Server {
    fn spawn(&mut self, whole: &Path) {
        assert!(self.running.is_none(), "it runs already");
        let log = File::options().append(true).create(true).open(self.directory.join("log"));
        let log = log.expect("the directory is ours");
        let mut command = Command::new("java");
        command.args(["-Xms16m", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        // A machine of its own notes there how it is, and stands still while the disk is busy.
        command.arg("-XX:+PerfDisableSharedMem");
        command.args(["-Dzookeeper.forceSync=no", "-Dznode.container.checkIntervalMs=100"]);
        command.args(LOGGING);
        command.args(["-cp", CLASSES, MAIN]);
        let child = command
            .arg(self.directory.join("zoo.cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("java is installed");
        let guardian = Guardian::over(child.id(), whole);
        self.running = Some((child, guardian));
    }

    fn kill(&mut self) {
        if let Some((mut child, mut guardian)) = self.running.take() {
            let _gone = child.kill();
            let _gone = child.wait();
            guardian.dismiss();
        }
    }

    fn signal(&self, signal: Signal) {
        let (child, _) = self.running.as_ref().expect("it runs");
        let raw = i32::try_from(child.id()).expect("a process identifier fits");
        let pid = Pid::from_raw(raw).expect("a child is a process");
        kill_process(pid, signal).expect("it is ours");
    }

    /// Whether every thread has stopped.
    fn is_stopped(&self) -> bool {
        let (child, _) = self.running.as_ref().expect("it runs");
        let threads = fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs");
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state stands behind the name, which stands in brackets.
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        })
    }

    fn has_ended(&mut self) -> bool {
        let (child, _) = self.running.as_mut().expect("it runs");
        child.try_wait().expect("it is ours").is_some()
    }

    /// `leader`, `follower` or `standalone`; nothing while it does not serve.
    fn mode(&self) -> Option<String> {
        let answer = self.ask("srvr").ok()?;
        let mode = answer.lines().find_map(|line| line.strip_prefix("Mode: "))?;
        Some(mode.to_owned())
    }

    fn ask(&self, word: &str) -> std::io::Result<String> {
        self.running.as_ref().ok_or(std::io::ErrorKind::NotConnected)?;
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(word.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// Whether there is a ZooKeeper to start. A person's machine gets a line and CI an error.
fn is_installed() -> bool {
    let is_installed = Path::new(JAR).exists()
        && Command::new("java").arg("-version").stderr(Stdio::null()).status().is_ok();
    assert!(is_installed || std::env::var_os("CI").is_none(), "CI needs {JAR} and java");
    if !is_installed {
        eprintln!("skipped: {JAR} and java are not installed");
    }
    is_installed
}

fn write_configuration(directory: &Path, id: usize, port: u16, more: &str) {
    fs::create_dir_all(directory).expect("the directory is ours");
    fs::write(directory.join("myid"), id.to_string()).expect("the directory is ours");
    // A session may be as short as two ticks, and live through elections on a busy machine. Now and
    // then one elects a leader that nobody follows, which gives up after the initLimit.
    let text = format!(
        "tickTime=200\nmaxSessionTimeout=60000\ninitLimit=15\nsyncLimit=25\ndataDir={}\nclientPort={port}\n\
         clientPortAddress=127.0.0.1\nadmin.enableServer=false\nmaxClientCnxns=0\n\
         4lw.commands.whitelist=srvr,mntr,ruok\n{more}",
        directory.display(),
    );
    fs::write(directory.join("zoo.cfg"), text).expect("the directory is ours");
}

/// The line of zoo.cfg that TTL nodes want.
fn extended_types(ttl: Ttl) -> String {
    format!("extendedTypesEnabled={}\n", ttl == Ttl::Enabled)
}

#[test]
fn an_ensemble_elects_a_leader_and_another_when_that_is_killed() {
    let Some(mut ensemble) = Ensemble::start() else { return };
    let first = ensemble.leader();
    ensemble.kill(first);
    let second = ensemble.leader();
    assert_ne!(first, second);
    ensemble.start_again(first);
    assert_eq!(ensemble.leader(), second);
}

/// Servers were waited for until they had been looked at once. A leader was killed while another server
/// was still to come, which took as long as the machine was busy; and where that one had ended, because
/// its port was taken, there was no quorum any more: no client had a session again.
#[test]
fn servers_are_waited_for_until_they_serve_or_have_ended() {
    let Some(mut ensemble) = Ensemble::start() else { return };
    let serves = |server: &Server| server.mode().is_some();
    assert!(ensemble.servers.iter().all(serves));
    ensemble.kill(0);
    let port = ("127.0.0.1", ensemble.servers[0].port);
    let taken = std::net::TcpListener::bind(port).expect("nobody has it");
    ensemble.spawn(0);
    assert!(!ensemble.wait_until_serving(0..1));
    ensemble.kill(0);
    drop(taken);
    ensemble.start_again(0);
    assert!(ensemble.servers.iter().all(serves));
}
