//! Other people's clients: Mosquitto's, paho in Python, and MQTT.js, by every way in, in both versions.

mod mosquitto;

use std::process::Command;

use crate::harness::{Authority, Broker};

/// A broker with all four network doors.
fn with_all_doors(authority: &Authority) -> Broker {
    Broker::start_with(|directory| {
        let doors = ["--tls-port", "0", "--ws-port", "0", "--wss-port", "0", "--admin-port", "0"];
        let mut arguments: Vec<String> = doors.map(str::to_owned).to_vec();
        arguments.extend(["--unix".to_owned(), directory.join("socket").display().to_string()]);
        arguments.extend(authority.server_arguments());
        arguments
    })
}

/// Whether a tool is there; `probe` is a command that succeeds with it. Without it a person's machine
/// gets a line and CI an error.
fn has(tool: &str, probe: &[&str]) -> bool {
    let output = Command::new(probe[0]).args(&probe[1..]).output();
    let is_there = output.is_ok_and(|output| output.status.success());
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "CI needs {tool}: see bin/test");
        eprintln!("skipped: {tool} is not installed (bin/test installs it)");
    }
    is_there
}

/// Plays a script once for each version by one way in.
#[track_caller]
fn check_script(interpreter: &str, script: &str, door: &str) {
    let authority = Authority::new();
    let broker = with_all_doors(&authority);
    let ports = broker.ports();
    let ports = [("tcp", &ports.tcp), ("tls", &ports.tls), ("ws", &ports.ws), ("wss", &ports.wss)];
    let port = ports.iter().find(|(name, _)| *name == door).expect("one of the four").1[0];
    let path = format!("{}/tests/it/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    let is_encrypted = ["tls", "wss"].contains(&door);
    for version in ["4", "5"] {
        let mut command = Command::new(interpreter);
        command.args([&*path, door, &port.to_string(), version]);
        if is_encrypted {
            command.arg(authority.path("ca.pem"));
        }
        let output = command.output().expect("it has just been started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}", broker.log());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n", "{said}");
    }
    let metrics = broker.metrics();
    assert_eq!(metrics.value("violations_total"), 0, "{}", broker.log());
    assert_eq!(metrics.value("deliveries_dropped_total"), 0);
}

#[track_caller]
fn check_paho(door: &str) {
    if has("paho-mqtt for Python", &["python3", "-c", "import paho.mqtt.packettypes"]) {
        check_script("python3", "with_paho.py", door);
    }
}

#[track_caller]
fn check_mqtt_js(door: &str) {
    if has("MQTT.js for node", &["node", "-e", "require('mqtt')"]) {
        check_script("node", "with_mqtt_js.js", door);
    }
}

#[test]
fn paho_over_tcp() {
    check_paho("tcp");
}

#[test]
fn paho_over_tls() {
    check_paho("tls");
}

#[test]
fn paho_over_websocket() {
    check_paho("ws");
}

#[test]
fn paho_over_secure_websocket() {
    check_paho("wss");
}

#[test]
fn mqtt_js_over_tcp() {
    check_mqtt_js("tcp");
}

#[test]
fn mqtt_js_over_tls() {
    check_mqtt_js("tls");
}

#[test]
fn mqtt_js_over_websocket() {
    check_mqtt_js("ws");
}

#[test]
fn mqtt_js_over_secure_websocket() {
    check_mqtt_js("wss");
}
