//! Planted violations: each form of each fault is found, and what is right is left alone.

use super::{source::SourceFile, violations};

/// The faults of a crate that has one file, `path`, with `text` in it.
fn faults(path: &str, text: &str) -> Vec<String> {
    violations(&[SourceFile::parse(path, text)])
}

#[track_caller]
fn check_refused(path: &str, text: &str, reason: &str) {
    let found = faults(path, text);
    assert!(
        found.iter().any(|fault| fault.contains(reason)),
        "`{text}` in {path} should be refused with \"{reason}\", found {found:?}"
    );
}

#[track_caller]
fn check_accepted(path: &str, text: &str) {
    assert_eq!(faults(path, text), [""; 0], "`{text}` in {path}");
}

#[test]
fn an_upward_arrow_is_found_in_every_form() {
    for text in [
        "use crate::net::Listener;",
        "use crate::{mqtt::QoS, net::Listener};",
        "use crate::{mqtt::{QoS, self}, net::{self, tcp::*}};",
        "use super::super::net::Listener;",
        "use mqttzoo::net::Listener;",
        "use ::mqttzoo::net::Listener;",
        "use crate::net as other;",
        "fn f() { crate::net::open(); }",
        "fn f() { mqttzoo::net::open(); }",
        "fn f() { super::super::net::open(); }",
        "fn f(listener: crate::net::Listener) {}",
        "fn f() -> Vec<crate::net::Listener> { vec![] }",
        "fn f<T: crate::net::Open>() {}",
        "impl crate::net::Open for Thing {}",
        "impl Thing { fn f() { crate::net::open(); } }",
        "trait T { fn f() { crate::net::open(); } }",
        "fn f() { assert!(1 == crate::net::open(), \"{}\", 1); }",
        "fn f() { let a = vec![[crate::net::open()]]; }",
        "macro_rules! m { () => { $crate::net::open() }; }",
        "mod inner { use super::super::super::net::open; }",
        "mod inner { fn f() { use crate::net::open; } }",
        "const C: usize = crate::net::SIZE;",
        "type T = crate::net::Listener;",
        "#[cfg(not(test))] use crate::net::Listener;",
    ] {
        check_refused("session/window.rs", text, "points up to `net`");
    }
}

#[test]
fn each_layer_has_its_arrows() {
    check_refused("mqtt/mod.rs", "use crate::ports::Auth;", "points up to `ports`");
    check_refused("ports/mod.rs", "use crate::broker::Broker;", "points up to `broker`");
    check_refused("broker/mod.rs", "use crate::runtime::spawn;", "points up to `runtime`");
    check_refused("net/mod.rs", "use crate::auth::Users;", "points sideways to `auth`");
    check_refused("net/mod.rs", "use crate::config::Config;", "points sideways to `config`");
    check_refused("net/mod.rs", "use crate::node::run;", "points up to `node`");
    check_refused("client/mod.rs", "use crate::ports::Auth;", "may know `mqtt` only");
    check_refused("sim/mod.rs", "use crate::runtime::spawn;", "`broker` and below");
    check_refused("net/mod.rs", "use crate::sim::World;", "nobody may know `sim`");
    check_refused("gadgets/mod.rs", "fn f() {}", "not in the table");
    check_refused("net/mod.rs", "use crate::gadgets::Any;", "not in the table");
    for (path, text) in [
        ("node/mod.rs", "use crate::{config::Config, net, broker::Broker, mqtt::QoS};"),
        ("net/mod.rs", "use crate::{runtime::spawn, metrics::Counter, broker::Broker};"),
        ("net/tcp.rs", "use super::Listener; use crate::net::ws;"),
        ("session/mod.rs", "use crate::{routing::Filter, ports::Store};"),
        ("client/mod.rs", "use crate::mqtt::QoS;"),
        ("sim/mod.rs", "use crate::{broker::Broker, session::Session};"),
        ("bin/mqtt_broker.rs", "use mqttzoo::{config, node}; use std::env;"),
        ("lib.rs", "pub mod net; pub mod mqtt;"),
    ] {
        check_accepted(path, text);
    }
}

#[test]
fn circles_between_neighbours_are_found() {
    let files = [
        SourceFile::parse("session/mod.rs", "use crate::routing::Filter;"),
        SourceFile::parse("routing/mod.rs", "use crate::stream::Cursor;"),
        SourceFile::parse("stream/mod.rs", "use crate::session::Session;"),
    ];
    assert_eq!(violations(&files).len(), 3, "each of the three stands in it");
    assert_eq!(violations(&files[..2]), [""; 0], "two arrows are no circle");
}

#[test]
fn what_belongs_to_another_layer_is_not_handed_on() {
    for text in [
        "pub use crate::mqtt::QoS;",
        "pub(crate) use crate::mqtt::QoS;",
        "pub use crate::mqtt::*;",
        "pub use super::mqtt::{QoS, Topic};",
    ] {
        check_refused("session/mod.rs", text, "across layers");
    }
    check_refused("lib.rs", "pub use crate::mqtt::QoS;", "across layers");
    check_refused("lib.rs", "pub mod mqtt; pub use mqtt::QoS;", "across layers");
    check_accepted("session/mod.rs", "mod window; pub use window::Window;");
    check_accepted("session/mod.rs", "pub use self::window::Window; pub use bytes::Bytes;");
}

