//! One run: virtual time, the links, who does what when.

mod acting;
mod carrying;
mod judging;

use std::collections::btree_map::OccupiedEntry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::chance::{Chance, mixed};
use super::client::SimClient;
use super::endpoint::{Endpoint, Ready, TurnBounds};
use super::failure::{Checker, Complaint, Failure, Plant, complaint};
use super::ledger::Ledger;
use super::pipe::Pipe;
use super::profile::{LinkProfile, Profile, SESSION_EXPIRY_MAX_SECS};
use super::sessions::Sessions;
use crate::broker::event::Event;
use crate::broker::options::{BrokerOptions, ConnectionOptions};
use crate::broker::shard::Shard;
use crate::broker::turn::Turn;
use crate::broker::{Broker, Guards, Seeds};
use crate::mqtt::ReasonCode;
use crate::ports::clock::Tick;
use crate::session::mailbox::{MailboxOptions, Overflow};
use crate::session::outbox::Outbox;

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
            Err(Failure { seed, at_millis: world.now, checker, words })
        }
    }
}

/// What a run that kept all promises was like.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Follows from every byte and every event: equal when two runs were.
    pub trace: u64,
    /// Virtual time that passed.
    pub millis: u64,
    /// What happened, by name.
    pub tally: BTreeMap<&'static str, u64>,
}

struct World {
    now: u64,
    chance: Chance,
    plant: Plant,
    trace: u64,
    events: BTreeMap<(u64, u64), Happening>,
    happenings: u64,
    broker: Broker,
    shard: Shard,
    outbox: Outbox,
    options: Arc<ConnectionOptions>,
    bounds: TurnBounds,
    queue: Arc<MailboxOptions>,
    ready: Arc<Ready>,
    connections: Vec<Line>,
    clients: Vec<SimClient>,
    sessions: Sessions,
    ledger: Ledger,
    /// Nothing goes wrong any more.
    is_calm: bool,
}

/// A connection: the broker's end, and the bytes under way.
struct Line {
    client: usize,
    endpoint: Endpoint,
    up: Pipe,
    down: Pipe,
    link: LinkProfile,
    /// What has come to a client that does not read.
    unread: VecDeque<Bytes>,
    keep_alive_secs: u16,
}

enum Happening {
    /// Bytes come to the broker.
    Up { connection: usize, bytes: Bytes },
    /// The client's end comes to the broker.
    UpEnd { connection: usize },
    /// What is under way to the broker is lost from here on.
    UpCut { connection: usize },
    /// Bytes come to the client.
    Down { connection: usize, bytes: Bytes },
    /// The broker's end comes to the client.
    DownEnd { connection: usize },
    /// A timer that the broker's end has set.
    Timer { connection: usize, at: Tick },
    /// A client does something.
    Act { client: usize },
    /// A client shows that it is alive.
    Ping { connection: usize },
    /// A client reads and acknowledges again.
    Recover { connection: usize },
    /// By now the connection must be gone unless its client was heard.
    Silence { connection: usize },
    /// A Session that ends in a moment must still be there.
    LastMoment { client: usize, ends_at: u64 },
    /// Something is due in the model.
    Look,
}

impl World {
    fn new(seed: u64, plant: Plant) -> Self {
        let mut chance = Chance::new(seed);
        let queue = Arc::new(MailboxOptions {
            messages_max: chance.pick(&[8, 30, 200]),
            bytes_max: chance.pick(&[12_000, 1 << 20]),
            qos0_messages_max: chance.pick(&[4, 1_000]),
            qos0_bytes_max: 1 << 20,
            overflow: Overflow::Reject,
            full_max_millis: 3_600_000,
        });
        let clean = MailboxOptions { messages_max: 2_000, bytes_max: 1 << 22, ..(*queue).clone() };
        let clean_queue = Arc::new(MailboxOptions { overflow: Overflow::DropOldest, ..clean });
        let options = BrokerOptions {
            session_expiry_max_secs: SESSION_EXPIRY_MAX_SECS,
            queued_bytes_max: chance.pick(&[2 << 20, 64 << 20]),
            persistent_queue: Arc::clone(&queue),
            clean_queue,
            cached_routes_max: 8,
            ..BrokerOptions::default()
        };
        let connection = ConnectionOptions {
            receive_maximum: chance.pick(&[2, 10, 1_024]),
            in_flight_max: chance.pick(&[3, 20, 1_024]),
            connect_timeout_millis: 3_000,
            packet_timeout_millis: 60_000,
            auth_timeout_millis: 2_000,
            publish_hold_millis: chance.pick(&[0, 300, 5_000]),
            publish_rate_max: chance.pick(&[0, 0, 5]),
            ..ConnectionOptions::default()
        };
        let bounds = TurnBounds {
            packets: chance.pick(&[1, 3, 128]),
            deliveries: chance.pick(&[1, 5, 4_096]),
            outbox_bytes: chance.pick(&[200, 4_000, 256 * 1_024]),
        };
        let broker = Broker::new(
            options,
            Guards::default(),
            Seeds { hash: chance.draw(), instance: chance.draw() },
        );
        let shard = Shard::new(&broker);
        let mut clients = vec![SimClient::new(0, Profile::watcher())];
        clients.extend((1..=CLIENTS).map(|n| SimClient::new(n, Profile::draw(n, &mut chance))));
        clients.push(SimClient::new(PROBE, Profile::probe()));
        Self {
            now: 0,
            chance,
            plant,
            trace: seed,
            events: BTreeMap::new(),
            happenings: 0,
            broker,
            shard,
            outbox: Outbox::new(),
            options: Arc::new(connection),
            bounds,
            queue,
            ready: Arc::new(Mutex::new(VecDeque::new())),
            connections: Vec::new(),
            sessions: Sessions::new(clients.len()),
            clients,
            ledger: Ledger::default(),
            is_calm: false,
        }
    }

