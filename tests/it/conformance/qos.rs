//! Quality of Service, retransmission and order (chapters 4.3 to 4.6).

use super::{Client, Outcome, Stage, ack, bytes, ensure, kind, scripts};

scripts! {
    both: [
        packet_identifiers_in_flight_differ,
        first_sending_has_dup_0,
        qos_1_unacknowledged_is_sent_again,
        qos_2_unacknowledged_is_sent_again,
        pubrel_unacknowledged_is_sent_again,
        acknowledged_is_not_sent_again,
        nothing_is_sent_again_on_the_same_connection,
        sent_again_in_the_original_order,
        same_identifier_after_puback_is_a_new_message,
        qos_2_duplicate_is_not_delivered_twice,
        qos_2_duplicate_after_a_reconnect_is_not_delivered_twice,
        same_identifier_after_pubcomp_is_a_new_message,
        every_matching_session_gets_the_message,
        messages_keep_their_order,
        answers_keep_their_order,
    ],
    v4: [],
    v5: [
        refused_delivery_is_not_sent_again,
        pubrec_with_an_error_ends_the_handshake,
        identifier_of_a_refused_message_is_free,
    ],
}

/// A client with a kept Session that subscribes at QoS 2.
fn subscriber(s: &Stage, topic: &str) -> Outcome<Client> {
    let mut client = s.enter(&s.connect("a").kept())?;
    client.subscribe(topic, 2)?;
    Ok(client)
}

/// The Session of that client on a new connection.
fn reconnect(s: &Stage, old: Client) -> Outcome<Client> {
    old.cut()?;
    let client = s.enter(&s.connect("a").kept())?;
    ensure!(client.connack.session_present, "the Session is not present");
    Ok(client)
}

/// Eight messages of QoS 1 and 2, none acknowledged: no identifier twice, none 0.
///
/// [v4:MQTT-2.3.1-4] [v4:MQTT-4.3.2-1] [v4:MQTT-4.3.3-1] [v5:MQTT-2.2.1-4] [v5:MQTT-4.3.2-1]
/// [v5:MQTT-4.3.3-1]
fn packet_identifiers_in_flight_differ(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    let mut publisher = s.client("publisher")?;
    let mut ids = Vec::new();
    for number in 0..8 {
        publisher.publish(&topic, "x", 1 + number % 2)?;
        let id = client.message()?.id;
        ensure!(id != 0 && !ids.contains(&id), "Packet Identifier {id} after {ids:?}");
        ids.push(id);
    }
    Ok(())
}

/// [v4:MQTT-4.3.2-1] [v4:MQTT-4.3.3-1] [v4:MQTT-3.3.1-3] [v5:MQTT-4.3.2-2] [v5:MQTT-4.3.3-2]
fn first_sending_has_dup_0(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    for qos in [1, 2] {
        s.client("publisher")?.publish(&topic, "x", qos)?;
        let message = client.receive(&topic, "x", qos)?;
        ensure!(!message.dup, "DUP is 1 at QoS {qos}");
    }
    Ok(())
}

/// The same Packet Identifier, DUP 1, everything else as before; the acknowledgement ends it.
///
/// [v4:MQTT-4.4.0-1] [v4:MQTT-3.3.1-1] [v4:MQTT-2.3.1-4] [v5:MQTT-4.4.0-1] [v5:MQTT-3.3.1-1]
/// [v5:MQTT-4.3.2-3]
fn qos_1_unacknowledged_is_sent_again(s: &Stage) -> Outcome {
    sent_again(s, 1)
}

/// [v4:MQTT-4.4.0-1] [v4:MQTT-3.3.1-1] [v5:MQTT-4.4.0-1] [v5:MQTT-3.3.1-1] [v5:MQTT-4.3.3-3]
fn qos_2_unacknowledged_is_sent_again(s: &Stage) -> Outcome {
    sent_again(s, 2)
}

fn sent_again(s: &Stage, qos: u8) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    s.client("publisher")?.publish(&topic, "x", qos)?;
    let first = client.message()?;
    for _ in 0..2 {
        client = reconnect(s, client)?;
        let again = client.message()?;
        ensure!(again == first.clone().dup(), "first {first:?}, then {again:?}");
    }
    client.settle(&first)?;
    client = reconnect(s, client)?;
    client.quiet()
}

/// After PUBREC it is PUBREL that comes again, and the PUBLISH does not.
///
/// [v4:MQTT-4.4.0-1] [v4:MQTT-4.3.3-1] [v5:MQTT-4.4.0-1] [v5:MQTT-4.3.3-5] [v5:MQTT-4.3.3-6]
fn pubrel_unacknowledged_is_sent_again(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    s.client("publisher")?.publish(&topic, "x", 2)?;
    let id = client.message()?.id;
    client.send(&ack(kind::PUBREC, id));
    client.expect_ack(kind::PUBREL, id)?;
    for _ in 0..2 {
        client = reconnect(s, client)?;
        let pubrel = client.expect(kind::PUBREL)?.acknowledgement()?;
        ensure!(pubrel.id == id && pubrel.code == 0, "got {pubrel:?}");
    }
    client.send(&ack(kind::PUBCOMP, id));
    client = reconnect(s, client)?;
    client.quiet()
}

