//! Clients that go on: publishers that send again what nobody acknowledged, and subscribers that
//! come back. Each enters what it does and sees into the checker's books.
//!
//! A publisher of QoS 2 keeps its Session, and what it sends again there comes once. The others begin
//! a Session with each connection.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mqttzoo::client::driver::Direction;
use mqttzoo::client::endpoint::{Address, Endpoint};
use mqttzoo::client::session::{PublishOutcome, SessionOptions, Subscription, Ticket};
use mqttzoo::client::{Client, Event, Message};
use mqttzoo::mqtt::{
    Connack, Connect, ConnectProperties, Disconnect, Packet, ProtocolVersion, Publish, QoS,
    ReasonCode, SubscribeFilter, SubscriptionOptions, TopicName,
};
use parking_lot::Mutex;
use tokio::time::{Interval, MissedTickBehavior};

use super::checker::{Arrival, Checker, Key, Receiver};

/// Where the brokers of a cluster accept clients now, by their numbers; nothing for one that is down.
#[derive(Clone, Default)]
pub(crate) struct Addresses(Arc<Mutex<BTreeMap<usize, u16>>>);

impl Addresses {
    /// A broker is up, or down.
    pub(crate) fn note(&self, broker: usize, port: Option<u16>) {
        match port {
            Some(port) => self.0.lock().insert(broker, port),
            None => self.0.lock().remove(&broker),
        };
    }

    fn port(&self, broker: usize) -> Option<u16> {
        self.0.lock().get(&broker).copied()
    }
}

/// What a publisher does.
#[derive(Clone)]
pub(crate) struct PublisherPlan {
    /// Its name in the books.
    pub(crate) id: u32,
    /// Which brokers it turns to, one after the other, whenever it has lost one.
    pub(crate) brokers: Vec<usize>,
    /// Its messages go round these.
    pub(crate) topics: Vec<String>,
    pub(crate) qos: QoS,
    /// How many; without a number it goes on until it is told to finish.
    pub(crate) count: Option<u64>,
    /// From one message to the next; as fast as they are acknowledged when zero.
    pub(crate) pace: Duration,
}

impl PublisherPlan {
    /// One that publishes so many messages to `load/ID`, as fast as they are acknowledged.
    pub(crate) fn counted(id: u32, broker: usize, qos: QoS, count: u64) -> Self {
        let topics = vec![format!("load/{id}")];
        let pace = Duration::ZERO;
        Self { id, brokers: vec![broker], topics, qos, count: Some(count), pace }
    }

    /// One that publishes to a few topics below `load/ID` until it is told to finish, at a pace that
    /// leaves everybody air to breathe.
    pub(crate) fn endless(id: u32, brokers: &[usize]) -> Self {
        let topics = (0..5).map(|topic| format!("load/{id}/{topic}")).collect();
        let pace = Duration::from_millis(4);
        Self { id, brokers: brokers.to_vec(), topics, qos: QoS::AtLeastOnce, count: None, pace }
    }
}

/// A publisher at work.
pub(crate) struct Publisher {
    is_told_to_finish: Arc<AtomicBool>,
    state: Arc<PublisherState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct PublisherState {
    acknowledged: AtomicU64,
    /// Messages that were sent once more in the Session they had been sent in.
    repeated: AtomicU64,
    /// Sessions that were kept, and gone when it came back.
    sessions_lost: AtomicU64,
}

impl Publisher {
    /// Lets one begin.
    pub(crate) fn start(checker: &Checker, addresses: &Addresses, plan: PublisherPlan) -> Self {
        let is_told_to_finish = Arc::new(AtomicBool::new(plan.count.is_some()));
        let state = Arc::<PublisherState>::default();
        let mut line = Line::new(addresses, &plan.brokers, &format!("publisher{}", plan.id));
        line.session_secs = if plan.qos == QoS::ExactlyOnce { SESSION_SECS } else { 0 };
        let mut work = Publishing {
            line,
            checker: checker.clone(),
            is_told_to_finish: Arc::clone(&is_told_to_finish),
            state: Arc::clone(&state),
            plan,
            made: 0,
            open: BTreeMap::new(),
            tickets: BTreeMap::new(),
        };
        let thread = thread::spawn(move || block_on(work.run()));
        Self { is_told_to_finish, state, thread: Some(thread) }
    }

    /// How many messages it has sent once more, in the Session they had been sent in.
    pub(crate) fn repeated(&self) -> u64 {
        self.state.repeated.load(Ordering::Relaxed)
    }

    /// How often a Session that was to be kept was gone.
    pub(crate) fn sessions_lost(&self) -> u64 {
        self.state.sessions_lost.load(Ordering::Relaxed)
    }

