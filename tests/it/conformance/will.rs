//! Will Messages (chapters 3.1.2.5 and 3.1.3.2).

use std::time::Duration;

use super::{Outcome, Stage, Will, bytes, ensure, prop, scripts};

scripts! {
    both: [
        will_goes_out_when_the_connection_breaks,
        will_is_discarded_by_disconnect,
        will_goes_out_once,
        without_will_nothing_goes_out,
        will_has_its_qos,
        will_is_not_retained_unless_asked,
        retained_will_is_retained,
        will_goes_out_after_a_protocol_error,
        will_goes_out_at_takeover,
    ],
    v4: [],
    v5: [
        disconnect_with_will_publishes_it,
        delayed_will_is_cancelled_by_a_new_connection,
        delayed_will_goes_out_after_its_delay,
        delayed_will_goes_out_when_the_session_ends,
        delayed_will_goes_out_when_a_clean_start_ends_the_session,
        delayed_will_is_discarded_by_disconnect,
    ],
}

/// [v4:MQTT-3.1.2-8] [v5:MQTT-3.1.2-7] [v5:MQTT-3.1.2-8]
fn will_goes_out_when_the_connection_breaks(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    let client = s.enter(&s.connect("a").will(Will::new(&topic, "gone")))?;
    watcher.quiet()?;
    client.cut()?;
    let message = watcher.receive(&topic, "gone", 0)?;
    ensure!(!message.retain && !message.dup, "got {message:?}");
    Ok(())
}

/// [v4:MQTT-3.14.4-3] [v4:MQTT-3.1.2-10] [v5:MQTT-3.14.4-3] [v5:MQTT-3.1.2-10]
fn will_is_discarded_by_disconnect(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    s.enter(&s.connect("a").will(Will::new(&topic, "gone")))?.leave()?;
    watcher.quiet()?;
    if s.is_v5() {
        let client = s.enter(&s.connect("a").will(Will::new(&topic, "gone")))?;
        client.leave_with(&bytes::disconnect_with(0, &[]))?;
        watcher.quiet()?;
    }
    Ok(())
}

/// [v4:MQTT-3.1.2-10] [v4:MQTT-3.1.2-12] [v5:MQTT-3.1.2-10]
fn will_goes_out_once(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    s.enter(&s.connect("a").kept().will(Will::new(&topic, "gone")))?.cut()?;
    watcher.receive(&topic, "gone", 0)?;
    s.enter(&s.connect("a").kept())?.cut()?;
    watcher.quiet()
}

/// [v4:MQTT-3.1.2-12] [v4:MQTT-3.1.2-11] [v5:MQTT-3.1.2-7]
fn without_will_nothing_goes_out(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    s.enter(&s.connect("a").kept().will(Will::new(&topic, "old")))?.leave()?;
    s.enter(&s.connect("a").kept())?.cut()?;
    watcher.quiet()?;
    s.enter(&s.connect("a").will(Will::new(&topic, "now")))?.cut()?;
    watcher.receive(&topic, "now", 0).map(drop)
}

/// [v4:MQTT-3.1.2-14] [v4:MQTT-3.1.2-9] [v5:MQTT-3.1.2-12]
fn will_has_its_qos(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 2)?;
    for qos in 0..3 {
        s.enter(&s.connect("a").will(Will::new(&topic, "gone").qos(qos)))?.cut()?;
        watcher.receive(&topic, "gone", qos)?;
    }
    Ok(())
}

/// [v4:MQTT-3.1.2-16] [v5:MQTT-3.1.2-14]
fn will_is_not_retained_unless_asked(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    s.enter(&s.connect("a").will(Will::new(&topic, "gone").qos(1)))?.cut()?;
    watcher.receive(&topic, "gone", 0)?;
    let mut late = s.client("late")?;
    late.subscribe(&topic, 0)?;
    late.quiet()
}

