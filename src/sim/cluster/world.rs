//! One run: virtual time, what happens when, and what is looked at in the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::broker::options::ConnectionOptions;
use crate::cluster::frame::{Cursors, Hello, Welcome};
use crate::cluster::identity::{BootId, WireVersions};
use crate::cluster::lane::{LaneOptions, Taken};
use crate::cluster::wire::{Batch, BatchHeader, FRAME_BYTES_MAX};
use crate::mqtt::{Frame, PACKET_SIZE_MAX, Packet, Sender};
use crate::ports::clock::Tick;
use crate::ports::coordination::CoordinationEvent;
use crate::sim::chance::{Chance, mixed};
use crate::sim::cluster::client::{Phase, SimClient, draw_message};
use crate::sim::cluster::ensemble::{Ensemble, SESSION_MILLIS};
use crate::sim::cluster::faults::{Fault, Plan};
use crate::sim::cluster::ledger::Ledger;
use crate::sim::cluster::link::{Link, ReadyLinks, shifted};
use crate::sim::cluster::process::{Effect, Process, Start, knows};
use crate::sim::cluster::verdict::{Checker, Complaint, Failure, Plant, Report, complaint};
use crate::sim::endpoint::Endpoint;

/// Runs the simulation of one seed.
///
/// # Errors
///
/// The first promise that was broken.
pub fn run(seed: u64, plant: Plant) -> Result<Report, Failure> {
    let mut world = World::new(seed, plant);
    match world.play() {
        Ok(()) => Ok(world.report()),
        Err(Complaint { checker, words }) => {
            let trace = world.lines_said.into();
            Err(Failure { seed, at_millis: world.now, checker, words, trace })
        }
    }
}

struct World {
    now: u64,
    chance: Chance,
    plan: Plan,
    plant: Plant,
    trace: u64,
    lines_said: VecDeque<String>,
    tally: BTreeMap<&'static str, u64>,
    events: BTreeMap<(u64, u64), Happening>,
    happenings: u64,
    ensemble: Ensemble,
    nodes: Vec<Node>,
    links: Vec<Link>,
    ready_links: Arc<ReadyLinks>,
    /// Pairs that cannot reach each other, in one direction, and until when.
    cuts: BTreeMap<(usize, usize), u64>,
    lines: Vec<Line>,
    clients: Vec<SimClient>,
    options: Arc<ConnectionOptions>,
    ledger: Ledger,
    dead: BTreeSet<BootId>,
    slots_zxid: i64,
    is_calm: bool,
    is_quiet: bool,
}

/// A machine.
#[derive(Default)]
struct Node {
    process: Option<Box<Process>>,
    is_paused: bool,
    /// What has come to a process that stands still.
    stash: VecDeque<Happening>,
    starts: u32,
}

/// A connection of a client.
struct Line {
    client: usize,
    client_session_name: String,
    node: usize,
    process: u32,
    endpoint: Endpoint,
    unparsed: BytesMut,
    up_at: u64,
    down_at: u64,
    is_over: bool,
}

enum Happening {
    /// A process wanted to be woken.
    Wake {
        node: usize,
        process: u32,
    },
    /// A request comes to the ensemble.
    Request {
        node: usize,
        number: u64,
    },
    /// The ensemble's words come to a broker; by which connection, if by any.
    Told {
        node: usize,
        number: Option<u64>,
        event: CoordinationEvent,
    },
    /// A broker tries to reach the ensemble.
    Reconnect {
        node: usize,
    },
    /// A server that was cut off lets its clients go.
    Unstale {
        node: usize,
        number: u64,
    },
    /// The ensemble looks for sessions to end.
    Sessions,
    /// The ensemble can be reached again.
    Restore,
    /// A link is to be dialled.
    Dial {
        link: usize,
        number: u64,
    },
    Hello {
        link: usize,
        number: u64,
        hello: Box<Hello>,
    },
    Welcome {
        link: usize,
        number: u64,
        welcome: Welcome,
    },
    Batch {
        link: usize,
        number: u64,
        bytes: Bytes,
    },
    Received {
        link: usize,
        number: u64,
        cursors: Cursors,
    },
    /// A process has something to send again, after it stood still.
    Pump {
        link: usize,
    },
    Up {
        connection: usize,
        bytes: Bytes,
    },
    UpEnd {
        connection: usize,
    },
    Down {
        connection: usize,
        packet: Box<Packet>,
    },
    DownEnd {
        connection: usize,
    },
    Timer {
        connection: usize,
        at: Tick,
    },
    Act {
        client: usize,
    },
    Fault,
    Resume {
        node: usize,
        process: u32,
    },
    Restart {
        node: usize,
    },
}

