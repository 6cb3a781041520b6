//! Our broker, started as its users start it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::fresh_dir;
use super::guardian::Guardian;
use crate::conformance::{Stage, Target, Version};

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is bound, as the broker wrote it to `ports.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ports {
    pub(crate) tcp: Vec<u16>,
    pub(crate) tls: Vec<u16>,
    pub(crate) ws: Vec<u16>,
    pub(crate) wss: Vec<u16>,
    pub(crate) unix: Vec<PathBuf>,
    pub(crate) admin: Option<u16>,
}

/// A running broker with a data directory of its own.
pub(crate) struct Broker {
    child: Child,
    guardian: Guardian,
    directory: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    ports: Ports,
}

impl Broker {
    /// Starts one on free ports with these arguments besides.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(|_directory| arguments.iter().map(|&text| text.into()).collect())
    }

    /// Starts one with arguments that may name files in its directory, which exists already.
    pub(crate) fn start_with(arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        Self::start_in(&[], arguments)
    }

    /// Starts one in this environment.
    pub(crate) fn start_in(
        environment: &[(&str, &str)],
        arguments: impl FnOnce(&Path) -> Vec<String>,
    ) -> Self {
        let directory = fresh_dir("broker");
        let arguments = arguments(&directory);
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment: Vec<_> = environment.iter().map(owned).collect();
        let child = spawn(&directory, &arguments, &environment);
        let guardian = Guardian::over(child.id(), &directory);
        let ports = Ports::default();
        let mut broker = Self { child, guardian, directory, arguments, environment, ports };
        broker.ports = broker.wait_for_ports();
        broker
    }

    /// Starts it again, once it has ended, with the same arguments, in the same environment and on what it wrote before.
    pub(crate) fn start_again(&mut self) {
        let ended = self.child.try_wait().expect("the child is ours");
        assert!(ended.is_some(), "it still runs");
        self.guardian.dismiss();
        // One that was killed has left it behind, and it would be taken for the new one's.
        let _none = fs::remove_file(self.directory.join("ports.json"));
        self.child = spawn(&self.directory, &self.arguments, &self.environment);
        self.guardian = Guardian::over(self.child.id(), &self.directory);
        self.ports = self.wait_for_ports();
    }

    fn wait_for_ports(&mut self) -> Ports {
        let deadline = Instant::now() + PATIENCE;
        let file = self.directory.join("ports.json");
        loop {
            if let Ok(text) = fs::read_to_string(&file) {
                return serde_json::from_str(&text)
                    .unwrap_or_else(|error| panic!("{text} is not ports.json: {error}"));
            }
            let ended = self.child.try_wait().expect("the child is ours");
            if let Some(status) = ended {
                panic!("the broker ended at once with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "no ports.json came:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has bound.
    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Its first TCP port.
    pub(crate) fn port(&self) -> u16 {
        *self.ports.tcp.first().expect("a TCP port was asked for")
    }

    /// A stage for scripts of raw bytes against its first TCP port.
    pub(crate) fn stage(&self, version: Version) -> Stage {
        Stage::new(self.target(), version)
    }

    /// It as a target of such scripts.
    pub(crate) fn target(&self) -> Target {
        let port = self.ports.tcp.first().copied().unwrap_or_default();
        Target { patience: PATIENCE, ..Target::local(port) }
    }

    /// How many lines of the log hold `text`.
    pub(crate) fn count_in_log(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Its data directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Waits until the log holds `text`.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        self.wait_until(text, |broker| broker.log().contains(text));
        self.log()
    }

    /// Waits until `is_so`; `what` is for the message when it does not come to that.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "it did not come to: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as the kernel would, without a word, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let raw = i32::try_from(self.child.id()).expect("a process identifier fits");
        if let Some(pid) = Pid::from_raw(raw) {
            let _gone = kill_process(pid, signal);
        }
    }

    /// Asks it to end with SIGTERM and waits; the status is how it took its leave.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(PATIENCE).unwrap_or_else(|| panic!("SIGTERM was ignored:\n{}", self.log()))
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.wait(Duration::ZERO).is_none() {
            self.signal(Signal::TERM);
        }
        if self.wait(Duration::from_secs(5)).is_none() {
            self.kill();
        }
        self.guardian.dismiss();
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

/// The broker for tests that need no settings of their own: TCP and WebSocket, on defaults.
pub(crate) fn shared() -> &'static Broker {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    SHARED.get_or_init(|| Broker::start(&["--ws-port", "0"]))
}

fn spawn(directory: &Path, arguments: &[String], environment: &[(String, String)]) -> Child {
    let log = File::options().create(true).append(true).open(directory.join("log"));
    let log = log.expect("the directory is ours");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt_broker"));
    if !arguments.iter().any(|argument| argument == "--port" || argument == "--config") {
        command.args(["--port", "0"]);
    }
    command
        .arg("--data-dir")
        .arg(directory)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log);
    for (name, _value) in std::env::vars().filter(|(name, _)| name.starts_with("MQTTZOO_")) {
        command.env_remove(name);
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.spawn().expect("cargo has built the broker")
}

/// What `mqtt_broker` owes to whoever starts it: a log that says so, and an end when asked.
#[test]
fn sigterm_ends_the_broker_in_peace() {
    let mut broker = Broker::start(&[]);
    broker.wait_for_log("accepts connections");
    let status = broker.terminate();
    assert!(status.success(), "{status}:\n{}", broker.log());
}
