//! Stories of brokers that relay: each names the schedule that it holds against.

mod world;

use std::sync::Arc;

use bytes::Bytes;

use super::{LaneInUse, RING_BYTES};
use crate::cluster::bank::Holdings;
use crate::cluster::identity::BootId;
use crate::cluster::jitter::Jitter;
use crate::cluster::lane::{Lane, LaneOptions};
use crate::cluster::paths::{RELAY, below};
use crate::cluster::wire::{RelayHeader, encode_relay_header};
use crate::mqtt::QoS;
use crate::ports::coordination::{Change, CoordinationError, CreateMode, Request};

use world::{LinkState, T, World, boot_id};

/// No links at all: a ring of 256 KiB is filled and emptied many times, between all of three.
#[test]
fn more_than_a_ring_holds_goes_through_it_in_order_and_once() {
    let mut world = World::always(3);
    for (from, to) in world.pairs() {
        for _ in 0..1_500 {
            world.offer(from, to, QoS::AtLeastOnce, 1_000);
        }
    }
    world.run(60_000, World::is_flushed);
    world.check_all();
    let readings = world.relay(0).readings();
    assert!(readings.sent_bytes > 3_000_000, "{readings:?}");
    assert!(readings.writes < 2_000, "many messages go into one write: {readings:?}");
    assert_eq!((readings.rewinds, readings.left_out, readings.ring_bytes), (0, 0, 0));
}

/// However much is published: no more than a write every ten milliseconds.
#[test]
fn the_rate_of_writes_does_not_depend_on_that_of_messages() {
    let mut world = World::always(2);
    world.run_for(1_000);
    let before = world.relay(0).readings().writes;
    for _ in 0..1_000 {
        for _ in 0..10 {
            world.offer(0, 1, QoS::AtLeastOnce, 100);
        }
        world.run_for(1);
    }
    let writes = world.relay(0).readings().writes - before;
    assert!(writes <= 101, "{writes} writes in a second");
    world.run(5_000, World::is_flushed);
    world.check_all();
}

#[test]
fn an_idle_relay_writes_nothing() {
    let mut world = World::always(3);
    world.offer(0, 1, QoS::AtLeastOnce, 100);
    world.run_for(2_000);
    let before: Vec<_> = (0..3).map(|node| world.relay(node).readings().writes).collect();
    world.run_for(60_000);
    let after: Vec<_> = (0..3).map(|node| world.relay(node).readings().writes).collect();
    assert_eq!(after, before);
}

#[track_caller]
fn check_link_and_back(state: LinkState) {
    let mut world = World::with_links(3);
    world.run_for(100);
    for round in 0..3 {
        assert_eq!(world.relay(0).lane_in_use(boot_id(1)), LaneInUse::Link);
        world.set_links(0, 1, state);
        world.load(0, 1, 3 * T);
        assert_eq!(world.relay(0).lane_in_use(boot_id(1)), LaneInUse::Relay, "round {round}");
        assert_eq!(world.relay(1).lane_in_use(boot_id(0)), LaneInUse::Relay, "round {round}");
        assert_eq!(world.relay(0).lane_in_use(boot_id(2)), LaneInUse::Link, "round {round}");
        world.run(T, World::is_flushed);
        world.set_links(0, 1, LinkState::Up);
        world.load(0, 1, 2 * T);
        world.run(T, World::is_flushed);
    }
    world.check_all();
    assert_eq!(world.relay(0).readings().ring_bytes, 0);
}

/// Frames flow while the link is down, and go back to it.
#[test]
fn a_link_that_is_cut_is_replaced_and_taken_up_again() {
    check_link_and_back(LinkState::Down);
}

/// Its connection stands, and nothing gets through: that is noticed too.
#[test]
fn a_link_that_falls_silent_is_replaced_and_taken_up_again() {
    check_link_and_back(LinkState::Silent);
}

