//! Shared Subscriptions whose members are at several brokers, and some of them full.

use std::sync::Arc;

use super::*;
use crate::broker::options::{BrokerOptions, ConnectionOptions};
use crate::cluster::wire::ENTRIES_MAX;
use crate::mqtt::{Connect, ProtocolVersion};
use crate::session::mailbox::MailboxOptions;

/// Brokers whose clients' queues hold so many messages.
pub(super) fn cluster_with_queues_of(count: usize, messages_max: usize) -> Cluster {
    let options = BrokerOptions::default();
    let queue = MailboxOptions { messages_max, ..MailboxOptions::clone(&options.clean_queue) };
    Cluster::with_options(count, &BrokerOptions { clean_queue: Arc::new(queue), ..options })
}

/// A member of the group at a broker, which acknowledges nothing of its own accord.
fn member(cluster: &mut Cluster, node: usize) -> LineId {
    let line = open(cluster, node, &format!("member-{node}"), 0);
    subscribed(cluster, line, "$share/g/t", QoS::AtLeastOnce);
    line
}

fn published(cluster: &mut Cluster, writer: LineId, numbers: std::ops::RangeInclusive<u16>) {
    for number in numbers {
        cluster.send(writer, &publish("t", &number.to_string(), QoS::AtLeastOnce, number));
        cluster.pump();
    }
}

fn puback_codes(packets: &[Packet]) -> Vec<ReasonCode> {
    let code = |packet: &Packet| {
        let Packet::Puback(puback) = packet else { return None };
        Some(puback.reason_code)
    };
    packets.iter().filter_map(code).collect()
}

/// Two brokers whose members were all full passed a message on to each other without end: each left
/// out the other one only.
#[test]
fn a_message_for_a_group_that_is_full_everywhere_is_refused() {
    let mut cluster = cluster_with_queues_of(3, 2);
    let writer = open(&mut cluster, 0, "writer", 0);
    let members = [1, 2].map(|node| member(&mut cluster, node));
    published(&mut cluster, writer, 1..=5);
    let codes = puback_codes(&cluster.received(writer));
    let taken = ReasonCode::Success;
    assert_eq!(codes, [taken, taken, taken, taken, ReasonCode::QuotaExceeded]);
    let got = members.map(|member| payloads(&cluster.received(member)).len());
    assert_eq!(got, [2, 2]);
    let totals = cluster.broker(0).counters().totals();
    assert_eq!((totals.shared_publishes_exhausted, cluster.unanswered(0)), (1, 0));
    // It is not for ever: who acknowledges has room again.
    cluster.send(members[0], &puback(1));
    published(&mut cluster, writer, 6..=6);
    assert_eq!(puback_codes(&cluster.received(writer)), [taken]);
    assert_eq!(payloads(&cluster.received(members[0])), ["6"]);
}

/// A client of 3.1.1 cannot be told: it is let go after a while, and its message comes again.
#[test]
fn a_client_that_cannot_be_told_of_a_full_group_is_let_go() {
    let mut cluster = cluster_with_queues_of(3, 2);
    let old = Connect { protocol_version: ProtocolVersion::V311, ..connect("writer", 0) };
    let writer = cluster.connect(0, &old);
    cluster.pump();
    for node in [1, 2] {
        let _member = member(&mut cluster, node);
    }
    published(&mut cluster, writer, 1..=4);
    assert!(cluster.is_open(writer));
    published(&mut cluster, writer, 5..=5);
    assert!(cluster.is_open(writer), "it is held");
    cluster.elapse(ConnectionOptions::default().publish_hold_millis);
    assert!(cluster.is_closed(writer));
}

/// Somebody else has it: that nobody has would not be true, and that all have neither.
#[test]
fn of_a_message_that_others_have_and_a_group_has_not_it_is_said_that_not_all_have_it() {
    let mut cluster = cluster_with_queues_of(2, 2);
    let writer = open(&mut cluster, 0, "writer", 0);
    let member = member(&mut cluster, 1);
    published(&mut cluster, writer, 1..=2);
    let reader = open(&mut cluster, 1, "reader", 0);
    subscribed(&mut cluster, reader, "t", QoS::AtLeastOnce);
    published(&mut cluster, writer, 3..=3);
    assert_eq!(payloads(&cluster.received(reader)), ["3"]);
    assert_eq!(payloads(&cluster.received(member)), ["1", "2"]);
    let taken = ReasonCode::Success;
    let codes = puback_codes(&cluster.received(writer));
    assert_eq!(codes, [taken, taken, ReasonCode::QuotaExceeded]);
    assert!(cluster.is_open(writer));
}

fn acknowledged(cluster: &mut Cluster, member: LineId) -> Vec<String> {
    let got = cluster.received(member);
    for packet in &got {
        if let Packet::Publish(publish) = packet {
            cluster.send(member, &puback(publish.packet_id.unwrap().get()));
        }
    }
    cluster.pump();
    payloads(&got)
}

