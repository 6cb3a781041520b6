//! Links between brokers over real sockets: nothing is lost, doubled or out of order, whatever
//! breaks; and whoever does not belong gets one line and no data.

mod end;
mod proxy;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use mqttzoo::cluster::frame::Cursors;
use mqttzoo::cluster::identity::{BootId, WireVersions};
use mqttzoo::cluster::lane::{Lane, LaneOptions, OfferedControl};
use mqttzoo::cluster::wire::WireError;
use mqttzoo::mqtt::QoS;
use mqttzoo::peer::{LinkOptions, LinkTlsOptions, Secret};

use crate::harness::Authority;
use end::{End, eventually, frame, options};
use proxy::Proxy;

#[test]
fn a_hundred_thousand_frames_arrive_once_and_in_order_over_a_line_that_keeps_breaking() {
    let (one, other) = (End::start(options("one")), End::start(options("other")));
    let there = Proxy::start(other.address(), 1);
    let back = Proxy::start(one.address(), 2);
    let lanes = [one.open(&other, there.address()), other.open(&one, back.address())];
    for number in 0..FRAMES {
        for lane in &lanes {
            // Not all at once, or one connection would take it all before the first break.
            eventually("room on the lane", || {
                (lane.counts().data_bytes < 512 * 1_024).then_some(())
            });
            end::offer(lane, number);
        }
    }
    for (end, proxy) in [(&other, &there), (&one, &back)] {
        eventually("all frames", || (end.taken() >= FRAMES).then_some(()));
        assert_eq!(end.taken(), FRAMES);
        assert!(proxy.cuts() > 20, "the line broke {} times", proxy.cuts());
    }
    for lane in &lanes {
        eventually("the last answer", || lane.is_flushed().then_some(()));
        assert!(lane.counts().resent > 0, "what was on its way was sent again");
    }
    for end in [&one, &other] {
        assert_eq!(end.failures(), Vec::<String>::new());
    }
}

#[test]
fn links_with_tls_and_a_secret_carry_frames() {
    let authority = Authority::new();
    let secure = |name| LinkOptions {
        tls: Some(tls(&authority)),
        secret: Secret::new(b"between us"),
        ..options(name)
    };
    let (one, other) = (End::start(secure("one")), End::start(secure("other")));
    let lane = one.open(&other, other.address());
    for number in 0..1_000 {
        end::offer(&lane, number);
    }
    eventually("all frames", || (other.taken() == 1_000).then_some(()));
    let status = one.links.status();
    assert_eq!(status[0].connects, 1);
    assert!(status[0].connected_since.is_some());
    eventually("a round trip", || one.links.status()[0].round_trip);
    assert_eq!(other.links.counts().accepted, 1);
    one.links.reload_tls().unwrap();
}

/// Dials with `change` made to the one who dials, and to whom it believes to reach.
fn check(change: impl FnOnce(&mut LinkOptions, &mut BootId), dialler: &str, acceptor: &str) {
    let other = End::start(LinkOptions { secret: Secret::new(b"right"), ..options("other") });
    let mut to = other.boot_id;
    let mut changed = LinkOptions { secret: Secret::new(b"right"), ..options("one") };
    change(&mut changed, &mut to);
    check_refused(&End::start(changed), &other, to, dialler, acceptor);
}

fn check_refused(one: &End, other: &End, to: BootId, dialler: &str, acceptor: &str) {
    let lane = one.open_as(to, other, &other.address());
    end::offer(&lane, 0);
    eventually("some tries", || (other.links.counts().refused >= 3).then_some(()));
    one.check_one_line(dialler);
    other.check_one_line(acceptor);
    assert_eq!(other.taken(), 0);
    assert!(one.links.status()[0].last_error.as_deref().unwrap().contains(dialler));
    assert_eq!(one.links.status()[0].connects, 0);
    assert!(!lane.is_flushed(), "it waits for better times");
}

#[test]
fn another_secret_is_no_secret() {
    check(
        |one, _| one.secret = Secret::new(b"wrong"),
        "the link secrets differ",
        "the link secrets differ",
    );
    check(|one, _| one.secret = Secret::none(), "the link secrets differ", "one dials");
}

#[test]
fn who_accepts_has_to_know_the_secret_too() {
    let one = End::start(LinkOptions { secret: Secret::new(b"right"), ..options("one") });
    let other = End::start(options("other"));
    let lane = one.open(&other, other.address());
    end::offer(&lane, 0);
    one.check_one_line("does not prove that it knows the link secret");
    assert_eq!(other.taken(), 0);
}