/// One broker stands still for longer than T. The two others go on through their windows; when it
/// wakes up, everything that waited for it comes in order and once.
#[test]
fn a_reader_that_does_not_move_is_left_out_and_gets_everything_later() {
    let mut world = World::always(3);
    world.run_for(1_000);
    world.pause(2, true);
    for _ in 0..3_000 {
        world.offer(0, 2, QoS::AtLeastOnce, 1_000);
    }
    world.run_for(T + 1_000);
    assert_eq!(world.relay(0).readings().left_out, 1);
    assert!(world.relay(0).readings().ring_bytes < 1_000, "only a beginning waits for it");
    for _ in 0..2_000 {
        world.offer(0, 1, QoS::AtLeastOnce, 1_000);
    }
    world.run(10_000, |world| world.is_flushed_between(0, 1));
    world.pause(2, false);
    world.run(60_000, World::is_flushed);
    world.check_all();
}

/// A slow reader may fill its share of the ring, and not that of another.
#[test]
fn a_reader_that_stands_still_does_not_stop_the_others_meanwhile() {
    let mut world = World::always(3);
    world.run_for(1_000);
    world.pause(2, true);
    for _ in 0..3_000 {
        world.offer(0, 2, QoS::AtLeastOnce, 1_000);
        world.offer(0, 1, QoS::AtLeastOnce, 1_000);
    }
    world.run(T - 1_000, |world| world.is_flushed_between(0, 1));
    assert_eq!(world.relay(0).readings().left_out, 0);
    world.pause(2, false);
    world.run(60_000, World::is_flushed);
    world.check_all();
}

/// Each write fills one window: with two brokers to send to, both have their turn.
#[test]
fn nobody_waits_until_another_has_had_everything() {
    let mut world = World::always(3);
    world.run_for(1_000);
    for to in [1, 2] {
        for _ in 0..3_000 {
            world.offer(0, to, QoS::AtLeastOnce, 1_000);
        }
    }
    world.run(10_000, |world| world.unreceived(0, 1).min(world.unreceived(0, 2)) < 1_000);
    let (one, other) = (world.unreceived(0, 1), world.unreceived(0, 2));
    assert!(one.abs_diff(other) < 500, "{one} and {other}");
    world.run(10_000, World::is_flushed);
    world.check_all();
}

/// A message that is larger than the whole ring goes through it in parts.
#[test]
fn messages_of_any_size_cross_in_parts() {
    let mut world = World::always(2);
    for len in [0, 1, 32_000, 33_000, 131_072, 300_000, 1_000_000, 5, 900_000] {
        world.offer(0, 1, QoS::AtLeastOnce, len);
        world.offer(1, 0, QoS::AtLeastOnce, len);
    }
    world.run(30_000, World::is_flushed);
    world.check_all();
}

/// While the link is down: a message that is too large is dropped when its QoS is 0; else it and all
/// messages behind it wait for the link, and control goes on.
#[test]
fn a_message_that_is_too_large_is_dropped_or_waits_for_the_link() {
    let mut world = World::with_links(2);
    world.run_for(100);
    world.set_links(0, 1, LinkState::Down);
    world.offer_and_forget(0, 1, QoS::AtMostOnce, 3_000_000);
    world.offer(0, 1, QoS::AtLeastOnce, 10);
    world.run(2 * T, World::is_flushed);
    assert_eq!(world.relay(0).readings().dropped, 1);

    world.offer(0, 1, QoS::AtLeastOnce, 3_000_000);
    world.offer(0, 1, QoS::AtMostOnce, 10);
    world.run_for(T);
    assert_eq!(world.unreceived(0, 1), 2, "both wait");
    world.control(0, 1);
    world.run(1_000, |world| world.has_control(0, 1));
    world.set_links(0, 1, LinkState::Up);
    world.run(T, World::is_flushed);
    world.check_all();
    world.run_for(3 * T);
    assert_eq!(world.relay(0).lane_in_use(boot_id(1)), LaneInUse::Link);
}

/// The connection to the ensemble is lost in the middle of everything, with or without the session:
/// nobody knows what was written.
#[test]
fn answers_that_are_lost_cost_nothing() {
    for is_new in [false, true] {
        let mut world = World::always(2);
        world.run_for(500);
        for round in 0..20_usize {
            for _ in 0..100 {
                world.offer(0, 1, QoS::AtLeastOnce, 1_000);
                world.offer(1, 0, QoS::AtLeastOnce, 1_000);
            }
            world.run_for(7 + round as u64);
            world.disconnect(round % 2);
            world.run_for(50);
            world.connect(round % 2, is_new);
        }
        world.run(20_000, World::is_flushed);
        world.check_all();
    }
}

