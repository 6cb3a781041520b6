//! PUBLISH (chapter 3.3): flags, Topic Name, answers, overlapping subscriptions.

use super::bytes::text;
use super::{MALFORMED, Outcome, Stage, ack, ensure, kind, packet, prop, scripts};

scripts! {
    both: [
        both_qos_bits_end_the_connection,
        dup_with_qos_0_ends_the_connection,
        dup_is_not_passed_on,
        topic_name_comes_first,
        topic_name_with_wildcards_ends_the_connection,
        topic_name_matches_the_subscription,
        answers_follow_the_qos,
        qos_delivered_is_the_lower_of_both,
        overlapping_subscriptions_have_the_highest_qos,
        publish_to_what_is_not_allowed_is_answered,
    ],
    v4: [],
    v5: [
        overlapping_subscriptions_name_all_identifiers,
        identifiers_of_matching_subscriptions_only,
        replaced_subscription_has_its_new_identifier,
        subscription_identifier_from_a_client_ends_the_connection,
        subscription_identifier_0_ends_the_connection,
    ],
}

/// [v4:MQTT-3.3.1-4] [v5:MQTT-3.3.1-4]
fn both_qos_bits_end_the_connection(s: &Stage) -> Outcome {
    s.rejects(&s.message(s.topic("t"), "x").qos(3, 1).bytes(), MALFORMED)?;
    s.rejects(&s.message(s.topic("t"), "x").qos(3, 1).dup().retained().bytes(), MALFORMED).map(drop)
}

/// [v4:MQTT-3.3.1-2] [v5:MQTT-3.3.1-2] [v5:MQTT-4.3.1-1]
fn dup_with_qos_0_ends_the_connection(s: &Stage) -> Outcome {
    s.rejects(&s.message(s.topic("t"), "x").dup().bytes(), MALFORMED).map(drop)
}

/// [v4:MQTT-3.3.1-3] [v5:MQTT-3.3.1-3] [v4:MQTT-4.3.2-1] [v5:MQTT-4.3.2-2] [v5:MQTT-4.3.3-2]
fn dup_is_not_passed_on(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut subscriber = s.client("subscriber")?;
    subscriber.subscribe(&topic, 2)?;
    let mut publisher = s.client("publisher")?;
    for qos in [1, 2] {
        publisher.complete(&s.message(&topic, "x").qos(qos, 7).dup())?;
        let message = subscriber.receive(&topic, "x", qos)?;
        ensure!(!message.dup, "DUP 1 was passed on at QoS {qos}");
    }
    Ok(())
}

/// Topic Name, then Packet Identifier, then properties, then payload; without it, malformed.
///
/// [v4:MQTT-3.3.2-1] [v5:MQTT-3.3.2-1]
fn topic_name_comes_first(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.subscribe(&topic, 1)?;
    client.publish(&topic, "x", 1)?;
    let message = client.expect(kind::PUBLISH)?;
    ensure!(message.rest.starts_with(&text(&topic)), "got {}", message.shown());
    s.rejects(&packet(0x30, &[]), MALFORMED).map(drop)
}

/// [v4:MQTT-3.3.2-2] [v4:MQTT-4.7.1-1] [v5:MQTT-3.3.2-2] [v5:MQTT-4.7.0-1]
fn topic_name_with_wildcards_ends_the_connection(s: &Stage) -> Outcome {
    for topic in ["#", "+", "a/#", "a/+/b", "a+", "#b"] {
        s.rejects(&s.message(topic, "x").bytes(), &[0x80, 0x81, 0x82, 0x90])?;
        s.rejects(&s.message(topic, "x").qos(1, 1).bytes(), &[0x80, 0x81, 0x82, 0x90])?;
    }
    Ok(())
}