/// *A broker had ended, and its address had been given to another.* Whoever accepted there and said so
/// was taken for the one that had ended.
#[test]
fn who_answers_at_an_address_is_told_from_who_had_it_before() {
    let (secret, wrong) = (Secret::new(b"between us"), Secret::new(b"or others"));
    let with = |secret: &Secret, name| LinkOptions { secret: secret.clone(), ..options(name) };
    let (one, other) = (End::start(with(&secret, "one")), End::start(with(&secret, "other")));
    let stranger = End::start(with(&wrong, "stranger"));
    let gone = Proxy::start(other.address(), 1);
    let ended = gone.address();
    drop(gone);
    let is_there = |asker: &End, address: SocketAddr, boot_id| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(asker.links.is_answered_by(&address.to_string(), boot_id))
    };
    let former = BootId(other.boot_id.0 ^ 1);
    assert!(is_there(&one, other.address(), other.boot_id));
    assert!(!is_there(&one, other.address(), former), "somebody else has its address");
    assert!(!is_there(&one, one.address(), former), "we have its address");
    assert!(!is_there(&stranger, other.address(), other.boot_id), "anybody could say so");
    assert!(!is_there(&one, ended, other.boot_id), "nobody is there");
}

#[test]
fn another_cluster_is_none_of_ours() {
    let words = "the clusters differ: \"zoo\" here, \"park\" there";
    check(|one, _| "park".clone_into(&mut one.cluster), words, words);
}

#[test]
fn an_address_that_has_a_new_owner_is_noticed() {
    check(|_, to| *to = BootId(7), "it refuses the link, as boot-", "this is other as boot-");
}

#[test]
fn there_has_to_be_a_common_wire_version() {
    let words = "no common wire version: 1 to 5 here, 6 to 7 there";
    check(|one, _| one.wire = WireVersions { oldest: 6, newest: 7 }, words, words);
}

#[test]
fn a_certificate_of_another_authority_is_no_certificate() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let one = End::start(LinkOptions { tls: Some(tls(&theirs)), ..options("one") });
    let other = End::start(LinkOptions { tls: Some(tls(&ours)), ..options("other") });
    check_refused(&one, &other, other.boot_id, "TLS fails", "TLS fails");
}

#[test]
fn who_trusts_us_but_has_no_certificate_of_ours_is_refused_as_well() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let half = LinkTlsOptions { ca: ours.path("ca.pem").into(), ..tls(&theirs) };
    let one = End::start(LinkOptions { tls: Some(half), ..options("one") });
    let other = End::start(LinkOptions { tls: Some(tls(&ours)), ..options("other") });
    check_refused(&one, &other, other.boot_id, "TLS fails", "TLS fails");
}

#[test]
fn tls_on_one_end_only_is_said_to_be_that() {
    let authority = Authority::new();
    let patience = Duration::from_millis(100);
    let plain = |name| LinkOptions { handshake_timeout: patience, ..options(name) };
    let secure = |name| LinkOptions { tls: Some(tls(&authority)), ..options(name) };
    let pairs = [
        (End::start(plain("plain")), End::start(secure("secure")), "do both use TLS, or neither?"),
        (End::start(secure("secure")), End::start(plain("plain")), "TLS fails: do both use it"),
    ];
    for (one, other, words) in &pairs {
        let lane = one.open(other, other.address());
        end::offer(&lane, 0);
        let is_said = |error: &String| error.contains(words);
        eventually(words, || one.links.status().remove(0).last_error.filter(is_said));
        assert_eq!(other.taken(), 0);
    }
}

#[test]
fn those_who_do_not_say_who_they_are_are_few_and_do_not_stay() {
    let other = End::start(LinkOptions {
        half_open_max: 2,
        handshake_timeout: Duration::from_millis(200),
        ..options("other")
    });
    let mut silent: Vec<_> = (0..2).map(|_| TcpStream::connect(other.address()).unwrap()).collect();
    eventually("two", || (other.links.counts().half_open == 2).then_some(()));
    let mut third = TcpStream::connect(other.address()).unwrap();
    assert_eq!(third.read(&mut [0; 64]).unwrap_or(0), 0, "it is closed without a word");
    for stream in &mut silent {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert_eq!(said.len(), 40, "a challenge, and then the end");
    }
    eventually("nobody", || (other.links.counts().half_open == 0).then_some(()));
    assert_eq!(other.links.counts().refused, 3);
}

#[test]
fn whatever_speaks_something_else_is_refused() {
    let other = End::start(options("other"));
    let mut stream = TcpStream::connect(other.address()).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    eventually("a refusal", || (other.links.counts().refused == 1).then_some(()));
    other.check_one_line("it says what no broker would say");
}

