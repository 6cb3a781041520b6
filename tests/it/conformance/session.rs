//! What a Session keeps and how long (chapters 3.1.2.4 and 4.1).

use std::time::Duration;

use super::{Outcome, Stage, bytes, ensure, prop, scripts};

scripts! {
    both: [
        subscriptions_and_messages_wait_for_the_client,
        broken_connection_keeps_the_session,
        clean_connect_discards_the_session,
        session_of_a_clean_client_ends_with_its_connection,
        session_lasts_while_connected,
        takeover_moves_the_session,
        clean_takeover_discards_the_session,
        offline_messages_come_in_order,
    ],
    v4: [],
    v5: [
        clean_start_with_expiry_is_kept,
        session_ends_when_its_expiry_has_passed,
        session_expiry_can_change_at_disconnect,
        disconnect_can_end_the_session,
        session_does_not_expire_while_connected,
    ],
}

/// [v4:MQTT-3.1.2-4] [v4:MQTT-3.1.2-5] [v4:MQTT-4.5.0-1] [v4:MQTT-4.1.0-1] [v5:MQTT-3.1.2-5]
/// [v5:MQTT-3.1.2-23] [v5:MQTT-4.5.0-1]
fn subscriptions_and_messages_wait_for_the_client(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.enter(&s.connect("a").kept())?;
    client.subscribe(&topic, 2)?;
    client.leave()?;
    let mut publisher = s.client("publisher")?;
    publisher.publish(&topic, "one", 1)?;
    publisher.publish(&topic, "two", 2)?;
    let mut client = s.enter(&s.connect("a").kept())?;
    ensure!(client.connack.session_present, "the Session is not present");
    client.receive(&topic, "one", 1)?;
    client.receive(&topic, "two", 2)?;
    publisher.publish(&topic, "three", 1)?;
    client.receive(&topic, "three", 1)?;
    client.quiet()
}

/// [v4:MQTT-3.1.2-4] [v4:MQTT-3.1.2-5] [v5:MQTT-3.1.2-23]
fn broken_connection_keeps_the_session(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.enter(&s.connect("a").kept())?;
    client.subscribe(&topic, 1)?;
    client.cut()?;
    s.client("publisher")?.publish(&topic, "x", 1)?;
    let mut client = s.enter(&s.connect("a").kept())?;
    ensure!(client.connack.session_present, "the Session is not present");
    client.receive(&topic, "x", 1).map(drop)
}

/// Its subscriptions, its queue and what was in flight.
///
/// [v4:MQTT-3.1.2-6] [v4:MQTT-3.1.4-3] [v5:MQTT-3.1.2-4] [v5:MQTT-3.1.4-4]
fn clean_connect_discards_the_session(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.enter(&s.connect("a").kept())?;
    client.subscribe(&topic, 1)?;
    client.publish(&topic, "in flight", 1)?;
    client.message()?;
    client.leave()?;
    let mut publisher = s.client("publisher")?;
    publisher.publish(&topic, "queued", 1)?;
    let mut client = s.client("a")?;
    ensure!(!client.connack.session_present, "Session Present is 1");
    publisher.publish(&topic, "live", 1)?;
    client.quiet()?;
    client.leave()?;
    let mut client = s.enter(&s.connect("a").kept())?;
    client.quiet()
}

/// Clean Session 1, in 5.0 a Session Expiry Interval of 0 or none.
///
/// [v4:MQTT-3.1.2-6] [v4:MQTT-3.2.2-3] [v5:MQTT-4.1.0-2] [v5:MQTT-3.1.2-6]
fn session_of_a_clean_client_ends_with_its_connection(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut connects = vec![s.connect("a")];
    if s.is_v5() {
        connects.push(s.connect("a").resumed());
        connects.push(s.connect("a").resumed().with(&prop::four(prop::SESSION_EXPIRY, 0)));
    }
    for connect in connects {
        let mut client = s.enter(&connect)?;
        client.subscribe(&topic, 1)?;
        client.cut()?;
        s.client("publisher")?.publish(&topic, "x", 1)?;
        let mut client = s.enter(&s.connect("a").resumed())?;
        ensure!(!client.connack.session_present, "the Session is still there");
        client.quiet()?;
        client.leave()?;
        s.client("a")?.leave()?;
    }
    Ok(())
}

/// [v4:MQTT-4.1.0-1] [v4:MQTT-4.1.0-2] [v5:MQTT-4.1.0-1]
fn session_lasts_while_connected(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.subscribe(&topic, 1)?;
    client.publish(&topic, "x", 1)?;
    let message = client.message()?;
    for _ in 0..20 {
        client.ping()?;
    }
    client.settle(&message)?;
    client.publish(&topic, "y", 1)?;
    client.receive(&topic, "y", 1).map(drop)
}