/// Both lose the ensemble while the link is cut; the link comes back first.
#[test]
fn a_link_goes_on_when_the_ensemble_is_lost() {
    let mut world = World::with_links(2);
    world.run_for(100);
    world.set_links(0, 1, LinkState::Down);
    world.load(0, 1, 2 * T);
    world.disconnect(0);
    world.disconnect(1);
    world.load(0, 1, T);
    world.set_links(0, 1, LinkState::Up);
    world.run(T, World::is_flushed);
    world.check_all();
}

/// The control stream outgrows its bound while it is relayed: the reader hears of it.
#[test]
fn a_control_stream_that_was_cut_goes_on_behind_what_was_given_up() {
    let mut world = World::always(2);
    world.run_for(500);
    world.pause(1, true);
    world.cut_control(0, 1);
    world.offer(0, 1, QoS::AtLeastOnce, 10);
    world.pause(1, false);
    world.run(2 * T, World::is_flushed);
    world.control(0, 1);
    world.run(T, World::is_flushed);
    assert!(world.has_lost_control(0, 1));
    world.check_all();
}

/// Windows of a life that nobody knows are not read, and the leader removes them: not those of a
/// broker that has just come, whose first sign is younger than T.
#[test]
fn a_ring_of_nobody_is_ignored_and_removed_by_the_leader() {
    let mut world = World::always(2);
    world.offer(0, 1, QoS::AtLeastOnce, 10);
    world.run(5_000, World::is_flushed);
    let header = encode_relay_header(&RelayHeader { boot_id: BootId(99), acks: Vec::new() });
    let path = below(RELAY, "gone");
    let create = |path, data| Change::Create { path, data, mode: CreateMode::Persistent };
    let mut changes = vec![create(path.clone(), header)];
    changes.extend((0..4).map(|n| create(below(&path, &format!("w{n}")), Bytes::new())));
    world.apply(0, Request::All(changes)).unwrap();
    world.lead(0);
    world.run_for(T - 500);
    assert!(world.apply(0, Request::Get(path.clone())).is_ok(), "it may belong to a newcomer");
    world.run_for(2 * T);
    assert_eq!(world.apply(0, Request::Get(path)), Err(CoordinationError::NoNode));
    assert_eq!(world.relay(0).readings().removed_rings, 1);
    assert!(world.apply(0, Request::Get(below(RELAY, "b0"))).is_ok());
    assert!(world.apply(0, Request::Get(below(RELAY, "b1"))).is_ok());
}

/// Somebody removes a ring by hand while it is in use.
#[test]
fn a_ring_that_was_removed_is_made_again() {
    let mut world = World::always(2);
    world.offer(0, 1, QoS::AtLeastOnce, 10);
    world.run(5_000, World::is_flushed);
    let path = below(RELAY, "b0");
    let windows = (0..4).map(|n| below(&path, &format!("w{n}")));
    for path in windows.chain([path.clone()]) {
        world.apply(1, Request::Change(Change::Delete { path, version: None })).unwrap();
    }
    for _ in 0..10 {
        world.offer(0, 1, QoS::AtLeastOnce, 1_000);
    }
    world.run(5_000, World::is_flushed);
    world.check_all();
}

/// The bank counts what rings there are, each by its payer, after it has asked and not before.
#[test]
fn rings_stand_in_the_books_of_the_bank() {
    let mut world = World::always(2);
    world.offer(0, 1, QoS::AtLeastOnce, 10);
    world.run(5_000, World::is_flushed);
    let mut holdings = Holdings::default();
    holdings.note_listed();
    world.keep_holdings(0, &mut holdings, false);
    let mark = holdings.mark();
    assert!(!holdings.is_settled(mark), "rings may have come and gone");
    for _ in 0..100 {
        world.run_for(20);
        world.keep_holdings(0, &mut holdings, true);
    }
    assert!(holdings.is_settled(mark));
    for node in 0..2 {
        assert_eq!(holdings.of(boot_id(node)).relay_bytes, RING_BYTES);
    }
    let later = holdings.mark();
    assert!(!holdings.is_settled(later), "and may again");
}

