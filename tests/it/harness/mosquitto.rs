//! Debian's Mosquitto, where it is installed.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::guardian::Guardian;
use super::{free_port, fresh_dir};

const PROGRAM: &str = "/usr/sbin/mosquitto";

/// A running Mosquitto on its defaults, anonymous clients allowed.
pub(crate) struct Mosquitto {
    child: Child,
    guardian: Guardian,
    directory: PathBuf,
    pub(crate) port: u16,
    pub(crate) ws_port: u16,
}

impl Mosquitto {
    /// The version installed, `2.0.11`. Where there is none, a person's machine gets a line and CI
    /// an error.
    pub(crate) fn version() -> Option<String> {
        if !Path::new(PROGRAM).exists() {
            assert!(std::env::var_os("CI").is_none(), "CI needs {PROGRAM}");
            eprintln!("skipped: {PROGRAM} is not installed");
            return None;
        }
        let help = Command::new(PROGRAM).arg("-h").output().expect("it exists");
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        let version = text.split_whitespace().nth(2).map(ToOwned::to_owned);
        Some(version.expect("its help begins with `mosquitto version`"))
    }

    /// Starts one on free ports.
    pub(crate) fn start() -> Self {
        let directory = fresh_dir("mosquitto");
        let (port, ws_port) = (free_port(), free_port());
        let configuration = format!(
            "allow_anonymous true\nlistener {port} 127.0.0.1\n\
             listener {ws_port} 127.0.0.1\nprotocol websockets\n"
        );
        let file = directory.join("mosquitto.conf");
        fs::write(&file, configuration).expect("the directory is ours");
        let child = Command::new(PROGRAM)
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it is installed");
        let guardian = Guardian::over(child.id(), &directory);
        let mosquitto = Self { child, guardian, directory, port, ws_port };
        wait_for_port(port);
        wait_for_port(ws_port);
        mosquitto
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        self.guardian.dismiss();
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

fn wait_for_port(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on port {port}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
