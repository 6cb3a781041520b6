//! Whose a Session is, and who waits for it: another user's CONNECT changes neither.

use super::*;
use crate::broker::event::Event;

/// A connection of a user whom TLS has proven, and the answers to its CONNECT.
fn connect_as(
    stage: &mut Stage,
    user: Option<&str>,
    id: &str,
    expiry_secs: u32,
) -> (Actor, Vec<Packet>) {
    let (mut actor, connect) = actor(id, ProtocolVersion::V5, expiry_secs, stage.now);
    let tls_common_name = user.map(Arc::from);
    let origin = Origin { address: "here".into(), listener: "stage".into(), tls_common_name };
    let options = Arc::new(ConnectionOptions::default());
    actor.connection = Connection::new(origin, options, stage.now);
    let answers = stage.send(&mut actor, &connect);
    (actor, answers)
}

#[track_caller]
fn check_refused(stage: &mut Stage, user: Option<&str>, expiry_secs: u32) {
    stage.shard.events.clear();
    let (actor, answers) = connect_as(stage, user, "x", expiry_secs);
    let [Packet::Connack(connack)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(connack.reason_code, ReasonCode::NotAuthorized);
    assert!(connack.properties.reason_string.is_some());
    assert!(actor.connection.is_closed());
    let foreign = |event: &Event| matches!(event, Event::Foreign { .. });
    assert!(stage.shard.events.iter().any(foreign));
}

fn code(answers: &[Packet]) -> Option<ReasonCode> {
    match answers {
        [Packet::Connack(connack), ..] => Some(connack.reason_code),
        _ => None,
    }
}

/// The story: who owned it was told to go, and of those who waited the newest got it, whoever that
/// was. Now the newest of its own user does.
#[test]
fn who_waits_for_a_session_is_not_superseded_by_another_user() {
    for expiry_secs in [0, 60] {
        let mut stage = Stage::new(BrokerOptions::default());
        let (mut owner, _) = connect_as(&mut stage, Some("alice"), "x", expiry_secs);
        check_refused(&mut stage, Some("bob"), expiry_secs);
        assert_eq!(stage.poll(&mut owner), [], "it has noticed");
        let (mut next, answers) = connect_as(&mut stage, Some("alice"), "x", expiry_secs);
        assert_eq!(answers, [], "the owner has had no turn");
        check_refused(&mut stage, Some("bob"), expiry_secs);
        check_refused(&mut stage, None, expiry_secs);
        let told = stage.poll(&mut owner);
        assert!(matches!(&told[..], [Packet::Disconnect(_)]), "{told:?}");
        // Between the one and the other it is nobody's, but for whose it is.
        check_refused(&mut stage, Some("bob"), expiry_secs);
        assert_eq!(code(&stage.poll(&mut next)), Some(ReasonCode::Success));
        stage.lose(next);
        // One that has ended is nobody's any more.
        let user = if expiry_secs == 0 { "bob" } else { "alice" };
        if expiry_secs > 0 {
            check_refused(&mut stage, Some("bob"), expiry_secs);
        }
        let (_in, answers) = connect_as(&mut stage, Some(user), "x", expiry_secs);
        assert_eq!(code(&answers), Some(ReasonCode::Success));
    }
}
