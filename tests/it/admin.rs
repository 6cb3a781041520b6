//! The administration port and `$SYS`, as an operator meets them: HTTP over a real socket.

mod exposition;
mod http;
mod mqtt;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Broker, Mosquitto};
use http::{Response, exchange, request};
use mqtt::Client;

const PATIENCE: Duration = Duration::from_secs(20);

fn admin(broker: &Broker) -> u16 {
    broker.ports().admin.expect("the port is in ports.json")
}

fn start(arguments: &[&str]) -> Broker {
    Broker::start(&[&["--admin-port", "0"], arguments].concat())
}

fn get(broker: &Broker, path: &str) -> Response {
    request(admin(broker), "GET", path, &[], "")
}

fn ids(page: &Value) -> Vec<&str> {
    let clients = page["clients"].as_array().expect("there is a list");
    clients.iter().map(|client| client["client_id"].as_str().unwrap()).collect()
}

/// Asks again until `is_there`.
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn probes_are_answered_and_the_port_is_in_the_start_up_line() {
    let broker = start(&[]);
    for path in ["/livez", "/readyz", "/startupz"] {
        let response =
            eventually("readiness", || Some(get(&broker, path)).filter(|r| r.status == 200));
        assert_eq!(response.json(), json!({"status": "ok"}), "{path}");
    }
    broker.wait_for_log(&format!("\"admin\":{}", admin(&broker)));
}

#[test]
fn what_is_wrong_is_said_in_json() {
    let broker = start(&[]);
    let port = admin(&broker);
    let long = "x".repeat(5_000);
    for (method, path, body, status) in [
        ("GET", "/nowhere", "", 404),
        ("POST", "/clients", "", 405),
        ("GET", "/clients/nobody", "", 404),
        ("DELETE", "/clients/nobody", "", 404),
        ("GET", "/clients/%ff", "", 400),
        ("DELETE", "/clients/%ff", "", 400),
        ("GET", "/clients?limit=0", "", 400),
        ("GET", "/clients?limit=1001", "", 400),
        ("GET", "/clients?limit=many", "", 400),
        ("GET", "/clients?colour=red", "", 400),
        ("GET", "/clients?connected=maybe", "", 400),
        ("PUT", "/log-level", "loud", 400),
        ("PUT", "/log-level", &long, 413),
    ] {
        let response = request(port, method, path, &[], body);
        assert_eq!(response.status, status, "{method} {path}: {}", response.body);
        check_words(&response);
    }
}

fn check_words(response: &Response) {
    let said = response.json();
    for part in ["error", "hint"] {
        assert!(said[part].as_str().is_some_and(|words| !words.is_empty()), "{response:?}");
    }
}

/// The HTTP library refuses these itself, and would do so without a word.
#[test]
fn what_is_no_request_is_refused_in_json_too() {
    let broker = start(&[]);
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(100_000));
    for (text, statuses) in [
        ("GET /livez HTTP/1.1\r\n no header\r\n\r\n", &[400][..]),
        ("GET /livez HTTP/3.0\r\nHost: localhost\r\n\r\n", &[400]),
        ("<>?!\r\n\r\n", &[400]),
        (&long, &[414, 431]),
    ] {
        let response = exchange(admin(&broker), text);
        assert!(statuses.contains(&response.status), "{text:.40}: {response:?}");
        check_words(&response);
    }
}

#[test]
fn a_request_names_its_host_once() {
    let broker = start(&[]);
    let ask = |version, hosts: &str| {
        let head = format!("GET /livez HTTP/{version}\r\nConnection: close\r\n");
        exchange(admin(&broker), &format!("{head}{hosts}\r\n"))
    };
    let one = "Host: localhost\r\n";
    assert_eq!(ask("1.1", one).status, 200);
    assert_eq!(ask("1.0", "").status, 200);
    for refused in [ask("1.1", ""), ask("1.1", &one.repeat(2)), ask("1.0", &one.repeat(2))] {
        assert_eq!(refused.status, 400);
        check_words(&refused);
    }
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let broker = start(&[]);
    let large = ("X-Large", "x".repeat(64 * 1_024));
    let response = request(admin(&broker), "GET", "/livez", &[(large.0, &large.1)], "");
    assert_eq!(response.status, 431);
    check_words(&response);
    let many: Vec<_> = (0..100).map(|_| ("X-Many", "x")).collect();
    let response = request(admin(&broker), "GET", "/livez", &many, "");
    assert_eq!(response.status, 431);
    check_words(&response);
}