#[test]
fn a_peer_that_cannot_be_found_yet_is_dialled_again_until_it_is_there() {
    let one = End::start(options("one"));
    let other = End::start(options("other"));
    let lane = one.open_as(other.boot_id, &other, &"no-such-host.invalid:1");
    end::offer(&lane, 0);
    one.check_one_line("its address cannot be found yet");
    // Its znode tells another address now.
    let _same_lane = one.open_as(other.boot_id, &other, &other.address());
    eventually("the frame", || (other.taken() == 1).then_some(()));
}

#[test]
fn a_control_stream_that_was_cut_goes_on_behind_the_cut() {
    let one = End::start(options("one"));
    let other = End::start(options("other"));
    let bounds = LaneOptions { control_bytes_max: 10_000, ..LaneOptions::default() };
    let lane = Arc::new(Lane::new(bounds));
    let mut offered = 0;
    let broken = loop {
        match lane.offer_control(frame(offered)) {
            OfferedControl::Queued { seq, .. } => offered = seq,
            outcome @ (OfferedControl::Broken(_) | OfferedControl::Closed) => break outcome,
        }
    };
    assert!(matches!(broken, OfferedControl::Broken(_)));
    one.open_lane(&other, &other.address(), &lane);
    end::offer(&lane, 0);
    end::ring_control(lane.offer_control(frame(0)));
    let expected = Cursors { control: offered + 1, data: 1 };
    eventually("what came after", || (other.received() == expected).then_some(()));
    assert_eq!(other.losses(), 1, "the receiver knows that something is missing");
}

#[test]
fn a_batch_that_makes_no_sense_ends_the_connection_and_costs_nothing() {
    let one = End::start(options("one"));
    let other = End::start(options("other"));
    other.refuse_next(WireError::BatchHeader);
    let lane = one.open(&other, other.address());
    for number in 0..10 {
        end::offer(&lane, number);
    }
    eventually("all frames", || (other.taken() == 10).then_some(()));
    other.check_one_line("a batch was not taken");
}

#[test]
fn a_peer_that_is_closed_is_let_go_at_once() {
    let one = End::start(options("one"));
    let other = End::start(options("other"));
    let lane = one.open(&other, other.address());
    end::offer(&lane, 0);
    eventually("the frame", || (other.taken() == 1).then_some(()));
    assert!(one.is_up(&other));
    one.links.close(other.boot_id);
    eventually("the end", || (other.links.counts().accepted == 0).then_some(()));
    assert!(!one.is_up(&other));
    assert!(lane.is_closed() && one.links.status().is_empty());

    // And from the other side: what is accepted is cut, and dialled again.
    let back = other.open(&one, one.address());
    end::offer(&back, 0);
    eventually("the frame", || (one.taken() == 1).then_some(()));
    one.links.close(other.boot_id);
    end::offer(&back, 1);
    eventually("another frame", || (one.taken() == 2).then_some(()));
    assert!(other.links.status()[0].connects > 1);
}

#[test]
fn a_broker_that_goes_on_as_another_is_found_under_its_new_boot_id_only() {
    let one = End::start(options("one"));
    let other = End::start(options("other"));
    let lane = one.open(&other, other.address());
    end::offer(&lane, 0);
    eventually("the frame", || (other.taken() == 1).then_some(()));
    let _back = other.open(&one, one.address());
    other.links.restart_as(BootId(99));
    assert!(other.links.status().is_empty());
    eventually("a refusal", || (other.links.counts().refused > 0).then_some(()));
    other.check_one_line("this is other as boot-");
    let _lane = one.open_as(BootId(99), &other, &other.address());
    eventually("a link", || one.links.status().iter().find(|link| link.connects == 1).map(|_| ()));
}

#[test]
fn a_message_of_many_megabytes_arrives() {
    let one = End::start(options("one"));
    let other = End::start(options("other"));
    let lane = one.open(&other, other.address());
    end::offer(&lane, 0);
    end::offer_of_size(&lane, 1, QoS::AtLeastOnce, 20 * 1_024 * 1_024);
    end::offer(&lane, 2);
    eventually("all frames", || (other.taken() == 3).then_some(()));
}

fn tls(authority: &Authority) -> LinkTlsOptions {
    LinkTlsOptions {
        certificate: authority.path("server.pem").into(),
        key: authority.path("server.key").into(),
        ca: authority.path("ca.pem").into(),
        server_name: None,
    }
}

const FRAMES: u64 = 100_000;
