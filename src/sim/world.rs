//! One run: virtual time, the links, who does what when.

use std::collections::btree_map::OccupiedEntry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::chance::{Chance, mixed};
use super::client::{Books, Phase, SimClient};
use super::endpoint::{Endpoint, Ready, TurnBounds};
use super::failure::{Checker, Complaint, Failure, Plant, complaint};
use super::ledger::{Ledger, Publication};
use super::pipe::Pipe;
use super::profile::{
    FIRST_RETAINED, FIRST_SHARED, LinkProfile, Profile, SESSION_EXPIRY_MAX_SECS, TOPICS,
};
use super::sessions::{Asked, EXPIRY_CHANGED, Sessions};
use crate::broker::event::Event;
use crate::broker::options::{BrokerOptions, ConnectionOptions};
use crate::broker::shard::Shard;
use crate::broker::turn::Turn;
use crate::broker::{Broker, Guards, Seeds};
use crate::mqtt::{Packet, ProtocolVersion, QoS, ReasonCode};
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
            | Event::Silent { .. }
            | Event::Denied { .. }
            | Event::PublishRefused { .. }
            | Event::SubackLate { .. }
            | Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::Published { .. } => {}
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

    /// Who is let go for its silence was silent for one and a half times the Keep Alive, no longer
    /// and no shorter [MQTT-3.1.2-22].
    fn judge_silence(&mut self, connection: usize) -> Result<(), Complaint> {
        let (now, early) = (self.now, u64::from(self.plant == Plant::ShortKeepAlive));
        let line = self.line(connection);
        let due = line.endpoint.heard_at + u64::from(line.keep_alive_secs) * 1_500 + early;
        self.sessions.count("silent clients let go");
        if due == now {
            return Ok(());
        }
        let words = format!("connection {connection} was let go at {now} ms instead of {due} ms");
        complaint(Checker::KeepAlive, words)
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

    /// Opens a connection for `client`, which sends its CONNECT.
    fn connect(&mut self, client: usize, clean_start: bool) -> usize {
        let number = self.open_line(client);
        let (now, profile) = (self.now, self.client(client).profile.clone());
        self.sessions.note_asked(Asked {
            client,
            clean_start,
            will_delay_secs: profile.will.map(|will| will.delay_secs),
        });
        self.client(client).connect(number, clean_start, now);
        self.flush(client);
        if profile.keep_alive_secs > 0 {
            self.schedule_ping(number);
        }
        number
    }

    fn open_line(&mut self, client: usize) -> usize {
        let number = self.connections.len();
        let link = self.client(client).profile.link;
        let now = Tick::from_millis(self.now);
        self.connections.push(Line {
            client,
            endpoint: Endpoint::new(number, &self.ready, &self.options, now),
            up: Pipe::new(usize::MAX),
            down: Pipe::new(link.capacity),
            link,
            unread: VecDeque::new(),
            keep_alive_secs: 0,
        });
        number
    }

    fn schedule_ping(&mut self, connection: usize) {
        let client = self.line(connection).client;
        let secs = self.client(client).profile.keep_alive_secs;
        self.at(self.now + u64::from(secs) * 750, Happening::Ping { connection });
    }

    /// Sends what `client` has written.
    fn flush(&mut self, client: usize) {
        let out = self.client(client).out.split().freeze();
        if let Some(connection) = self.client(client).connection {
            self.send_up(connection, out);
        }
    }

    fn send_up(&mut self, connection: usize, bytes: Bytes) {
        for piece in self.pieces(bytes) {
            let delay = self.delay(connection);
            let wished = self.now + delay;
            let at = self.line(connection).up.arrival(wished);
            self.at(at, Happening::Up { connection, bytes: piece });
        }
    }

    fn send_down(&mut self, connection: usize, bytes: Bytes) {
        let now = self.now;
        if bytes.is_empty() {
            return;
        }
        self.line(connection).down.note_written(bytes.len());
        for piece in self.pieces(bytes) {
            let wished = now + self.delay(connection);
            let at = self.line(connection).down.arrival(wished);
            self.at(at, Happening::Down { connection, bytes: piece });
        }
    }

    fn delay(&mut self, connection: usize) -> u64 {
        let link = self.line(connection).link;
        link.latency_millis + self.chance.below(link.jitter_millis + 1)
    }

    /// Cuts bytes at arbitrary places.
    fn pieces(&mut self, mut bytes: Bytes) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        while bytes.len() > 1 && pieces.len() < 3 && self.chance.one_in(4) {
            let len = 1 + self.chance.place(bytes.len() - 1);
            pieces.push(bytes.split_to(len));
        }
        if !bytes.is_empty() {
            pieces.push(bytes);
        }
        pieces
    }

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

    fn arrive_down(&mut self, connection: usize, bytes: Bytes) -> Result<(), Complaint> {
        let client = self.line(connection).client;
        let is_current = self.client(client).connection == Some(connection);
        let is_reading = self.client(client).is_reading;
        let line = self.line(connection);
        if line.down.is_cut {
            return Ok(());
        }
        if is_current && !is_reading {
            line.unread.push_back(bytes);
            return Ok(());
        }
        line.down.note_taken(bytes.len());
        line.endpoint.drained();
        if is_current { self.client_reads(connection, &bytes) } else { Ok(()) }
    }

    fn client_reads(&mut self, connection: usize, bytes: &[u8]) -> Result<(), Complaint> {
        let Self { connections, clients, ledger, sessions, plant, now, .. } = self;
        let line = connections.get_mut(connection).expect("connections are numbered");
        let client = clients.get_mut(line.client).expect("clients are numbered");
        let mut books = Books {
            ledger,
            sessions,
            plant: *plant,
            now: *now,
            written_at: 0,
            is_probe: line.client == PROBE,
        };
        client.read(bytes, &mut books, |len| line.down.understood(len))?;
        let client = line.client;
        self.flush(client);
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

    /// A connection whose client was not heard for longer than it may must be gone.
    fn look_for_silence(&mut self, connection: usize) -> Result<(), Complaint> {
        let now = self.now;
        let line = self.line(connection);
        if !line.endpoint.is_open() {
            return Ok(());
        }
        let due = line.endpoint.heard_at + u64::from(line.keep_alive_secs) * 1_500;
        if due < now {
            let words = format!("connection {connection} should have been let go at {due} ms");
            return complaint(Checker::KeepAlive, words);
        }
        self.at(due + 1, Happening::Silence { connection });
        Ok(())
    }

    // What clients do.

    fn act(&mut self, client: usize) {
        let again = if self.is_calm { 300 } else { self.chance.between(30, 1_400) };
        self.at(self.now + again, Happening::Act { client });
        let is_late = |since| self.now > since + GREETING_MILLIS;
        match self.clients.get(client).map(|client| client.phase) {
            Some(Phase::Offline) => self.come_back(client),
            Some(Phase::Greeting { since }) if is_late(since) => self.hang_up(client, false),
            Some(Phase::Online) if self.is_calm => {
                let (client, mut books) = self.with_books(client);
                client.subscribe_all();
                if client.online_since + PATIENCE_MILLIS <= books.now {
                    client.resume_publishing(&mut books);
                }
            }
            Some(Phase::Online) if !self.client(client).is_silent => self.misbehave(client),
            Some(Phase::Online | Phase::Greeting { .. }) | None => {}
        }
        self.flush(client);
    }

    fn come_back(&mut self, client: usize) {
        if !self.is_calm && self.chance.one_in(3) {
            return;
        }
        let profile = &self.client(client).profile;
        let (is_persistent, is_stable) = (profile.is_persistent, profile.is_stable);
        let starts_anew = !is_stable && !self.is_calm && self.chance.one_in(12);
        self.connect(client, !is_persistent || starts_anew);
    }

    /// One of the things that a client does while it is connected.
    fn misbehave(&mut self, client: usize) {
        let (sender, mut books) = self.with_books(client);
        sender.resume_publishing(&mut books);
        let connection = self.client(client).connection.unwrap_or(0);
        match self.chance.below(100) {
            0..=52 => self.publish_some(client),
            53..=57 => {
                let place = self.chance.place(8);
                let (client, mut books) = self.with_books(client);
                client.unsubscribe(place, &mut books);
            }
            58..=62 => self.client(client).subscribe_all(),
            63..=66 => {
                self.sessions.count("stopped reading");
                self.client(client).is_reading = false;
                let after = self.chance.between(100, 6_000);
                self.at(self.now + after, Happening::Recover { connection });
            }
            67..=71 => {
                self.sessions.count("stopped acknowledging");
                self.client(client).is_acknowledging = false;
                let after = self.chance.between(100, 6_000);
                self.at(self.now + after, Happening::Recover { connection });
            }
            72..=75 => self.say_good_bye(client),
            76..=81 => self.hang_up(client, true),
            82..=85 => {
                self.sessions.count("fell silent");
                self.client(client).is_silent = true;
                self.client(client).is_acknowledging = false;
            }
            86..=89 => self.take_over(client, 1),
            90 => self.take_over(client, 4),
            91 => self.knock(client),
            _ => {}
        }
    }

    fn with_books(&mut self, client: usize) -> (&mut SimClient, Books<'_>) {
        let Self { clients, ledger, sessions, plant, now, .. } = self;
        let client = clients.get_mut(client).expect("clients are numbered");
        let books =
            Books { ledger, sessions, plant: *plant, now: *now, written_at: 0, is_probe: false };
        (client, books)
    }

    fn publish_some(&mut self, client: usize) {
        for _ in 0..self.chance.between(1, 3) {
            let publication = self.draw_publication(client);
            let number = self.ledger.enter(publication);
            let (client, mut books) = self.with_books(client);
            client.publish(number, &mut books);
        }
    }

    fn draw_publication(&mut self, client: usize) -> Publication {
        let retained = client - 1;
        // A retained topic has one publisher, so that the last message is known.
        let topic = if retained < TOPICS.len() - FIRST_RETAINED && self.chance.one_in(2) {
            FIRST_RETAINED + retained
        } else if self.chance.one_in(3) {
            self.chance.pick(&[FIRST_SHARED, FIRST_SHARED + 1, FIRST_SHARED + 2, FIRST_SHARED + 3])
        } else {
            self.chance.place(FIRST_SHARED)
        };
        let is_retained = topic >= FIRST_RETAINED;
        let is_v5 = self.client(client).profile.version == ProtocolVersion::V5;
        let qos = self.chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let expires = is_v5 && !is_retained && self.chance.one_in(5);
        let is_large = self.chance.one_in(30);
        Publication {
            publisher: client,
            topic,
            qos: if is_retained { qos.max(QoS::AtLeastOnce) } else { qos },
            is_deletion: is_retained && self.chance.one_in(5),
            expiry_secs: expires.then(|| self.chance.pick(&[1, 2, 5])),
            payload_len: if is_large { 5_000 } else { 8 + self.chance.place(200) },
            first_sent: None,
            sends: 0,
            acknowledged: None,
            is_refused: false,
        }
    }

    fn say_good_bye(&mut self, client: usize) {
        let profile = self.client(client).profile.clone();
        let is_v5 = profile.version == ProtocolVersion::V5;
        let changes = is_v5 && profile.is_persistent && !profile.is_stable;
        let expiry = (changes && self.chance.one_in(2)).then(|| {
            let secs = self.chance.pick(&[0, 1, 3]);
            (secs, format!("{EXPIRY_CHANGED}{secs}"))
        });
        let reason_code = if is_v5 && self.chance.one_in(3) {
            ReasonCode::DisconnectWithWillMessage
        } else {
            ReasonCode::Success
        };
        self.client(client).say_good_bye(reason_code, expiry);
        self.flush(client);
        self.hang_up(client, false);
    }

    /// The client closes its connection, or it breaks.
    fn hang_up(&mut self, client: usize, breaks: bool) {
        let Some(connection) = self.client(client).connection else { return };
        let now = self.now;
        self.client(client).leave();
        let line = self.line(connection);
        let last = line.up.arrival(now + line.link.latency_millis);
        match if breaks { self.chance.below(3) } else { 3 } {
            0 => {
                // The broker hears nothing any more.
                self.sessions.count("half-open connections");
                self.line(connection).up.is_cut = true;
                self.line(connection).down.is_cut = true;
            }
            1 => {
                // Some of what is under way is lost.
                let from = self.chance.between(now, last);
                self.line(connection).down.is_cut = true;
                self.at(from, Happening::UpCut { connection });
                self.at(last, Happening::UpEnd { connection });
            }
            2 => {
                self.line(connection).up.is_cut = true;
                self.at(now, Happening::UpEnd { connection });
            }
            _ => self.at(last, Happening::UpEnd { connection }),
        }
    }

    /// More connections with the same Client Identifier, while the first one stays.
    fn take_over(&mut self, client: usize, count: usize) {
        self.sessions.count("own takeovers");
        for _ in 0..count {
            let former = self.client(client).connection;
            let clean_start = !self.client(client).profile.is_persistent;
            self.connect(client, clean_start);
            if let Some(connection) = former
                && self.chance.one_in(2)
            {
                let after = self.now + self.chance.between(1, 3_000);
                self.at(after, Happening::UpEnd { connection });
            }
        }
    }

    /// Somebody who sends half a CONNECT, and nothing more.
    fn knock(&mut self, client: usize) {
        let connection = self.open_line(client);
        self.sessions.note_asked(Asked { client, clean_start: true, will_delay_secs: None });
        let connect = self.client(client).connect_packet(connection, true);
        let mut bytes = BytesMut::new();
        Packet::Connect(Box::new(connect)).encode(ProtocolVersion::V5, &mut bytes);
        bytes.truncate(self.chance.place(bytes.len()));
        self.send_up(connection, bytes.freeze());
    }

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

    /// What has not come to an end.
    fn undrained(&self) -> Option<String> {
        let busy = self
            .clients
            .iter()
            .take(CLIENTS + 1)
            .find(|client| !client.is_online() || !client.is_done() || !client.is_subscribed());
        if let Some(client) = busy {
            let (done, phase) = (client.is_done(), client.phase);
            return Some(format!("client {}: {phase:?}, has published: {done}", client.number));
        }
        let mut found = None;
        self.broker.registry().for_each(|listed| {
            let counts = listed.mailbox.map(|mailbox| mailbox.counts()).unwrap_or_default();
            if counts.messages > 0 || counts.qos0_messages > 0 {
                found = Some(format!("{} has {counts:?}", listed.client_id));
            }
        });
        found
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

    fn judge_bounds(&self) -> Result<(), Complaint> {
        let queue = &self.queue;
        let less = if self.plant == Plant::SmallerBound { queue.messages_max / 2 } else { 0 };
        let mut found = None;
        for client in 1..=CLIENTS {
            let Some(listed) = self.broker.registry().find(&format!("client-{client}")) else {
                continue;
            };
            let profile = self.clients.get(client).map(|client| &client.profile);
            let is_bounded = listed.card.is_none_or(|card| card.session_expiry_secs > 0);
            let Some(mailbox) = listed.mailbox.filter(|_| is_bounded) else { continue };
            let counts = mailbox.counts();
            // What is replayed to it comes on top, as far as its window goes.
            let replayed = profile.is_some_and(Profile::is_replayed_to);
            let is_over =
                counts.messages > queue.messages_max - less || counts.bytes > queue.bytes_max;
            if (is_over && !replayed) || counts.qos0_messages > queue.qos0_messages_max {
                found = Some(format!("client {client}: {counts:?}, bounds {queue:?}"));
            }
        }
        let (held, max) = (self.broker.queued_bytes(), self.broker.options().queued_bytes_max);
        let (timers, sessions) = (self.broker.timers().len(), self.broker.registry().len());
        match found {
            Some(words) => complaint(Checker::Bound, words),
            None if timers > 2 * sessions => {
                complaint(Checker::Bound, format!("{timers} timers of {sessions} sessions"))
            }
            None if held > max => complaint(Checker::Bound, format!("{held} bytes in all queues")),
            None => Ok(()),
        }
    }

    fn judge_gauges(&mut self) -> Result<(), Complaint> {
        self.shard.sweep_routes(&self.broker);
        let broker = &self.broker;
        let gauges = [
            ("subscriptions", broker.subscription_count()),
            ("index nodes", broker.index_node_count()),
            ("sessions", broker.registry().len()),
            ("timers", broker.timers().len()),
            ("queued bytes", usize::try_from(broker.queued_bytes()).unwrap_or(usize::MAX)),
            ("will bytes", usize::try_from(broker.will_bytes()).unwrap_or(usize::MAX)),
        ];
        match gauges.iter().find(|(_, value)| *value > 0) {
            Some((name, value)) => complaint(Checker::Gauges, format!("{name}: {value}")),
            None => Ok(()),
        }
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
