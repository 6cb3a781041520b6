//! One run: what there is, and virtual time. What happens is told by the modules below.

mod batches;
mod clients;
mod database;
mod ending;
mod happening;
mod latest;
mod lines;
mod links;
mod moving;
mod processes;
mod registering;
mod relaying;
mod retaining;
mod sessions;
mod trouble;
mod ways;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;

use crate::broker::options::ConnectionOptions;
use crate::cluster::identity::BootId;
use crate::ports::store::Store;
use crate::sim::chance::{Chance, mixed};
use crate::sim::cluster::client::SimClient;
use crate::sim::cluster::database::Database;
use crate::sim::cluster::ensemble::Ensemble;
use crate::sim::cluster::faults::Plan;
use crate::sim::cluster::habits::Habits;
use crate::sim::cluster::keeping::Terms;
use crate::sim::cluster::ledger::Ledger;
use crate::sim::cluster::link::{Link, ReadyLinks};
use crate::sim::cluster::process::Process;
use crate::sim::cluster::verdict::{Checker, Complaint, Failure, Plant, Report, complaint};
use crate::sim::cluster::world::happening::Happening;
use crate::sim::endpoint::Endpoint;

/// Runs the simulation of one seed.
///
/// # Errors
///
/// The first promise that was broken.
pub fn run(seed: u64, plant: Plant) -> Result<Report, Failure> {
    run_with(seed, plant, Habits::drawn(seed))
}

/// The same with clients of these habits.
///
/// # Errors
///
/// The first promise that was broken.
pub fn run_with(seed: u64, plant: Plant, habits: Habits) -> Result<Report, Failure> {
    play(World::new(seed, (plant, habits), None))
}

/// The same of brokers that keep their Sessions in `store`, which answers at once: what lies between is
/// simulated.
///
/// # Errors
///
/// The first promise that was broken.
pub fn run_stored(seed: u64, plant: Plant, store: Arc<dyn Store>) -> Result<Report, Failure> {
    play(World::new(seed, (plant, Habits::NONE), Some(store)))
}

fn play(mut world: World) -> Result<Report, Failure> {
    let seed = world.seed;
    match world.play() {
        Ok(()) => Ok(world.report()),
        Err(Complaint { checker, words }) => {
            let trace = world.lines_said.into();
            Err(Failure { seed, at_millis: world.now, checker, words, trace })
        }
    }
}

struct World {
    seed: u64,
    now: u64,
    chance: Chance,
    plan: Plan,
    plant: Plant,
    habits: Habits,
    /// How brokers keep topics in the tree, if they do.
    terms: Option<Terms>,
    /// What the ensemble has found to have outlived its time.
    outlived: Vec<String>,
    trace: u64,
    lines_said: VecDeque<String>,
    tally: BTreeMap<&'static str, u64>,
    events: BTreeMap<(u64, u64), Happening>,
    happenings: u64,
    ensemble: Ensemble,
    database: Option<Database>,
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
    is_ending: bool,
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
    /// CONNACK has been written, and of which Session of its client it speaks.
    greeted: Option<u64>,
    is_over: bool,
}

impl World {
    fn new(seed: u64, (plant, habits): (Plant, Habits), store: Option<Arc<dyn Store>>) -> Self {
        let mut chance = Chance::new(seed);
        let mut plan = match store {
            Some(_) => Plan::draw_stored(&mut chance),
            None => Plan::draw(&mut chance),
        };
        let draw = |number: usize, chance: &mut Chance| match store {
            Some(_) => SimClient::draw_stored(number, chance),
            None => SimClient::draw(number, chance),
        };
        let mut clients: Vec<_> =
            (0..plan.clients).map(|number| draw(number, &mut chance)).collect();
        habits.teach(&mut clients, seed);
        let terms = habits.register.then(|| {
            plan.add_topics();
            Terms::draw(&mut Chance::new(mixed(seed ^ TERMS)), habits.relay_all)
        });
        let ledger = Ledger::new(store.is_some(), plan.fault_millis.is_none());
        Self {
            seed,
            database: store.map(|store| Database::new(store, plant)),
            now: 1_000,
            chance,
            plant,
            habits,
            terms,
            outlived: Vec::new(),
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
            ledger,
            dead: BTreeSet::new(),
            slots_zxid: 0,
            is_calm: false,
            is_quiet: false,
            is_ending: false,
            plan,
        }
    }

    fn play(&mut self) -> Result<(), Complaint> {
        for node in 0..self.plan.brokers {
            let at = self.now + self.chance.pick(&[0, 0, 500, 3_000]);
            self.at(at, Happening::Restart { node });
        }
        self.at(self.now, Happening::Sessions);
        if self.terms.is_some() {
            self.at(self.now, Happening::Collect);
        }
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
        if self.habits.retain {
            self.judge_retained()?;
        }
        if self.terms.is_some() {
            self.judge_relay()?;
        }
        self.publish_once_more()?;
        self.drain()?;
        if self.habits.retain {
            self.retain_once_more()?;
        }
        if self.terms.is_some() {
            self.judge_latest()?;
            self.judge_registry()?;
        }
        self.ledger.judge()?;
        self.tear_down()?;
        if self.terms.is_some() { self.judge_end_of_topics() } else { Ok(()) }
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
        let mut since_moved = 0;
        while let Some(entry) = self.events.first_entry() {
            let at = entry.key().0;
            if at > end {
                break;
            }
            since_moved = if at > self.now { 0 } else { since_moved + 1 };
            if since_moved > HAPPENINGS_AT_ONCE_MAX {
                return complaint(Checker::Progress, "time stands still");
            }
            self.now = self.now.max(at);
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
        let mut has_moved = self.send_to_database();
        for node in 0..self.nodes.len() {
            has_moved |= self.carry_out(node);
            if self.node(node).is_paused {
                continue;
            }
            if self.process(node).is_some_and(|process| process.is_rung()) {
                self.ring(node);
                has_moved = true;
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
}

/// How long things go wrong.
const FAULTS_MILLIS: u64 = 20_000;
const TURNS_MAX: usize = 100_000;
/// Happenings of one moment: somebody who is due and does nothing is due for ever.
const HAPPENINGS_AT_ONCE_MAX: usize = 100_000;
/// Makes the terms of a run be drawn apart.
const TERMS: u64 = 0x0074_6572_6d73;
const LINES_SAID_MAX: usize = 2_000;
