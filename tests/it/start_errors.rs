//! Every way in which the broker does not start: one line that says what, where, and what to do.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::conformance::Version;
use crate::harness::{Authority, Broker, free_port, fresh_dir};

/// A place for a broker that does not start.
struct Place {
    directory: PathBuf,
}

impl Place {
    fn new() -> Self {
        Self { directory: fresh_dir("start-errors") }
    }

    /// A file in it.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Starts the broker, which refuses with one line that holds all of `parts`.
    #[track_caller]
    fn check(&self, arguments: &[&str], parts: &[&str]) {
        self.check_in(&[], arguments, parts);
    }

    #[track_caller]
    fn check_in(&self, environment: &[(&str, &str)], arguments: &[&str], parts: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt_broker"));
        command.args(arguments).env_clear().env("MQTTZOO_DATA_DIR", self.directory.join("data"));
        command.envs(environment.iter().copied()).stdin(Stdio::null());
        check_refusal(&command.output().unwrap(), parts);
        let told = self.directory.join("data").join("ports.json");
        assert!(!told.exists(), "a broker that has not started says which ports it has");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

#[track_caller]
fn check_refusal(output: &Output, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("mqtt_broker: "), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn a_port_that_is_taken() {
    let place = Place::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let ours = format!("(process {})", std::process::id());
    let address = format!("127.0.0.1:{port}");
    place.check(&["--port", &port], &[&address, "is taken by", &ours, "choose another port"]);
    let ws = ["--port", "0", "--ws-port", &port];
    place.check(&ws, &["listener ws", &address, "is taken by", "choose another port"]);
    let admin = ["--port", "0", "--admin-port", &port];
    place.check(&admin, &["--admin-port", "is taken", &ours, "choose another port"]);
}

/// It named its own process, as one to be stopped.
#[test]
fn a_port_that_is_asked_for_twice() {
    let port = free_port().to_string();
    let twice = ["--port", &port, "--admin-port", &port];
    Place::new().check(&twice, &[&port, "is taken by another listener of this broker"]);
}

/// It started, and refused every connection.
#[test]
fn too_few_files_for_a_single_connection() {
    let place = Place::new();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 60; exec \"$0\" --port 0", env!("CARGO_BIN_EXE_mqtt_broker")]);
    command.env("MQTTZOO_DATA_DIR", place.directory.join("data")).stdin(Stdio::null());
    check_refusal(&command.output().unwrap(), &["60 files", "ulimit -n"]);
}

#[test]
fn an_address_or_a_path_that_cannot_be_had() {
    let place = Place::new();
    let host = ["--port", "0", "--host", "192.0.2.1", "--allow-anonymous"];
    place.check(&host, &["192.0.2.1 is not an address of this machine", "choose one"]);
    let file = place.file("not-a-socket", "precious");
    place.check(&["--port", "0", "--unix", &file], &[&file, "is no socket", "choose another path"]);
    let nowhere = place.directory.join("no/such/directory").display().to_string();
    let unix = ["--port", "0", "--unix", &nowhere];
    place.check(&unix, &[&nowhere, "check that its directory exists"]);
}

#[test]
fn certificates_and_keys_that_are_no_use() {
    let (place, ours, theirs) = (Place::new(), Authority::new(), Authority::new());
    let (cert, key) = (ours.path("server.pem"), ours.path("server.key"));
    let nonsense = place.file("nonsense.pem", "nonsense");
    let cut = place.file("cut.pem", &fs::read_to_string(&cert).unwrap()[..200]);
    let (missing, other) = (ours.path("missing.pem"), theirs.path("server.key"));
    let check = |cert: &str, key: &str, cafile: &[&str], parts: &[&str]| {
        let tls = ["--port", "0", "--tls-port", "0", "--cert", cert, "--key", key];
        place.check(&[&tls[..], cafile].concat(), parts);
    };
    check(&missing, &key, &[], &["cannot read the certificate", &missing, "check the path"]);
    check(&cert, &missing, &[], &["cannot read the key", &missing, "check the path"]);
    check(&nonsense, &key, &[], &["the certificate", &nonsense, "contains no"]);
    check(&cut, &key, &[], &["the certificate", &cut, "damaged"]);
    check(&cert, &cert, &[], &["the key", &cert, "contains no"]);
    check(&cert, &other, &[], &[&cert, &other, "cannot be used together"]);
    check(&cert, &key, &["--cafile", &missing], &["CA", &missing, "check the path"]);
    check(&cert, &key, &["--cafile", &nonsense], &["CA", &nonsense, "contains no"]);
    place.check(&["--tls-port", "0"], &["--cert FILE", "--key FILE"]);
}

#[test]
fn files_that_cannot_be_read() {
    let place = Place::new();
    let missing = place.directory.join("missing").display().to_string();
    let directory = place.directory.display().to_string();
    place.check(&["--config", &missing], &["configuration file", &missing, "--config"]);
    place.check(&["--config", &directory], &["configuration file", &directory, "--config"]);
    place.check(&["--password-file", &missing], &["password file", &missing, "check the path"]);
    place.check(&["--acl-file", &missing], &["access file", &missing, "check the path"]);
    let (users, rules) = (place.file("users", "alice:secret\n"), place.file("rules", "topci a\n"));
    place.check(&["--password-file", &users], &[&format!("{users}:1: ")]);
    place.check(&["--acl-file", &rules], &[&format!("{rules}:1: ")]);
    let log = place.directory.join("no/such/log").display().to_string();
    place.check(&["--log-file", &log], &[&log]);
}

#[test]
fn flags_keys_and_values_that_mean_nothing() {
    let place = Place::new();
    place.check(&["--prot", "1883"], &["--prot", "'--port'", "--help"]);
    place.check(&["--port"], &["--port", "--help"]);
    place.check(&["--port", "70000"], &["--port", "70000"]);
    place.check(&["--overflow-clean", "drop"], &["--overflow-clean", "reject, drop_oldest"]);
    place.check(&["--packet-bytes-max", "1 XiB"], &["--packet-bytes-max", "1 XiB"]);
    let variable = [("MQTTZOO_KEEP_ALIVE_MAX_SECS", "soon")];
    place.check_in(&variable, &[], &["environment variable MQTTZOO_KEEP_ALIVE_MAX_SECS", "soon"]);
    for (text, parts) in [
        ("prot = 1883\n", &["line 1", "unknown key `prot`", "did you mean `port`?"][..]),
        ("\n[limits]\npacket_byte_max = 1\n", &["line 3", "`packet_bytes_max`?"]),
        ("port = \n", &["line 1", "not valid TOML"]),
        ("port = \"soon\"\n", &["line 1", "port", "soon"]),
        ("[[listener]]\nkind = \"tcp\"\n", &["a [[listener]] of kind tcp needs a port"]),
        ("[[listener]]\nkind = \"unix\"\nport = 1\n", &["kind unix needs a path"]),
        ("[[listener]]\nport = 18830\n[[listener]]\nport = 18830\n", &["two listeners share"]),
    ] {
        let file = place.file("broker.toml", text);
        place.check(&["--config", &file], parts);
    }
}

#[test]
fn a_data_directory_in_use_or_of_no_use() {
    let place = Place::new();
    let first = Broker::start(&[]);
    symlink(first.directory(), place.directory.join("theirs")).unwrap();
    let theirs = place.directory.join("theirs").display().to_string();
    let ports = || fs::read_to_string(first.directory().join("ports.json")).unwrap();
    let before = ports();
    let second = Command::new(env!("CARGO_BIN_EXE_mqtt_broker"))
        .args(["--port", "0", "--data-dir", &theirs])
        .env_clear()
        .output()
        .unwrap();
    check_refusal(&second, &[&theirs, "in use by another broker", "stop that one", "--data-dir"]);
    assert_eq!(ports(), before, "the first broker's ports are still told");
    first.stage(Version::V5).client("a").unwrap().quiet().unwrap();

    let file = place.file("a-file", "");
    place.check(&["--port", "0", "--data-dir", &file], &["data directory", &file, "--data-dir"]);
}

/// Anonymous clients from anywhere are never let in by accident.
#[test]
fn a_listener_that_all_can_reach_needs_a_decision() {
    let place = Place::new();
    let both = ["--allow-anonymous", "--password-file"];
    place.check(&["--port", "0", "--host", "0.0.0.0"], &both);
    place.check(&["--port", "0", "--host", "::"], &both);
    place.check(&["--port", "0", "--host", "127.0.0.1", "--host", "0.0.0.0"], &both);
    let table = place.file("t.toml", "[[listener]]\nport = 0\nhost = [\"0.0.0.0\"]\n");
    place.check(&["--config", &table], &both);
}

#[test]
fn a_database_that_is_none() {
    let place = Place::new();
    let check = |arguments: &[&str], parts: &[&str]| {
        place.check(&[&["--port", "0"], arguments].concat(), parts);
    };
    check(&["--db", "geheim"], &["database", "not a connection string of PostgreSQL"]);
    let missing = place.directory.join("missing").display().to_string();
    let db = ["--db-host", "127.0.0.1"];
    check(&[&db[..], &["--db-password-file", &missing]].concat(), &["password", &missing, "check"]);
    check(&[&db[..], &["--db-cafile", &missing]].concat(), &["certificates in", &missing]);
    check(&[&db[..], &["--db", "host=b"]].concat(), &["db_host", "give one of them"]);
}
