//! Wills of clients whose broker dies: published when they are due, once.

use rusqlite::Connection;

use super::Mortal;
use crate::conformance::{Client, Connect, Will, prop};

/// Somebody who hears of wills, whenever they are published.
fn leave_watcher(mortal: &Mortal) {
    let mut watcher = mortal.keeper("watcher");
    watcher.subscribe("will", 1).unwrap();
    watcher.leave().unwrap();
}

fn client(mortal: &Mortal, delay_secs: u32) -> Connect {
    let will = Will::new("will", "gone").qos(1).with(&prop::four(prop::WILL_DELAY, delay_secs));
    mortal.stage.connect("client").kept().will(will)
}

/// Acknowledges as the store has it: nothing of it comes again.
fn settle(watcher: &mut Client) {
    watcher.subscribe("barrier", 1).unwrap();
}

#[test]
pub(super) fn the_will_of_a_client_that_was_there_is_published_once() {
    let mut mortal = Mortal::start(&[]);
    leave_watcher(&mortal);
    let _client = mortal.stage.enter(&client(&mortal, 0)).unwrap();
    mortal.die_and_rise();
    let mut watcher = mortal.keeper("watcher");
    watcher.receive("will", "gone", 1).unwrap();
    settle(&mut watcher);
    mortal.die_and_rise();
    let mut watcher = mortal.keeper("watcher");
    assert!(watcher.connack.session_present);
    assert!(mortal.keeper("client").connack.session_present);
    watcher.quiet().unwrap();
}

#[test]
pub(super) fn a_client_that_is_back_in_time_takes_its_will_back() {
    let mut mortal = Mortal::start(&[]);
    leave_watcher(&mortal);
    let _client = mortal.stage.enter(&client(&mortal, 600)).unwrap();
    mortal.die_and_rise();
    let back = mortal.keeper("client");
    assert!(back.connack.session_present);
    mortal.die_and_rise();
    let mut watcher = mortal.keeper("watcher");
    watcher.quiet().unwrap();
}

/// The delay had begun when the broker died, and goes on.
#[test]
fn a_will_that_was_delayed_is_published_in_its_time() {
    let mut mortal = Mortal::start(&[]);
    leave_watcher(&mortal);
    mortal.stage.enter(&client(&mortal, 2)).unwrap().cut().unwrap();
    let store = Connection::open(mortal.broker.directory().join("store.sqlite")).unwrap();
    let due_at = "SELECT fires_at FROM will WHERE fires_at IS NOT NULL";
    mortal.broker.wait_until("a will with a time", |_| {
        store.query_row(due_at, [], |row| row.get::<_, i64>(0)).is_ok()
    });
    drop(store);
    mortal.die_and_rise();
    let mut watcher = mortal.keeper("watcher");
    watcher.receive("will", "gone", 1).unwrap();
    watcher.quiet().unwrap();
}

/// A Session that ends takes its will along, however long that was to wait [MQTT-3.1.3-9].
#[test]
pub(super) fn the_end_of_a_session_publishes_its_will() {
    let mut mortal = Mortal::start(&[]);
    leave_watcher(&mortal);
    let expires_soon = Connect { properties: Vec::new(), ..client(&mortal, 600) };
    let expires_soon = expires_soon.with(&prop::four(prop::SESSION_EXPIRY, 1));
    let _client = mortal.stage.enter(&expires_soon).unwrap();
    mortal.die_and_rise();
    let mut watcher = mortal.keeper("watcher");
    watcher.receive("will", "gone", 1).unwrap();
    assert!(!mortal.keeper("client").connack.session_present);
}

/// A Session that was to end with its connection has ended, and its will is published.
#[test]
pub(super) fn a_session_that_was_not_to_outlive_its_connection_leaves_its_will() {
    let mut mortal = Mortal::start(&[]);
    leave_watcher(&mortal);
    mortal.keeper("client").leave().unwrap();
    let not_kept = Connect { properties: Vec::new(), ..client(&mortal, 600) };
    let resumed = mortal.stage.enter(&not_kept).unwrap();
    assert!(resumed.connack.session_present);
    mortal.die_and_rise();
    let mut watcher = mortal.keeper("watcher");
    watcher.receive("will", "gone", 1).unwrap();
    assert!(!mortal.keeper("client").connack.session_present);
}