/// [v4:MQTT-3.1.2-17] [v5:MQTT-3.1.2-15]
fn retained_will_is_retained(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    s.enter(&s.connect("a").will(Will::new(&topic, "gone").retained()))?.cut()?;
    watcher.receive(&topic, "gone", 0)?;
    let mut late = s.client("late")?;
    late.subscribe(&topic, 0)?;
    let message = late.receive(&topic, "gone", 0)?;
    ensure!(message.retain, "RETAIN is 0 although the subscription is new");
    Ok(())
}

/// [v4:MQTT-3.1.2-8] [v5:MQTT-3.1.2-8]
fn will_goes_out_after_a_protocol_error(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    let mut client = s.enter(&s.connect("bad").will(Will::new(&topic, "gone")))?;
    client.send(&s.connect("bad").bytes());
    client.refused(&[0x82])?;
    watcher.receive(&topic, "gone", 0).map(drop)
}

/// The old connection ended without DISCONNECT, and no delay was asked for.
///
/// [v4:MQTT-3.1.2-8] [v5:MQTT-3.1.2-8]
fn will_goes_out_at_takeover(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    let mut first = s.enter(&s.connect("a").kept().will(Will::new(&topic, "gone")))?;
    let second = s.enter(&s.connect("a").kept())?;
    first.refused(&[0x8E])?;
    watcher.receive(&topic, "gone", 0)?;
    second.leave()?;
    watcher.quiet()
}

/// DISCONNECT 0x04 asks for the will; any other error ends the connection without discarding it.
///
/// [v5:MQTT-3.1.2-8] [v5:MQTT-3.14.4-3]
fn disconnect_with_will_publishes_it(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    for code in [0x04, 0x80, 0x83] {
        let client = s.enter(&s.connect("a").will(Will::new(&topic, "gone")))?;
        client.leave_with(&bytes::disconnect_with(code, &[]))?;
        watcher.receive(&topic, "gone", 0)?;
    }
    Ok(())
}

fn delayed(topic: &str, seconds: u32) -> Will {
    Will::new(topic, "gone").with(&prop::four(prop::WILL_DELAY, seconds))
}

/// [v5:MQTT-3.1.3-9] [v5:MQTT-3.1.2-8]
fn delayed_will_is_cancelled_by_a_new_connection(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    s.enter(&s.connect("a").kept().will(delayed(&topic, 2)))?.cut()?;
    let client = s.enter(&s.connect("a").kept())?;
    s.pass(Duration::from_millis(3500))?;
    watcher.quiet()?;
    client.leave()
}

/// Not at once, but soon after its second.
///
/// [v5:MQTT-3.1.2-8] [v5:MQTT-3.1.2-7]
fn delayed_will_goes_out_after_its_delay(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    s.enter(&s.connect("a").kept().will(delayed(&topic, 1)))?.cut()?;
    watcher.quiet()?;
    watcher.receive(&topic, "gone", 0).map(drop)
}

/// [v5:MQTT-3.1.2-8]
fn delayed_will_goes_out_when_the_session_ends(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    s.enter(&s.connect("a").will(delayed(&topic, 1000)))?.cut()?;
    watcher.receive(&topic, "gone", 0)?;
    let expiry = prop::four(prop::SESSION_EXPIRY, 1);
    s.enter(&s.connect("a").with(&expiry).will(delayed(&topic, 1000)))?.cut()?;
    watcher.receive(&topic, "gone", 0).map(drop)
}

/// [v5:MQTT-3.1.2-8] [v5:MQTT-3.1.2-4]
fn delayed_will_goes_out_when_a_clean_start_ends_the_session(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    s.enter(&s.connect("a").kept().will(delayed(&topic, 1000)))?.cut()?;
    watcher.quiet()?;
    let client = s.client("a")?;
    watcher.receive(&topic, "gone", 0)?;
    client.leave()
}

/// [v5:MQTT-3.14.4-3] [v5:MQTT-3.1.2-10]
fn delayed_will_is_discarded_by_disconnect(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    s.enter(&s.connect("a").kept().will(delayed(&topic, 1)))?.leave()?;
    s.pass(Duration::from_millis(2500))?;
    watcher.quiet()
}
