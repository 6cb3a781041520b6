//! The environment: ours, mistyped, and Kubernetes'.

use std::fs;

use crate::conformance::{Version, prop};
use crate::harness::Broker;

/// What a broker started like this takes as its largest packet.
fn packet_bytes_max(file: &str, variable: &[(&str, &str)], flags: &[&str]) -> Option<u32> {
    let broker = Broker::start_in(variable, |directory| {
        let path = directory.join("broker.toml");
        fs::write(&path, format!("port = 0\n{file}")).unwrap();
        let config = ["--config", path.to_str().unwrap()];
        [&config[..], flags].concat().into_iter().map(str::to_owned).collect()
    });
    let client = broker.stage(Version::V5).client("a").unwrap();
    client.connack.properties.number(prop::MAXIMUM_PACKET_SIZE)
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "[limits]\npacket_bytes_max = \"1 KiB\"\n";
    let variable = [("MQTTZOO_PACKET_BYTES_MAX", "2 KiB")];
    let flag = ["--packet-bytes-max", "3 KiB"];
    assert_eq!(packet_bytes_max(file, &[], &[]), Some(1024));
    assert_eq!(packet_bytes_max(file, &variable, &[]), Some(2048));
    assert_eq!(packet_bytes_max(file, &variable, &flag), Some(3072));
    assert_eq!(packet_bytes_max("", &[("MQTTZOO_PACKET_BYTES_MAX", "")], &[]), Some(1 << 20));
}

/// A Service named `mqttzoo` gives every pod variables with our prefix, one of them the very name
/// of an option: one line says that they are passed over.
#[test]
fn variables_of_kubernetes_are_ignored_with_one_line() {
    let variables = [
        ("MQTTZOO_PORT", "tcp://10.0.0.1:1883"),
        ("MQTTZOO_SERVICE_HOST", "10.0.0.1"),
        ("MQTTZOO_SERVICE_PORT", "1883"),
        ("MQTTZOO_SERVICE_PORT_MQTT", "1883"),
        ("MQTTZOO_PORT_1883_TCP", "tcp://10.0.0.1:1883"),
        ("MQTTZOO_PORT_1883_TCP_ADDR", "10.0.0.1"),
        ("MQTTZOO_PORT_1883_TCP_PORT", "1883"),
        ("MQTTZOO_PORT_1883_TCP_PROTO", "tcp"),
        ("MQTTZOO_WS_PORT", "0"),
        ("MQTTZOO_PROT", "1"),
    ];
    let broker = Broker::start_in(&variables, |directory| {
        let path = directory.join("broker.toml");
        fs::write(&path, "port = 0\n").unwrap();
        vec!["--config".to_owned(), path.display().to_string()]
    });
    assert_eq!((broker.ports().tcp.len(), broker.ports().ws.len()), (1, 1));
    let log = broker.wait_for_log("accepts connections");
    assert_eq!(broker.count_in_log("Kubernetes"), 1, "{log}");
    assert!(log.contains("8 environment variables of Kubernetes"), "{log}");
    let of_kubernetes = log.lines().find(|line| line.contains("Kubernetes"));
    assert!(of_kubernetes.is_some_and(|line| line.contains("INFO")), "{log}");
    assert_eq!(broker.count_in_log("MQTTZOO_PROT is unknown"), 1, "{log}");
    assert!(log.contains("did you mean `MQTTZOO_PORT`?"), "{log}");
    assert_eq!(log.lines().count(), 3, "{log}");
}

/// `bin/cluster` was told of another broker by a variable with our prefix, which its brokers inherited:
/// each warned of an unknown option.
#[test]
fn bin_cluster_reads_no_variable_that_looks_like_an_option() {
    let script = include_str!("../../../bin/cluster");
    let read: Vec<_> = script.lines().filter(|line| line.contains("${MQTTZOO_")).collect();
    assert_eq!(read, Vec::<&str>::new());
}
