//! Shared Subscriptions (chapter 4.8.2).

use super::{Client, Event, Outcome, Stage, ack, bytes, ensure, kind, prop, scripts, skipped};

scripts! {
    both: [],
    v4: [],
    v5: [
        malformed_shared_filters_are_refused,
        each_message_goes_to_one_member,
        groups_are_told_apart,
        shared_and_own_subscriptions_both_count,
        granted_qos_is_respected,
        members_are_chosen_by_full_filter,
        qos_2_in_flight_is_completed_by_its_member,
        qos_2_in_flight_ends_with_the_session_of_its_member,
        refused_messages_go_to_nobody,
        retained_messages_are_not_sent_to_groups,
    ],
}

/// A member of this script's group.
fn member(s: &Stage, name: &str, qos: u8) -> Outcome<Client> {
    let mut client = s.enter(&s.connect(name).kept())?;
    if client.connack.properties.number(prop::SHARED_AVAILABLE) == Some(0) {
        return skipped("the server has no Shared Subscriptions");
    }
    client.subscribe(&filter(s, "group"), qos)?;
    Ok(client)
}

fn filter(s: &Stage, group: &str) -> String {
    format!("$share/{group}{}/{}", s.unique, s.topic("t"))
}

/// No name of a group, no filter, or characters such a name may not have.
///
/// [v5:MQTT-4.8.2-1] [v5:MQTT-4.8.2-2]
fn malformed_shared_filters_are_refused(s: &Stage) -> Outcome {
    for filter in
        ["$share//t", "$share/group", "$share/group/", "$share/a+/t", "$share/a#/t", "$share/+/t"]
    {
        let mut client = s.client("a")?;
        client.send(&bytes::subscribe(s.version, 1, &[], &[(filter.as_bytes(), 0)]));
        match client.event()? {
            Event::Closed => {}
            Event::Packet(packet) if packet.kind() == kind::SUBACK => {
                let codes = packet.codes()?.codes;
                ensure!(codes[0] >= 0x80, "`{filter}` was granted {codes:02x?}");
            }
            Event::Packet(packet) => {
                ensure!(packet.kind() == kind::DISCONNECT, "got {}", packet.shown());
                client.closed()?;
            }
        }
    }
    Ok(())
}

/// Reads from all members until `wanted` messages have come; then none may be left.
fn collect(members: &mut [Client], publisher: &mut Client, topic: &str) -> Outcome<Vec<String>> {
    let mut all = Vec::new();
    for member in members.iter_mut() {
        let own = format!("{topic}/last");
        member.subscribe(&own, 0)?;
        publisher.publish(&own, "last", 0)?;
        loop {
            let message = member.message()?;
            if message.payload == b"last" {
                break;
            }
            member.settle(&message)?;
            all.push(message.text());
        }
        member.unsubscribe(&[&own])?;
    }
    all.sort();
    Ok(all)
}

/// Twenty messages, three members: each message once in all.
///
/// [v5:MQTT-4.8.2-1] [v5:MQTT-4.8.2-2]
fn each_message_goes_to_one_member(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut members = [member(s, "a", 1)?, member(s, "b", 1)?, member(s, "c", 1)?];
    let mut publisher = s.client("publisher")?;
    let wanted: Vec<_> = (10..30).map(|number: u32| number.to_string()).collect();
    for number in &wanted {
        publisher.publish(&topic, number, 1)?;
    }
    let got = collect(&mut members, &mut publisher, &topic)?;
    ensure!(got == wanted, "the members got {got:?}");
    Ok(())
}

/// Each group gets its own copy.
///
/// [v5:MQTT-4.8.2-2]
fn groups_are_told_apart(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut first = member(s, "a", 1)?;
    let mut second = s.client("b")?;
    second.subscribe(&filter(s, "other"), 1)?;
    let mut publisher = s.client("publisher")?;
    publisher.publish(&topic, "x", 1)?;
    first.receive(&topic, "x", 1)?;
    second.receive(&topic, "x", 1)?;
    first.quiet()?;
    second.quiet()
}

