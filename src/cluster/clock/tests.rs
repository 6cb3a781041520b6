use std::fmt::Write as _;

use bytes::Bytes;
use expect_test::{Expect, expect};
use proptest::prelude::{Just, Strategy, prop_oneof, proptest};

use super::{ClusterClock, Leading, Output};
use crate::cluster::membership::output::Heartbeat;
use crate::cluster::shown_time::ShownTime;
use crate::cluster::tickets::{Owner, TicketSource};
use crate::cluster::znodes::Tree;
use crate::ports::clock::Tick;
use crate::ports::coordination::{Change, CreateMode, Reply, Request};

/// Brokers with clocks of their own on an ensemble with another.
struct World {
    tree: Tree,
    /// Milliseconds since 1970, in truth.
    now: i64,
    server_ahead: i64,
    trip_millis: u64,
    /// Which broker leads, and has its turn before the others.
    leader: usize,
    nodes: Vec<Node>,
    trace: String,
}

struct Node {
    clock: ClusterClock,
    session: i64,
    /// What its ticks show less than the truth.
    started: i64,
    wall_ahead: i64,
    /// Its session is over, and it may come back.
    is_lost: bool,
    is_gone: bool,
}

const SURVEY_MILLIS: u64 = 6_000;
const BEAT_MILLIS: i64 = 1_000;

impl World {
    fn new(server_ahead: i64, walls_ahead: &[i64]) -> Self {
        let mut world = Self {
            tree: Tree::new(),
            now: 1_700_000_000_000,
            server_ahead,
            trip_millis: 2,
            leader: 0,
            nodes: Vec::new(),
            trace: String::new(),
        };
        let session = world.tree.open_session();
        for path in ["/clock", "/leader"] {
            world.create(session, path);
        }
        world.create(session, "/leader/first");
        for wall_ahead in walls_ahead {
            world.join(*wall_ahead);
        }
        world
    }

    fn join(&mut self, wall_ahead: i64) {
        let number = i64::try_from(self.nodes.len()).unwrap();
        let session = self.tree.open_session();
        self.create(session, &format!("/clock/{number}"));
        let tickets = TicketSource::new(Owner::Clock);
        self.nodes.push(Node {
            clock: ClusterClock::new(SURVEY_MILLIS, tickets),
            session,
            started: self.now - 100_000 - 5_000 * number,
            wall_ahead,
            is_lost: false,
            is_gone: false,
        });
    }

    /// Those who are gone are known to be.
    fn leading(&self) -> Leading {
        let members = self.nodes.iter().enumerate().filter(|(_, node)| !node.is_gone);
        Leading {
            check: Change::Check { path: "/leader/first".to_owned(), version: 0 },
            members: members.map(|(number, _)| number.to_string().into()).collect(),
        }
    }

    fn create(&mut self, session: i64, path: &str) {
        let mode = CreateMode::Persistent;
        let change = Change::Create { path: path.to_owned(), data: Bytes::new(), mode };
        self.tree.apply(session, Request::Change(change), 0).unwrap();
    }

