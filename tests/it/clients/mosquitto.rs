//! `mosquitto_pub` and `mosquitto_sub` over TCP, TLS and the Unix socket.

use super::{has, with_all_doors};
use crate::cli::{Running, run, run_with};
use crate::harness::{Authority, Broker};

const PUB: &str = "mosquitto_pub";
const SUB: &str = "mosquitto_sub";

/// How to reach the broker, and in which version.
struct Way<'a> {
    broker: &'a Broker,
    arguments: Vec<String>,
}

impl Way<'_> {
    fn arguments<'a>(&'a self, further: &[&'a str]) -> Vec<&'a str> {
        self.arguments.iter().map(String::as_str).chain(further.iter().copied()).collect()
    }

    /// Publishes.
    #[track_caller]
    fn publish(&self, further: &[&str]) {
        let ran = run(PUB, &self.arguments(further));
        assert_eq!(ran.code(), 0, "{further:?}: {}", ran.stderr);
    }

    /// Starts a subscriber and waits until it has subscribed.
    #[track_caller]
    fn subscribe(&self, further: &[&str]) -> Running {
        self.subscribe_beside(0, further)
    }

    /// The same where there are so many others. Whoever has left may be on the way out still.
    #[track_caller]
    fn subscribe_beside(&self, others: u64, further: &[&str]) -> Running {
        self.broker.wait_for_metric("subscriptions", |count| count == others);
        let running = Running::start(SUB, &self.arguments(further));
        self.broker.wait_for_metric("subscriptions", |count| count == others + 1);
        running
    }

    fn check(&self) {
        self.messages_of_every_qos();
        self.retained_messages();
        self.a_will();
        self.a_shared_subscription();
        self.a_session_that_waits();
    }

    fn messages_of_every_qos(&self) {
        let sub = self.subscribe(&["-t", "m/#", "-q", "2", "-C", "4", "-F", "%t %q %r %p"]);
        for qos in ["0", "1", "2"] {
            self.publish(&["-t", &format!("m/{qos}"), "-q", qos, "-m", "hello"]);
        }
        self.publish(&["-t", "m/empty", "-q", "1", "-n"]);
        let ran = sub.finish();
        let text = ran.text();
        let mut lines: Vec<&str> = text.lines().collect();
        // One publisher does not wait until what the one before sent with QoS 0 has come.
        lines.sort_unstable();
        assert_eq!(lines, ["m/0 0 0 hello", "m/1 1 0 hello", "m/2 2 0 hello", "m/empty 1 0 "]);
    }

    fn retained_messages(&self) {
        self.publish(&["-t", "r/1", "-q", "1", "-r", "-m", "kept"]);
        let ran = run(SUB, &self.arguments(&["-t", "r/+", "-C", "1", "-F", "%t %r %p"]));
        assert_eq!(ran.text(), "r/1 1 kept\n");
        self.publish(&["-t", "r/1", "-q", "1", "-r", "-n"]);
        let sub = self.subscribe(&["-t", "r/+", "-C", "1", "-F", "%t %r %p"]);
        self.publish(&["-t", "r/2", "-m", "nothing before it"]);
        assert_eq!(sub.finish().text(), "r/2 0 nothing before it\n");
    }

    fn a_will(&self) {
        let watcher = self.subscribe(&["-t", "will", "-q", "1", "-C", "1"]);
        let will = ["--will-topic", "will", "--will-payload", "gone", "--will-qos", "1"];
        let dying = self.subscribe_beside(1, &[&["-t", "whatever"], &will[..]].concat());
        drop(dying);
        assert_eq!(watcher.finish().text(), "gone\n");
    }

    fn a_shared_subscription(&self) {
        let arguments = ["-t", "$share/g/s", "-q", "1", "-C", "10"];
        let members = [0, 1].map(|others| self.subscribe_beside(others, &arguments));
        let lines: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let publish = self.arguments(&["-t", "s", "-q", "1", "-l"]);
        assert_eq!(run_with(PUB, &publish, lines.join("\n").as_bytes()).code(), 0);
        let mut got = Vec::new();
        for member in members {
            got.extend(member.finish().text().lines().map(|line| line.parse::<u32>().unwrap()));
        }
        got.sort_unstable();
        assert_eq!(got, (0..20).collect::<Vec<u32>>());
    }

    /// A Session for each QoS: `mosquitto_sub` leaves before it has acknowledged its last messages.
    fn a_session_that_waits(&self) {
        for qos in ["1", "2"] {
            let (name, topic) = (format!("kept{qos}"), format!("k/{qos}"));
            let mut session = vec!["-i", &name, "-c", "-t", &topic, "-q", "2"];
            if self.arguments.contains(&"mqttv5".to_owned()) {
                session.extend(["-x", "600"]);
            }
            let ran = run(SUB, &self.arguments(&[&session[..], &["-E"]].concat()));
            assert_eq!(ran.code(), 0, "{}", ran.stderr);
            for payload in ["one", "two", "three"] {
                self.publish(&["-t", &topic, "-q", qos, "-m", payload]);
            }
            let ran = run(SUB, &self.arguments(&[&session[..], &["-C", "3"]].concat()));
            assert_eq!(ran.text(), "one\ntwo\nthree\n", "QoS {qos}: {}", ran.stderr);
        }
    }
}

#[track_caller]
fn check(arguments: impl Fn(&Broker, &Authority) -> Vec<String>) {
    if !has("mosquitto-clients", &["sh", "-c", "command -v mosquitto_pub mosquitto_sub"]) {
        return;
    }
    for version in ["mqttv311", "mqttv5"] {
        let authority = Authority::new();
        let broker = with_all_doors(&authority);
        let mut arguments = arguments(&broker, &authority);
        arguments.extend(["-V".to_owned(), version.to_owned()]);
        Way { broker: &broker, arguments }.check();
        assert_eq!(broker.metrics().value("violations_total"), 0, "{}", broker.log());
    }
}

fn owned(arguments: [&str; 4]) -> Vec<String> {
    arguments.map(str::to_owned).to_vec()
}

#[test]
fn mosquitto_over_tcp() {
    check(|broker, _| owned(["-h", "127.0.0.1", "-p", &broker.port().to_string()]));
}

#[test]
fn mosquitto_over_tls() {
    check(|broker, authority| {
        let port = broker.ports().tls[0].to_string();
        let mut arguments = owned(["-h", "localhost", "-p", &port]);
        arguments.extend(["--cafile".to_owned(), authority.path("ca.pem")]);
        arguments
    });
}

#[test]
fn mosquitto_over_a_unix_socket() {
    check(|broker, _| vec!["--unix".to_owned(), broker.ports().unix[0].display().to_string()]);
}
