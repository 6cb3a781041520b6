//! SIGTERM drains, SIGHUP reads the files again.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cli::{PUB, run};
use crate::conformance::{Version, kind};
use crate::harness::{Authority, Broker};

/// Sends SIGHUP and waits until the broker has read its files for the `count`th time.
#[track_caller]
fn reload(broker: &Broker, count: usize) {
    broker.signal(Signal::HUP);
    broker.wait_until("it is reloaded", |broker| broker.count_in_log("reloaded") >= count);
}

/// Every client is told, what it was owed is sent first, and nothing is left behind.
#[test]
fn sigterm_sends_every_client_away_and_ends_with_exit_code_0() {
    let mut broker = Broker::start_with(|directory| {
        vec!["--unix".to_owned(), directory.join("socket").display().to_string()]
    });
    let s = broker.stage(Version::V5);
    let mut new = s.client("new").unwrap();
    let mut kept = s.enter(&s.connect("kept").kept()).unwrap();
    let mut old = broker.stage(Version::V4).client("old").unwrap();
    let half_open = s.open().unwrap();
    new.subscribe("t", 1).unwrap();
    old.publish("t", "the last", 1).unwrap();
    broker.signal(Signal::TERM);
    new.receive("t", "the last", 1).unwrap();
    for client in [&mut new, &mut kept] {
        assert_eq!(client.refused(&[0x8B]).unwrap().expect("a client of 5.0 is told").code, 0x8B);
    }
    old.closed().unwrap();
    drop((new, kept, old, half_open));
    let status = broker.wait(Duration::from_secs(20)).expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", broker.log());
    assert!(!broker.directory().join("ports.json").exists());
    assert!(!broker.directory().join("socket").exists());
    assert!(TcpStream::connect(("127.0.0.1", broker.port())).is_err());
    let log = broker.log();
    assert_eq!(broker.count_in_log("client disconnected"), 3, "{log}");
    assert!(log.contains("0x8b") && log.contains("mqttzoo has stopped"), "{log}");
}

