//! User names, passwords and what they open, against a broker that checks them.

use std::{fs, path::PathBuf};

use super::{PUB, SUB, run, run_with};
use crate::harness::{Broker, fresh_dir};

const BROKER: &str = env!("CARGO_BIN_EXE_mqtt_broker");

/// A broker that knows `ann` (password `secret`), who may read and write `ann/#`.
struct Guarded {
    broker: Broker,
    directory: PathBuf,
}

impl Guarded {
    fn start() -> Self {
        let directory = fresh_dir("login");
        let path = |name: &str| directory.join(name).display().to_string();
        let ran = run_with(BROKER, &["passwd", &path("passwords"), "ann"], b"secret\n");
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        fs::write(path("acl"), "user ann\ntopic readwrite ann/#\n").unwrap();
        fs::write(path("password"), "secret\n").unwrap();
        let (passwords, acl) = (path("passwords"), path("acl"));
        let broker = Broker::start(&["--password-file", &passwords, "--acl-file", &acl]);
        Self { broker, directory }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn a_login_opens_what_it_may_and_every_refusal_is_said() {
    let guarded = Guarded::start();
    let port = guarded.broker.port().to_string();
    let file = guarded.directory.join("password").display().to_string();
    let url = format!("mqtt://ann:secret@localhost:{port}/ann/x");

    for login in [
        &["-p", &port, "-t", "ann/x", "-u", "ann", "-P", "secret"][..],
        &["-p", &port, "-t", "ann/x", "-u", "ann", "--password-file", &file],
        &["-L", &url],
    ] {
        let ran = run(PUB, &[login, &["-m", "x", "-q", "1", "-r"]].concat());
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        let ran = run(SUB, &[login, &["-C", "1"]].concat());
        assert_eq!((ran.code(), ran.text().as_str()), (0, "x\n"), "{}", ran.stderr);
    }

    let login = ["-p", &port, "-u", "ann", "-P", "secret"];
    let check = |program, options: &[&str], code, says: &str| {
        let ran = run(program, options);
        assert_eq!(ran.code(), code, "{options:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{options:?}: {}", ran.stderr);
    };
    let publish = [&login[..], &["-t", "bob/x", "-m", "x", "-q", "1"]].concat();
    check(PUB, &publish, 6, "publish to bob/x refused: Not authorized (0x87)");
    let subscribe = [&login[..], &["-t", "bob/x"]].concat();
    check(SUB, &subscribe, 7, "subscribe to bob/x refused: Not authorized (0x87)");
    let wrong = ["-p", &port, "-u", "ann", "-P", "wrong", "-m", "x"];
    check(PUB, &wrong, 134, "Bad User Name or Password (0x86)");
    check(PUB, &["-p", &port, "-m", "x"], 135, "Not authorized (0x87)");
    let wrong = ["-V", "311", "-p", &port, "-u", "ann", "-P", "wrong", "-m", "x"];
    check(PUB, &wrong, 134, "say -u NAME and -P PASSWORD");
}
