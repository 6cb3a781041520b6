//! Sessions: what ends with them, and what lives through another connection.

use std::time::{Duration, Instant};

use mqttzoo::ports::coordination::{
    ChangeKind, CoordinationError, CoordinationEvent, CreateMode, Request,
};

use super::client::Client;
use super::contract::{Tree, create, get, set};
use crate::harness::{Ensemble, Ttl};

#[test]
fn what_is_ephemeral_ends_with_its_session() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let servers = ensemble.with_fresh_chroot();
    let mut watcher = Client::connect(&servers);
    watcher.ask(Request::Watch("/".to_owned())).unwrap();
    let mut owner = Client::connect(&servers);
    create(&mut owner, "/e", "", CreateMode::Ephemeral);
    create(&mut owner, "/p", "", CreateMode::Persistent);
    owner.close();
    assert_eq!(watcher.next_change(), ("/e".to_owned(), ChangeKind::Created));
    assert_eq!(watcher.next_change(), ("/p".to_owned(), ChangeKind::Created));
    // It was closed, not left to expire: the ensemble would take a minute.
    assert_eq!(watcher.ask(Request::Get("/e".to_owned())), Err(CoordinationError::NoNode));
    assert_eq!(watcher.next_change(), ("/e".to_owned(), ChangeKind::Deleted));
    get(&mut watcher, "/p");
}

/// The client tells the next server its watches, in a list that lacks the persistent ones: after the
/// first reconnect a broker would never have heard of a change again. Now the adapter asks anew.
#[test]
fn a_watch_goes_on_with_the_next_connection() {
    let Some(mut ensemble) = Ensemble::start() else { return };
    let servers = ensemble.with_fresh_chroot();
    let mut watcher = Client::connect(&servers);
    let mut other = Client::connect(&servers);
    watcher.ask(Request::Watch("/".to_owned())).unwrap();
    create(&mut other, "/x", "", CreateMode::Persistent);
    assert_eq!(watcher.next_change(), ("/x".to_owned(), ChangeKind::Created));

    // Whoever followed the leader lets its clients go as well.
    for _ in 0..2 {
        let leader = ensemble.leader();
        ensemble.kill(leader);
        watcher.wait_for_session(false);
        other.wait_for_session(false);
        set(&mut other, "/x", "", None).unwrap();
        assert_eq!(watcher.next_change(), ("/x".to_owned(), ChangeKind::DataChanged));
        ensemble.start_again(leader);
    }
    // Once each: nothing is told twice.
    create(&mut other, "/last", "", CreateMode::Persistent);
    assert_eq!(watcher.next_change(), ("/last".to_owned(), ChangeKind::Created));
}

#[test]
fn a_session_that_expired_is_followed_by_another() {
    let Some(ensemble) = Ensemble::start() else { return };
    let servers = ensemble.with_fresh_chroot();
    let mut client = Client::connect_for(&servers, Duration::from_secs(1));
    create(&mut client, "/e", "", CreateMode::Ephemeral);
    let old = get(&mut client, "/e").1.ephemeral_owner;
    client.ask(Request::Watch("/".to_owned())).unwrap();

    (0..ensemble.len()).for_each(|index| ensemble.pause(index));
    let sent = client.submit(Request::Get("/e".to_owned()));
    assert_eq!(client.next_event(), CoordinationEvent::Disconnected);
    let held = client.submit(Request::Get("/e".to_owned()));
    assert_eq!(client.answer(sent), Err(CoordinationError::ConnectionLost));
    assert_eq!(client.answer(held), Err(CoordinationError::SessionExpired));
    assert_eq!(client.next_event(), CoordinationEvent::Expired);
    let between = client.submit(Request::Get("/e".to_owned()));
    assert_eq!(client.answer(between), Err(CoordinationError::SessionExpired));

    (0..ensemble.len()).for_each(|index| ensemble.resume(index));
    let new = client.wait_for_session(true);
    assert_ne!(new, old);
    // The ensemble lets go of the old session in its own time. A new one has no watches.
    client.ask(Request::Watch("/".to_owned())).unwrap();
    if client.ask(Request::Get("/e".to_owned())) != Err(CoordinationError::NoNode) {
        assert_eq!(client.next_change(), ("/e".to_owned(), ChangeKind::Deleted));
    }
    assert_eq!(create(&mut client, "/e", "", CreateMode::Ephemeral).ephemeral_owner, new);
    let counters = client.zookeeper().counters();
    assert_eq!((counters.sessions(), counters.expired()), (2, 1));
}

/// Whoever was slow to hear that its session was over wrote in the next one what was true in the last.
#[test]
fn what_was_asked_before_the_end_of_a_session_was_heard_goes_to_no_later_one() {
    let Some(ensemble) = Ensemble::start() else { return };
    let mut client = Client::connect_for(&ensemble.with_fresh_chroot(), Duration::from_secs(1));
    let counters = client.zookeeper().counters();
    (0..ensemble.len()).for_each(|index| ensemble.pause(index));
    client.wait_until(|| counters.expired() == 1);
    (0..ensemble.len()).for_each(|index| ensemble.resume(index));
    client.wait_until(|| counters.sessions() == 2);
    let late = client.submit(Request::Get("/".to_owned()));
    assert_eq!(client.answer(late), Err(CoordinationError::SessionExpired));
    // The end was heard by now.
    client.ask(Request::Get("/".to_owned())).unwrap();
}

/// The client waits twice as long after each attempt that failed, up to the end of the session: when
/// the ensemble came back, one broker had it at once, and another, which had just missed it, was taken
/// for cut off before it tried again.
#[test]
fn a_session_that_finds_no_server_is_given_up_before_the_ensemble_could_end_it() {
    let Some(mut ensemble) = Ensemble::start() else { return };
    // A third of it is waited for: the rest is for a machine that is slow to end three servers.
    let session_timeout = Duration::from_secs(20);
    let mut client = Client::connect_for(&ensemble.with_fresh_chroot(), session_timeout);
    let old = create(&mut client, "/e", "", CreateMode::Ephemeral).ephemeral_owner;
    let begun = Instant::now();
    ensemble.kill_all();
    // They end one by one, and it may find another in between.
    while client.next_event() != CoordinationEvent::Expired {}
    assert!(begun.elapsed() < session_timeout, "{:?}", begun.elapsed());
    ensemble.start_all_again();
    let new = client.wait_for_session(true);
    assert_ne!(new, old);
    let counters = client.zookeeper().counters();
    assert_eq!((counters.sessions(), counters.expired()), (2, 1));
}
