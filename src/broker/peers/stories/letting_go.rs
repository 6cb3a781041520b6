//! A broker whose lease has ended: it lets its clients go, and what it has of them is there when it
//! turns out that it was not declared dead.

use super::moves::session_present;
use super::*;
use crate::broker::letting_go::LetGo;
use crate::cluster::identity::BootId;
use crate::mqtt::Publish;
use crate::ports::clock::Tick;

impl Cluster {
    fn end_lease(&mut self, node: usize) -> LetGo {
        self.broker(node).peers().unwrap().set_lease(Tick::ZERO);
        let let_go = self.at(node, |turn, _| turn.let_clients_go(ReasonCode::ServerBusy));
        self.pump();
        let_go
    }

    fn renew_lease(&mut self, node: usize) {
        self.broker(node).peers().unwrap().set_lease(Tick::from_millis(u64::MAX));
        self.pump();
    }
}

fn is_told_to_come_again(packets: &[Packet]) -> bool {
    matches!(packets, [Packet::Disconnect(last)] if last.reason_code == ReasonCode::ServerBusy)
}

/// They ended, with all that had been acknowledged for them, although nobody took the broker for dead.
#[test]
fn sessions_are_kept_past_the_lease_and_get_what_was_published_meanwhile() {
    let mut cluster = Cluster::new(2);
    let lasting = open(&mut cluster, 0, "lasting", 600);
    subscribed(&mut cluster, lasting, "t", QoS::ExactlyOnce);
    let clean = open(&mut cluster, 0, "clean", 0);
    subscribed(&mut cluster, clean, "t", QoS::ExactlyOnce);
    let away = open(&mut cluster, 0, "away", 600);
    subscribed(&mut cluster, away, "t", QoS::AtLeastOnce);
    cluster.lose(away);
    let writer = open(&mut cluster, 1, "writer", 0);
    cluster.send(writer, &publish("t", "before", QoS::ExactlyOnce, 1));
    cluster.pump();
    assert_eq!(payloads(&cluster.received(lasting)), ["before"]);
    cluster.received(clean);

    let let_go = cluster.end_lease(0);
    assert_eq!(let_go, LetGo { clients: 2, sessions_kept: 2, sessions_left: 0, sessions_ended: 1 });
    assert!(is_told_to_come_again(&cluster.received(lasting)));
    assert!(is_told_to_come_again(&cluster.received(clean)));
    assert_eq!(cluster.broker(0).registry().len(), 2);
    cluster.send(writer, &publish("t", "meanwhile", QoS::AtLeastOnce, 2));
    cluster.pump();
    let early = cluster.connect(0, &connect("lasting", 600));
    cluster.pump();
    assert!(!cluster.is_open(early), "nothing is handed out without a lease");

    cluster.renew_lease(0);
    for (id, expected) in
        [("lasting", &["before", "meanwhile"]), ("away", &["before", "meanwhile"])]
    {
        let back = cluster.connect(0, &connect(id, 600));
        cluster.pump();
        let answers = cluster.received(back);
        assert!(session_present(&answers), "{id}: {answers:?}");
        assert_eq!(payloads(&answers), expected, "{id}");
        let Packet::Publish(Publish { dup, .. }) = &answers[1] else { panic!("{answers:?}") };
        assert_eq!(*dup, id == "lasting", "{id}");
    }
    let totals = cluster.broker(0).counters().totals();
    assert_eq!((totals.clients_let_go, totals.sessions_ended_by_operator), (2, 0));
    assert_eq!(totals.sessions_ended_by_death, 0);
}

/// The others have not declared the broker dead, and its links stand: whoever asks for a Session gets it.
#[test]
fn a_session_that_is_kept_past_the_lease_moves_to_whoever_is_granted_it() {
    let mut cluster = Cluster::new(3);
    let id = cluster.client_id_at(2);
    let first = open(&mut cluster, 0, &id, 600);
    subscribed(&mut cluster, first, "t", QoS::AtLeastOnce);
    let _let_go = cluster.end_lease(0);
    let writer = open(&mut cluster, 2, "writer", 0);
    cluster.send(writer, &publish("t", "one", QoS::AtLeastOnce, 1));
    cluster.pump();
    let second = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    let answers = cluster.received(second);
    assert!(session_present(&answers), "{answers:?}");
    assert_eq!(payloads(&answers), ["one"]);
    assert_eq!(cluster.broker(0).registry().len(), 0);
}

/// It was declared dead after all, and the others have granted what it had anew.
#[test]
fn sessions_that_were_kept_end_when_the_broker_learns_that_it_is_dead() {
    let mut cluster = Cluster::new(3);
    let id = cluster.client_id_at(2);
    let first = open(&mut cluster, 0, &id, 600);
    subscribed(&mut cluster, first, "t", QoS::AtLeastOnce);
    cluster.hold(0, 1);
    cluster.hold(0, 2);
    let let_go = cluster.end_lease(0);
    assert_eq!(let_go, LetGo { clients: 1, sessions_kept: 1, sessions_left: 0, sessions_ended: 0 });
    let reborn = cluster.begin_life(0);
    cluster.pump();
    assert_eq!(cluster.broker(reborn).registry().len(), 0);
    let totals = cluster.broker(reborn).counters().totals();
    assert_eq!((totals.clients_let_go, totals.sessions_ended_by_death), (1, 1));
    let second = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    let answers = cluster.received(second);
    assert!(cluster.is_open(second) && !session_present(&answers), "{answers:?}");
    assert!(cluster.broker(1).peers().unwrap().find(BootId(1)).is_none());
}