/// A message may come once for both, or once for each.
///
/// [v5:MQTT-4.5.0-1]
fn shared_and_own_subscriptions_both_count(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut in_group = member(s, "a", 0)?;
    let mut alone = s.client("b")?;
    alone.subscribe(&topic, 0)?;
    s.client("publisher")?.publish(&topic, "x", 1)?;
    in_group.receive(&topic, "x", 0)?;
    alone.receive(&topic, "x", 0)?;
    alone.quiet()
}

/// [v5:MQTT-4.8.2-3] [v5:MQTT-3.8.4-8]
fn granted_qos_is_respected(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    for granted in 0..3 {
        let mut only = member(s, "a", granted)?;
        for published in 0..3 {
            s.client("publisher")?.publish(&topic, "x", published)?;
            only.receive(&topic, "x", granted.min(published))?;
        }
        // Whoever comes while its last answer is still unread would be sent that message again.
        only.leave()?;
    }
    Ok(())
}

/// Unsubscribing from the plain filter leaves the group's subscription alone.
///
/// [v5:MQTT-3.10.4-1]
fn members_are_chosen_by_full_filter(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut only = member(s, "a", 1)?;
    only.unsubscribe(&[&topic, &filter(s, "other")])?;
    only.publish(&topic, "still", 1)?;
    only.receive(&topic, "still", 1)?;
    only.unsubscribe(&[&filter(s, "group")])?;
    only.publish(&topic, "no more", 1)?;
    only.quiet()
}

/// Both members get something in flight; the one whose connection breaks gets its own again.
///
/// [v5:MQTT-4.8.2-4]
fn qos_2_in_flight_is_completed_by_its_member(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut broken = member(s, "a", 2)?;
    let mut publisher = s.client("publisher")?;
    publisher.publish(&topic, "x", 2)?;
    let first = broken.message()?;
    let mut other = member(s, "b", 2)?;
    broken.cut()?;
    other.quiet()?;
    let mut back = s.enter(&s.connect("a").kept())?;
    let again = back.message()?;
    ensure!(again == first.clone().dup(), "first {first:?}, then {again:?}");
    back.settle(&again)?;
    other.quiet()
}

/// [v5:MQTT-4.8.2-5]
fn qos_2_in_flight_ends_with_the_session_of_its_member(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut ending = member(s, "a", 2)?;
    let mut publisher = s.client("publisher")?;
    publisher.publish(&topic, "x", 2)?;
    let begun = ending.message()?;
    ensure!(begun.qos == 2, "got {}", begun.shown());
    let mut other = member(s, "b", 2)?;
    ending.cut()?;
    s.client("a")?.leave()?;
    other.quiet()?;
    publisher.publish(&topic, "y", 2)?;
    other.receive(&topic, "y", 2).map(drop)
}

/// [v5:MQTT-4.8.2-6]
fn refused_messages_go_to_nobody(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    for (qos, answer) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        let mut refusing = member(s, "a", 2)?;
        s.client("publisher")?.publish(&topic, "x", qos)?;
        let message = refusing.message()?;
        let mut other = member(s, "b", 2)?;
        refusing.send(&bytes::ack_with(answer, message.id, 0x83));
        refusing.quiet()?;
        other.quiet()?;
        refusing.cut()?;
        let mut back = s.enter(&s.connect("a").kept())?;
        back.quiet()?;
        back.unsubscribe(&[&filter(s, "group")])?;
        other.unsubscribe(&[&filter(s, "group")])?;
        back.send(&ack(kind::PUBREL, 999));
        back.expect_ack(kind::PUBCOMP, 999)?;
    }
    Ok(())
}

/// Only live messages go to a group.
fn retained_messages_are_not_sent_to_groups(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    s.client("publisher")?.retain(&topic, "kept")?;
    let mut only = member(s, "a", 1)?;
    only.quiet()?;
    only.publish(&topic, "live", 1)?;
    only.receive(&topic, "live", 1).map(drop)
}