/// The Topic Name arrives as it was published, and only where the filter matches it.
///
/// [v4:MQTT-3.3.2-3] [v5:MQTT-3.3.2-3]
fn topic_name_matches_the_subscription(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    client.subscribe(&s.topic("+/x"), 0)?;
    client.publish(&s.topic("one/y"), "no", 0)?;
    client.publish(&s.topic("one/x"), "yes", 0)?;
    client.publish(&s.topic("one/x/x"), "no", 0)?;
    client.receive(&s.topic("one/x"), "yes", 0)?;
    client.quiet()
}

/// Nothing, PUBACK, or PUBREC and PUBCOMP; in 3.1.1 the exact bytes.
///
/// [v4:MQTT-3.3.4-1] [v4:MQTT-4.3.2-2] [v5:MQTT-3.3.4-1] [v5:MQTT-4.3.2-4] [v5:MQTT-4.3.3-8]
/// [v5:MQTT-4.3.3-11]
fn answers_follow_the_qos(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.publish(&topic, "x", 0)?;
    client.ping()?;
    client.send(&s.message(&topic, "x").qos(1, 0x0102).bytes());
    let puback = client.packet()?;
    ensure!(puback.first == 0x40 && puback.rest.starts_with(&[1, 2]), "got {}", puback.shown());
    client.send(&s.message(&topic, "x").qos(2, 0x0304).bytes());
    let pubrec = client.packet()?;
    ensure!(pubrec.first == 0x50 && pubrec.rest.starts_with(&[3, 4]), "got {}", pubrec.shown());
    client.send(&ack(kind::PUBREL, 0x0304));
    let pubcomp = client.packet()?;
    ensure!(pubcomp.first == 0x70 && pubcomp.rest.starts_with(&[3, 4]), "got {}", pubcomp.shown());
    client.ping()
}

/// Nine combinations: the lower of the message's QoS and the granted one.
///
/// [v4:MQTT-3.8.4-6] [v5:MQTT-3.8.4-8]
fn qos_delivered_is_the_lower_of_both(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut publisher = s.client("publisher")?;
    for granted in 0..3 {
        let mut subscriber = s.client("subscriber")?;
        subscriber.subscribe(&topic, granted)?;
        for published in 0..3 {
            publisher.publish(&topic, "x", published)?;
            subscriber.receive(&topic, "x", granted.min(published))?;
        }
    }
    Ok(())
}

/// One copy at the highest QoS, or one for each subscription of which one has it.
///
/// [v4:MQTT-3.3.5-1] [v5:MQTT-3.3.4-2]
fn overlapping_subscriptions_have_the_highest_qos(s: &Stage) -> Outcome {
    let topic = s.topic("a/b");
    let mut subscriber = s.client("subscriber")?;
    subscriber.subscribe(&s.topic("a/+"), 0)?;
    subscriber.subscribe(&s.topic("#"), 2)?;
    subscriber.subscribe(&topic, 1)?;
    s.client("publisher")?.publish(&topic, "x", 2)?;
    let mut highest = 0;
    for _copy in 0..3 {
        let message = subscriber.message()?;
        subscriber.settle(&message)?;
        highest = highest.max(message.qos);
        if highest == 2 {
            return Ok(());
        }
    }
    super::differs(format!("the highest QoS of three copies was {highest}"))
}

/// A client may not write to `$SYS`; 3.1.1 can say so only by closing, or must acknowledge.
///
/// [v4:MQTT-3.3.5-2] [v5:MQTT-3.3.4-1]
fn publish_to_what_is_not_allowed_is_answered(s: &Stage) -> Outcome {
    for (qos, answer) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        let mut client = s.client("a")?;
        client.send(&s.message("$SYS/conformance", "x").qos(qos, 5).bytes());
        match client.event()? {
            super::Event::Closed => {}
            super::Event::Packet(packet) if packet.kind() == answer => {
                ensure!(packet.acknowledgement()?.id == 5, "got {}", packet.shown());
            }
            super::Event::Packet(packet) => {
                ensure!(s.is_v5() && packet.kind() == kind::DISCONNECT, "got {}", packet.shown());
                client.closed()?;
            }
        }
    }
    Ok(())
}