#[test]
fn clients_are_listed_in_pages_and_filtered() {
    let broker = start(&[]);
    let names = ["a-1", "a-2", "b-1", "b-2", "b-3"];
    let _connected: Vec<_> =
        names.iter().map(|name| Client::connect(broker.port(), name, 0)).collect();
    let mut parked = Client::connect(broker.port(), "c-parked", 100);
    parked.subscribe("some/+");
    parked.disconnect();
    eventually("the parked session", || {
        let page = get(&broker, "/clients?connected=false").json();
        (ids(&page) == ["c-parked"]).then_some(())
    });

    let mut seen = Vec::new();
    let mut path = "/clients?limit=2".to_owned();
    loop {
        let page = get(&broker, &path).json();
        assert!(ids(&page).len() <= 2);
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/clients?limit=2&after={next}");
    }
    assert_eq!(seen, ["a-1", "a-2", "b-1", "b-2", "b-3", "c-parked"]);
    let listed = |query: &str| {
        let page = get(&broker, &format!("/clients?{query}")).json();
        ids(&page).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listed("prefix=b-"), ["b-1", "b-2", "b-3"]);
    assert_eq!(listed("prefix=b-&after=b-1&connected=true"), ["b-2", "b-3"]);
    assert_eq!(listed("user=somebody"), [""; 0]);
}

