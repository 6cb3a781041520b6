//! Flow control by Receive Maximum, both ways (chapters 3.3.4 and 4.9).

use super::{Client, Outcome, Stage, ack, bytes, ensure, kind, prop, scripts, skipped};

scripts! {
    both: [],
    v4: [],
    v5: [
        server_keeps_to_the_clients_receive_maximum,
        qos_2_holds_its_place_until_pubcomp,
        refused_delivery_gives_its_place_back,
        other_packets_go_on_when_the_quota_is_used_up,
        server_takes_as_much_as_it_announced,
        client_beyond_the_receive_maximum_is_disconnected,
        receive_maximum_counts_what_is_sent_again,
    ],
}

/// A subscriber at QoS 2 with this Receive Maximum.
fn subscriber(s: &Stage, topic: &str, receive_maximum: u16) -> Outcome<Client> {
    let property = prop::two(prop::RECEIVE_MAXIMUM, receive_maximum);
    let mut client = s.enter(&s.connect("a").kept().with(&property))?;
    client.subscribe(topic, 2)?;
    Ok(client)
}

fn publish_many(s: &Stage, topic: &str, qos: u8) -> Outcome {
    let mut publisher = s.client("publisher")?;
    for number in 0..6 {
        publisher.publish(topic, &number.to_string(), qos)?;
    }
    Ok(())
}

/// Two at a time; each PUBACK lets one more through.
///
/// [v5:MQTT-3.3.4-9] [v5:MQTT-4.9.0-1] [v5:MQTT-4.9.0-2]
fn server_keeps_to_the_clients_receive_maximum(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic, 2)?;
    publish_many(s, &topic, 1)?;
    let mut open = vec![client.message()?, client.message()?];
    for number in 2..6 {
        client.ping()?;
        let oldest = open.remove(0);
        client.send(&ack(kind::PUBACK, oldest.id));
        let next = client.message()?;
        ensure!(next.text() == number.to_string(), "got {}", next.shown());
        open.push(next);
    }
    client.ping()
}

/// [v5:MQTT-3.3.4-9] [v5:MQTT-4.9.0-2]
fn qos_2_holds_its_place_until_pubcomp(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic, 1)?;
    publish_many(s, &topic, 2)?;
    for number in 0..6 {
        let message = client.message()?;
        ensure!(message.text() == number.to_string(), "got {}", message.shown());
        client.ping()?;
        client.send(&ack(kind::PUBREC, message.id));
        client.expect_ack(kind::PUBREL, message.id)?;
        client.ping()?;
        client.send(&ack(kind::PUBCOMP, message.id));
    }
    client.quiet()
}

/// PUBACK and PUBREC of 0x80 or above end the delivery as well.
///
/// [v5:MQTT-3.3.4-9] [v5:MQTT-4.4.0-2]
fn refused_delivery_gives_its_place_back(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic, 1)?;
    for (qos, answer) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        publish_many(s, &topic, qos)?;
        for number in 0..6 {
            let message = client.message()?;
            ensure!(message.text() == number.to_string(), "got {}", message.shown());
            client.send(&bytes::ack_with(answer, message.id, 0x97));
        }
    }
    client.quiet()
}

/// SUBACK, UNSUBACK, PINGRESP, PUBACK, PUBREC and PUBCOMP are not held back.
///
/// [v5:MQTT-3.3.4-10] [v5:MQTT-4.9.0-3]
fn other_packets_go_on_when_the_quota_is_used_up(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic, 1)?;
    publish_many(s, &topic, 1)?;
    client.message()?;
    client.ping()?;
    client.subscribe(&s.topic("other"), 1)?;
    client.publish(&s.topic("other"), "x", 1)?;
    client.publish(&s.topic("other"), "x", 2)?;
    client.unsubscribe(&[&s.topic("other")])?;
    client.ping()
}

/// The server's Receive Maximum, when it is small enough to be used up.
fn announced(client: &Client) -> Outcome<u16> {
    match client.connack.properties.number(prop::RECEIVE_MAXIMUM) {
        Some(0) => super::differs("the server announced a Receive Maximum of 0"),
        Some(maximum) if maximum <= 10_000 => Ok(u16::try_from(maximum).expect("checked")),
        _ => skipped("the server announced no Receive Maximum that can be reached"),
    }
}

/// [v5:MQTT-4.9.0-3] [v5:MQTT-3.3.4-1]
fn server_takes_as_much_as_it_announced(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let maximum = announced(&client)?;
    let topic = s.topic("t");
    for id in 1..=maximum {
        client.send(&s.message(&topic, "x").qos(2, id).bytes());
    }
    for id in 1..=maximum {
        client.expect_ack(kind::PUBREC, id)?;
    }
    for id in 1..=maximum {
        client.send(&ack(kind::PUBREL, id));
    }
    for id in 1..=maximum {
        client.expect_ack(kind::PUBCOMP, id)?;
    }
    client.ping()
}

/// One QoS 2 message too many without PUBREL: DISCONNECT 0x93.
///
/// [v5:MQTT-3.3.4-7] [v5:MQTT-4.13.1-1]
fn client_beyond_the_receive_maximum_is_disconnected(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let maximum = announced(&client)?;
    let topic = s.topic("t");
    for id in 1..=maximum {
        client.send(&s.message(&topic, "x").qos(2, id).bytes());
    }
    for id in 1..=maximum {
        client.expect_ack(kind::PUBREC, id)?;
    }
    client.send(&s.message(&topic, "x").qos(2, maximum + 1).bytes());
    client.refused(&[0x93]).map(drop)
}

/// After a reconnect with a smaller Receive Maximum the old deliveries count too.
///
/// [v5:MQTT-4.9.0-1] [v5:MQTT-4.9.0-2] [v5:MQTT-3.3.4-9]
fn receive_maximum_counts_what_is_sent_again(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic, 4)?;
    publish_many(s, &topic, 1)?;
    for _ in 0..4 {
        client.message()?;
    }
    client.cut()?;
    let property = prop::two(prop::RECEIVE_MAXIMUM, 2);
    let mut client = s.enter(&s.connect("a").kept().with(&property))?;
    let mut open = vec![client.message()?, client.message()?];
    for number in 2..6 {
        client.ping()?;
        let oldest = open.remove(0);
        client.send(&ack(kind::PUBACK, oldest.id));
        let next = client.message()?;
        ensure!(next.text() == number.to_string(), "got {}", next.shown());
        ensure!(next.dup == (number < 4), "DUP is {} for {number}", next.dup);
        open.push(next);
    }
    Ok(())
}