    fn acknowledged(&self) -> u64 {
        self.state.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `count` messages more are acknowledged than now: life goes on.
    #[track_caller]
    pub(crate) fn wait_for_more(&self, count: u64) {
        let wanted = self.acknowledged() + count;
        let deadline = Instant::now() + PATIENCE;
        while self.acknowledged() < wanted {
            assert!(!self.thread.as_ref().is_some_and(JoinHandle::is_finished), "it has ended");
            let so_far = self.acknowledged();
            assert!(Instant::now() < deadline, "no more than {so_far} of {wanted} acknowledged");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until everything is acknowledged; how much it was.
    #[track_caller]
    pub(crate) fn finish(mut self) -> u64 {
        self.is_told_to_finish.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is joined once");
        let deadline = Instant::now() + PATIENCE;
        while !thread.is_finished() {
            let so_far = self.acknowledged();
            assert!(
                Instant::now() < deadline,
                "a publisher got no more than {so_far} acknowledged"
            );
            thread::sleep(Duration::from_millis(5));
        }
        thread.join().expect("a publisher does not panic");
        self.acknowledged()
    }
}

/// Waits until each of these has `count` messages more acknowledged than now.
#[track_caller]
pub(crate) fn all_go_on(publishers: &[Publisher], count: u64) {
    for publisher in publishers {
        publisher.wait_for_more(count);
    }
}

/// Waits until everything is acknowledged; how much each has published.
#[track_caller]
pub(crate) fn finish_all(publishers: impl IntoIterator<Item = Publisher>) -> Vec<u64> {
    publishers.into_iter().map(Publisher::finish).collect()
}

struct Publishing {
    line: Line,
    checker: Checker,
    plan: PublisherPlan,
    is_told_to_finish: Arc<AtomicBool>,
    state: Arc<PublisherState>,
    made: u64,
    /// Made and not acknowledged, with their topics.
    open: BTreeMap<u64, String>,
    /// Those of them that the client has.
    tickets: BTreeMap<Ticket, u64>,
}

impl Publishing {
    async fn run(&mut self) {
        let mut client = self.line.connect().await;
        let state = Arc::clone(&self.state);
        client.observe(Box::new(move |direction, packet| {
            let is_sent = direction == Direction::Sending;
            let is_repeated = matches!(packet, Packet::Publish(publish) if publish.dup);
            state.repeated.fetch_add((is_sent && is_repeated).into(), Ordering::Relaxed);
        }));
        while self.publish_until_broken(&mut client).await.is_err() {
            if self.line.session_secs > 0 {
                let is_resumed = self.line.connect_again(&mut client).await;
                self.note_return(is_resumed);
            } else {
                client = self.line.connect().await;
                self.tickets.clear();
            }
        }
        client.disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)).await;
    }

    /// The client sends again what is open by itself.
    fn note_return(&self, is_resumed: bool) {
        self.state.sessions_lost.fetch_add((!is_resumed).into(), Ordering::Relaxed);
        for &number in self.tickets.values() {
            let key = Key { publisher: self.plan.id, number };
            self.checker.with(|books| {
                if is_resumed {
                    books.note_repeated(key);
                } else {
                    books.note_sent(key, &self.open[&number], self.plan.qos);
                }
            });
        }
    }

    /// What is open from a former connection first, in its order, then what is new.
    async fn publish_until_broken(&mut self, client: &mut Client) -> Result<(), Broken> {
        let is_known = !self.tickets.is_empty();
        let mut unsent: VecDeque<u64> =
            if is_known { VecDeque::new() } else { self.open.keys().copied().collect() };
        let mut pace = pace(self.plan.pace);
        loop {
            while let Some(number) = unsent.pop_front() {
                let ticket = self.send(client, number);
                self.tickets.insert(ticket, number);
            }
            if self.is_done() && self.open.is_empty() {
                return Ok(());
            }
            let has_room = self.open.len() < WINDOW && client.has_room();
            if self.plan.pace.is_zero() && has_room && !self.is_done() {
                unsent.push_back(self.make());
                continue;
            }
            tokio::select! {
                event = client.next() => self.take(&event)?,
                _ = pace.tick() => {
                    if has_room && !self.is_done() && !self.plan.pace.is_zero() {
                        unsent.push_back(self.make());
                    }
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        match self.plan.count {
            Some(count) => self.made == count,
            None => self.is_told_to_finish.load(Ordering::Relaxed),
        }
    }

    fn make(&mut self) -> u64 {
        let topics = self.plan.topics.len() as u64;
        let topic = usize::try_from(self.made % topics).expect("there are few topics");
        self.made += 1;
        self.open.insert(self.made, self.plan.topics[topic].clone());
        self.made
    }

    fn send(&self, client: &mut Client, number: u64) -> Ticket {
        let key = Key { publisher: self.plan.id, number };
        let topic = &self.open[&number];
        self.checker.with(|books| books.note_sent(key, topic, self.plan.qos));
        client.publish(Message {
            topic: TopicName::parse(topic.clone().into()).expect("topics of the load are valid"),
            payload: key.payload().into(),
            qos: self.plan.qos,
            retain: false,
            topic_alias: None,
            properties: None,
        })
    }

    fn take(&mut self, event: &Event) -> Result<(), Broken> {
        if is_end(event) {
            return Err(Broken);
        }
        let Event::Published(ticket, outcome) = event else { return Ok(()) };
        let number = self.tickets.remove(ticket).expect("only what was published is answered");
        let key = Key { publisher: self.plan.id, number };
        self.open.remove(&number);
        match outcome {
            PublishOutcome::Sent | PublishOutcome::Acknowledged(_) => {
                self.checker.with(|books| books.note_acknowledged(key));
                self.state.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            PublishOutcome::Refused(..) => self.checker.with(|books| books.note_refused(key)),
        }
        Ok(())
    }
}

/// What a subscriber does.
#[derive(Clone)]
pub(crate) struct SubscriberPlan {
    /// Its name in the books, or that of its group.
    pub(crate) receiver: Receiver,
    pub(crate) client_id: String,
    /// Which brokers it turns to, one after the other, whenever it has lost one.
    pub(crate) brokers: Vec<usize>,
    pub(crate) filter: String,
    pub(crate) qos: QoS,
}

impl SubscriberPlan {
    /// One that gets the whole load from this broker.
    pub(crate) fn to_all(name: &'static str, broker: usize, qos: QoS) -> Self {
        Self {
            receiver: Receiver::Client(name),
            client_id: name.to_owned(),
            brokers: vec![broker],
            filter: "load/#".to_owned(),
            qos,
        }
    }
}

/// A subscriber at work. It stays subscribed until it is dropped.
pub(crate) struct Subscriber {
    state: Arc<SubscriberState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct SubscriberState {
    is_stopped: AtomicBool,
    subscribed: AtomicU64,
    received: AtomicU64,
    lost: AtomicU64,
}

impl Subscriber {
    /// Lets one begin, and waits until it has its SUBACK.
    #[track_caller]
    pub(crate) fn start(checker: &Checker, addresses: &Addresses, plan: SubscriberPlan) -> Self {
        let state = Arc::new(SubscriberState::default());
        let mut work = Subscribing {
            line: Line::new(addresses, &plan.brokers, &plan.client_id),
            checker: checker.clone(),
            state: Arc::clone(&state),
            plan,
        };
        let thread = thread::spawn(move || block_on(work.run()));
        let subscriber = Self { state, thread: Some(thread) };
        subscriber.wait_until("a SUBACK", |state| state.subscribed.load(Ordering::Relaxed) > 0);
        subscriber
    }

    /// Messages it has got, copies counted.
    pub(crate) fn received(&self) -> u64 {
        self.state.received.load(Ordering::Relaxed)
    }

    /// Waits until it has got so many messages.
    #[track_caller]
    pub(crate) fn wait_for_received(&self, count: u64) {
        let is_so = |state: &SubscriberState| state.received.load(Ordering::Relaxed) >= count;
        self.wait_until(&format!("{count} messages"), is_so);
    }

    /// How often its connection has been lost.
    pub(crate) fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }

    /// Waits until it has lost its connection and subscribed again, so many times in all.
    #[track_caller]
    pub(crate) fn wait_for_return(&self, times: u64) {
        self.wait_until("it is back", |state| {
            state.lost.load(Ordering::Relaxed) >= times
                && state.subscribed.load(Ordering::Relaxed) > state.lost.load(Ordering::Relaxed)
        });
    }

    #[track_caller]
    fn wait_until(&self, what: &str, is_so: impl Fn(&SubscriberState) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.state) {
            assert!(!self.thread.as_ref().is_some_and(JoinHandle::is_finished), "it has ended");
            assert!(Instant::now() < deadline, "a subscriber did not come to: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.state.is_stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a subscriber panicked");
        }
    }
}

struct Subscribing {
    line: Line,
    checker: Checker,
    state: Arc<SubscriberState>,
    plan: SubscriberPlan,
}

impl Subscribing {
    async fn run(&mut self) {
        loop {
            let is_stopped = Arc::clone(&self.state);
            let stopped = async move {
                let mut pace = pace(Duration::from_millis(5));
                while !is_stopped.is_stopped.load(Ordering::Relaxed) {
                    pace.tick().await;
                }
            };
            tokio::select! {
                () = self.receive_until_broken() => {}
                () = stopped => return,
            }
            // Members of a group stand in for each other: the group stays owed what it was.
            if matches!(self.plan.receiver, Receiver::Client(_)) {
                self.checker.with(|books| books.note_gone(self.plan.receiver));
            }
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn receive_until_broken(&mut self) {
        let mut client = self.line.connect().await;
        let filter = self.plan.filter.as_str().into();
        let options = SubscriptionOptions { qos: self.plan.qos, ..SubscriptionOptions::default() };
        let filters = vec![SubscribeFilter { filter, options }];
        client.subscribe(Subscription { filters, ..Subscription::default() });
        loop {
            let event = client.next().await;
            if is_end(&event) {
                return;
            }
            if let Event::Subscribed(_, answer) = &event {
                let granted = answer.reason_codes[0];
                assert!(granted.as_u8() < 3, "SUBSCRIBE was answered with {granted:?}");
                self.note_subscribed();
            }
            if let Event::Message(publish) = &event {
                self.note_arrival(publish);
            }
        }
    }

    fn note_arrival(&self, publish: &Publish) {
        let arrival = Arrival {
            receiver: self.plan.receiver,
            topic: &publish.topic,
            payload: &publish.payload,
            qos: publish.qos.bits(),
            dup: publish.dup,
        };
        self.checker.with(|books| books.note_arrival(arrival));
        self.state.received.fetch_add(1, Ordering::Relaxed);
    }

    fn note_subscribed(&self) {
        let filter = self.plan.filter.strip_prefix("$share/").map_or(&*self.plan.filter, |rest| {
            rest.split_once('/').expect("a group has a name and a filter").1
        });
        self.checker.with(|books| books.note_subscribed(self.plan.receiver, filter));
        self.state.subscribed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The way to one broker after the other.
struct Line {
    addresses: Addresses,
    brokers: Vec<usize>,
    attempts: usize,
    client_id: String,
    /// How long its Session outlives a connection.
    session_secs: u32,
}

impl Line {
    fn new(addresses: &Addresses, brokers: &[usize], client_id: &str) -> Self {
        let (addresses, client_id) = (addresses.clone(), client_id.to_owned());
        Self { addresses, brokers: brokers.to_vec(), attempts: 0, client_id, session_secs: 0 }
    }

    /// A connection that a broker has taken, whichever it is.
    async fn connect(&mut self) -> Client {
        let mut pace = pace(Duration::from_millis(20));
        loop {
            pace.tick().await;
            let Some(port) = self.next_port() else { continue };
            let options = session_options(&self.client_id, self.session_secs);
            let mut client = Client::new(endpoint(port), options);
            if consent(&mut client).await.is_some() {
                return client;
            }
        }
    }

    /// The same for a client that has lost its connection; whether its Session was still there.
    async fn connect_again(&mut self, client: &mut Client) -> bool {
        let mut pace = pace(Duration::from_millis(20));
        loop {
            pace.tick().await;
            let Some(port) = self.next_port() else { continue };
            client.turn_to(endpoint(port));
            client.connect_after(Duration::ZERO);
            if let Some(connack) = consent(client).await {
                return connack.session_present;
            }
        }
    }

    /// Of the broker whose turn it is; nothing when that is down.
    fn next_port(&mut self) -> Option<u16> {
        let broker = self.brokers[self.attempts % self.brokers.len()];
        self.attempts += 1;
        self.addresses.port(broker)
    }
}

/// What a broker says that takes the connection.
async fn consent(client: &mut Client) -> Option<Box<Connack>> {
    loop {
        let event = client.next().await;
        if is_end(&event) {
            return None;
        }
        if let Event::Connected(connack) = event {
            return Some(connack);
        }
    }
}

/// Whether there is no connection any more.
fn is_end(event: &Event) -> bool {
    matches!(event, Event::Closed(_) | Event::OpenFailed(_))
}

fn endpoint(port: u16) -> Endpoint {
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
    Endpoint { address, tls: None, websocket_path: None, bind: None, proxy: None }
}

fn session_options(client_id: &str, session_secs: u32) -> SessionOptions {
    let session_expiry_interval_secs = (session_secs > 0).then_some(session_secs);
    let connect = Connect {
        protocol_version: ProtocolVersion::V5,
        clean_start: true,
        // Short: a broker that stands still is found out by its silence.
        keep_alive_secs: 2,
        client_id: client_id.into(),
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties {
            session_expiry_interval_secs,
            ..ConnectProperties::default()
        },
    };
    SessionOptions {
        connect,
        inflight_max: NonZeroU16::new(512).expect("it is not zero"),
        connack_within: Duration::from_secs(2),
        falls_back: false,
    }
}

fn pace(period: Duration) -> Interval {
    let mut pace = tokio::time::interval(period.max(Duration::from_millis(1)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a thread may have a runtime").block_on(work);
}

/// The connection, or the attempt at one, has failed.
struct Broken;

/// As long as any test.
const SESSION_SECS: u32 = 600;

/// Messages of one publisher whose outcome is open.
const WINDOW: usize = 200;

/// How long the cluster may take to go on.
const PATIENCE: Duration = Duration::from_secs(40);