/// [v4:MQTT-4.4.0-1] [v4:MQTT-4.3.2-1] [v5:MQTT-4.4.0-1]
fn acknowledged_is_not_sent_again(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    let mut publisher = s.client("publisher")?;
    for payload in ["one", "two", "three"] {
        publisher.publish(&topic, payload, 1)?;
    }
    let messages = [client.message()?, client.message()?, client.message()?];
    client.settle(&messages[0])?;
    client.settle(&messages[2])?;
    client.ping()?;
    client = reconnect(s, client)?;
    let again = client.message()?;
    ensure!(again == messages[1].clone().dup(), "got {again:?}");
    client.settle(&again)?;
    client.quiet()
}

/// However long the client takes: what waits for its acknowledgement is not repeated.
///
/// [v4:MQTT-4.3.2-1] [v5:MQTT-4.4.0-1]
fn nothing_is_sent_again_on_the_same_connection(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    s.client("publisher")?.publish(&topic, "x", 1)?;
    let message = client.message()?;
    s.pass(std::time::Duration::from_millis(1500))?;
    client.quiet()?;
    client.settle(&message)?;
    client.quiet()
}

/// PUBLISH of both QoS and PUBREL, each kind in the order of its first sending.
///
/// [v4:MQTT-4.6.0-1] [v4:MQTT-4.6.0-6] [v4:MQTT-4.4.0-1] [v5:MQTT-4.4.0-1] [v5:MQTT-4.6.0-1]
fn sent_again_in_the_original_order(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    let mut publisher = s.client("publisher")?;
    let mut sent = Vec::new();
    for number in 0..10 {
        publisher.publish(&topic, &number.to_string(), 1 + number % 2)?;
        sent.push(client.message()?);
    }
    let (released, waiting) = sent.split_at(4);
    for message in released.iter().filter(|message| message.qos == 2) {
        client.send(&ack(kind::PUBREC, message.id));
        client.expect_ack(kind::PUBREL, message.id)?;
    }
    client = reconnect(s, client)?;
    let (mut payloads, mut pubrels) = (Vec::new(), Vec::new());
    while payloads.len() < 8 || pubrels.len() < 2 {
        let packet = client.packet()?;
        if packet.kind() == kind::PUBLISH {
            payloads.push(packet.publish()?.text());
        } else {
            pubrels.push(packet.acknowledgement()?.id);
        }
    }
    let first = released.iter().filter(|message| message.qos == 1).chain(waiting);
    let wanted: Vec<_> = first.map(bytes::Publish::text).collect();
    ensure!(payloads == wanted, "sent again: {payloads:?}, first: {wanted:?}");
    ensure!(pubrels == [released[1].id, released[3].id], "PUBREL again: {pubrels:?}");
    Ok(())
}

/// Whatever its DUP flag says.
///
/// [v4:MQTT-4.3.2-2] [v5:MQTT-4.3.2-5]
fn same_identifier_after_puback_is_a_new_message(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    let mut publisher = s.client("publisher")?;
    publisher.complete(&s.message(&topic, "x").qos(1, 5))?;
    publisher.complete(&s.message(&topic, "x").qos(1, 5).dup())?;
    publisher.complete(&s.message(&topic, "x").qos(1, 5))?;
    for _ in 0..3 {
        client.receive(&topic, "x", 1)?;
    }
    client.quiet()
}

/// Until PUBREL, each repetition is answered with PUBREC and goes no further.
///
/// [v4:MQTT-4.3.3-2] [v5:MQTT-4.3.3-10] [v5:MQTT-4.3.3-8] [v5:MQTT-4.3.3-11]
fn qos_2_duplicate_is_not_delivered_twice(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    let mut publisher = s.client("publisher")?;
    publisher.send(&s.message(&topic, "x").qos(2, 5).bytes());
    publisher.expect_ack(kind::PUBREC, 5)?;
    publisher.send(&s.message(&topic, "x").qos(2, 5).dup().bytes());
    publisher.expect_ack(kind::PUBREC, 5)?;
    publisher.send(&ack(kind::PUBREL, 5));
    publisher.expect_ack(kind::PUBCOMP, 5)?;
    client.receive(&topic, "x", 2)?;
    client.quiet()
}

/// The receiver's half of the handshake belongs to the Session.
///
/// [v4:MQTT-4.3.3-2] [v4:MQTT-4.1.0-1] [v5:MQTT-4.3.3-10]
fn qos_2_duplicate_after_a_reconnect_is_not_delivered_twice(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    let mut publisher = s.enter(&s.connect("publisher").kept())?;
    publisher.send(&s.message(&topic, "x").qos(2, 5).bytes());
    publisher.expect_ack(kind::PUBREC, 5)?;
    publisher.cut()?;
    let mut publisher = s.enter(&s.connect("publisher").kept())?;
    publisher.send(&s.message(&topic, "x").qos(2, 5).dup().bytes());
    publisher.expect_ack(kind::PUBREC, 5)?;
    publisher.send(&ack(kind::PUBREL, 5));
    publisher.expect_ack(kind::PUBCOMP, 5)?;
    client.receive(&topic, "x", 2)?;
    client.quiet()
}

