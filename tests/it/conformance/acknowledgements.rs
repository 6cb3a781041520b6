//! PUBACK, PUBREC, PUBREL and PUBCOMP (chapters 3.4 to 3.7): their Reason Codes and their size.
//!
//! That every Reason Code received belongs to its packet is checked wherever a packet is read; the
//! scripts here bring about the answers that might carry another one than 0.

use super::{Client, Outcome, Packet, Stage, ack, bytes, ensure, kind, prop, scripts};

scripts! {
    both: [],
    v4: [unknown_pubrel_is_completed],
    v5: [
        puback_has_one_of_its_reason_codes,
        pubrec_has_one_of_its_reason_codes,
        pubrel_has_one_of_its_reason_codes,
        pubcomp_has_one_of_its_reason_codes,
        puback_fits_the_maximum_packet_size,
        pubrec_fits_the_maximum_packet_size,
        pubrel_fits_the_maximum_packet_size,
        pubcomp_fits_the_maximum_packet_size,
    ],
}

/// A receiver that has forgotten the message still ends the handshake.
///
/// [v4:MQTT-4.3.3-2]
fn unknown_pubrel_is_completed(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    client.send(&ack(kind::PUBREL, 77));
    client.expect_ack(kind::PUBCOMP, 77).map(drop)
}

/// Nobody subscribes, somebody does, the topic is not the client's to write.
///
/// [v5:MQTT-3.4.2-1]
fn puback_has_one_of_its_reason_codes(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.send(&s.message(&topic, "x").qos(1, 1).bytes());
    let nobody = client.expect_ack(kind::PUBACK, 1)?.code;
    ensure!([0x00, 0x10].contains(&nobody), "without subscribers: {nobody:#04x}");
    client.subscribe(&topic, 0)?;
    client.send(&s.message(&topic, "x").qos(1, 2).bytes());
    let somebody = client.expect_ack(kind::PUBACK, 2)?.code;
    ensure!(somebody == 0x00, "with a subscriber: {somebody:#04x}");
    client.receive(&topic, "x", 0)?;
    client.send(&s.message("$SYS/conformance", "x").qos(1, 3).bytes());
    client.expect_ack(kind::PUBACK, 3).map(drop)
}

/// [v5:MQTT-3.5.2-1]
fn pubrec_has_one_of_its_reason_codes(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.send(&s.message(&topic, "x").qos(2, 1).bytes());
    let nobody = client.expect_ack(kind::PUBREC, 1)?.code;
    ensure!([0x00, 0x10].contains(&nobody), "without subscribers: {nobody:#04x}");
    client.subscribe(&topic, 0)?;
    client.send(&s.message(&topic, "x").qos(2, 2).bytes());
    let somebody = client.expect_ack(kind::PUBREC, 2)?.code;
    ensure!(somebody == 0x00, "with a subscriber: {somebody:#04x}");
    client.send(&s.message("$SYS/conformance", "x").qos(2, 3).bytes());
    client.expect_ack(kind::PUBREC, 3).map(drop)
}

/// For a message in flight it is 0, for one never sent it may be 0x92.
///
/// [v5:MQTT-3.6.2-1]
fn pubrel_has_one_of_its_reason_codes(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.subscribe(&topic, 2)?;
    client.publish(&topic, "x", 2)?;
    let message = client.message()?;
    client.send(&ack(kind::PUBREC, message.id));
    let code = client.expect_ack(kind::PUBREL, message.id)?.code;
    ensure!(code == 0, "PUBREL carries {code:#04x}");
    client.send(&ack(kind::PUBCOMP, message.id));
    client.send(&ack(kind::PUBREC, 999));
    client.expect_ack(kind::PUBREL, 999).map(drop)
}

/// [v5:MQTT-3.7.2-1]
fn pubcomp_has_one_of_its_reason_codes(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    client.publish(&s.topic("t"), "x", 2)?;
    client.send(&ack(kind::PUBREL, 999));
    client.expect_ack(kind::PUBCOMP, 999).map(drop)
}

/// A client whose Maximum Packet Size is just enough for its CONNACK, and that size.
fn narrow(s: &Stage) -> Outcome<(Client, usize)> {
    let mut open = s.open()?;
    open.send(&s.connect("a").bytes());
    let connack = open.expect(kind::CONNACK)?;
    open.leave()?;
    let size = connack.bytes().len();
    let property = u32::try_from(size).expect("a CONNACK is small");
    let client = s.enter(&s.connect("a").with(&prop::four(prop::MAXIMUM_PACKET_SIZE, property)))?;
    Ok((client, size))
}

fn fits(packet: &Packet, size: usize) -> Outcome {
    let length = packet.bytes().len();
    ensure!(length <= size, "{} has {length} bytes, the client takes {size}", packet.shown());
    Ok(())
}

/// [v5:MQTT-3.4.2-2] [v5:MQTT-3.4.2-3] [v5:MQTT-3.1.2-24]
fn puback_fits_the_maximum_packet_size(s: &Stage) -> Outcome {
    let (mut client, size) = narrow(s)?;
    for topic in [&s.topic("t"), "$SYS/conformance/a/rather/long/topic/name"] {
        client.send(&s.message(topic, "x").qos(1, 1).bytes());
        fits(&client.expect(kind::PUBACK)?, size)?;
    }
    Ok(())
}

/// [v5:MQTT-3.5.2-2] [v5:MQTT-3.5.2-3] [v5:MQTT-3.1.2-24]
fn pubrec_fits_the_maximum_packet_size(s: &Stage) -> Outcome {
    let (mut client, size) = narrow(s)?;
    for (id, topic) in [(1, &s.topic("t")[..]), (2, "$SYS/conformance/a/rather/long/topic/name")] {
        client.send(&s.message(topic, "x").qos(2, id).bytes());
        fits(&client.expect(kind::PUBREC)?, size)?;
    }
    Ok(())
}

/// [v5:MQTT-3.6.2-2] [v5:MQTT-3.6.2-3] [v5:MQTT-3.1.2-24]
fn pubrel_fits_the_maximum_packet_size(s: &Stage) -> Outcome {
    let (mut client, size) = narrow(s)?;
    client.send(&ack(kind::PUBREC, 999));
    fits(&client.expect(kind::PUBREL)?, size)
}

/// [v5:MQTT-3.7.2-2] [v5:MQTT-3.7.2-3] [v5:MQTT-3.1.2-24]
fn pubcomp_fits_the_maximum_packet_size(s: &Stage) -> Outcome {
    let (mut client, size) = narrow(s)?;
    client.send(&bytes::ack(kind::PUBREL, 999));
    fits(&client.expect(kind::PUBCOMP)?, size)
}
