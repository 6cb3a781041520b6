//! What the adapter adds to the tree: bounds, access lists, and words for what a server lacks.

use std::fs;
use std::time::Duration;

use mqttzoo::coordination::{Identity, Options, Tls};
use mqttzoo::ports::coordination::{
    Change, ChangeKind, CoordinationError, CoordinationEvent, CreateMode, Reply, Request,
};

use super::client::{Client, options};
use super::contract::{self, Tree, create, creation, get, list};
use crate::harness::{Authority, Ensemble, SilentServer, Ttl};

#[test]
fn a_real_ensemble_holds_the_contract() {
    let Some(ensemble) = Ensemble::shared() else { return };
    contract::check(&mut Client::connect(&ensemble.with_fresh_chroot()));
}

#[test]
fn a_znode_with_a_ttl_is_collected_and_watchers_hear_of_it() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let mut client = Client::connect(&ensemble.with_fresh_chroot());
    client.ask(Request::Watch("/".to_owned())).unwrap();
    create(&mut client, "/x", "", CreateMode::PersistentWithTtl { ttl_millis: 100 });
    assert_eq!(client.next_change(), ("/x".to_owned(), ChangeKind::Created));
    assert_eq!(client.next_change(), ("/x".to_owned(), ChangeKind::Deleted));
    assert!(list(&mut client, "/").is_empty());
}

#[test]
fn a_server_without_ttl_nodes_says_so() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Disabled) else { return };
    let mut client = Client::connect(&ensemble.servers());
    let with_ttl = creation("/x", "", CreateMode::PersistentWithTtl { ttl_millis: 100 });
    let outcome = client.ask(Request::Change(with_ttl.clone()));
    assert_eq!(outcome, Err(CoordinationError::NoTtl));
    let before = creation("/y", "", CreateMode::Persistent);
    let outcome = client.ask(Request::All(vec![before, with_ttl]));
    let error = Box::new(CoordinationError::NoTtl);
    assert_eq!(outcome, Err(CoordinationError::Part { part: 1, error }));
    // And the connection has lived through it.
    create(&mut client, "/y", "", CreateMode::Persistent);
    assert_eq!(client.zookeeper().counters().reconnects(), 0);
}

#[test]
fn znodes_of_a_user_are_closed_to_strangers() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let servers = format!("{}/ours/deep", ensemble.servers());
    let mut ours = Client::connect_as(&servers, "broker", "secret");
    create(&mut ours, "/x", "private", CreateMode::Persistent);
    create(&mut ours, "/e", "", CreateMode::Ephemeral);

    let strangers = [
        Client::connect(&servers),
        Client::connect_as(&servers, "broker", "guess"),
        Client::connect_as(&servers, "stranger", "secret"),
    ];
    for mut stranger in strangers {
        let path = || "/x".to_owned();
        let refused = [
            Request::Get(path()),
            Request::List("/".to_owned()),
            Request::Change(Change::Set { path: path(), data: "".into(), version: None }),
            Request::Change(Change::Delete { path: path(), version: None }),
            Request::Change(creation("/y", "", CreateMode::Persistent)),
        ];
        for request in refused {
            assert_eq!(
                stranger.ask(request.clone()),
                Err(CoordinationError::NoAuth),
                "{request:?}"
            );
        }
    }
    let mut again = Client::connect_as(&servers, "broker", "secret");
    assert_eq!(get(&mut again, "/x").0, "private");
}

#[test]
fn tls_is_spoken_with_servers_of_the_authority_and_with_no_others() {
    let authority = Authority::new();
    authority.sign("server");
    authority.sign("broker");
    let Some((ensemble, secure)) = Ensemble::start_tls(&authority) else { return };
    let read = |name: &str| fs::read_to_string(authority.path(name)).unwrap();
    let identity = Identity { certificate: read("broker.pem"), key: read("broker.key") };
    let tls = |ca: &str| Tls { ca: ca.to_owned(), identity: Some(identity.clone()) };
    let options = |tls| Options { tls: Some(tls), ..options(&secure, Duration::from_secs(10)) };

    let mut client = Client::start(options(tls(authority.pem())));
    client.wait_for_session(true);
    create(&mut client, "/x", "over TLS", CreateMode::Persistent);
    let mut in_clear = Client::connect(&ensemble.servers());
    assert_eq!(get(&mut in_clear, "/x").0, "over TLS");

    let stranger = Client::start(options(tls(Authority::new().pem())));
    let counters = stranger.zookeeper().counters();
    stranger.wait_until(|| counters.failed_attempts() >= 1);
    assert_eq!(counters.sessions(), 0);
}

