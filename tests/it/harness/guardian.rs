//! Stops a server when the test process ends without having done so.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Waits for its standard input to close, which happens when this process is gone, however it went.
const SCRIPT: &str = r#"
trap '' INT HUP
cat >/dev/null
# Those that were stopped where they are would stay so: a server and the processes it has started.
kill -CONT "$1" $(cat "/proc/$1/task/$1/children") 2>/dev/null
kill -TERM "$1" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
  kill -0 "$1" 2>/dev/null || break
  sleep 0.2
done
kill -KILL "$1" 2>/dev/null
rm -rf "$2"
"#;

/// A shell that outlives the test process by a moment.
pub(crate) struct Guardian(Child);

impl Guardian {
    /// Watches over the process `pid` and its directory.
    pub(crate) fn over(pid: u32, directory: &Path) -> Self {
        let spawned = Command::new("sh")
            .args(["-c", SCRIPT, "guardian", &pid.to_string()])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(spawned.expect("a shell is installed"))
    }

    /// What happens when this process is gone.
    pub(crate) fn abandon(mut self) {
        drop(self.0.stdin.take());
        let _gone = self.0.wait();
    }

    /// Ends the watch: the server has been stopped.
    pub(crate) fn dismiss(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}
