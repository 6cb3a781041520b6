//! Topic Alias, from client to server and back (chapters 3.1.2.11.5 and 3.3.2.3.4).

use super::{MALFORMED, Outcome, Stage, ensure, prop, scripts, skipped};

scripts! {
    both: [],
    v4: [],
    v5: [
        alias_stands_for_its_topic,
        alias_can_be_set_anew,
        highest_alias_is_accepted,
        alias_0_ends_the_connection,
        alias_beyond_the_maximum_ends_the_connection,
        unknown_alias_ends_the_connection,
        aliases_end_with_the_connection,
        server_sends_no_alias_when_not_asked,
        server_keeps_to_the_clients_maximum,
        server_aliases_end_with_the_connection,
    ],
}

/// Reason Codes for an alias nobody may use.
const INVALID: &[u8] = &[0x81, 0x82, 0x94];

fn alias(number: u16) -> Vec<u8> {
    prop::two(prop::TOPIC_ALIAS, number)
}

/// The Topic Alias Maximum a server announced; without any, it takes no aliases.
fn maximum(client: &super::Client) -> Outcome<u16> {
    match client.connack.properties.number(prop::TOPIC_ALIAS_MAXIMUM).unwrap_or(0) {
        0 => skipped("the server takes no Topic Alias"),
        maximum => Ok(u16::try_from(maximum).unwrap_or(u16::MAX)),
    }
}

/// At each QoS; the subscriber sees the topic and no alias.
///
/// [v5:MQTT-3.3.2-12] [v5:MQTT-3.1.2-27]
fn alias_stands_for_its_topic(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut subscriber = s.client("subscriber")?;
    subscriber.subscribe(&topic, 2)?;
    let mut publisher = s.client("publisher")?;
    maximum(&publisher)?;
    publisher.complete(&s.message(&topic, "first").with(&alias(1)))?;
    subscriber.receive(&topic, "first", 0)?;
    for qos in 0..3 {
        let id = if qos > 0 { publisher.fresh_id() } else { 0 };
        publisher.complete(&s.message("", "again").qos(qos, id).with(&alias(1)))?;
        let message = subscriber.receive(&topic, "again", qos)?;
        ensure!(message.properties.0.is_empty(), "got {:02x?}", message.properties);
    }
    Ok(())
}

/// [v5:MQTT-3.3.2-12]
fn alias_can_be_set_anew(s: &Stage) -> Outcome {
    let (one, two) = (s.topic("one"), s.topic("two"));
    let mut client = s.client("a")?;
    client.subscribe(&s.topic("+"), 0)?;
    maximum(&client)?;
    client.complete(&s.message(&one, "1").with(&alias(1)))?;
    client.complete(&s.message(&two, "2").with(&alias(1)))?;
    client.complete(&s.message("", "3").with(&alias(1)))?;
    client.receive(&one, "1", 0)?;
    client.receive(&two, "2", 0)?;
    client.receive(&two, "3", 0).map(drop)
}

/// [v5:MQTT-3.3.2-12] [v5:MQTT-3.2.2-17]
fn highest_alias_is_accepted(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.subscribe(&topic, 0)?;
    let maximum = maximum(&client)?;
    client.complete(&s.message(&topic, "1").with(&alias(maximum)))?;
    client.complete(&s.message("", "2").with(&alias(maximum)))?;
    client.receive(&topic, "1", 0)?;
    client.receive(&topic, "2", 0).map(drop)
}

/// [v5:MQTT-3.3.2-8]
fn alias_0_ends_the_connection(s: &Stage) -> Outcome {
    s.rejects(&s.message(s.topic("t"), "x").with(&alias(0)).bytes(), INVALID)?;
    s.rejects(&s.message("", "x").with(&alias(0)).bytes(), INVALID).map(drop)
}

/// Also when the maximum is 0 because the server announced none.
///
/// [v5:MQTT-3.3.2-9] [v5:MQTT-3.2.2-17] [v5:MQTT-3.2.2-18]
fn alias_beyond_the_maximum_ends_the_connection(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let maximum = client.connack.properties.number(prop::TOPIC_ALIAS_MAXIMUM).unwrap_or(0);
    let Ok(beyond) = u16::try_from(maximum + 1) else {
        return skipped("the server takes every Topic Alias");
    };
    client.send(&s.message(s.topic("t"), "x").with(&alias(beyond)).bytes());
    client.refused(INVALID).map(drop)
}