/// Nothing is written that was not paid for.
#[test]
fn without_funds_nothing_is_written() {
    let mut world = World::always(2);
    world.set_poor(0, true);
    world.offer(0, 1, QoS::AtLeastOnce, 10);
    world.run_for(T);
    assert!(world.apply(1, Request::Get(below(RELAY, "b0"))).is_err());
    assert!(world.relay(0).readings().unfunded > 1);
    world.set_poor(0, false);
    world.run(5_000, World::is_flushed);
    world.check_all();
}

/// A broker paid for its ring and lost its session before it had made it. The leader counted what had been
/// leased and was not there as free, another broker took it, and the first one made its ring in its next
/// session: there was more than the budget.
#[test]
fn a_ring_that_was_paid_for_in_a_session_that_ended_waits_for_a_lease() {
    let mut world = World::with_links(2);
    world.run_for(100);
    world.disconnect(0);
    world.set_links(0, 1, LinkState::Down);
    world.offer(0, 1, QoS::AtLeastOnce, 10);
    world.run_for(T / 2);
    world.set_overdrawn(0, true);
    world.connect(0, true);
    world.run_for(T);
    let ring = Request::Get(below(RELAY, "b0"));
    assert_eq!(world.apply(1, ring), Err(CoordinationError::NoNode));
    world.set_overdrawn(0, false);
    world.run(T, World::is_flushed);
    world.check_all();
}

/// One that is there costs nothing more: it is written to while the lease is made again.
#[test]
fn a_ring_that_is_there_does_not_wait_for_a_lease() {
    let mut world = World::always(2);
    world.offer(0, 1, QoS::AtLeastOnce, 10);
    world.run(T, World::is_flushed);
    world.disconnect(0);
    world.set_overdrawn(0, true);
    world.connect(0, true);
    world.offer(0, 1, QoS::AtLeastOnce, 10);
    world.run(T, World::is_flushed);
    world.check_all();
}

/// A broker that was declared dead comes back under its name with another boot id: the ring of
/// before is taken over, and what it said counts no more.
#[test]
fn a_new_life_takes_its_former_ring_over() {
    let mut world = World::always(2);
    world.offer(0, 1, QoS::AtLeastOnce, 10);
    world.run(5_000, World::is_flushed);
    world.reincarnate(0);
    world.offer(0, 1, QoS::AtLeastOnce, 10);
    world.offer(1, 0, QoS::AtLeastOnce, 10);
    world.run(5_000, World::is_flushed);
    world.check_all();
}

/// Links come and go, brokers stand still, connections to the ensemble are lost, in any order: once it
/// stops, everything has come in order and once.
#[test]
fn whatever_happens_everything_comes_once_and_in_order() {
    for seed in 0..40 {
        let mut chance = Jitter::new(seed);
        let mut world = if seed % 4 == 0 { World::always(3) } else { World::with_links(3) };
        for _ in 0..40 {
            disturb(&mut world, &mut chance);
            let (from, to) = world.pairs()[usize::try_from(chance.below(6)).unwrap()];
            for _ in 0..chance.below(30) {
                let len = usize::try_from(chance.below(3_000)).unwrap();
                world.offer(from, to, QoS::AtLeastOnce, len);
            }
            world.run_for(1 + chance.below(T / 2));
        }
        world.calm();
        world.run(60_000, World::is_flushed);
        world.check_all();
    }
}

fn disturb(world: &mut World, chance: &mut Jitter) {
    let node = usize::try_from(chance.below(3)).unwrap();
    let other = (node + 1) % 3;
    match chance.below(8) {
        0 => world.set_links(node, other, LinkState::Down),
        1 => world.set_links(node, other, LinkState::Silent),
        2 | 3 => world.set_links(node, other, LinkState::Up),
        4 => world.pause(node, true),
        5 => world.pause(node, false),
        6 => world.disconnect(node),
        _ => {
            let is_new = chance.below(2) == 0;
            world.connect(node, is_new);
        }
    }
}

/// A lane that the relay has emptied calls it.
#[test]
fn a_lane_that_is_carried_wakes_the_relay_and_the_link_when_it_is_given_back() {
    let lane = Arc::new(Lane::new(LaneOptions::default()));
    let mut taken = std::collections::VecDeque::new();
    lane.carry_by_relay();
    let (bell, waker) = world::bell();
    let _stands_by = lane.take(1, &waker, &mut taken);
    let given_back = lane.carry_by_link().expect("it stood by");
    given_back.wake();
    assert!(bell.is_rung());
    assert!(taken.is_empty());
}