/// Subscriptions and what was in flight go to the new connection.
///
/// [v4:MQTT-3.1.4-2] [v4:MQTT-3.1.2-4] [v5:MQTT-3.1.4-3] [v5:MQTT-3.1.2-5]
fn takeover_moves_the_session(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut first = s.enter(&s.connect("a").kept())?;
    first.subscribe(&topic, 1)?;
    first.publish(&topic, "x", 1)?;
    let id = first.message()?.id;
    let mut second = s.enter(&s.connect("a").kept())?;
    ensure!(second.connack.session_present, "the Session is not present");
    first.refused(&[0x8E])?;
    let again = second.receive(&topic, "x", 1)?;
    ensure!(again.dup && again.id == id, "got {again:?}");
    second.publish(&topic, "y", 1)?;
    second.receive(&topic, "y", 1).map(drop)
}

/// [v4:MQTT-3.1.2-6] [v4:MQTT-3.2.2-1] [v5:MQTT-3.1.2-4] [v5:MQTT-3.2.2-2]
fn clean_takeover_discards_the_session(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut first = s.enter(&s.connect("a").kept())?;
    first.subscribe(&topic, 1)?;
    let mut second = s.client("a")?;
    ensure!(!second.connack.session_present, "Session Present is 1");
    first.refused(&[0x8E])?;
    s.client("publisher")?.publish(&topic, "x", 1)?;
    second.quiet()
}

/// [v4:MQTT-3.1.2-5] [v4:MQTT-4.6.0-6] [v5:MQTT-4.5.0-1] [v5:MQTT-4.6.0-5]
fn offline_messages_come_in_order(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.enter(&s.connect("a").kept())?;
    client.subscribe(&topic, 1)?;
    client.leave()?;
    let mut publisher = s.client("publisher")?;
    for number in 0..60 {
        publisher.publish(&topic, &number.to_string(), 1)?;
    }
    let mut client = s.enter(&s.connect("a").kept())?;
    for number in 0..60 {
        client.receive(&topic, &number.to_string(), 1)?;
    }
    client.quiet()
}

/// Clean Start says how a Session begins, its expiry how it ends.
///
/// [v5:MQTT-3.1.2-23] [v5:MQTT-3.2.2-3]
fn clean_start_with_expiry_is_kept(s: &Stage) -> Outcome {
    let expiry = prop::four(prop::SESSION_EXPIRY, 100);
    s.enter(&s.connect("a").with(&expiry))?.cut()?;
    let client = s.enter(&s.connect("a").resumed())?;
    ensure!(client.connack.session_present, "the Session is not present");
    Ok(())
}

/// [v5:MQTT-4.1.0-2] [v5:MQTT-3.1.2-23]
fn session_ends_when_its_expiry_has_passed(s: &Stage) -> Outcome {
    let expiry = prop::four(prop::SESSION_EXPIRY, 1);
    s.enter(&s.connect("a").with(&expiry))?.leave()?;
    s.pass(Duration::from_millis(2500))?;
    let client = s.enter(&s.connect("a").resumed())?;
    ensure!(!client.connack.session_present, "the Session has outlived its expiry");
    Ok(())
}

/// [v5:MQTT-3.1.2-23] [v5:MQTT-4.1.0-2]
fn session_expiry_can_change_at_disconnect(s: &Stage) -> Outcome {
    let client = s.enter(&s.connect("a").with(&prop::four(prop::SESSION_EXPIRY, 1)))?;
    client.leave_with(&bytes::disconnect_with(0, &prop::four(prop::SESSION_EXPIRY, 100)))?;
    s.pass(Duration::from_millis(2500))?;
    let client = s.enter(&s.connect("a").resumed())?;
    ensure!(client.connack.session_present, "the longer expiry was not taken");
    Ok(())
}

/// [v5:MQTT-4.1.0-2]
fn disconnect_can_end_the_session(s: &Stage) -> Outcome {
    let client = s.enter(&s.connect("a").kept())?;
    client.leave_with(&bytes::disconnect_with(0, &prop::four(prop::SESSION_EXPIRY, 0)))?;
    let client = s.enter(&s.connect("a").resumed())?;
    ensure!(!client.connack.session_present, "the Session is still there");
    Ok(())
}

/// [v5:MQTT-4.1.0-1]
fn session_does_not_expire_while_connected(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let expiry = prop::four(prop::SESSION_EXPIRY, 1);
    let mut client = s.enter(&s.connect("a").with(&expiry))?;
    client.subscribe(&topic, 0)?;
    s.pass(Duration::from_millis(2500))?;
    client.publish(&topic, "x", 0)?;
    client.receive(&topic, "x", 0)?;
    client.cut()?;
    let client = s.enter(&s.connect("a").resumed())?;
    ensure!(client.connack.session_present, "the Session expired while connected");
    Ok(())
}