#[test]
fn answers_come_in_the_order_of_their_requests() {
    let Some(ensemble) = Ensemble::shared() else { return };
    let mut client = Client::connect(&ensemble.with_fresh_chroot());
    // More than may be outstanding, of every kind, some of them refused without being sent.
    let requests = |n: usize| match n % 5 {
        0 => Request::Change(creation(&format!("/n{n}"), "", CreateMode::Persistent)),
        1 => Request::Get(format!("/n{}", n - 1)),
        2 => Request::List("no path".to_owned()),
        3 => Request::All(vec![creation(&format!("/n{n}"), "", CreateMode::Persistent)]),
        _ => Request::Change(Change::Delete { path: format!("/n{}", n - 1), version: Some(0) }),
    };
    let tickets: Vec<_> = (0..3_000).map(|n| client.submit(requests(n))).collect();
    for (n, ticket) in tickets.into_iter().enumerate() {
        let event = client.next_event();
        let CoordinationEvent::Answered { ticket: answered, outcome } = event else {
            panic!("{event:?}")
        };
        assert_eq!(answered, ticket);
        assert_eq!(outcome.is_ok(), n % 5 != 2, "{n}: {outcome:?}");
    }
}

#[test]
fn more_than_may_wait_is_refused_and_the_rest_is_answered() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let mut client = Client::connect(&ensemble.servers());
    ensemble.pause(0);
    let tickets: Vec<_> =
        (0..6_000).map(|_| client.submit(Request::List("/".to_owned()))).collect();
    ensemble.resume(0);
    let outcomes: Vec<_> = tickets.into_iter().map(|ticket| client.answer(ticket)).collect();
    let busy = outcomes.iter().filter(|it| **it == Err(CoordinationError::Busy)).count();
    let good = outcomes.iter().filter(|it| it.is_ok()).count();
    // 4,096 wait, and 500 are with the ensemble if the task got to take them.
    assert!((1_404..=1_904).contains(&busy), "{busy} of 6,000 were refused");
    assert_eq!(busy + good, 6_000);
    let counters = client.zookeeper().counters();
    assert_eq!(counters.errors().find(|(name, _)| *name == "busy"), Some(("busy", busy as u64)));
    assert_eq!(counters.outstanding(), 0);
}

#[test]
fn what_is_too_large_is_refused_before_it_costs_the_connection() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let mut client = Client::connect(&ensemble.servers());
    let huge = "z".repeat(1_000_000);
    let refused = client.ask(Request::Change(creation("/x", &huge, CreateMode::Persistent)));
    assert!(matches!(refused, Err(CoordinationError::Other(_))), "{refused:?}");
    let most = "z".repeat(999_000);
    create(&mut client, "/x", &most, CreateMode::Persistent);
    assert_eq!(get(&mut client, "/x").0.len(), most.len());
    assert_eq!(client.zookeeper().counters().reconnects(), 0);
}

#[test]
fn a_name_that_does_not_resolve_is_no_reason_to_give_up() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let servers = format!("no-such-host.invalid:2181,{}", ensemble.servers());
    let mut client = Client::connect(&servers);
    assert_eq!(client.ask(Request::List("/".to_owned())).map(|_| ()), Ok(()));

    let nowhere = options("no-such-host.invalid", Duration::from_secs(2));
    let mut client = Client::start(nowhere);
    let counters = client.zookeeper().counters();
    // Whoever asks meanwhile learns that there is no session.
    while counters.failed_attempts() < 3 {
        let outcome = client.ask(Request::List("/".to_owned()));
        assert_eq!(outcome, Err(CoordinationError::SessionExpired));
    }
}

#[test]
fn an_attempt_ends_though_a_server_takes_connections_and_says_nothing() {
    let server = SilentServer::start();
    let address = format!("127.0.0.1:{}", server.port());
    let client = Client::start(options(&address, Duration::from_secs(2)));
    let counters = client.zookeeper().counters();
    // The first one with little patience, the others with more.
    client.wait_until(|| counters.failed_attempts() >= 3);
    assert_eq!(counters.sessions(), 0);
}

#[test]
fn the_timeout_that_the_ensemble_grants_is_told() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    // A minute is the most it gives.
    let client = Client::connect_for(&ensemble.servers(), Duration::from_secs(90));
    assert_eq!(client.zookeeper().session_timeout(), Duration::from_secs(60));
    let latency = client.zookeeper().counters().latency();
    assert_eq!(latency.buckets.last(), Some(&(None, 0)));
}

#[test]
fn a_chroot_is_made_with_its_parents_and_hides_what_is_beside_it() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let mut inside = Client::connect(&format!("{}/a/b/c", ensemble.servers()));
    inside.ask(Request::Watch("/".to_owned())).unwrap();
    create(&mut inside, "/x", "", CreateMode::Persistent);
    assert_eq!(inside.next_change(), ("/x".to_owned(), ChangeKind::Created));
    let mut outside = Client::connect(&ensemble.servers());
    assert_eq!(list(&mut outside, "/a/b/c"), ["x"]);
    let root = outside.ask(Request::Change(Change::Set {
        path: "/a/b/c".to_owned(),
        data: "".into(),
        version: None,
    }));
    assert!(matches!(root, Ok(Reply::Changed(_))), "{root:?}");
    assert_eq!(inside.next_change(), ("/".to_owned(), ChangeKind::DataChanged));
}