/// A client that takes nothing, and one that has not even said CONNECT, do not hold the end up.
#[test]
fn sigterm_does_not_wait_for_those_who_do_not_listen() {
    let mut broker = Broker::start(&["--drain-timeout-secs", "5"]);
    let s = broker.stage(Version::V5);
    let mut stuck = s.client("stuck").unwrap();
    stuck.subscribe("t", 0).unwrap();
    let mut publisher = s.client("publisher").unwrap();
    for _ in 0..20 {
        publisher.publish("t", &"x".repeat(1_000_000), 0).unwrap();
    }
    publisher.ping().unwrap();
    let silent = s.open().unwrap();
    let begin = Instant::now();
    assert_eq!(broker.terminate().code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    drop((stuck, silent));
}

/// `drain_rate_max`: not everybody comes back elsewhere at once.
#[test]
fn sigterm_keeps_to_its_rate() {
    let mut broker = Broker::start(&["--drain-rate-max", "2"]);
    let s = broker.stage(Version::V5);
    let mut clients = ["a", "b", "c"].map(|name| s.client(name).unwrap());
    let begin = Instant::now();
    broker.signal(Signal::TERM);
    for client in &mut clients {
        client.refused(&[0x8B]).unwrap();
    }
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
    drop(clients);
    assert_eq!(broker.wait(Duration::from_secs(20)).expect("it ends").code(), Some(0));
}

/// `drain_wait_secs`: a load balancer that has not noticed yet sends new clients, and they are served.
/// A second signal ends the wait.
#[test]
fn sigterm_leaves_time_for_traffic_to_go_elsewhere() {
    let mut broker = Broker::start(&["--drain-wait-secs", "3600", "--admin-port", "0"]);
    let mut before = broker.stage(Version::V5).client("before").unwrap();
    broker.signal(Signal::TERM);
    broker.wait_until("it is not ready", |broker| {
        broker.ask_admin("GET", "/readyz").is_ok_and(|(status, _)| status == 503)
    });
    let mut late = broker.stage(Version::V5).client("late").unwrap();
    late.subscribe("t", 1).unwrap();
    before.publish("t", "still here", 1).unwrap();
    late.receive("t", "still here", 1).unwrap();
    broker.signal(Signal::TERM);
    assert_eq!(before.refused(&[0x8B]).unwrap().expect("a client of 5.0 is told").code, 0x8B);
    drop((before, late));
    assert_eq!(broker.wait(Duration::from_secs(20)).expect("it ends").code(), Some(0));
}

/// A broker with TLS from copies of an authority's files, which a test may replace.
fn with_certificates(authority: &Authority, further: &[&str]) -> Broker {
    Broker::start_with(|directory| {
        install(authority, directory);
        fs::copy(authority.path("ca.pem"), directory.join("ca.pem")).unwrap();
        let path = |name: &str| directory.join(name).display().to_string();
        let (cert, key, ca) = (path("cert.pem"), path("key.pem"), path("ca.pem"));
        let mut arguments = vec!["--tls-port", "0", "--cert", &cert, "--key", &key];
        arguments.extend(further);
        if further.contains(&"--cafile") {
            arguments.push(&ca);
        }
        arguments.into_iter().map(str::to_owned).collect()
    })
}

/// Puts the certificate of an authority in place.
fn install(authority: &Authority, directory: &Path) {
    fs::copy(authority.path("server.pem"), directory.join("cert.pem")).unwrap();
    fs::copy(authority.path("server.key"), directory.join("key.pem")).unwrap();
}

/// Whether a client that trusts this authority is content with the server.
fn is_trusted(broker: &Broker, authority: &Authority) -> bool {
    let (port, ca) = (broker.ports().tls[0].to_string(), authority.path("ca.pem"));
    run(PUB, &["-p", &port, "--cafile", &ca, "-t", "t", "-m", "x", "-q", "1"]).code() == 0
}

/// Certificate and key change together; a file with a fault changes nothing.
#[test]
fn sighup_takes_a_new_certificate_into_use() {
    let (before, after) = (Authority::new(), Authority::new());
    let broker = with_certificates(&before, &[]);
    let mut standing = broker.stage(Version::V5).client("standing").unwrap();
    assert!(is_trusted(&broker, &before));
    install(&after, broker.directory());
    assert!(is_trusted(&broker, &before), "nothing changes before it is asked for");
    reload(&broker, 1);
    assert!(is_trusted(&broker, &after) && !is_trusted(&broker, &before));

    fs::copy(before.path("server.key"), broker.directory().join("key.pem")).unwrap();
    reload(&broker, 2);
    let log = broker.log();
    assert!(log.contains("cannot be used together"), "{log}");
    assert!(
        log.contains("certificates of listener tls ") && log.contains("stay as they were"),
        "{log}"
    );
    assert!(is_trusted(&broker, &after));
    standing.quiet().unwrap();
}

#[test]
fn sighup_takes_a_new_authority_of_clients_into_use() {
    let (before, after) = (Authority::new(), Authority::new());
    before.sign("old");
    after.sign("new");
    let broker = with_certificates(&before, &["--cafile"]);
    let port = broker.ports().tls[0].to_string();
    let ca = before.path("ca.pem");
    let is_let_in = |authority: &Authority, name: &str| {
        let cert = authority.path(&format!("{name}.pem"));
        let key = authority.path(&format!("{name}.key"));
        let way = ["-p", &port, "--cafile", &ca, "--cert", &cert, "--key", &key];
        run(PUB, &[&way[..], &["-t", "t", "-m", "x", "-q", "1"]].concat()).code() == 0
    };
    assert!(is_let_in(&before, "old") && !is_let_in(&after, "new"));
    fs::write(broker.directory().join("ca.pem"), after.pem()).unwrap();
    reload(&broker, 1);
    assert!(is_let_in(&after, "new") && !is_let_in(&before, "old"));
}

/// The level is read from the file again; what the file cannot say stays as it was.
#[test]
fn sighup_changes_the_level_of_the_log() {
    let broker = Broker::start_with(|directory| {
        let file = directory.join("broker.toml");
        fs::write(&file, "port = 0\nlog = \"info\"\n").unwrap();
        vec!["--config".to_owned(), file.display().to_string()]
    });
    let s = broker.stage(Version::V5);
    let file = broker.directory().join("broker.toml");
    fs::write(&file, "port = 0\nlog = \"debug\"\n").unwrap();
    reload(&broker, 1);
    drop(s.open().unwrap());
    broker.wait_for_log("before any byte");
    fs::write(&file, "port = 0\nlog = \"loud\"\n").unwrap();
    reload(&broker, 2);
    assert!(broker.log().contains("log levels stay as they were"), "{}", broker.log());
    s.client("a").unwrap().quiet().unwrap();
}

/// A configuration of two listeners, each with a certificate of its own.
fn with_two_certificates(directory: &Path, level: &str, will_bytes_max: &str) -> String {
    let path = |name: &str| directory.join(name).display().to_string();
    let listener = |kind: &str, certificate: &str| {
        format!(
            "[[listener]]\nkind = \"{kind}\"\nhost = [\"127.0.0.1\"]\nport = 0\ncert = {:?}\nkey = {:?}\n",
            path(certificate),
            path("key.pem"),
        )
    };
    [
        format!("log = \"{level}\"\npassword_file = {:?}\n", path("users")),
        format!("[limits]\nwill_bytes_max = \"{will_bytes_max}\"\n"),
        listener("tls", "cert.pem"),
        listener("wss", "other.pem"),
    ]
    .concat()
}

/// Which of several listeners a certificate is for, and what a new file has changed in vain, is said.
#[test]
fn sighup_says_what_was_read_and_what_takes_effect_later() {
    let authority = Authority::new();
    let broker = Broker::start_with(|directory| {
        install(&authority, directory);
        fs::copy(authority.path("server.pem"), directory.join("other.pem")).unwrap();
        fs::write(directory.join("users"), "").unwrap();
        let file = directory.join("broker.toml");
        fs::write(&file, with_two_certificates(directory, "info", "8 KiB")).unwrap();
        vec!["--config".to_owned(), file.display().to_string()]
    });
    fs::write(broker.directory().join("other.pem"), "nonsense").unwrap();
    reload(&broker, 1);
    let log = broker.log();
    let failed = log.lines().filter(|line| line.contains("stay as they were")).collect::<Vec<_>>();
    assert_eq!(failed.len(), 1, "{log}");
    assert!(failed[0].contains("certificates of listener wss 127.0.0.1:0"), "{log}");
    let again = log.lines().find(|line| line.contains("reloaded;")).unwrap();
    for read in ["passwords", "certificates of listener tls 127.0.0.1:0", "log levels"] {
        assert!(again.contains(read) && !again.contains("wss"), "{again}");
    }
    assert!(!log.contains("next start"), "{log}");

    let file = with_two_certificates(broker.directory(), "debug", "1 KiB");
    let file = file.replacen("port = 0", "port = 1", 1);
    fs::write(broker.directory().join("broker.toml"), file).unwrap();
    reload(&broker, 2);
    let log = broker.log();
    assert_eq!(log.matches("takes effect at the next start").count(), 2, "{log}");
    for option in ["listener", "will_bytes_max"] {
        assert!(log.contains(&format!("{option}: takes effect at the next start")), "{log}");
    }
}

/// The Unix socket is a door like the others, and is gone afterwards.
#[test]
fn a_unix_socket_is_served_and_removed() {
    use std::io::{Read as _, Write as _};
    let mut broker = Broker::start_with(|directory| {
        vec!["--unix".to_owned(), directory.join("socket").display().to_string()]
    });
    let path = broker.ports().unix[0].clone();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(&broker.stage(Version::V4).connect("a").bytes()).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [kind::CONNACK << 4, 2, 0, 0]);
    assert!(broker.wait_for_log("client connected").contains("unix"));
    drop(stream);
    assert_eq!(broker.terminate().code(), Some(0));
    assert!(!path.exists());
}
