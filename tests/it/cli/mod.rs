//! `mqtt_pub` and `mqtt_sub` as people use them: beside the programs they replace, on a terminal,
//! through every way in, and with everything that can go wrong.

mod exit_codes;
mod interactive;
mod login;
mod options;
mod output;
mod reconnect;
mod side_by_side;
mod stub_server;
mod ways;

use std::{
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) const PUB: &str = env!("CARGO_BIN_EXE_mqtt_pub");
pub(crate) const SUB: &str = env!("CARGO_BIN_EXE_mqtt_sub");

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) status: ExitStatus,
}

impl Ran {
    /// The exit code; a signal is a failure of the test.
    #[track_caller]
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("{self:?}"))
    }

    /// The standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn run(program: &str, args: &[&str]) -> Ran {
    run_with(program, args, b"")
}

/// Runs a program to its end with something on its standard input.
#[track_caller]
pub(crate) fn run_with(program: &str, args: &[&str], stdin: &[u8]) -> Ran {
    let mut running = Running::start(program, args);
    let mut input = running.child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    // A program that does not read its input closes it: that is no failure.
    thread::spawn(move || input.write_all(&stdin));
    running.finish()
}

/// Kills a program that takes too long, so that whoever reads from it comes to an end.
pub(crate) struct Watchdog(#[expect(dead_code, reason = "its drop calls the dog off")] Sender<()>);

impl Watchdog {
    /// Watches over a child for as long as this value lives.
    pub(crate) fn over(child: &Child) -> Self {
        let (tx, rx) = mpsc::channel();
        let pid = Pid::from_child(child);
        thread::spawn(move || {
            if rx.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _gone = kill_process(pid, Signal::KILL);
            }
        });
        Self(tx)
    }
}

/// A program that is running; killed when it is dropped.
pub(crate) struct Running {
    _watchdog: Watchdog,
    pub(crate) child: Child,
    name: String,
}

impl Running {
    /// Starts a program with all three streams piped.
    #[track_caller]
    pub(crate) fn start(program: &str, args: &[&str]) -> Self {
        let child = Command::new(program)
            .args(args)
            .env("NO_COLOR", "1")
            .env("HOME", "/nonexistent")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let name = format!("{program} {args:?}");
        Self { _watchdog: Watchdog::over(&child), child, name }
    }

    /// Reads the standard output up to and with `text`.
    #[track_caller]
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        read_until(self.child.stdout.as_mut().unwrap(), text)
    }

    /// Reads stderr up to and with `text`.
    #[track_caller]
    pub(crate) fn read_error_until(&mut self, text: &str) -> String {
        read_until(self.child.stderr.as_mut().unwrap(), text)
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Ran {
        let mut out = self.child.stdout.take().unwrap();
        let mut err = self.child.stderr.take().unwrap();
        let stdout = thread::spawn(move || {
            let mut bytes = Vec::new();
            out.read_to_end(&mut bytes).map(|_| bytes)
        });
        let stderr = thread::spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).map(|_| bytes)
        });
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{} does not end", self.name);
            thread::sleep(Duration::from_millis(2));
        };
        Ran {
            stdout: stdout.join().unwrap().unwrap(),
            stderr: String::from_utf8_lossy(&stderr.join().unwrap().unwrap()).into_owned(),
            status,
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Reads byte by byte until `text` has come; the end of the stream fails the test.
#[track_caller]
pub(crate) fn read_until(stream: &mut impl Read, text: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(text.as_bytes()) {
        let count = stream.read(&mut byte).unwrap_or(0);
        let so_far = String::from_utf8_lossy(&seen);
        assert!(count == 1, "{text:?} did not come after {so_far:?}");
        seen.push(byte[0]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(30);