/// Publishes one by one; `quick` acknowledges each at once.
fn published_to_quick(
    cluster: &mut Cluster,
    (writer, quick): (LineId, LineId),
    numbers: std::ops::RangeInclusive<u16>,
) -> usize {
    let mut taken = 0;
    for number in numbers {
        published(cluster, writer, number..=number);
        taken += acknowledged(cluster, quick).len();
    }
    taken
}

/// A member was given its share as long as it was there, however much it had to do, and whoever had
/// it refused it once it was full.
#[test]
fn a_member_that_has_much_to_do_leaves_its_share_to_others_until_it_has_less() {
    let mut cluster = cluster_with_queues_of(3, 20);
    let writer = open(&mut cluster, 0, "writer", 0);
    let [slow, quick] = [1, 2].map(|node| member(&mut cluster, node));
    assert_eq!(published_to_quick(&mut cluster, (writer, quick), 1..=20), 10, "they take turns");
    cluster.ping(1);
    cluster.pump();
    assert_eq!(published_to_quick(&mut cluster, (writer, quick), 21..=22), 1, "half is not more");
    let told = cluster.lane(1, 0).offered.control;
    cluster.ping(1);
    cluster.pump();
    // A ping, and what is new; then a ping.
    assert_eq!(cluster.lane(1, 0).offered.control, told + 2);
    cluster.ping(1);
    assert_eq!(cluster.lane(1, 0).offered.control, told + 3);
    assert_eq!(published_to_quick(&mut cluster, (writer, quick), 23..=42), 20);
    // It counts again when it has little to do, not as soon as it has less.
    let waiting = cluster.received(slow);
    assert_eq!(payloads(&waiting).len(), 11);
    let ids = waiting.iter().filter_map(|packet| {
        let Packet::Publish(publish) = packet else { return None };
        publish.packet_id
    });
    for (acknowledged, id) in ids.enumerate() {
        cluster.send(slow, &puback(id.get()));
        cluster.ping(1);
        cluster.pump();
        let number = 100 + 2 * u16::try_from(acknowledged).unwrap();
        let taken = published_to_quick(&mut cluster, (writer, quick), number..=number + 1);
        let has_little = acknowledged + 1 >= 6;
        assert_eq!(taken, if has_little { 1 } else { 2 }, "{acknowledged}");
        if has_little {
            break;
        }
    }
}

/// All groups went into one frame, however many: the receiver refused it, and the link closed and
/// sent it again without end.
#[test]
fn a_message_for_more_groups_than_one_frame_has_room_for_goes_in_several() {
    const GROUPS: usize = ENTRIES_MAX + 1;
    let mut cluster = Cluster::new(2);
    let [writer, stranger] = ["writer", "stranger"].map(|id| open(&mut cluster, 0, id, 0));
    let member = open(&mut cluster, 1, "member", 0);
    let reader = open(&mut cluster, 1, "reader", 0);
    subscribed(&mut cluster, reader, "t", QoS::AtLeastOnce);
    for number in 0..GROUPS {
        let filter = format!("$share/g{number}/t");
        subscribed(&mut cluster, member, &filter, QoS::AtLeastOnce);
    }
    let before = cluster.lane(0, 1).offered.data;
    published(&mut cluster, writer, 1..=1);
    assert_eq!(cluster.lane(0, 1).offered.data, before + 2);
    assert_eq!(puback_codes(&cluster.received(writer)), [ReasonCode::Success]);
    assert_eq!(cluster.unanswered(0), 0);
    assert_eq!(payloads(&cluster.received(reader)), ["1"], "it is not among the groups' frames");
    let mut got = 0;
    while got < GROUPS {
        let more = acknowledged(&mut cluster, member).len();
        assert!(more > 0, "{got} have come");
        got += more;
    }
    assert_eq!(got, GROUPS);
    published(&mut cluster, stranger, 2..=2);
    assert_eq!(payloads(&cluster.received(reader)), ["2"], "the stream goes on");
}

/// Its client is away: others come first, but the message waits for it where there is nobody else.
#[test]
fn a_member_that_is_away_is_the_last_resort() {
    let mut cluster = cluster_with_queues_of(3, 20);
    let writer = open(&mut cluster, 0, "writer", 0);
    let away = open(&mut cluster, 1, "away", 600);
    subscribed(&mut cluster, away, "$share/g/t", QoS::AtLeastOnce);
    let there = member(&mut cluster, 2);
    cluster.lose(away);
    cluster.ping(1);
    cluster.pump();
    assert_eq!(published_to_quick(&mut cluster, (writer, there), 1..=6), 6);
    cluster.lose(there);
    cluster.pump();
    published(&mut cluster, writer, 7..=8);
    let back = cluster.connect(1, &connect("away", 600));
    cluster.pump();
    assert_eq!(payloads(&cluster.received(back)), ["7", "8"]);
    assert_eq!(puback_codes(&cluster.received(writer)), [ReasonCode::Success; 8]);
}