impl World {
    fn new(seed: u64, plant: Plant) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::draw(&mut chance);
        let clients = (0..plan.clients).map(|n| SimClient::draw(n, &mut chance)).collect();
        Self {
            now: 1_000,
            chance,
            plant,
            trace: seed,
            lines_said: VecDeque::new(),
            tally: BTreeMap::new(),
            events: BTreeMap::new(),
            happenings: 0,
            ensemble: Ensemble::new(plan.brokers),
            nodes: (0..plan.brokers).map(|_| Node::default()).collect(),
            links: Vec::new(),
            ready_links: Arc::default(),
            cuts: BTreeMap::new(),
            lines: Vec::new(),
            clients,
            options: Arc::new(ConnectionOptions {
                connect_timeout_millis: 5_000,
                ..ConnectionOptions::default()
            }),
            ledger: Ledger::default(),
            dead: BTreeSet::new(),
            slots_zxid: 0,
            is_calm: false,
            is_quiet: false,
            plan,
        }
    }

    fn play(&mut self) -> Result<(), Complaint> {
        for node in 0..self.plan.brokers {
            let at = self.now + self.chance.pick(&[0, 0, 500, 3_000]);
            self.at(at, Happening::Restart { node });
        }
        self.at(self.now, Happening::Sessions);
        for client in 0..self.plan.clients {
            let at = self.now + self.chance.below(500);
            self.at(at, Happening::Act { client });
        }
        if self.plan.fault_millis.is_some() {
            self.at(self.now + 1_500, Happening::Fault);
        }
        self.run_until(self.now + FAULTS_MILLIS)?;
        self.calm_down()?;
        self.drain()?;
        self.is_quiet = true;
        self.publish_once_more()?;
        self.drain()?;
        let is_faultless = self.plan.fault_millis.is_none();
        self.ledger.judge(is_faultless)?;
        self.tear_down()
    }

    fn report(mut self) -> Report {
        self.tally.extend(self.ledger.counts());
        for node in &self.nodes {
            let Some(process) = &node.process else { continue };
            for (name, count) in process.broker.counters().totals().named() {
                *self.tally.entry(name).or_default() += count;
            }
        }
        self.tally.insert("happenings", self.happenings);
        Report { trace: self.trace, millis: self.now, tally: self.tally }
    }

    // Time.

    fn at(&mut self, time: u64, happening: Happening) {
        self.happenings += 1;
        self.events.insert((time.max(self.now), self.happenings), happening);
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn note(&mut self, what: u64) {
        self.trace = mixed(self.trace.rotate_left(7) ^ what);
    }

    fn say(&mut self, words: impl std::fmt::Display) {
        if self.lines_said.len() >= LINES_SAID_MAX {
            self.lines_said.pop_front();
        }
        self.lines_said.push_back(format!("{:>7} {words}", self.now));
    }

    fn run_until(&mut self, end: u64) -> Result<(), Complaint> {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end {
                break;
            }
            self.now = self.now.max(entry.key().0);
            let happening = entry.remove();
            self.happen(happening)?;
            self.settle()?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    /// Everything that can be done without time passing.
    fn settle(&mut self) -> Result<(), Complaint> {
        for _ in 0..TURNS_MAX {
            if !self.settle_once()? {
                return Ok(());
            }
        }
        complaint(Checker::Progress, "things give rise to each other for ever")
    }

    fn settle_once(&mut self) -> Result<bool, Complaint> {
        let mut has_moved = false;
        for node in 0..self.nodes.len() {
            has_moved |= self.carry_out(node);
            if self.node(node).is_paused {
                continue;
            }
            let ready = self.process(node).map(|process| Arc::clone(&process.ready));
            let next = ready.and_then(|ready| ready.lock().pop_front());
            if let Some(connection) = next {
                self.turn(connection)?;
                has_moved = true;
            }
        }
        let next = self.ready_links.lock().pop_front();
        if let Some(link) = next {
            has_moved = true;
            let is_lost = self.plant == Plant::LostWake && self.happenings.is_multiple_of(7);
            if !is_lost {
                self.pump(link)?;
            }
        }
        Ok(has_moved)
    }

    fn node(&mut self, node: usize) -> &mut Node {
        self.nodes.get_mut(node).expect("brokers are numbered")
    }

    fn process(&mut self, node: usize) -> Option<&mut Process> {
        self.node(node).process.as_deref_mut()
    }

    fn link(&mut self, link: usize) -> &mut Link {
        self.links.get_mut(link).expect("links are numbered")
    }

    fn line(&mut self, connection: usize) -> &mut Line {
        self.lines.get_mut(connection).expect("connections are numbered")
    }

    fn client(&mut self, client: usize) -> &mut SimClient {
        self.clients.get_mut(client).expect("clients are numbered")
    }

    // What happens.

    /// The machine whose process is to handle it.
    fn addressee(&mut self, happening: &Happening) -> Option<usize> {
        match happening {
            Happening::Wake { node, .. } | Happening::Told { node, .. } => Some(*node),
            Happening::Hello { link, .. } | Happening::Batch { link, .. } => {
                Some(self.link(*link).to)
            }
            Happening::Dial { link, .. }
            | Happening::Welcome { link, .. }
            | Happening::Received { link, .. }
            | Happening::Pump { link } => Some(self.link(*link).from),
            Happening::Up { connection, .. }
            | Happening::UpEnd { connection }
            | Happening::Timer { connection, .. } => Some(self.line(*connection).node),
            Happening::Request { .. }
            | Happening::Reconnect { .. }
            | Happening::Unstale { .. }
            | Happening::Sessions
            | Happening::Restore
            | Happening::Down { .. }
            | Happening::DownEnd { .. }
            | Happening::Act { .. }
            | Happening::Fault
            | Happening::Resume { .. }
            | Happening::Restart { .. } => None,
        }
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Complaint> {
        if let Some(node) = self.addressee(&happening)
            && self.node(node).is_paused
        {
            self.node(node).stash.push_back(happening);
            return Ok(());
        }
        match happening {
            Happening::Wake { node, process } => self.wake(node, process),
            Happening::Request { node, number } => self.arrive_at_ensemble(node, number),
            Happening::Told { node, number, event } => self.be_told(node, number, &event),
            Happening::Reconnect { node } => self.reconnect(node),
            Happening::Unstale { node, number } => {
                if self.ensemble.way(node).number == number {
                    self.lose_ensemble(node, 50);
                }
            }
            Happening::Sessions => self.end_sessions(),
            Happening::Restore => self.restore_ensemble(),
            Happening::Dial { link, number } => self.dial(link, number),
            Happening::Hello { link, number, hello } => self.arrive_hello(link, number, &hello),
            Happening::Welcome { link, number, welcome } => {
                return self.arrive_welcome(link, number, &welcome);
            }
            Happening::Batch { link, number, bytes } => self.arrive_batch(link, number, bytes),
            Happening::Received { link, number, cursors } => {
                return self.arrive_received(link, number, cursors);
            }
            Happening::Pump { link } => return self.pump(link),
            Happening::Up { connection, bytes } => {
                let line = self.line(connection);
                if !line.is_over {
                    line.endpoint.arrive(bytes);
                }
            }
            Happening::UpEnd { connection } => self.line(connection).endpoint.arrive_end(),
            Happening::Down { connection, packet } => {
                return self.arrive_down(connection, *packet);
            }
            Happening::DownEnd { connection } => self.arrive_end(connection),
            Happening::Timer { connection, at } => self.line(connection).endpoint.ring(at),
            Happening::Act { client } => self.act(client),
            Happening::Fault => self.draw_fault(),
            Happening::Resume { node, process } => return self.resume(node, process),
            Happening::Restart { node } => self.restart(node),
        }
        Ok(())
    }

    // Processes.

    fn restart(&mut self, node: usize) {
        if self.node(node).process.is_some() {
            return;
        }
        self.node(node).starts += 1;
        let start = Start {
            node,
            number: self.node(node).starts,
            now: self.now,
            seed: self.chance.draw(),
            lane: LaneOptions {
                data_bytes_max: self.plan.data_bytes_max,
                control_bytes_max: self.plan.control_bytes_max,
            },
            skew_millis: self.chance.below(self.plan.skew_millis + 1),
            plant: self.plant,
        };
        let process = Box::new(Process::new(&start));
        self.say(format_args!("b{node} starts as {:?}", process.boot_id));
        self.node(node).process = Some(process);
        self.at(self.now + 5, Happening::Reconnect { node });
        self.arm(node);
    }

    fn wake(&mut self, node: usize, number: u32) {
        let now = self.now;
        let Some(process) = self.process(node).filter(|process| process.number == number) else {
            return;
        };
        process.wake_at = None;
        process.pass_time(now);
        self.arm(node);
    }

    /// Sees to it that the process is woken when it wants to be.
    fn arm(&mut self, node: usize) {
        let now = self.now;
        let Some(process) = self.process(node) else { return };
        let due = process.next_due(now);
        if process.wake_at.is_none_or(|at| at > due) {
            process.wake_at = Some(due);
            let number = process.number;
            self.at(due.max(now + 1), Happening::Wake { node, process: number });
        }
    }

    /// Does what a process wants done. `true` when there was something.
    fn carry_out(&mut self, node: usize) -> bool {
        let Some(process) = self.process(node) else { return false };
        let effects = std::mem::take(&mut process.effects);
        let from_boot = process.boot_id;
        let has_any = !effects.is_empty();
        for effect in effects {
            match effect {
                Effect::Submit(ticket, request) => {
                    let way = self.ensemble.way(node);
                    let (number, is_connected) = (way.number, way.is_connected);
                    if is_connected {
                        self.ensemble.submit(node, ticket, request, self.now);
                        let at = self.now + self.tree_delay(node);
                        let way = self.ensemble.way(node);
                        way.request_at = way.request_at.max(at);
                        let at = way.request_at;
                        self.at(at, Happening::Request { node, number });
                    } else {
                        let outcome =
                            Err(crate::ports::coordination::CoordinationError::ConnectionLost);
                        let event = CoordinationEvent::Answered { ticket, outcome };
                        let number = None;
                        self.at(self.now + 1, Happening::Told { node, number, event });
                    }
                }
                Effect::Open(member, lane) => {
                    let to = member.name.trim_start_matches('b').parse().unwrap_or(0);
                    let number = self.links.len();
                    let ends = ((node, from_boot), (to, member.boot_id));
                    let link = Link::new(number, &self.ready_links, ends.0, ends.1, lane);
                    self.links.push(link);
                    self.at(self.now + 1, Happening::Dial { link: number, number: 0 });
                }
                Effect::Close(boot_id) => {
                    for link in &mut self.links {
                        if link.from == node && link.to_boot == boot_id {
                            link.is_closed = true;
                        }
                    }
                }
                Effect::Registered => self.spare_the_lonely(),
                Effect::LetGo => {
                    self.say(format_args!("b{node} lets its clients go: no lease"));
                    self.ledger.end_life(from_boot, self.now);
                }
                Effect::Say(words) => self.say(format_args!("b{node} {words}")),
            }
        }
        if has_any {
            self.arm(node);
        }
        has_any
    }

    fn crash(&mut self, node: usize) {
        let is_paused = self.node(node).is_paused;
        let Some(process) = self.node(node).process.take() else { return };
        self.say(format_args!("b{node} is killed"));
        self.ledger.end_life(process.boot_id, self.now);
        self.ensemble.abandon(node, self.now, is_paused);
        let owner = self.node(node);
        owner.is_paused = false;
        owner.stash.clear();
        for link in 0..self.links.len() {
            let late = self.now + self.chance.pick(&[0, 0, 20, 200]);
            let found = self.link(link);
            if found.from == node && !found.is_closed {
                found.break_off(late);
                found.is_closed = true;
            } else if found.to == node && !found.is_closed {
                found.break_off(0);
                let number = found.number;
                self.at(self.now + 20, Happening::Dial { link, number });
            }
        }
        for connection in 0..self.lines.len() {
            if self.line(connection).node == node && !self.line(connection).is_over {
                self.line(connection).is_over = true;
                self.at(self.now + 2, Happening::DownEnd { connection });
            }
        }
        let after = self.chance.pick(&[100, 1_000, 2_500, 6_000]);
        self.at(self.now + after, Happening::Restart { node });
    }

    fn resume(&mut self, node: usize, process: u32) -> Result<(), Complaint> {
        let is_same = self.process(node).is_some_and(|one| one.number == process);
        if !is_same || !self.node(node).is_paused {
            return Ok(());
        }
        self.say(format_args!("b{node} goes on"));
        self.node(node).is_paused = false;
        let session = self.ensemble.way(node).session;
        if session != 0 && !self.ensemble.tree.is_open(session) {
            self.lose_ensemble(node, 10);
        }
        // Before anything that comes in this moment: nothing overtakes on a socket.
        for happening in std::mem::take(&mut self.node(node).stash) {
            self.happen(happening)?;
        }
        self.arm(node);
        Ok(())
    }

    // The ensemble.

    fn tree_delay(&mut self, node: usize) -> u64 {
        let (until, extra) = self.ensemble.way(node).slow;
        let slow = if self.now < until { extra } else { 0 };
        1 + self.chance.below(self.plan.tree_latency_millis + 1) + slow
    }

    fn arrive_at_ensemble(&mut self, node: usize, number: u64) {
        if self.ensemble.way(node).number != number {
            return;
        }
        let answer = self.ensemble.apply(node, self.now);
        self.tell_changes();
        if let Some(event) = answer {
            self.tell_node(node, event);
        }
    }

    /// Sends everybody what watches have to tell.
    fn tell_changes(&mut self) {
        for node in 0..self.nodes.len() {
            while let Some(change) = self.ensemble.next_change(node) {
                self.tell_node(node, change);
            }
        }
        if let Some(map) = self.ensemble.slots().filter(|map| map.epoch() != self.slots_zxid) {
            self.slots_zxid = map.epoch();
            for boot_id in map.dead() {
                if self.dead.insert(boot_id) {
                    self.count("brokers declared dead");
                    self.say(format_args!("{boot_id:?} is declared dead"));
                    self.ledger.end_life(boot_id, self.now);
                }
            }
        }
    }

    fn tell_node(&mut self, node: usize, event: CoordinationEvent) {
        let at = self.now + self.tree_delay(node);
        let way = self.ensemble.way(node);
        way.event_at = way.event_at.max(at);
        let (at, number) = (way.event_at, Some(way.number));
        self.at(at, Happening::Told { node, number, event });
    }

    fn be_told(&mut self, node: usize, number: Option<u64>, event: &CoordinationEvent) {
        if number.is_some_and(|number| number != self.ensemble.way(node).number) {
            return;
        }
        if let CoordinationEvent::Answered { ticket, .. } = event {
            self.ensemble.answered(node, *ticket);
        }
        let now = self.now;
        if let Some(process) = self.process(node) {
            process.handle(now, event);
            self.arm(node);
        }
    }

    /// The connection to the ensemble breaks; it is tried again after `again_millis`.
    fn lose_ensemble(&mut self, node: usize, again_millis: u64) {
        let are_applied = self.chance.one_in(2);
        let is_heard = !self.node(node).is_paused && self.ensemble.way(node).stale.is_none();
        let events = self.ensemble.disconnect(node, self.now, are_applied, is_heard);
        self.tell_changes();
        if events.is_empty() {
            return;
        }
        for event in events {
            let number = None;
            self.at(self.now, Happening::Told { node, number, event });
        }
        self.at(self.now + again_millis, Happening::Reconnect { node });
    }

    /// Who knows of nobody and is cut off from the ensemble goes on for as long as that lasts, and is
    /// declared dead by one that came meanwhile: of that nobody can know (docs/design/0010).
    fn spare_the_lonely(&mut self) {
        for node in 0..self.nodes.len() {
            let is_lonely = |process: &mut Process| process.peers().live().is_empty();
            if self.process(node).is_some_and(is_lonely) {
                self.ensemble.way(node).blocked_until = 0;
            }
        }
    }

    fn reconnect(&mut self, node: usize) {
        if self.process(node).is_none() || self.ensemble.way(node).is_connected {
            return;
        }
        let is_blocked = self.ensemble.way(node).blocked_until > self.now;
        if is_blocked || !self.ensemble.is_up || self.node(node).is_paused {
            let again = self.now + 50 + self.chance.below(200);
            return self.at(again, Happening::Reconnect { node });
        }
        let events = self.ensemble.connect(node, self.now);
        for event in events {
            self.tell_node(node, event);
        }
    }

    fn end_sessions(&mut self) {
        let Self { ensemble, nodes, now, .. } = self;
        let is_paused = |node: usize| nodes.get(node).is_some_and(|node| node.is_paused);
        ensemble.end_sessions(*now, is_paused);
        self.tell_changes();
        self.at(self.now + 100, Happening::Sessions);
    }

    fn restore_ensemble(&mut self) {
        if !self.ensemble.is_up {
            self.say("the ensemble is there again");
            self.ensemble.is_up = true;
            self.ensemble.tree.change_leader();
        }
    }

    // Links.

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|until| *until > self.now)
    }

    fn link_delay(&mut self) -> u64 {
        self.plan.link_latency_millis + self.chance.below(self.plan.link_jitter_millis + 1)
    }

    fn redial(&mut self, link: usize) {
        let number = self.link(link).number;
        let at = self.now + 10 + self.chance.below(60);
        self.at(at, Happening::Dial { link, number });
    }

    fn dial(&mut self, link: usize, number: u64) {
        let found = self.link(link);
        let (from, to, from_boot) = (found.from, found.to, found.from_boot);
        if found.is_closed || found.number != number || found.lane.is_closed() {
            return;
        }
        let is_own = self.process(from).is_some_and(|process| process.boot_id == from_boot);
        if !is_own {
            return;
        }
        if self.is_cut(from, to) || self.process(to).is_none() {
            return self.redial(link);
        }
        let delay = self.link_delay();
        let found = self.link(link);
        found.number += 1;
        let number = found.number;
        let hello = Box::new(Hello {
            cluster: String::new(),
            name: String::new(),
            boot_id: from_boot,
            to: found.to_boot,
            wire: WireVersions::OURS,
            gone: found.lane.gone(),
        });
        self.at(self.now + delay, Happening::Hello { link, number, hello });
        // Nobody may answer.
        self.at(self.now + 3_000, Happening::Dial { link, number });
    }

    fn arrive_hello(&mut self, link: usize, number: u64, hello: &Hello) {
        let now = self.now;
        let found = self.link(link);
        let (from, to) = (found.from, found.to);
        if found.number != number || self.is_cut(from, to) {
            return;
        }
        let Some(process) = self.process(to) else { return };
        let welcome = process.welcome(now, hello);
        let at = now + self.link_delay();
        self.at(at, Happening::Welcome { link, number, welcome });
    }

    fn arrive_welcome(
        &mut self,
        link: usize,
        number: u64,
        welcome: &Welcome,
    ) -> Result<(), Complaint> {
        let found = self.link(link);
        if found.number != number || found.is_closed {
            return Ok(());
        }
        match welcome {
            Welcome::Accepted { received, .. } => {
                // What the dialling connection is called from here on: the time-out is for another.
                found.number += 1;
                let number = found.number;
                if found.lane.is_closed() {
                    return Ok(());
                }
                if let Err(error) = found.lane.rewind(*received) {
                    return complaint(Checker::Protocol, format!("link {link}: {error}"));
                }
                found.is_up = true;
                found.under_way.clear();
                self.count("links made");
                let _ = number;
                self.pump(link)
            }
            Welcome::Refused { .. } => {
                self.count("links refused");
                self.link(link).number += 1;
                self.redial(link);
                Ok(())
            }
        }
    }

    /// Sends what there is.
    fn pump(&mut self, link: usize) -> Result<(), Complaint> {
        let from = self.link(link).from;
        if self.node(from).is_paused {
            self.node(from).stash.push_back(Happening::Pump { link });
            return Ok(());
        }
        loop {
            let window = self.plan.link_window;
            let is_shifted = self.plant == Plant::SequenceBeforeDrop;
            let found = self.link(link);
            if !found.is_up || found.is_closed || found.bytes_under_way() >= window {
                return Ok(());
            }
            let mut batches = VecDeque::new();
            let max = window.min(64 * 1_024);
            match found.lane.take(max, &found.waker.clone(), &mut batches) {
                Taken::Batches => {}
                Taken::Nothing => return Ok(()),
                Taken::Restart => {
                    found.break_off(0);
                    self.count("control streams cut");
                    self.redial(link);
                    return Ok(());
                }
                Taken::Closed => {
                    found.is_closed = true;
                    return Ok(());
                }
            }
            let has_dropped = found.lane.counts().dropped > 0;
            for batch in batches {
                let is_data = batch.get(4) == Some(&1) || batch.get(4) == Some(&b'D');
                let batch =
                    if is_shifted && has_dropped && is_data { shifted(&batch) } else { batch };
                self.send_batch(link, batch);
            }
        }
    }

    fn send_batch(&mut self, link: usize, bytes: Bytes) {
        let at = self.now + self.link_delay();
        let is_lost = self.plant == Plant::AcceptGap && self.chance.one_in(20);
        let found = self.link(link);
        found.batches += 1;
        found.under_way.push_back(bytes.len());
        found.batch_at = found.batch_at.max(at);
        let (at, number) = (found.batch_at, found.number);
        if !is_lost {
            self.at(at, Happening::Batch { link, number, bytes });
        }
    }

    fn arrive_batch(&mut self, link: usize, number: u64, bytes: Bytes) {
        let now = self.now;
        let found = self.link(link);
        let (to, from_boot) = (found.to, found.from_boot);
        if !found.takes(number, now) {
            return;
        }
        let is_present = found.number == number;
        let to_boot = found.to_boot;
        let Some(process) = self.process(to) else { return };
        if process.boot_id != to_boot && self.plant != Plant::WrongLife {
            return self.break_link(link, 0);
        }
        let len = bytes.len();
        let header = BatchHeader::peek(&bytes, FRAME_BYTES_MAX);
        let header = header.expect("a lane writes batches").expect("whole ones");
        let batch = Batch::new(header, bytes).expect("a lane writes whole batches");
        let Some(process) = self.process(to) else { return };
        let received = process.receive(now, from_boot, &batch);
        self.arm(to);
        self.note(len as u64);
        if !is_present {
            return self.count("late batches");
        }
        match received {
            Ok(cursors) => {
                let at = now + self.link_delay();
                let found = self.link(link);
                found.answer_at = found.answer_at.max(at);
                let at = found.answer_at;
                self.at(at, Happening::Received { link, number, cursors });
            }
            Err(error) => {
                self.say(format_args!("link {link}: {error}"));
                self.count("links closed by receivers");
                self.break_link(link, 0);
            }
        }
    }

    fn arrive_received(
        &mut self,
        link: usize,
        number: u64,
        cursors: Cursors,
    ) -> Result<(), Complaint> {
        let found = self.link(link);
        if found.number != number || !found.is_up || found.is_closed {
            return Ok(());
        }
        found.under_way.pop_front();
        if let Err(error) = found.lane.received(cursors) {
            return complaint(Checker::Protocol, format!("link {link}: {error}"));
        }
        self.pump(link)
    }

    /// The connection of a link breaks.
    fn break_link(&mut self, link: usize, late_millis: u64) {
        let late = self.now + late_millis;
        let found = self.link(link);
        if !found.is_up {
            return;
        }
        found.break_off(late);
        if !found.is_closed {
            self.redial(link);
        }
    }

    // Connections of clients.

    fn turn(&mut self, connection: usize) -> Result<(), Complaint> {
        let Self { nodes, lines, now, .. } = self;
        let line = lines.get_mut(connection).expect("connections are numbered");
        let process = nodes.get_mut(line.node).and_then(|node| node.process.as_deref_mut());
        let Some(process) = process.filter(|process| process.number == line.process) else {
            return Ok(());
        };
        if line.is_over {
            return Ok(());
        }
        let written = process.turn_of(*now, &mut line.endpoint);
        line.unparsed.extend_from_slice(&written);
        self.note(written.len() as u64 ^ (connection as u64) << 32);
        self.parse(connection)?;
        let line = self.line(connection);
        if line.endpoint.is_over {
            line.is_over = true;
            let (node, name) = (line.node, line.client_session_name.clone());
            let at = line.down_at.max(self.now);
            let is_gone =
                self.process(node).is_none_or(|one| one.broker.registry().find(&name).is_none());
            if is_gone && let Some(session) = self.ledger.session_of(connection) {
                self.ledger.end_session(session, self.now);
            }
            self.at(at, Happening::DownEnd { connection });
        } else if let Some(at) = line.endpoint.arm_timer() {
            self.at(at.as_millis(), Happening::Timer { connection, at });
        }
        Ok(())
    }

    fn parse(&mut self, connection: usize) -> Result<(), Complaint> {
        let client = self.line(connection).client;
        let version = self.client(client).version();
        loop {
            let line = self.line(connection);
            let Ok(Some(frame)) = Frame::peek(&line.unparsed, PACKET_SIZE_MAX) else { break };
            if frame.total_len > line.unparsed.len() {
                break;
            }
            let bytes = line.unparsed.split_to(frame.total_len).freeze();
            let packet = match Packet::decode(version, Sender::Server, &bytes) {
                Ok(packet) => Box::new(packet),
                Err(error) => return complaint(Checker::Protocol, error.to_string()),
            };
            self.note_written(connection, &packet)?;
            let at = self.now + self.chance.below(4);
            let line = self.line(connection);
            line.down_at = line.down_at.max(at);
            let at = line.down_at;
            self.at(at, Happening::Down { connection, packet });
        }
        Ok(())
    }

    /// The broker has written a packet: what that means.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other packets promise nothing")]
    fn note_written(&mut self, connection: usize, packet: &Packet) -> Result<(), Complaint> {
        let now = self.now;
        let client = self.line(connection).client;
        let is_acknowledgement = match packet {
            Packet::Connack(connack) => !connack.reason_code.is_error(),
            Packet::Puback(puback) => !puback.reason_code.is_error(),
            Packet::Pubrec(pubrec) => !pubrec.reason_code.is_error(),
            Packet::Suback(_) => true,
            _ => false,
        };
        if is_acknowledgement {
            self.judge_lease(connection, packet)?;
        }
        let Self { clients, ledger, .. } = self;
        let client = clients.get_mut(client).expect("clients are numbered");
        if client.connection != Some(connection) {
            return Ok(());
        }
        match packet {
            Packet::Puback(puback) if is_acknowledgement => {
                if let Some(number) = client.publication_of(puback.packet_id) {
                    ledger.note_accepted(number, now);
                }
            }
            Packet::Pubrec(pubrec) if is_acknowledgement => {
                if let Some(number) = client.publication_of(pubrec.packet_id) {
                    ledger.note_accepted(number, now);
                }
            }
            Packet::Suback(suback) => {
                let codes = suback.reason_codes.iter();
                for (filter, code) in client.asked(suback.packet_id).into_iter().zip(codes) {
                    if !code.is_error() {
                        ledger.note_subscribed(client.session, filter, now);
                    }
                }
            }
            Packet::Publish(publish) => {
                let number = publish.payload.first_chunk::<8>().map(|n| u64::from_be_bytes(*n));
                let number = number.and_then(|number| usize::try_from(number).ok());
                let how = (publish.qos, publish.dup);
                let number = number.unwrap_or(usize::MAX);
                return ledger.note_delivered(client.session, number, how);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the broker may acknowledge at all.
    fn judge_lease(&mut self, connection: usize, packet: &Packet) -> Result<(), Complaint> {
        let (node, now) = (self.line(connection).node, self.now);
        let committed = self.ensemble.way(node).committed;
        let Some(process) = self.process(node) else { return Ok(()) };
        let boot_id = process.boot_id;
        // Peers may have prolonged it beyond what the ensemble has said.
        let is_frozen = Tick::from_millis(now) < process.membership.lease_until();
        let is_leased = committed.is_some_and(|sent| now < sent + SESSION_MILLIS * 2 / 3);
        let name = packet.name();
        if self.dead.contains(&boot_id) {
            let words = format!("b{node} sent {name} after it was declared dead");
            return complaint(Checker::Lease, words);
        }
        if !is_leased && !is_frozen {
            let words = format!("b{node} sent {name}; its last heartbeat left at {committed:?}");
            return complaint(Checker::Lease, words);
        }
        Ok(())
    }

    fn arrive_down(&mut self, connection: usize, packet: Packet) -> Result<(), Complaint> {
        let client = self.line(connection).client;
        let now = self.now;
        let Self { clients, ledger, .. } = self;
        let found = clients.get_mut(client).expect("clients are numbered");
        if found.connection == Some(connection) {
            found.handle(packet, now, ledger)?;
            self.flush(client);
        }
        Ok(())
    }

    fn arrive_end(&mut self, connection: usize) {
        let client = self.line(connection).client;
        if self.client(client).connection == Some(connection) {
            self.leave(client);
        }
    }

    fn leave(&mut self, client: usize) {
        let now = self.now;
        let found = self.client(client);
        let (session, is_persistent) = (found.session, found.is_persistent);
        found.leave();
        if !is_persistent {
            self.ledger.end_session(session, now);
        }
    }

    fn flush(&mut self, client: usize) {
        let out = self.client(client).take_output();
        let Some(connection) = self.client(client).connection else { return };
        if out.is_empty() {
            return;
        }
        let at = self.now + self.chance.below(4);
        let line = self.line(connection);
        line.up_at = line.up_at.max(at);
        let at = line.up_at;
        self.at(at, Happening::Up { connection, bytes: out });
    }

    // Clients.

    fn act(&mut self, client: usize) {
        let again = if self.is_calm { 200 } else { self.chance.between(30, 500) };
        self.at(self.now + again, Happening::Act { client });
        let phase = self.client(client).phase;
        match phase {
            Phase::Offline => self.connect(client),
            Phase::Greeting { since } => {
                if since + GREETING_MILLIS < self.now {
                    self.hang_up(client);
                }
            }
            Phase::Online if self.is_calm => {
                let Self { clients, ledger, .. } = self;
                let found = clients.get_mut(client).expect("clients are numbered");
                found.subscribe_all(ledger);
            }
            Phase::Online => self.do_something(client),
        }
        self.flush(client);
    }

    fn connect(&mut self, client: usize) {
        let home = self.client(client).home;
        let is_home = |world: &mut Self, (node, boot_id): (usize, BootId)| {
            world.process(node).is_some_and(|process| process.boot_id == boot_id)
        };
        let stays = self.client(client).is_persistent || self.client(client).is_stable;
        let node = match home {
            Some(home) if stays && is_home(self, home) => home.0,
            _ => self.chance.place(self.nodes.len()),
        };
        let now = self.now;
        let Some(process) = self.process(node).filter(|process| process.is_joined) else { return };
        let (number, boot_id, ready) =
            (process.number, process.boot_id, Arc::clone(&process.ready));
        let connection = self.lines.len();
        let endpoint = Endpoint::new(connection, &ready, &self.options, Tick::from_millis(now));
        let Self { clients, ledger, .. } = self;
        let found = clients.get_mut(client).expect("clients are numbered");
        found.connect(connection, (node, boot_id), now, ledger);
        ledger.attach(connection, found.session);
        let name = found.client_id();
        self.lines.push(Line {
            client,
            client_session_name: name,
            node,
            process: number,
            endpoint,
            unparsed: BytesMut::new(),
            up_at: 0,
            down_at: 0,
            is_over: false,
        });
        self.count("connections");
    }

    fn do_something(&mut self, client: usize) {
        let now = self.now;
        let Self { clients, ledger, chance, .. } = self;
        let found = clients.get_mut(client).expect("clients are numbered");
        match chance.below(100) {
            0..=64 => {
                for _ in 0..chance.between(1, 4) {
                    let (topic, qos) = draw_message(chance);
                    if found.may_publish() {
                        found.publish(topic, qos, now, ledger);
                    }
                }
            }
            65..=69 if !found.is_stable => found.unsubscribe(chance, now, ledger),
            70..=79 => found.subscribe_all(ledger),
            80..=82 if !found.is_stable => {
                found.say_good_bye();
                self.flush(client);
                self.hang_up(client);
            }
            83..=85 if !found.is_stable => self.hang_up(client),
            _ => {}
        }
    }

    fn hang_up(&mut self, client: usize) {
        let Some(connection) = self.client(client).connection else { return };
        self.leave(client);
        let at = self.line(connection).up_at;
        self.at(at, Happening::UpEnd { connection });
    }

    // Faults.

    fn draw_fault(&mut self) {
        let Some(millis) = self.plan.fault_millis else { return };
        if self.is_calm {
            return;
        }
        let again = self.chance.between(millis / 4, millis * 2);
        self.at(self.now + again, Happening::Fault);
        let fault = self.chance.pick(&self.plan.kinds.clone());
        let node = self.chance.place(self.nodes.len());
        let other = self.chance.place(self.nodes.len());
        let short_or_long = self.chance.pick(&[
            200,
            1_000,
            SESSION_MILLIS,
            SESSION_MILLIS * 3 / 2,
            SESSION_MILLIS * 3,
        ]);
        let until = self.now + short_or_long;
        self.note(fault as u64);
        self.say(format_args!("{fault:?} b{node} b{other} {short_or_long}"));
        match fault {
            Fault::LinkBreaks => {
                self.count("links broken");
                if !self.links.is_empty() {
                    let link = self.chance.place(self.links.len());
                    let late = self.chance.pick(&[0, 0, 50, 500]);
                    self.break_link(link, late);
                }
            }
            Fault::LinkCut => self.cut(node, other, until),
            Fault::TreeBreaks => {
                self.count("connections to the ensemble lost");
                let again = self.chance.pick(&[1, 20, 200]);
                self.lose_ensemble(node, again);
            }
            Fault::TreeCut => {
                self.count("ways to the ensemble cut");
                self.ensemble.way(node).blocked_until = until;
                self.lose_ensemble(node, 100);
            }
            Fault::TreeStale => self.make_stale(node),
            Fault::TreeSlow => {
                self.count("ways to the ensemble slow");
                let extra = self.chance.pick(&[100, 500, 1_500]);
                self.ensemble.way(node).slow = (until, extra);
            }
            Fault::TreeLeads => {
                self.count("leaders of the ensemble changed");
                self.ensemble.tree.change_leader();
                self.ensemble.ahead_millis =
                    self.chance.pick(&[-3_600_000, -700, 0, 400, 3_600_000]);
                for node in 0..self.nodes.len() {
                    let again = self.chance.between(10, 300);
                    self.lose_ensemble(node, again);
                }
            }
            Fault::TreeOutage => {
                if self.ensemble.is_up {
                    self.count("outages of the ensemble");
                    for node in 0..self.nodes.len() {
                        self.lose_ensemble(node, 100);
                    }
                    self.ensemble.is_up = false;
                    self.at(until, Happening::Restore);
                }
            }
            Fault::Crash => {
                if self.process(node).is_some() {
                    self.count("processes killed");
                    self.crash(node);
                }
            }
            Fault::Pause => {
                if let Some(process) = self.process(node) {
                    let process = process.number;
                    self.count("processes stopped");
                    self.node(node).is_paused = true;
                    self.at(until, Happening::Resume { node, process });
                }
            }
        }
    }

    fn cut(&mut self, from: usize, to: usize, until: u64) {
        self.count("links cut");
        let is_both = self.chance.one_in(2);
        self.cuts.insert((from, to), until);
        if is_both {
            self.cuts.insert((to, from), until);
        }
        for link in 0..self.links.len() {
            let (a, b) = (self.link(link).from, self.link(link).to);
            if self.is_cut(a, b) {
                let late = self.chance.pick(&[0, 0, 30]);
                self.break_link(link, late);
            }
        }
    }

    /// The server that a broker talks to is cut off and does not know it yet.
    fn make_stale(&mut self, node: usize) {
        let tree = self.ensemble.tree.clone();
        let way = self.ensemble.way(node);
        if way.is_connected && way.stale.is_none() {
            way.stale = Some(Box::new(tree));
            let number = way.number;
            self.count("followers cut off");
            let after = self.chance.between(200, SESSION_MILLIS * 9 / 10);
            self.at(self.now + after, Happening::Unstale { node, number });
        }
    }

    // The end.

    /// From here on nothing goes wrong.
    fn calm_down(&mut self) -> Result<(), Complaint> {
        self.say("nothing goes wrong any more");
        self.is_calm = true;
        self.cuts.clear();
        self.restore_ensemble();
        for node in 0..self.nodes.len() {
            let way = self.ensemble.way(node);
            way.blocked_until = 0;
            way.slow = (0, 0);
            if way.stale.is_some() {
                self.lose_ensemble(node, 50);
            }
            if let Some(process) = self.process(node) {
                let process = process.number;
                self.resume(node, process)?;
            }
        }
        self.settle()
    }

    fn drain(&mut self) -> Result<(), Complaint> {
        for _ in 0..LOOKS_MAX {
            self.run_until(self.now + LOOK_MILLIS)?;
            if self.pending().is_none() {
                return Ok(());
            }
        }
        let (checker, words) = self.pending().unwrap_or((Checker::Progress, String::new()));
        complaint(checker, words)
    }

    /// What has not come to an end.
    fn pending(&mut self) -> Option<(Checker, String)> {
        for node in &self.nodes {
            let Some(process) = &node.process else {
                return Some((Checker::Progress, "a process is not running".to_owned()));
            };
            let (boot_id, peers) = (process.boot_id, process.peers());
            if !process.is_joined {
                return Some((Checker::Progress, format!("{boot_id:?} has not joined")));
            }
            let waiting = peers.interest().waiting_count();
            if peers.unanswered_count() > 0 || waiting > 0 {
                let words = format!(
                    "{boot_id:?}: {} unanswered, {waiting} waiting; own {:?}, applied {:?}",
                    peers.unanswered_count(),
                    peers.interest().summary(),
                    peers.interest().applied(),
                );
                return Some((Checker::Progress, words));
            }
            if peers.live().len() + 1 != self.nodes.len() {
                let words = format!("{boot_id:?} has {} peers", peers.live().len());
                return Some((Checker::Progress, words));
            }
            for peer in peers.live().iter() {
                let counts = peer.lane().counts();
                if counts.data_bytes > 0 {
                    let words = format!("{boot_id:?} to {:?}: {counts:?}", peer.boot_id());
                    return Some((Checker::Progress, words));
                }
            }
        }
        for client in &self.clients {
            if !client.is_online() || !client.is_done() {
                let words = format!("client {}: {:?}", client.number, client.phase);
                return Some((Checker::Progress, words));
            }
        }
        self.disagreement().map(|words| (Checker::Interest, words))
    }

    fn disagreement(&self) -> Option<String> {
        let processes: Vec<_> =
            self.nodes.iter().filter_map(|node| node.process.as_ref()).collect();
        for one in &processes {
            for other in processes.iter().filter(|other| other.boot_id != one.boot_id) {
                if let Err(words) = knows(one, other) {
                    return Some(format!("{:?} {words}", one.boot_id));
                }
            }
        }
        None
    }

    /// Everybody publishes to every topic: who did not notice a loss before does now.
    fn publish_once_more(&mut self) -> Result<(), Complaint> {
        for topic in 0..crate::sim::cluster::ledger::TOPICS.len() {
            for client in 0..self.clients.len() {
                let now = self.now;
                let Self { clients, ledger, chance, .. } = self;
                let found = clients.get_mut(client).expect("clients are numbered");
                let qos =
                    chance.pick(&[crate::mqtt::QoS::AtLeastOnce, crate::mqtt::QoS::ExactlyOnce]);
                found.publish(topic, qos, now, ledger);
                self.flush(client);
            }
            self.run_until(self.now + 20)?;
        }
        Ok(())
    }

    /// Everybody leaves, and nothing is left.
    fn tear_down(&mut self) -> Result<(), Complaint> {
        self.events.retain(|_, happening| !matches!(happening, Happening::Act { .. }));
        for client in 0..self.clients.len() {
            self.client(client).unsubscribe_all();
            self.flush(client);
        }
        self.run_until(self.now + 1_000)?;
        for client in 0..self.clients.len() {
            self.client(client).say_good_bye();
            self.flush(client);
            self.hang_up(client);
        }
        self.run_until(self.now + 3_000)?;
        for node in &mut self.nodes {
            let Some(process) = &mut node.process else { continue };
            let peers = process.peers();
            let remembered: usize = peers.live().iter().map(|peer| peer.interest_len()).sum();
            let is_parked = !process.broker.registry().is_empty();
            let gauges = [
                ("filters", peers.interest().summary().2),
                ("filters of peers", remembered),
                ("unanswered", peers.unanswered_count()),
                ("waiting", peers.interest().waiting_count()),
                ("subscriptions", process.broker.subscription_count()),
            ];
            let left = gauges.iter().find(|(_, value)| *value > 0);
            if let Some((name, value)) = left {
                let words = format!("{:?}: {value} {name}; parked: {is_parked}", process.boot_id);
                return complaint(Checker::Gauges, words);
            }
        }
        Ok(())
    }
}

/// How long things go wrong.
const FAULTS_MILLIS: u64 = 20_000;
/// How long a client waits for CONNACK.
const GREETING_MILLIS: u64 = 2_000;
const LOOK_MILLIS: u64 = 500;
/// What is pending has two minutes.
const LOOKS_MAX: usize = 240;
const TURNS_MAX: usize = 100_000;
const LINES_SAID_MAX: usize = 2_000;