    /// Plays a story: what each broker makes of the clock, less the truth, and what it is alarmed by.
    fn play(mut self, story: &str) -> String {
        for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
            writeln!(self.trace, "{line}").unwrap();
            let (verb, number) = line.split_once(' ').unwrap();
            let number: i64 = number.parse().unwrap();
            self.event(verb, number);
            if verb == "beats" {
                let there = self.nodes.iter().filter(|node| !node.is_gone);
                let clocks: Vec<String> = there.map(|node| self.shown(node)).collect();
                writeln!(self.trace, "    {}", clocks.join(", ")).unwrap();
            }
        }
        self.trace
    }

    fn event(&mut self, verb: &str, number: i64) {
        match verb {
            "beats" => (0..number).for_each(|_| self.beat()),
            // Another server leads, whose clock is that much ahead of the truth.
            "lead" => {
                self.tree.change_leader();
                self.server_ahead = number;
            }
            // The same server's clock is set.
            "jump" => self.server_ahead = number,
            "trip" => self.trip_millis = number.unsigned_abs(),
            "join" => self.join(number),
            // The last broker's ticks stand still for a while, as those of a sleeping machine.
            "sleep" => self.nodes.last_mut().unwrap().started += number,
            // Another broker leads.
            "follow" => self.leader = usize::try_from(number).unwrap(),
            "lost" => self.lose(usize::try_from(number).unwrap()),
            "back" => self.bring_back(usize::try_from(number).unwrap()),
            "gone" => self.nodes[usize::try_from(number).unwrap()].is_gone = true,
            "wall" => self.nodes.last_mut().unwrap().wall_ahead = number,
            other => panic!("no such event: {other}"),
        }
    }

    /// A session ends, and with it its heartbeat.
    fn lose(&mut self, index: usize) {
        self.nodes[index].is_lost = true;
        let session = self.nodes[index].session;
        let delete = Change::Delete { path: format!("/clock/{index}"), version: None };
        self.tree.apply(session, Request::Change(delete), 0).unwrap();
    }

    fn bring_back(&mut self, index: usize) {
        self.nodes[index].is_lost = false;
        self.create(self.nodes[index].session, &format!("/clock/{index}"));
    }

    /// Every broker writes its heartbeat, and what follows is done.
    fn beat(&mut self) {
        self.now += BEAT_MILLIS;
        let count = self.nodes.len();
        for index in (self.leader..count).chain(0..self.leader) {
            if self.nodes[index].is_gone || self.nodes[index].is_lost {
                continue;
            }
            let session = self.nodes[index].session;
            let sent = self.tick(index);
            let cluster_millis = self.nodes[index].clock.cluster_millis(sent);
            let shown = ShownTime { wall_millis: self.wall(index), cluster_millis };
            self.now += i64::try_from(self.trip_millis / 2).unwrap();
            let path = format!("/clock/{index}");
            let data = shown.encode();
            let heartbeat = Change::Set { path, data, version: None };
            let server_millis = self.now + self.server_ahead;
            let reply =
                self.tree.apply(session, Request::Change(heartbeat), server_millis).unwrap();
            let Reply::Changed(stat) = reply else { panic!("{reply:?}") };
            self.now += i64::try_from(self.trip_millis - self.trip_millis / 2).unwrap();
            let heartbeat = Heartbeat { sent, answered: self.tick(index), stat };
            let leads = index == self.leader;
            let wall = self.wall(index);
            let leading = leads.then(|| self.leading());
            self.nodes[index].clock.handle_heartbeat(&heartbeat, wall, leading);
            self.drain(index);
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].clock.poll_output() {
            let now = self.tick(index);
            match output {
                Output::Submit(ticket, request) => {
                    let session = self.nodes[index].session;
                    let server_millis = self.now + self.server_ahead;
                    let outcome = self.tree.apply(session, request, server_millis);
                    self.nodes[index].clock.handle_answer(now, ticket, &outcome);
                }
                Output::Alarm(alarm) => writeln!(self.trace, "    {index}: {alarm:?}").unwrap(),
            }
        }
    }

    fn tick(&self, index: usize) -> Tick {
        Tick::from_millis(u64::try_from(self.now - self.nodes[index].started).unwrap())
    }

    fn wall(&self, index: usize) -> u64 {
        u64::try_from(self.now + self.nodes[index].wall_ahead).unwrap()
    }

    /// What each broker's clock of the cluster is ahead of the truth.
    fn ahead(&self) -> Vec<Option<i64>> {
        let ahead = |(index, node): (usize, &Node)| {
            let shown = node.clock.cluster_millis(self.tick(index))?;
            Some(i64::try_from(shown).unwrap() - self.now)
        };
        self.nodes.iter().enumerate().map(ahead).collect()
    }

    fn shown(&self, node: &Node) -> String {
        let now = Tick::from_millis(u64::try_from(self.now - node.started).unwrap());
        let Some(millis) = node.clock.cluster_millis(now) else { return "none".to_owned() };
        let ahead = i64::try_from(millis).unwrap() - self.now;
        format!("{ahead:+} +-{}", node.clock.error_millis(now).unwrap())
    }
}

fn check(world: World, story: &str, expected: &Expect) {
    expected.assert_eq(&world.play(story));
}

const HOUR: i64 = 3_600_000;

