//! Sessions and what each may leave behind.

use super::{limited, refusal};
use crate::conformance::bytes::Will;
use crate::conformance::{Version, prop};

/// Parked Sessions count; one that ends makes room.
#[test]
fn one_session_too_many_is_refused() {
    let broker = limited(&["--sessions-max", "2"]);
    let s = broker.stage(Version::V5);
    let kept = s.connect("kept").kept();
    s.enter(&kept).unwrap().leave().unwrap();
    let mut first = s.client("first").unwrap();
    assert_eq!(refusal(&s, &s.connect("second")), 0x97);
    let old = broker.stage(Version::V4);
    assert_eq!(refusal(&old, &old.connect("second")), 3, "3.1.1 says: server unavailable");
    assert_eq!(broker.metrics().value("sessions_exceeded_total"), 2);
    // A Session that is there already needs no room.
    let back = s.enter(&kept).unwrap();
    assert!(back.connack.session_present);
    first.quiet().unwrap();
    first.leave().unwrap();
    s.client("second").unwrap().quiet().unwrap();
}

#[test]
fn a_session_expiry_is_cut_to_its_bound() {
    let broker = limited(&["--session-expiry-max-secs", "100"]);
    let s = broker.stage(Version::V5);
    for (asked, told) in [(100, None), (101, Some(100)), (u32::MAX, Some(100))] {
        let connect = s.connect("a").with(&prop::four(prop::SESSION_EXPIRY, asked));
        let client = s.enter(&connect).unwrap();
        assert_eq!(client.connack.properties.number(prop::SESSION_EXPIRY), told, "{asked}");
        client.leave().unwrap();
    }
    assert_eq!(broker.metrics().value("session_expiries_shortened_total"), 2);
}

/// Session expiry is at most a day here, also for a client of 3.1.1 that asks for ever and for one
/// that changes its mind in DISCONNECT.
#[test]
fn a_session_expiry_is_cut_wherever_it_is_asked_for() {
    let broker = limited(&["--session-expiry-max-secs", "1"]);
    let old = broker.stage(Version::V4);
    let connect = old.connect("old").kept();
    old.enter(&connect).unwrap().leave().unwrap();
    let s = broker.stage(Version::V5);
    let client = s.enter(&s.connect("new").with(&prop::four(prop::SESSION_EXPIRY, 1))).unwrap();
    let longer = prop::four(prop::SESSION_EXPIRY, 1_000);
    client.leave_with(&crate::conformance::bytes::disconnect_with(0, &longer)).unwrap();
    broker.wait_for_metric("sessions", |sessions| sessions == 0);
    assert_eq!(broker.metrics().value("sessions_expired_total"), 2);
    assert!(!old.enter(&connect).unwrap().connack.session_present);
}

#[test]
fn a_will_that_is_too_large_is_refused() {
    let broker = limited(&["--will-bytes-max", "1 KiB"]);
    for (version, code) in [(Version::V4, 3), (Version::V5, 0x97)] {
        let s = broker.stage(version);
        let will = |length| Will::new("will", &"x".repeat(length));
        let mut fits = s.enter(&s.connect("fits").will(will(1024 - "will".len()))).unwrap();
        assert_eq!(refusal(&s, &s.connect("large").will(will(1024))), code);
        fits.quiet().unwrap();
    }
    assert_eq!(broker.metrics().value("wills_exceeded_total"), 2);
}

/// The refused client leaves no Session behind.
#[test]
fn wills_have_their_room_together() {
    let broker = limited(&["--wills-bytes-max", "1 KiB"]);
    let s = broker.stage(Version::V5);
    let connect = |name: &str| s.connect(name).will(Will::new("will", &"x".repeat(600)));
    let first = s.enter(&connect("first")).unwrap();
    assert_eq!(refusal(&s, &connect("second")), 0x97);
    let metrics = broker.metrics();
    assert_eq!(metrics.value("wills_exceeded_total"), 1);
    assert_eq!(metrics.value("wills_bytes"), 604);
    assert_eq!(metrics.value("sessions"), 1);
    s.client("third").unwrap().quiet().unwrap();
    first.leave().unwrap();
    s.enter(&connect("second")).unwrap().quiet().unwrap();
}