    fn play(&mut self) -> Result<(), Complaint> {
        self.connect(0, true);
        for client in 1..=CLIENTS {
            let first = self.chance.below(400);
            self.at(first, Happening::Act { client });
        }
        self.run_until(FAULTS_MILLIS)?;
        self.calm_down();
        self.drain()?;
        self.connect(PROBE, true);
        self.run_until(self.now + PROBE_MILLIS)?;
        self.ledger.judge(&self.sessions)?;
        self.tear_down()?;
        self.sessions.judge_wills()?;
        self.judge_gauges()
    }

    fn report(mut self) -> Report {
        let totals = self.broker.counters().totals().named();
        self.sessions.tally.extend(totals);
        self.sessions.tally.insert("connections", self.connections.len() as u64);
        self.sessions.tally.insert("publications", self.ledger.publication_count() as u64);
        self.sessions.tally.insert("happenings", self.happenings);
        Report { trace: self.trace, millis: self.now, tally: self.sessions.tally }
    }

    fn at(&mut self, time: u64, happening: Happening) {
        self.happenings += 1;
        self.events.insert((time.max(self.now), self.happenings), happening);
    }

    fn note(&mut self, what: u64) {
        self.trace = mixed(self.trace.rotate_left(7) ^ what);
    }

    fn note_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.note(word);
        }
    }

    // Time.

    fn run_until(&mut self, end: u64) -> Result<(), Complaint> {
        while let Some(next) = self.next_time()
            && next <= end
        {
            self.step(next)?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn next_time(&self) -> Option<u64> {
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let expiry = self.broker.timers().next().map(Tick::as_millis);
        let expiry = expiry.map(|at| self.expiry_time(at));
        let model = self.sessions.next_due();
        [event, expiry, model].into_iter().flatten().min()
    }

    /// When the broker looks at a timer that is due at `at`.
    fn expiry_time(&self, at: u64) -> u64 {
        if self.plant == Plant::LateExpiry { at.next_multiple_of(10) + 5 } else { at }
    }

    fn step(&mut self, now: u64) -> Result<(), Complaint> {
        debug_assert!(now >= self.now, "time goes back");
        self.now = now;
        self.expire()?;
        let happening = self.events.first_entry().filter(|entry| entry.key().0 <= now);
        if let Some(happening) = happening.map(OccupiedEntry::remove) {
            self.happen(happening)?;
        }
        self.run_ready()?;
        if self.happenings.is_multiple_of(256) {
            self.judge_bounds()?;
        }
        Ok(())
    }

    /// What time does by itself: in the broker, and in the model of it.
    fn expire(&mut self) -> Result<(), Complaint> {
        let is_due = |at: Tick| self.expiry_time(at.as_millis()) <= self.now;
        if self.broker.timers().next().is_some_and(is_due) {
            self.broker_turn(|turn| while turn.expire() {})?;
        }
        let touched = self.sessions.advance(self.now);
        for client in touched {
            let is_there = self.find(client);
            if is_there != self.sessions.exists(client) {
                let words = format!("client {client}: there is a session: {is_there}");
                return complaint(Checker::SessionExpiry, words);
            }
        }
        self.run_ready()
    }

    fn find(&self, client: usize) -> bool {
        self.broker.registry().find(&format!("client-{client}")).is_some()
    }

    /// A turn of the broker's own.
    fn broker_turn(&mut self, work: impl FnOnce(&mut Turn<'_>)) -> Result<(), Complaint> {
        let Self { broker, shard, outbox, now, .. } = self;
        work(&mut Turn { broker, shard, now: Tick::from_millis(*now), outbox });
        self.outbox.clear();
        self.finish_turn()
    }

    fn finish_turn(&mut self) -> Result<(), Complaint> {
        let events: Vec<Event> = self.shard.take_events().collect();
        self.shard.wake_all();
        for event in &events {
            self.note_event(event)?;
        }
        Ok(())
    }

    fn note_event(&mut self, event: &Event) -> Result<(), Complaint> {
        self.sessions.note_event(self.now, event)?;
        match event {
            Event::Connected { card, .. } => {
                let connection = card.origin.address.parse().unwrap_or(0);
                let silence = u64::from(card.keep_alive_secs) * 1_500;
                self.line(connection).keep_alive_secs = card.keep_alive_secs;
                if silence > 0 {
                    self.at(self.now + silence + 1, Happening::Silence { connection });
                }
                if self.plant == Plant::TwoOwners && connection % 10 == 9 {
                    self.sessions.note_event(self.now, event)?;
                }
            }
            Event::Disconnected { card, reason, .. } => {
                let connection = card.origin.address.parse().unwrap_or(0);
                if reason == SILENT {
                    self.judge_silence(connection)?;
                }
                self.schedule_last_moment(connection);
            }
            Event::Refused { .. }
            | Event::Foreign { .. }
            | Event::Silent { .. }
            | Event::Denied { .. }
            | Event::PublishRefused { .. }
            | Event::SubackLate { .. }
            | Event::OwnMessageMissed { .. }
            | Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::Published { .. }
            | Event::SessionEnded { .. } => {}
        }
        Ok(())
    }

    fn schedule_last_moment(&mut self, connection: usize) {
        let client = self.line(connection).client;
        if let Some(ends_at) = self.sessions.ends_at(client) {
            self.at(ends_at - 1, Happening::LastMoment { client, ends_at });
            self.at(ends_at, Happening::Look);
        }
    }

    // Turns.

    fn run_ready(&mut self) -> Result<(), Complaint> {
        for _ in 0..TURNS_MAX {
            let Some(connection) = self.ready.lock().pop_front() else { return Ok(()) };
            if self.plant == Plant::LostWake && self.is_calm {
                let line = self.line(connection);
                if line.keep_alive_secs == 0 && line.endpoint.is_open() {
                    line.endpoint.forget_wake();
                    continue;
                }
            }
            self.turn(connection)?;
        }
        complaint(Checker::Progress, "connections wake each other for ever")
    }

    fn turn(&mut self, connection: usize) -> Result<(), Complaint> {
        let Self { broker, shard, outbox, connections, now, bounds, .. } = self;
        let line = connections.get_mut(connection).expect("connections are numbered");
        if line.endpoint.is_over {
            return Ok(());
        }
        let mut turn = Turn { broker, shard, now: Tick::from_millis(*now), outbox };
        let room = if line.down.is_cut { 0 } else { line.down.room() };
        let (written, encoded) = line.endpoint.turn(&mut turn, room, *bounds);
        line.down.note_encoded(*now, encoded);
        self.note(connection as u64);
        self.note_bytes(&written);
        self.finish_turn()?;
        self.send_down(connection, written);
        if self.line(connection).endpoint.is_over {
            let now = self.now;
            let line = self.line(connection);
            let at = line.down.arrival(now + line.link.latency_millis);
            self.at(at, Happening::DownEnd { connection });
        } else if let Some(at) = self.line(connection).endpoint.arm_timer() {
            let late = if self.plant == Plant::DeafTimers { 50 } else { 0 };
            self.at(at.as_millis() + late, Happening::Timer { connection, at });
        }
        Ok(())
    }

    fn line(&mut self, connection: usize) -> &mut Line {
        self.connections.get_mut(connection).expect("connections are numbered")
    }

    fn client(&mut self, client: usize) -> &mut SimClient {
        self.clients.get_mut(client).expect("clients are numbered")
    }

    // Links.

    // What happens.

    fn happen(&mut self, happening: Happening) -> Result<(), Complaint> {
        match happening {
            Happening::Up { connection, bytes } => {
                let line = self.line(connection);
                if !line.up.is_cut && !line.endpoint.is_over {
                    line.endpoint.arrive(bytes);
                }
            }
            Happening::UpEnd { connection } => self.line(connection).endpoint.arrive_end(),
            Happening::UpCut { connection } => self.line(connection).up.is_cut = true,
            Happening::Down { connection, bytes } => return self.arrive_down(connection, bytes),
            Happening::DownEnd { connection } => {
                let client = self.line(connection).client;
                if self.client(client).connection == Some(connection) {
                    self.client(client).leave();
                }
            }
            Happening::Timer { connection, at } => self.line(connection).endpoint.ring(at),
            Happening::Act { client } => self.act(client),
            Happening::Ping { connection } => self.ping(connection),
            Happening::Recover { connection } => return self.recover(connection),
            Happening::Silence { connection } => return self.look_for_silence(connection),
            Happening::LastMoment { client, ends_at } => {
                if self.sessions.ends_at(client) == Some(ends_at) && !self.find(client) {
                    return complaint(
                        Checker::SessionExpiry,
                        format!("client {client}: too early"),
                    );
                }
            }
            Happening::Look => {}
        }
        Ok(())
    }

    fn ping(&mut self, connection: usize) {
        let client = self.line(connection).client;
        if self.client(client).connection != Some(connection) {
            return;
        }
        if self.client(client).is_online() && !self.client(client).is_silent {
            self.client(client).ping();
            self.flush(client);
        }
        self.schedule_ping(connection);
    }

    fn recover(&mut self, connection: usize) -> Result<(), Complaint> {
        let client = self.line(connection).client;
        if self.client(client).connection != Some(connection) || self.client(client).is_silent {
            return Ok(());
        }
        self.client(client).is_reading = true;
        self.client(client).acknowledge_again();
        for bytes in std::mem::take(&mut self.line(connection).unread) {
            self.line(connection).down.note_taken(bytes.len());
            self.client_reads(connection, &bytes)?;
        }
        self.line(connection).endpoint.drained();
        self.flush(client);
        Ok(())
    }

    // What clients do.

    // The end.

    /// From here on nothing goes wrong: who is away comes back, and everybody reads and
    /// acknowledges.
    fn calm_down(&mut self) {
        self.is_calm = true;
        let current: Vec<_> = self.clients.iter().filter_map(|client| client.connection).collect();
        for connection in 0..self.connections.len() {
            let is_current = current.contains(&connection);
            if !is_current {
                self.at(self.now, Happening::UpEnd { connection });
            }
            if is_current {
                let client = self.line(connection).client;
                self.client(client).is_silent = false;
                self.at(self.now, Happening::Recover { connection });
            }
        }
    }

    fn drain(&mut self) -> Result<(), Complaint> {
        for _ in 0..DRAIN_LOOKS_MAX {
            self.run_until(self.now + DRAIN_LOOK_MILLIS)?;
            if self.undrained().is_none() {
                return Ok(());
            }
        }
        complaint(Checker::Progress, self.undrained().unwrap_or_default())
    }

    /// Everybody leaves; every Session ends in its time.
    fn tear_down(&mut self) -> Result<(), Complaint> {
        self.events.retain(|_, happening| !matches!(happening, Happening::Act { .. }));
        for client in 1..=PROBE {
            if self.plant == Plant::ForgottenConnection && client == 1 {
                continue;
            }
            if self.chance.one_in(2) {
                self.client(client).say_good_bye(ReasonCode::Success, None);
                self.flush(client);
            }
            self.hang_up(client, false);
        }
        self.run_until(self.now + u64::from(SESSION_EXPIRY_MAX_SECS) * 1_000 + 10_000)?;
        self.hang_up(0, false);
        self.run_until(self.now + 10_000)
    }
}

/// Clients beside the watcher and the probe.
const CLIENTS: usize = 50;
/// The number of the client that looks at what is retained.
const PROBE: usize = CLIENTS + 1;
/// How long things go wrong.
const FAULTS_MILLIS: u64 = 5_000;
/// How long a client waits for CONNACK.
const GREETING_MILLIS: u64 = 3_000;
/// How long a client of 3.1.1 that comes back reads and acknowledges before it publishes.
const PATIENCE_MILLIS: u64 = 3_000;
const PROBE_MILLIS: u64 = 2_000;
const DRAIN_LOOK_MILLIS: u64 = 500;
const DRAIN_LOOKS_MAX: usize = 1_000;
/// More turns than this without time passing is a circle.
const TURNS_MAX: usize = 100_000;
const SILENT: &str = "nothing came within one and a half times the keep alive";
