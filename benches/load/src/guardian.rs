//! Ends a program when the bench is gone without having done so: not even SIGKILL leaves one behind.

use std::{
    io,
    path::Path,
    process::{Child, Command, Stdio},
};

/// A shell whose standard input closes when the bench is gone, however it went.
#[derive(Debug)]
pub struct Guardian(Child);

impl Guardian {
    /// Watches over the process `pid` and its directory.
    ///
    /// # Errors
    /// There is no shell.
    pub fn over(pid: u32, directory: &Path) -> io::Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "guardian", &pid.to_string()])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(shell))
    }
}

impl Drop for Guardian {
    /// The program has been ended: nothing is left to be watched over.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SCRIPT: &str = r#"
trap '' INT HUP TERM
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