/// A single copy names all identifiers; several copies name one each.
///
/// [v5:MQTT-3.3.4-3] [v5:MQTT-3.3.4-4] [v5:MQTT-3.3.4-5]
fn overlapping_subscriptions_name_all_identifiers(s: &Stage) -> Outcome {
    let topic = s.topic("a/b");
    let mut subscriber = s.client("subscriber")?;
    subscriber.subscribe_with(&prop::subscription_id(1), &s.topic("a/+"), 0)?;
    subscriber.subscribe_with(&prop::subscription_id(268_435_455), &s.topic("#"), 0)?;
    s.client("publisher")?.publish(&topic, "x", 0)?;
    let mut named = Vec::new();
    for _copy in 0..2 {
        let message = subscriber.receive(&topic, "x", 0)?;
        let here = message.properties.all(prop::SUBSCRIPTION_ID);
        ensure!(!here.is_empty(), "a copy without Subscription Identifier");
        named.extend(here.into_iter().map(<[u8]>::to_vec));
        if named.len() == 2 {
            break;
        }
    }
    named.sort();
    let wanted = [prop::subscription_id(1), prop::subscription_id(268_435_455)];
    ensure!(named == wanted, "the identifiers were {named:02x?}");
    Ok(())
}

/// [v5:MQTT-3.3.4-3] [v5:MQTT-3.3.4-4]
fn identifiers_of_matching_subscriptions_only(s: &Stage) -> Outcome {
    let mut subscriber = s.client("subscriber")?;
    subscriber.subscribe_with(&prop::subscription_id(7), &s.topic("a"), 0)?;
    subscriber.subscribe_with(&prop::subscription_id(128), &s.topic("b"), 0)?;
    subscriber.subscribe(&s.topic("c"), 0)?;
    for (name, wanted) in [("a", Some(7)), ("b", Some(128)), ("c", None)] {
        subscriber.publish(&s.topic(name), "x", 0)?;
        let message = subscriber.receive(&s.topic(name), "x", 0)?;
        let wanted: Vec<_> = wanted.map(prop::subscription_id).into_iter().collect();
        ensure!(message.properties.0 == wanted, "{name}: {:02x?}", message.properties);
    }
    Ok(())
}

/// [v5:MQTT-3.3.4-3] [v5:MQTT-3.8.4-3]
fn replaced_subscription_has_its_new_identifier(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.subscribe_with(&prop::subscription_id(7), &topic, 0)?;
    client.subscribe_with(&prop::subscription_id(8), &topic, 0)?;
    client.publish(&topic, "x", 0)?;
    let message = client.receive(&topic, "x", 0)?;
    ensure!(message.properties.0 == [prop::subscription_id(8)], "{:02x?}", message.properties);
    client.subscribe(&topic, 0)?;
    client.publish(&topic, "x", 0)?;
    let message = client.receive(&topic, "x", 0)?;
    ensure!(message.properties.0.is_empty(), "{:02x?}", message.properties);
    client.quiet()
}

/// [v5:MQTT-3.3.4-6]
fn subscription_identifier_from_a_client_ends_the_connection(s: &Stage) -> Outcome {
    let message = s.message(s.topic("t"), "x").with(&prop::subscription_id(1));
    s.rejects(&message.bytes(), MALFORMED).map(drop)
}

/// [v5:MQTT-4.13.1-1]
fn subscription_identifier_0_ends_the_connection(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let property = prop::subscription_id(0);
    let pairs = [(topic.as_bytes(), 0)];
    s.rejects(&super::bytes::subscribe(s.version, 1, &property, &pairs), MALFORMED)?;
    let twice = [prop::subscription_id(1), prop::subscription_id(2)].concat();
    s.rejects(&super::bytes::subscribe(s.version, 1, &twice, &pairs), MALFORMED).map(drop)
}