#[test]
fn forms_that_would_hide_an_arrow_are_refused() {
    check_refused("session/mod.rs", "use crate as root;", "the root of the crate");
    check_refused("session/mod.rs", "use crate::*;", "the root of the crate");
    check_refused("session/mod.rs", "use super::*;", "the root of the crate");
    check_refused("session/mod.rs", "use crate::{self as root};", "the root of the crate");
    check_refused("session/mod.rs", "#[path = \"../net/mod.rs\"] mod net;", "`#[path]`");
    check_refused("session/mod.rs", "include!(\"../net/mod.rs\");", "`include!`");
    check_refused("lib.rs", "extern crate self as root;", "`extern crate`");
    check_refused("session/mod.rs", "use std::time as clock;", "under another name");
    check_refused("session/mod.rs", "use hashbrown::HashMap as Map;", "under another name");
}

#[test]
fn synchronous_layers_know_no_system_time_or_chance() {
    for (text, reason) in [
        ("use tokio::sync::mpsc;", "no tasks"),
        ("fn f() { tokio::spawn(g()); }", "no tasks"),
        ("use std::{fs, io};", "no input or output"),
        ("use std::fs::File;", "no input or output"),
        ("fn f() { std::net::TcpStream::connect(1); }", "no input or output"),
        ("use std::net::*;", "no input or output"),
        ("use std::{thread, time::Duration};", "no tasks"),
        ("fn f() { std::env::var(\"HOME\"); }", "no input or output"),
        ("fn f() { std::process::exit(1) }", "no input or output"),
        ("use std::time::{Duration, Instant};", "time is an input"),
        ("fn f() { std::time::SystemTime::now(); }", "time is an input"),
        ("use std::time::*;", "time is an input"),
        ("use std::time; fn f() { time::Instant::now(); }", "time is an input"),
        ("fn f() { assert!(std::time::Instant::now() > start); }", "time is an input"),
        ("use chrono::Utc;", "time is an input"),
        ("fn f() { getrandom::fill(&mut b); }", "chance is an input"),
        ("use std::hash::RandomState;", "chance is an input"),
        ("use foldhash::fast::RandomState;", "chance is an input"),
        ("struct S { map: HashMap<u8, u8> }", "name the hasher"),
        ("struct S { set: HashSet<u8> }", "name the hasher"),
        ("fn f() { let m = HashMap::new(); }", "name the hasher"),
        ("fn f() { let m = std::collections::HashSet::with_capacity(1); }", "name the hasher"),
        ("fn f() { i.collect::<HashMap<_, _>>(); }", "name the hasher"),
        ("use std::collections::*;", "name the hasher"),
        ("async fn f() {}", "submit and completion"),
        ("fn f() { async { 1 } }", "submit and completion"),
        ("fn f() { g(async || 1) }", "submit and completion"),
        ("trait T { async fn f(); }", "submit and completion"),
        ("fn f() { join!(async { 1 }) }", "submit and completion"),
        ("static COUNT: AtomicU32 = AtomicU32::new(0);", "no globals"),
        ("fn f() { static COUNT: AtomicU32 = AtomicU32::new(0); }", "no globals"),
        ("thread_local! { static C: Cell<u8> = Cell::new(0); }", "no globals"),
        ("static ONCE: OnceLock<u8> = OnceLock::new();", "no globals"),
        ("use std::task::Context;", "no tasks"),
        ("use std::task::{Poll, Waker};", "no tasks"),
    ] {
        for layer in ["mqtt", "session", "routing", "cluster", "stream", "ports", "broker", "sim"] {
            check_refused(&format!("{layer}/mod.rs"), text, reason);
        }
        check_accepted("net/mod.rs", text.trim_start_matches("use std::time;"));
    }
}

#[test]
fn what_a_synchronous_layer_needs_is_left_alone() {
    for text in [
        "use std::{collections::{BTreeMap, VecDeque}, time::Duration, sync::Arc};",
        "use hashbrown::HashMap; struct S<H> { map: HashMap<u8, u8, H> }",
        "use hashbrown::HashSet; fn f<H>(set: &HashSet<u8, H>) { HashSet::with_hasher(1); }",
        "fn f(&'static self) -> &'static str { \"crate::net, std::fs\" }",
        "/// See `crate::net` and [`std::fs`].\nfn f() {} // std::thread",
        "pub(super) fn f() {} pub(in crate::session) fn g() {}",
        "impl S { fn f(&self) -> u8 { self.clock.instant } }",
        "#[cfg(test)] mod tests { use std::{fs, thread}; use crate::net::Listener; }",
        "#[cfg(test)] use crate::net::Listener;",
        "#[cfg(test)] fn f() { std::thread::yield_now(); }",
        "struct S(foldhash::fast::FixedState);",
        "use std::task::Waker;",
        "struct S { made_once: std::sync::OnceLock<u8> }",
        "names! { names: &'static [&'static str] }",
    ] {
        check_accepted("session/mod.rs", text);
    }
}

#[test]
fn files_of_tests_are_left_alone() {
    let files = [
        SourceFile::parse("session/mod.rs", "#[cfg(test)] mod tests;"),
        SourceFile::parse("session/tests.rs", "use std::fs; use crate::net::Listener;"),
        SourceFile::parse("session/tests/more.rs", "use std::thread;"),
    ];
    assert_eq!(violations(&files), [""; 0]);
    let compiled =
        [SourceFile::parse("session/mod.rs", "mod tests;"), files.into_iter().nth(1).unwrap()];
    assert_eq!(violations(&compiled).len(), 2);
}