/// [v4:MQTT-4.3.3-2] [v5:MQTT-4.3.3-12]
fn same_identifier_after_pubcomp_is_a_new_message(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    let mut publisher = s.client("publisher")?;
    publisher.complete(&s.message(&topic, "one").qos(2, 5))?;
    publisher.complete(&s.message(&topic, "two").qos(2, 5).dup())?;
    client.receive(&topic, "one", 2)?;
    client.receive(&topic, "two", 2)?;
    client.quiet()
}

/// Connected or not, by exact filter or by wildcard.
///
/// [v4:MQTT-4.5.0-1] [v5:MQTT-4.5.0-1]
fn every_matching_session_gets_the_message(s: &Stage) -> Outcome {
    let topic = s.topic("a/b");
    let filters = [topic.clone(), s.topic("a/+"), s.topic("#"), s.topic("+/b")];
    let mut clients = Vec::new();
    for (number, filter) in filters.iter().enumerate() {
        let mut client = s.enter(&s.connect(&format!("c{number}")).kept())?;
        client.subscribe(filter, 1)?;
        clients.push(client);
    }
    clients.remove(3).leave()?;
    s.client("publisher")?.publish(&topic, "x", 1)?;
    clients.push(s.enter(&s.connect("c3").kept())?);
    for client in &mut clients {
        client.receive(&topic, "x", 1)?;
        client.quiet()?;
    }
    Ok(())
}

/// A burst of one QoS after the other, sent without waiting for answers.
///
/// [v4:MQTT-4.6.0-5] [v4:MQTT-4.6.0-6] [v5:MQTT-4.6.0-5] [v5:MQTT-4.6.0-6]
fn messages_keep_their_order(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    let mut publisher = s.client("publisher")?;
    for qos in [0, 1] {
        let burst = (1..=15).flat_map(|number| {
            let id = if qos > 0 { number } else { 0 };
            s.message(&topic, number.to_string()).qos(qos, id).bytes()
        });
        publisher.send(&burst.collect::<Vec<u8>>());
        for number in 1..=15 {
            client.receive(&topic, &number.to_string(), qos)?;
        }
    }
    client.quiet()
}

/// PUBACK, PUBREC and PUBCOMP come in the order of what they answer.
///
/// [v4:MQTT-4.6.0-6] [v5:MQTT-2.2.1-5]
fn answers_keep_their_order(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    let ids = [9, 3, 7, 1, 5];
    for (qos, answer) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        let burst = ids.iter().flat_map(|id| s.message(&topic, "x").qos(qos, *id).bytes());
        client.send(&burst.collect::<Vec<u8>>());
        for id in ids {
            client.expect_ack(answer, id)?;
        }
    }
    let burst = ids.iter().flat_map(|id| ack(kind::PUBREL, *id));
    client.send(&burst.collect::<Vec<u8>>());
    for id in ids {
        client.expect_ack(kind::PUBCOMP, id)?;
    }
    Ok(())
}

/// PUBACK and PUBREC of 0x80 or above acknowledge too.
///
/// [v5:MQTT-4.4.0-2]
fn refused_delivery_is_not_sent_again(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    let mut publisher = s.client("publisher")?;
    for (qos, answer) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        publisher.publish(&topic, "x", qos)?;
        let id = client.message()?.id;
        client.send(&bytes::ack_with(answer, id, 0x83));
    }
    client.quiet()?;
    client = reconnect(s, client)?;
    client.quiet()
}

/// A sender answers PUBREC with PUBREL only when its Reason Code is below 0x80.
///
/// [v5:MQTT-4.3.3-4] [v5:MQTT-4.4.0-2]
fn pubrec_with_an_error_ends_the_handshake(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    client.publish(&topic, "x", 2)?;
    let id = client.message()?.id;
    client.send(&bytes::ack_with(kind::PUBREC, id, 0x80));
    client.ping()?;
    client.publish(&topic, "y", 2)?;
    let id = client.message()?.id;
    client.send(&bytes::ack_with(kind::PUBREC, id, 0x10));
    client.expect_ack(kind::PUBREL, id)?;
    client.send(&ack(kind::PUBCOMP, id));
    client.quiet()
}

/// A message refused with PUBREC 0x80 or above is over: its identifier names a new one.
///
/// [v5:MQTT-4.3.3-9]
fn identifier_of_a_refused_message_is_free(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    let mut publisher = s.client("publisher")?;
    publisher.send(&s.message("$SYS/conformance", "x").qos(2, 5).bytes());
    let code = publisher.expect_ack(kind::PUBREC, 5)?.code;
    if code < 0x80 {
        return super::skipped("the server lets a client write to $SYS");
    }
    publisher.complete(&s.message(&topic, "y").qos(2, 5))?;
    client.receive(&topic, "y", 2)?;
    client.quiet()
}