/// The servers' clocks do not matter from the start: the first skew is that of most brokers' own.
#[test]
fn the_clock_begins_where_most_brokers_are() {
    let story = "
        beats 1
        beats 10
    ";
    check(
        World::new(HOUR, &[3, -7, HOUR]),
        story,
        &expect![[r"
            beats 1
                none, none, none
            beats 10
                2: Some(Own)
                +2 +-4, +2 +-4, +2 +-4
        "]],
    );
}

/// *A ZooKeeper server an hour ahead becomes leader.*
#[test]
fn a_server_an_hour_ahead_leads_and_nothing_jumps() {
    let story = "
        beats 10
        lead 3600000
        beats 1
        beats 10
        lead -3600000
        join 0
        beats 3
        lead 0
        beats 100
    ";
    check(
        World::new(0, &[0, 0, 0]),
        story,
        &expect![[r"
        beats 10
            -1 +-4, -1 +-4, -1 +-4
        lead 3600000
        beats 1
            -1 +-4, -1 +-4, -1 +-4
        beats 10
            -1 +-4, -1 +-4, -1 +-4
        lead -3600000
        join 0
        beats 3
            -1 +-4, -1 +-4, -1 +-4, -1 +-4
        lead 0
        beats 100
            -1 +-4, -1 +-4, -1 +-4, -1 +-4
    "]],
    );
}

/// The story: the ensemble had another leader and so had the brokers, since all others were cut off: one
/// that had just come and did not know the time yet. It took the own clocks of all to begin with, and the
/// clock of the cluster went by a minute, although three brokers knew it.
#[test]
fn a_leader_that_does_not_know_the_time_has_it_from_those_who_do() {
    let story = "
        beats 10
        wall -60000
        join -60000
        join -60000
        lead 3600000
        follow 4
        beats 1
        beats 1
        beats 100
    ";
    check(
        World::new(0, &[0, 0, 0]),
        story,
        &expect![[r"
        beats 10
            -1 +-4, -1 +-4, -1 +-4
        wall -60000
        join -60000
        join -60000
        lead 3600000
        follow 4
        beats 1
            2: Some(Own)
            -1 +-5, -1 +-5, -1 +-5, none, none
        beats 1
            -2 +-4, -2 +-4, -2 +-4, -2 +-4, -2 +-4
        beats 100
            4: Some(Own)
            3: Some(Own)
            4: Some(Brokers)
            -2 +-4, -2 +-4, -2 +-4, -2 +-4, -2 +-4
    "]],
    );
}

/// A broker that had just come led, and began the time anew, while the only one that knew it stood still: its
/// session was over, and it was not declared dead.
#[test]
fn who_knew_the_time_and_may_come_back_is_waited_for() {
    let story = "
        beats 10
        join 700
        lead 3600000
        follow 1
        lost 0
        beats 9
        back 0
        beats 2
    ";
    check(
        World::new(0, &[0]),
        story,
        &expect![[r"
        beats 10
            -1 +-4
        join 700
        lead 3600000
        follow 1
        lost 0
        beats 9
            -1 +-6, none
        back 0
        beats 2
            -2 +-4, -2 +-4
    "]],
    );
}

#[test]
fn who_knew_the_time_and_is_declared_dead_is_not_waited_for() {
    let story = "
        beats 10
        join 700
        lead 3600000
        follow 1
        lost 0
        beats 9
        gone 0
        beats 1
    ";
    check(
        World::new(0, &[0]),
        story,
        &expect![[r"
        beats 10
            -1 +-4
        join 700
        lead 3600000
        follow 1
        lost 0
        beats 9
            -1 +-6, none
        gone 0
        beats 1
            +699 +-4
    "]],
    );
}

#[test]
fn a_server_whose_clock_is_set_while_it_leads_is_not_followed() {
    let story = "
        beats 10
        jump 3600000
        beats 1
        beats 1
        beats 10
        join 0
        beats 3
        jump 0
        beats 10
    ";
    check(
        World::new(0, &[0, 0, 0]),
        story,
        &expect![[r"
        beats 10
            -1 +-4, -1 +-4, -1 +-4
        jump 3600000
        beats 1
            0: Some(Ensemble)
            1: Some(Ensemble)
            2: Some(Ensemble)
            -1 +-4, -1 +-4, -1 +-4
        beats 1
            -1 +-4, -1 +-4, -1 +-4
        beats 10
            0: None
            1: None
            2: None
            -1 +-4, -1 +-4, -1 +-4
        join 0
        beats 3
            -1 +-4, -1 +-4, -1 +-4, -1 +-4
        jump 0
        beats 10
            0: Some(Ensemble)
            1: Some(Ensemble)
            2: Some(Ensemble)
            3: Some(Ensemble)
            0: None
            1: None
            2: None
            3: None
            -1 +-4, -1 +-4, -1 +-4, -1 +-4
    "]],
    );
}

#[test]
fn the_clock_is_drawn_to_the_median_by_a_second_a_minute_at_most() {
    let story = "
        beats 1
        wall 300
        join 300
        join 300
        beats 60
        wall 0
        beats 600
    ";
    check(
        World::new(0, &[0, 0]),
        story,
        &expect![[r"
            beats 1
                none, none
            wall 300
            join 300
            join 300
            beats 60
                +299 +-4, +299 +-4, +299 +-4, +299 +-4
            wall 0
            beats 600
                +149 +-4, +149 +-4, +149 +-4, +149 +-4
        "]],
    );
}

#[test]
fn brokers_that_are_more_than_half_a_second_off_are_not_followed() {
    let story = "
        beats 10
        join 700
        join 700
        join 700
        beats 100
    ";
    check(
        World::new(0, &[0, 0]),
        story,
        &expect![[r"
        beats 10
            -1 +-4, -1 +-4
        join 700
        join 700
        join 700
        beats 100
            2: Some(Own)
            3: Some(Own)
            4: Some(Own)
            0: Some(Brokers)
            -1 +-4, -1 +-4, -1 +-4, -1 +-4, -1 +-4
    "]],
    );
}

#[test]
fn a_broker_whose_own_clock_is_off_knows_it() {
    let story = "
        beats 10
        wall 900
        beats 10
        wall 0
        beats 1
    ";
    check(
        World::new(0, &[0, 0, 0]),
        story,
        &expect![[r"
        beats 10
            -1 +-4, -1 +-4, -1 +-4
        wall 900
        beats 10
            2: Some(Own)
            -1 +-4, -1 +-4, -1 +-4
        wall 0
        beats 1
            2: None
            -1 +-4, -1 +-4, -1 +-4
    "]],
    );
}

/// A machine that slept has ticks that stood still: the broker holds what it had, until it believes
/// the others.
#[test]
fn a_broker_whose_ticks_stood_still_comes_back() {
    let story = "
        beats 10
        sleep 60000
        beats 1
        beats 20
    ";
    check(
        World::new(0, &[0, 0, 0]),
        story,
        &expect![[r"
            beats 10
                -1 +-4, -1 +-4, -1 +-4
            sleep 60000
            beats 1
                2: Some(Ensemble)
                -1 +-4, -1 +-4, -60001 +-3
            beats 20
                2: None
                -1 +-4, -1 +-4, -1 +-4
        "]],
    );
    // One that leads asks what the others' clocks show.
    check(
        World::new(0, &[0]),
        story,
        &expect![[r"
            beats 10
                -1 +-4
            sleep 60000
            beats 1
                0: Some(Ensemble)
                -60001 +-3
            beats 20
                0: Some(Own)
                0: None
                -1 +-4
        "]],
    );
}

#[test]
fn slow_answers_widen_the_error_and_the_best_of_many_is_taken() {
    let story = "
        trip 900
        beats 5
        trip 4
        beats 1
        trip 900
        beats 30
    ";
    check(
        World::new(0, &[0, 0]),
        story,
        &expect![[r"
        trip 900
        beats 5
            -450 +-453, -450 +-453
        trip 4
        beats 1
            -450 +-5, -450 +-5
        trip 900
        beats 30
            -450 +-21, -450 +-21
    "]],
    );
}

fn event() -> impl Strategy<Value = (&'static str, i64)> {
    prop_oneof![
        4 => (1..40_i64).prop_map(|count| ("beats", count)),
        1 => (-HOUR..HOUR).prop_map(|ahead| ("lead", ahead)),
        1 => (0..400_i64).prop_map(|millis| ("trip", millis)),
        1 => Just(("join", 0)),
    ]
}

proptest! {
    /// Whoever leads the ensemble, all brokers show the same time within their errors, and it goes on
    /// at the pace of the truth, or a second a minute beside it.
    #[test]
    fn the_clock_never_jumps_and_brokers_agree(
        walls in proptest::collection::vec(-200..200_i64, 1..6),
        server_ahead in -HOUR..HOUR,
        events in proptest::collection::vec(event(), 1..30),
    ) {
        let mut world = World::new(server_ahead, &walls);
        let mut before: Option<(i64, i64)> = None;
        for (verb, number) in events {
            if verb == "join" && world.nodes.len() > 10 {
                continue;
            }
            for _ in 0..if verb == "beats" { number } else { 1 } {
                world.event(verb, if verb == "beats" { 1 } else { number });
                let trip = i64::try_from(world.trip_millis).unwrap();
                let ahead: Vec<i64> = world.ahead().into_iter().flatten().collect();
                let Some(&leader) = ahead.first() else { continue };
                // No answer takes longer than this, so no error is larger than half of it.
                let error = 220;
                for other in &ahead {
                    assert!((other - leader).abs() <= 2 * error, "{ahead:?}");
                }
                if let Some((then, shown)) = before {
                    let slewed = (world.now - then) / 60 + 1 + 100;
                    assert!((leader - shown).abs() <= slewed + 2 * error, "{shown} then {leader}, {trip}");
                }
                before.get_or_insert((world.now, leader));
            }
        }
    }
}