#[test]
fn a_client_is_shown_in_detail() {
    let broker = start(&[]);
    let _client = Client::connect(broker.port(), "rooms/7%", 0);
    let shown = get(&broker, "/clients/rooms%2F7%25").json();
    assert_eq!(shown["client_id"], "rooms/7%");
    assert_eq!(shown["connected"], true);
    assert_eq!(shown["version"], "5.0");
    assert_eq!(shown["keep_alive_secs"], 60);
    assert!(shown["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(shown["listener"].is_string() && shown["connected_since"].is_string());

    let mut parked = Client::connect(broker.port(), "parked", 100);
    parked.subscribe("some/+");
    parked.disconnect();
    let mut publisher = Client::connect(broker.port(), "publisher", 0);
    publisher.publish_qos1("some/thing", b"twelve bytes");
    let shown = get(&broker, "/clients/parked").json();
    assert_eq!(shown["connected"], false);
    assert_eq!(shown["subscriptions"], json!(["some/+"]));
    assert_eq!(shown["queued_messages"], 1);
    assert!(shown["queued_bytes"].as_u64().unwrap() >= 12);
    assert!(shown["session_expires_in_secs"].as_u64().unwrap() <= 100);
}

#[test]
fn a_connected_client_is_ended_with_its_session() {
    let broker = start(&[]);
    let mut client = Client::connect(broker.port(), "doomed", 100);
    client.subscribe("some/+");
    let response = request(admin(&broker), "DELETE", "/clients/doomed", &[], "");
    assert_eq!(response.status, 204, "{}", response.body);
    assert_eq!(client.read_disconnect(), 0x98, "Administrative action");
    assert_eq!(get(&broker, "/clients/doomed").status, 404);
    assert!(!Client::resume(broker.port(), "doomed").session_present);
}

#[test]
fn a_parked_client_is_ended_with_its_session() {
    let broker = start(&[]);
    let mut client = Client::connect(broker.port(), "away", 100);
    client.subscribe("some/+");
    client.disconnect();
    eventually("the parked session", || {
        Some(get(&broker, "/clients/away").json()).filter(|shown| shown["connected"] == false)
    });
    assert_eq!(request(admin(&broker), "DELETE", "/clients/away", &[], "").status, 204);
    assert_eq!(request(admin(&broker), "DELETE", "/clients/away", &[], "").status, 404);
    assert!(!Client::resume(broker.port(), "away").session_present);
    let metrics = exposition::parse(&get(&broker, "/metrics").body);
    assert_eq!(metrics.value("mqttzoo_subscriptions", ""), 0);
    assert_eq!(metrics.value("mqttzoo_timers", ""), 0);
}

#[test]
fn metrics_are_well_formed_and_count() {
    let broker = start(&[]);
    let response = get(&broker, "/metrics");
    assert!(response.header("content-type").starts_with("application/openmetrics-text"));
    let before = exposition::parse(&response.body);
    let mut client = Client::connect(broker.port(), "counted", 0);
    client.subscribe("some/+");
    client.publish_qos1("some/thing", b"payload");
    let after = exposition::parse(&get(&broker, "/metrics").body);
    let grown = |name: &str, label: &str| after.value(name, label) - before.value(name, label);
    assert_eq!(grown("mqttzoo_publishes_received_total", ""), 1);
    assert_eq!(grown("mqttzoo_publish_received_bytes_total", ""), 7);
    assert_eq!(grown("mqttzoo_connects_accepted_total", ""), 1);
    assert_eq!(grown("mqttzoo_connections_accepted_total", "transport=\"tcp\""), 1);
    assert_eq!(grown("mqttzoo_connections", ""), 1);
    assert_eq!(grown("mqttzoo_clients_connected", ""), 1);
    assert_eq!(grown("mqttzoo_sessions", ""), 1);
    assert_eq!(grown("mqttzoo_subscriptions", ""), 1);
    assert!(after.value("mqttzoo_resident_bytes", "") > 100_000);
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(after.value("mqttzoo_build_info", &version), 1);
    drop(client);
    eventually("the end of the connection", || {
        let now = exposition::parse(&get(&broker, "/metrics").body);
        (now.value("mqttzoo_connections", "") == before.value("mqttzoo_connections", ""))
            .then_some(())
    });
}

/// Every bound of `docs/CONFIG.md` that a client can reach has a counter.
#[test]
fn every_bound_has_a_counter() {
    let broker = start(&[]);
    let metrics = exposition::parse(&get(&broker, "/metrics").body);
    for (name, label) in [
        ("mqttzoo_connections_refused_total", "bound=\"connections\""),
        ("mqttzoo_connections_refused_total", "bound=\"listener_connections\""),
        ("mqttzoo_connections_refused_total", "bound=\"address_connections\""),
        ("mqttzoo_connections_refused_total", "bound=\"address_rate\""),
        ("mqttzoo_connections_refused_total", "bound=\"half_open\""),
        ("mqttzoo_handshakes_failed_total", "reason=\"timed_out\""),
        ("mqttzoo_accept_pauses_total", ""),
        ("mqttzoo_connect_timeouts_total", ""),
        ("mqttzoo_packet_timeouts_total", ""),
        ("mqttzoo_keep_alive_timeouts_total", ""),
        ("mqttzoo_keep_alives_shortened_total", ""),
        ("mqttzoo_session_expiries_shortened_total", ""),
        ("mqttzoo_packets_too_large_total", ""),
        ("mqttzoo_receive_maximum_exceeded_total", ""),
        ("mqttzoo_topic_levels_exceeded_total", ""),
        ("mqttzoo_subscriptions_exceeded_total", ""),
        ("mqttzoo_subscription_sizes_exceeded_total", ""),
        ("mqttzoo_subscriptions_of_all_exceeded_total", ""),
        ("mqttzoo_topic_alias_sizes_exceeded_total", ""),
        ("mqttzoo_sessions_exceeded_total", ""),
        ("mqttzoo_wills_exceeded_total", ""),
        ("mqttzoo_retained_exceeded_total", ""),
        ("mqttzoo_connects_waiting_exceeded_total", ""),
        ("mqttzoo_publishes_refused_total", ""),
        ("mqttzoo_deliveries_dropped_total", ""),
        ("mqttzoo_publishes_held_total", ""),
        ("mqttzoo_held_publishes_dropped_total", ""),
        ("mqttzoo_reads_deferred_by_hold_total", ""),
        ("mqttzoo_queues_exceeded_total", ""),
        ("mqttzoo_queue_reserves_total", ""),
        ("mqttzoo_reads_deferred_by_rate_total", ""),
        ("mqttzoo_reads_deferred_by_memory_total", ""),
        ("mqttzoo_reads_deferred_by_partial_packets_total", ""),
        ("mqttzoo_log_lines_dropped_total", ""),
    ] {
        let value = metrics.value(name, label);
        assert!(value >= 0, "{name} is {value}");
    }
}

#[test]
fn a_bound_that_is_reached_is_counted() {
    let broker = start(&[
        "--topic-levels-max",
        "3",
        "--retained-messages-max",
        "1",
        "--subscriptions-per-client-max",
        "1",
        "--sys-interval-secs",
        "off",
    ]);
    let mut client = Client::connect(broker.port(), "bold", 4_000_000);
    assert_eq!(client.try_subscribe("a/b/c/d"), 0x8F);
    assert_eq!(client.try_subscribe("a"), 1);
    assert_eq!(client.try_subscribe("b"), 0x97);
    assert_eq!(client.publish_retained("one", b"1"), 0x10, "nobody subscribes to it");
    assert_eq!(client.publish_retained("two", b"2"), 0x97);
    let metrics = exposition::parse(&get(&broker, "/metrics").body);
    for name in [
        "mqttzoo_topic_levels_exceeded_total",
        "mqttzoo_subscriptions_exceeded_total",
        "mqttzoo_retained_exceeded_total",
        "mqttzoo_session_expiries_shortened_total",
    ] {
        assert_eq!(metrics.value(name, ""), 1, "{name}");
    }
}

#[test]
fn the_log_level_changes_while_running() {
    let broker = start(&["--log", "info"]);
    assert_eq!(get(&broker, "/log-level").json(), json!({"level": "info"}));
    let port = admin(&broker);
    let changed = request(port, "PUT", "/log-level", &[], "{\"level\":\"debug\"}");
    assert_eq!(changed.json(), json!({"level": "debug"}));
    drop(std::net::TcpStream::connect(("127.0.0.1", broker.port())).unwrap());
    broker.wait_for_log("before any byte");
    assert_eq!(request(port, "PUT", "/log-level", &[], "error").status, 200);
    assert_eq!(get(&broker, "/log-level").json(), json!({"level": "error"}));
    let _quiet = Client::connect(broker.port(), "unheard", 0);
    assert!(!broker.log().contains("unheard"));
}

#[test]
fn a_broker_that_drains_is_alive_and_not_ready() {
    let mut broker = start(&["--drain-rate-max", "1", "--drain-timeout-secs", "20"]);
    let _clients: Vec<_> =
        (0..4).map(|n| Client::connect(broker.port(), &format!("c{n}"), 0)).collect();
    let port = admin(&broker);
    broker.signal(Signal::TERM);
    let response = eventually("503", || {
        Some(request(port, "GET", "/readyz", &[], "")).filter(|response| response.status == 503)
    });
    assert!(response.json()["reason"].as_str().unwrap().starts_with("draining"));
    assert_eq!(request(port, "GET", "/livez", &[], "").status, 200);
    assert_eq!(request(port, "GET", "/startupz", &[], "").status, 200);
    assert!(broker.wait(PATIENCE).expect("it ends").success());
}

#[test]
fn a_token_is_asked_for_except_by_probes() {
    let broker = Broker::start_with(|directory| {
        let token = directory.join("token");
        std::fs::write(&token, "0123456789abcdef\n").unwrap();
        let token = token.display().to_string();
        ["--admin-port", "0", "--admin-token-file", &token].map(str::to_owned).to_vec()
    });
    let port = admin(&broker);
    assert_eq!(get(&broker, "/livez").status, 200);
    let refused = get(&broker, "/clients");
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Bearer".to_owned()));
    let shown = [("Authorization", "Bearer 0123456789abcdef")];
    assert_eq!(request(port, "GET", "/clients", &shown, "").status, 200);
    assert_eq!(request(port, "GET", "/metrics", &shown, "").status, 200);
    let wrong = [("Authorization", "Bearer 0123456789abcdeg")];
    assert_eq!(request(port, "PUT", "/log-level", &wrong, "off").status, 401);
}

#[test]
fn on_an_open_address_without_a_token_only_probes_are_answered() {
    let broker = start(&["--admin-host", "0.0.0.0"]);
    broker.wait_for_log("only probes are answered");
    assert_eq!(get(&broker, "/livez").status, 200);
    for path in ["/metrics", "/clients", "/clients/a", "/log-level"] {
        assert_eq!(get(&broker, path).status, 403, "{path}");
    }
}

#[test]
fn a_web_page_that_rebinds_its_name_to_loopback_gets_nothing() {
    let broker = start(&[]);
    let response = request(admin(&broker), "GET", "/clients", &[("Host", "evil.example")], "");
    assert_eq!(response.status, 403);
}

#[test]
fn a_taken_admin_port_is_one_line() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let directory = crate::harness::fresh_dir("admin-taken");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_mqtt_broker"))
        .args(["--port", "0", "--admin-port", &port, "--data-dir"])
        .arg(&directory)
        .output()
        .unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    let line = said.lines().last().unwrap_or_default();
    assert!(line.contains(&format!("--admin-port {port} is taken")), "{said}");
}

/// The topics that Debian's Mosquitto 2.0.11 publishes, one a line.
const MOSQUITTO_TOPICS: &str = include_str!("admin/mosquitto-2.0.11-sys.txt");

#[test]
fn sys_has_every_topic_of_mosquitto() {
    let broker = start(&["--sys-interval-secs", "1"]);
    let mut client = Client::connect(broker.port(), "reader", 0);
    client.subscribe_qos0("$SYS/#");
    let deadline = Instant::now() + PATIENCE;
    let mut found = BTreeMap::new();
    loop {
        let missing: Vec<_> =
            MOSQUITTO_TOPICS.lines().filter(|topic| !found.contains_key(*topic)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "not published: {missing:?}");
        let (topic, payload) = client.read_publish();
        found.insert(topic, payload);
    }
    let value = |name: &str| found[&format!("$SYS/broker/{name}")].as_str();
    assert_eq!(value("version"), format!("mqttzoo version {}", env!("CARGO_PKG_VERSION")));
    let seconds = value("uptime").strip_suffix(" seconds").expect("its unit");
    assert!(seconds.parse::<u64>().is_ok());
    assert!(value("load/messages/received/5min").split_once('.').unwrap().1.len() == 2);
    assert!(value("heap/current").parse::<u64>().unwrap() > 100_000);
}

/// The list above is what the real one says.
#[test]
fn the_list_of_mosquitto_is_complete() {
    if Mosquitto::version().as_deref() != Some("2.0.11") {
        return;
    }
    let mosquitto = Mosquitto::start();
    let mut client = Client::connect(mosquitto.port, "reader", 0);
    client.subscribe_qos0("the/end");
    eventually("the same topics", || {
        client.subscribe_qos0("$SYS/#");
        client.publish_qos1("the/end", b"");
        let all = std::iter::from_fn(|| Some(client.read_publish().0));
        let found: BTreeSet<_> = all.take_while(|topic| topic != "the/end").collect();
        (found == MOSQUITTO_TOPICS.lines().map(str::to_owned).collect()).then_some(())
    });
}

#[test]
fn sys_changes_with_what_happens() {
    let broker = start(&["--sys-interval-secs", "1"]);
    let _one = Client::connect(broker.port(), "one", 0);
    let _two = Client::connect(broker.port(), "two", 0);
    let mut reader = Client::connect(broker.port(), "reader", 0);
    reader.subscribe_qos0("$SYS/broker/clients/connected");
    let deadline = Instant::now() + PATIENCE;
    while reader.read_publish().1 != "3" {
        assert!(Instant::now() < deadline, "three clients were not counted");
    }
}