/// An empty Topic Name with an alias never set, or with none at all, or the alias twice.
///
/// [v5:MQTT-4.13.1-1] [v5:MQTT-4.7.3-1]
fn unknown_alias_ends_the_connection(s: &Stage) -> Outcome {
    s.rejects(&s.message("", "x").with(&alias(1)).bytes(), INVALID)?;
    s.rejects(&s.message("", "x").bytes(), &[0x81, 0x82, 0x90])?;
    let twice = s.message(s.topic("t"), "x").with(&alias(1)).with(&alias(1));
    s.rejects(&twice.bytes(), MALFORMED).map(drop)
}

/// [v5:MQTT-3.3.2-7]
fn aliases_end_with_the_connection(s: &Stage) -> Outcome {
    let mut client = s.enter(&s.connect("a").kept())?;
    maximum(&client)?;
    client.complete(&s.message(s.topic("t"), "x").with(&alias(1)))?;
    client.cut()?;
    let mut client = s.enter(&s.connect("a").kept())?;
    ensure!(client.connack.session_present, "the Session is not present");
    client.send(&s.message("", "x").with(&alias(1)).bytes());
    client.refused(INVALID).map(drop)
}

/// [v5:MQTT-3.1.2-27]
fn server_sends_no_alias_when_not_asked(s: &Stage) -> Outcome {
    let zero = prop::two(prop::TOPIC_ALIAS_MAXIMUM, 0);
    for connect in [s.connect("a"), s.connect("a").with(&zero)] {
        let mut client = s.enter(&connect)?;
        let topic = s.topic("a/topic/long/enough/that/an/alias/would/pay/for/itself");
        client.subscribe(&topic, 0)?;
        for _ in 0..4 {
            client.publish(&topic, "x", 0)?;
            let message = client.receive(&topic, "x", 0)?;
            ensure!(message.properties.0.is_empty(), "got {:02x?}", message.properties);
        }
    }
    Ok(())
}

/// Three topics, two aliases: whatever the server makes of it, each message can be resolved.
///
/// [v5:MQTT-3.1.2-26] [v5:MQTT-3.3.2-11] [v5:MQTT-3.3.2-8]
fn server_keeps_to_the_clients_maximum(s: &Stage) -> Outcome {
    let connect = s.connect("a").with(&prop::two(prop::TOPIC_ALIAS_MAXIMUM, 2));
    let mut client = s.enter(&connect)?;
    client.subscribe(&s.topic("long/enough/to/pay/for/an/alias/#"), 0)?;
    let mut known = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..4 {
        for name in ["one", "two", "three"] {
            let topic = s.topic(&format!("long/enough/to/pay/for/an/alias/{name}"));
            client.publish(&topic, name, 0)?;
            let message = client.message()?;
            let mut resolved = message.topic.clone();
            if let Some(alias) = message.properties.number(prop::TOPIC_ALIAS) {
                ensure!(alias == 1 || alias == 2, "Topic Alias {alias} in round {round}");
                let slot = &mut known[alias as usize];
                if !resolved.is_empty() {
                    slot.clone_from(&resolved);
                }
                resolved.clone_from(slot);
            }
            ensure!(resolved == topic.as_bytes(), "{topic} cannot be told in round {round}");
        }
    }
    Ok(())
}

/// After a new connection the server says the Topic Name again before it relies on an alias.
///
/// [v5:MQTT-3.3.2-7] [v5:MQTT-3.3.2-11]
fn server_aliases_end_with_the_connection(s: &Stage) -> Outcome {
    let topic = s.topic("long/enough/to/pay/for/an/alias");
    let connect = s.connect("a").kept().with(&prop::two(prop::TOPIC_ALIAS_MAXIMUM, 5));
    for round in 0..2 {
        let mut client = s.enter(&connect)?;
        if round == 0 {
            client.subscribe(&topic, 0)?;
        }
        for message in 0..3 {
            client.publish(&topic, "x", 0)?;
            let got = client.message()?;
            ensure!(message > 0 || got.topic == topic.as_bytes(), "got {}", got.shown());
            ensure!(got.payload == b"x", "got {}", got.shown());
        }
        client.leave()?;
    }
    Ok(())
}
