//! A group of Shared Subscriptions spreads over brokers: each message goes to exactly one member.

use mqttzoo::mqtt::QoS;

use super::checker::Receiver;
use super::load::{PublisherPlan, Subscriber, SubscriberPlan, finish_all};
use super::{ClusterUnderTest, Plan};

const GROUP: Receiver = Receiver::Group("group");

/// A member of the group at a broker.
fn member(cluster: &ClusterUnderTest, name: &str, broker: usize, qos: QoS) -> Subscriber {
    cluster.subscribe(SubscriberPlan {
        receiver: GROUP,
        client_id: name.to_owned(),
        brokers: vec![broker],
        filter: "$share/group/load/#".to_owned(),
        qos,
    })
}

#[track_caller]
fn check_group(qos: QoS) {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let members = [1, 2, 3].map(|broker| member(&cluster, &format!("m{broker}"), broker, qos));
    let own = cluster.subscribe(SubscriberPlan::to_all("own", 2, qos));
    let publishers =
        [1, 2].map(|id| cluster.publish(PublisherPlan::counted(id, id as usize, qos, 600)));
    assert_eq!(finish_all(publishers), [600, 600]);
    cluster.settle();
    let shares = members.map(|member| member.received());
    assert_eq!(shares.iter().sum::<u64>(), 1_200, "{shares:?}");
    assert!(shares.iter().all(|share| *share > 0), "one member has got nothing: {shares:?}");
    // Whoever subscribes for itself has everything besides.
    assert_eq!(own.received(), 1_200);
}

#[test]
fn each_message_goes_to_one_member_at_qos_0() {
    check_group(QoS::AtMostOnce);
}

#[test]
fn each_message_goes_to_one_member_at_qos_1() {
    check_group(QoS::AtLeastOnce);
}

#[test]
fn each_message_goes_to_one_member_at_qos_2() {
    check_group(QoS::ExactlyOnce);
}

/// A group all of whose members are on one broker, and a publisher on another.
#[test]
fn a_group_of_one_broker_is_served_by_the_others() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let members = ["a", "b"].map(|name| member(&cluster, name, 2, QoS::AtLeastOnce));
    let publisher = cluster.publish(PublisherPlan::counted(1, 1, QoS::AtLeastOnce, 300));
    assert_eq!(publisher.finish(), 300);
    cluster.settle();
    let shares = members.map(|member| member.received());
    assert_eq!(shares.iter().sum::<u64>(), 300, "{shares:?}");
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
}

/// A member leaves while messages come: the others have the rest, and each message once.
#[test]
fn a_members_share_goes_to_others_when_it_leaves() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let stays =
        [1, 2].map(|broker| member(&cluster, &format!("stays{broker}"), broker, QoS::AtLeastOnce));
    let leaver = member(&cluster, "leaver", 3, QoS::AtLeastOnce);
    let publisher = cluster.publish(PublisherPlan::endless(1, &[1]));
    leaver.wait_for_received(20);
    drop(leaver);
    let before = stays.each_ref().map(Subscriber::received);
    publisher.wait_for_more(200);
    publisher.finish();
    for (member, before) in stays.iter().zip(before) {
        assert!(member.received() > before, "a member was left out");
    }
}

/// The broker of one member is killed: its share goes on to the others, and what is published from
/// then on reaches exactly one of them.
#[test]
fn a_members_share_goes_to_others_when_its_broker_is_killed() {
    let plan = Plan::mortal(3);
    let Some(mut cluster) = ClusterUnderTest::start_as(plan) else { return };
    let stays =
        [1, 2].map(|broker| member(&cluster, &format!("stays{broker}"), broker, QoS::AtLeastOnce));
    let lost = member(&cluster, "lost", 3, QoS::AtLeastOnce);
    let publisher = cluster.publish(PublisherPlan::endless(1, &[1]));
    lost.wait_for_received(20);
    cluster.kill(3);
    let before = stays.each_ref().map(Subscriber::received);
    // Every one of these is acknowledged, so that none may wait for the dead.
    publisher.wait_for_more(300);
    publisher.finish();
    for (member, before) in stays.iter().zip(before) {
        assert!(member.received() > before, "a member was left out");
    }
    // What the dead had handed out and not told of goes to another one: who sent it has no answer.
    let in_flight = cluster.checker().with(|books| books.doubled());
    let again = cluster.publish(PublisherPlan::counted(2, 2, QoS::AtLeastOnce, 200));
    let before: u64 = stays.iter().map(Subscriber::received).sum();
    assert_eq!(again.finish(), 200);
    cluster.wait_until(1, "all 200 are there", |_| {
        stays.iter().map(Subscriber::received).sum::<u64>() >= before + 200
    });
    let complaints = cluster.checker().with(|books| books.doubled());
    assert_eq!(complaints, in_flight, "from then on each reaches exactly one");
}

/// A broker that was asked to end threw away what its members had not been sent or not acknowledged:
/// the publisher had its answer, and the other members were there.
#[test]
fn a_members_share_goes_to_others_when_its_broker_is_asked_to_end() {
    let Some(mut cluster) = ClusterUnderTest::start(2) else { return };
    let mut stuck = cluster.client(2, "stuck");
    stuck.subscribe("$share/group/load/#", 1).unwrap();
    let quick = member(&cluster, "quick", 1, QoS::AtLeastOnce);
    let publisher = cluster.publish(PublisherPlan::counted(1, 1, QoS::AtLeastOnce, 300));
    assert_eq!(publisher.finish(), 300);
    assert!(quick.received() < 300, "one member was left out");
    cluster.terminate(2);
    cluster.wait_until(1, "the others have come", |_| quick.received() == 300);
    cluster.broker(2).wait_for_log("other brokers have taken what members");
    assert_eq!(cluster.broker(2).count_in_log("are lost"), 0);
}
