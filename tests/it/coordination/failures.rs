//! Servers that die: every request is answered once, and what was committed stays.

use std::collections::BTreeMap;

use mqttzoo::ports::coordination::{
    CoordinationError, CoordinationEvent, CreateMode, Reply, Request, Ticket,
};

use super::client::Client;
use super::contract::{create, creation, get, list};
use crate::harness::Ensemble;

/// What was answered to the creation of each znode.
type Answers = BTreeMap<String, Result<Reply, CoordinationError>>;

/// Creates `count` znodes, 300 at a time, and does `harm` in their midst.
fn under_load(client: &mut Client, count: usize, harm: impl FnOnce()) -> Answers {
    let mut harm = Some(harm);
    let mut asked: BTreeMap<Ticket, String> = BTreeMap::new();
    let mut answers = Answers::new();
    while answers.len() < count {
        while asked.len() < 300 && asked.len() + answers.len() < count {
            let name = format!("n{:05}", asked.len() + answers.len());
            let change = creation(&format!("/{name}"), "", CreateMode::Persistent);
            asked.insert(client.submit(Request::Change(change)), name);
        }
        if let CoordinationEvent::Answered { ticket, outcome } = client.next_event() {
            let name = asked.remove(&ticket).expect("a ticket is answered once");
            answers.insert(name, outcome);
        }
        if answers.len() >= count / 3
            && let Some(harm) = harm.take()
        {
            harm();
        }
    }
    answers
}

/// Every creation that was answered with success is there; every one that was answered otherwise
/// leaves open whether it is.
fn assert_kept(client: &mut Client, answers: &Answers) {
    let there = list(client, "/");
    for (name, outcome) in answers {
        match outcome {
            Ok(_) => assert!(there.contains(name), "{name} was lost"),
            Err(error) => assert_eq!(*error, CoordinationError::ConnectionLost, "{name}"),
        }
    }
}

#[test]
fn the_leader_is_killed_under_load() {
    let Some(mut ensemble) = Ensemble::start() else { return };
    let mut client = Client::connect(&ensemble.with_fresh_chroot());
    let leader = ensemble.leader();
    let answers = under_load(&mut client, 6_000, || ensemble.kill(leader));
    let lost = answers.values().filter(|outcome| outcome.is_err()).count();
    assert!((1..=500).contains(&lost), "{lost} requests were with the ensemble");
    assert_kept(&mut client, &answers);
    assert!(client.zookeeper().counters().reconnects() >= 1);
    assert_eq!(client.zookeeper().counters().expired(), 0);
}

#[test]
fn all_servers_are_killed_under_load_and_the_session_lives_through_it() {
    let Some(mut ensemble) = Ensemble::start() else { return };
    let mut client = Client::connect(&ensemble.with_fresh_chroot());
    create(&mut client, "/e", "", CreateMode::Ephemeral);
    let session = get(&mut client, "/e").1.ephemeral_owner;
    let answers = under_load(&mut client, 3_000, || {
        ensemble.kill_all();
        ensemble.start_all_again();
    });
    assert_kept(&mut client, &answers);
    assert_eq!(get(&mut client, "/e").1.ephemeral_owner, session);
    assert_eq!(client.zookeeper().counters().expired(), 0);
}
