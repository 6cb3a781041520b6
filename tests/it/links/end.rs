//! One end: links, the shards under them, a receiver that checks what comes, and the lines written.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use mqttzoo::cluster::frame::{Cursors, Hello, StreamKind, Welcome};
use mqttzoo::cluster::identity::{BootId, Member, MemberState, WireVersions};
use mqttzoo::cluster::inbound::Inbound;
use mqttzoo::cluster::lane::{Lane, LaneOptions, Offered, OfferedControl};
use mqttzoo::cluster::wire::{Batch, PublishParts, WireError, encode_publish};
use mqttzoo::mqtt::QoS;
use mqttzoo::peer::{LinkContext, LinkOptions, Links, ReceiveError, Receiver};
use mqttzoo::runtime::{Clock, Shards, Shutdown};
use parking_lot::Mutex;

/// One broker, as far as links go.
pub(super) struct End {
    pub(super) links: Links,
    pub(super) boot_id: BootId,
    name: String,
    collector: Arc<Collector>,
    said: Lines,
    shutdown: Shutdown,
    shards: Option<Shards>,
}

/// Takes frames whose payloads count from 0, and panics at the first that is not the next.
#[derive(Default)]
struct Collector {
    state: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    inbound: Inbound,
    messages: u64,
    losses: usize,
    refuse_next: Option<WireError>,
    complaint: Option<String>,
}

impl Receiver for Collector {
    fn hello(&self, hello: &Hello) -> Welcome {
        let mut state = self.state.lock();
        if state.inbound.resume(hello.gone) {
            state.losses += 1;
        }
        Welcome::Accepted { wire: 0, received: state.inbound.received() }
    }

    fn receive(&self, shard: usize, _: BootId, batch: Batch) -> Result<Cursors, ReceiveError> {
        let thread = std::thread::current();
        assert_eq!(thread.name(), Some(format!("shard-{shard}").as_str()));
        let mut state = self.state.lock();
        if let Some(error) = state.refuse_next.take() {
            return Err(error.into());
        }
        let known = usize::try_from(state.inbound.known(&batch)?).unwrap();
        for raw in batch.frames().skip(known) {
            let raw = raw?;
            let seq = raw.seq;
            if batch.kind == StreamKind::Data {
                let frame = raw.publish()?;
                let number = u64::from_be_bytes(*frame.payload.first_chunk().unwrap());
                if number != state.messages {
                    let expected = state.messages;
                    state.complaint = Some(format!("{number} came in place of {expected}"));
                }
                state.messages += 1;
            }
            state.inbound.advance(batch.kind, seq);
        }
        Ok(state.inbound.received())
    }
}

impl End {
    pub(super) fn start(options: LinkOptions) -> Self {
        let shards = Shards::start(2, 7).unwrap();
        let said = Lines::default();
        for shard in shards.handles().iter() {
            let lines = said.clone();
            shard.spawn("listens to lines", async move { lines.catch() });
        }
        let collector = Arc::<Collector>::default();
        let shutdown = Shutdown::new();
        let context = LinkContext {
            receiver: collector.clone(),
            shards: shards.handles(),
            clock: Clock::start(),
            shutdown: shutdown.clone(),
        };
        let (boot_id, name) = (options.boot_id, options.name.clone());
        let links = Links::start(options, context).unwrap();
        Self { links, boot_id, name, collector, said, shutdown, shards: Some(shards) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.links.local_address()
    }

    /// Dials `other` at `address`.
    pub(super) fn open(&self, other: &Self, address: SocketAddr) -> Arc<Lane> {
        self.open_as(other.boot_id, other, &address)
    }

    /// Dials `other` at `address`, and looks for `boot_id` there.
    pub(super) fn open_as(
        &self,
        boot_id: BootId,
        other: &Self,
        address: &impl ToString,
    ) -> Arc<Lane> {
        let lane = Arc::new(Lane::new(LaneOptions::default()));
        self.links.open(&other.member(boot_id, address), lane.clone());
        lane
    }

    pub(super) fn open_lane(&self, other: &Self, address: &impl ToString, lane: &Arc<Lane>) {
        self.links.open(&other.member(other.boot_id, address), lane.clone());
    }

    /// How many messages came. Each was the next one.
    pub(super) fn taken(&self) -> u64 {
        let state = self.collector.state.lock();
        assert_eq!(state.complaint, None);
        state.messages
    }

    pub(super) fn received(&self) -> Cursors {
        self.collector.state.lock().inbound.received()
    }

    pub(super) fn losses(&self) -> usize {
        self.collector.state.lock().losses
    }

    pub(super) fn is_up(&self, other: &Self) -> bool {
        let status = self.links.status();
        status.iter().any(|one| one.boot_id == other.boot_id && one.connected_since.is_some())
    }

    pub(super) fn refuse_next(&self, error: WireError) {
        self.collector.state.lock().refuse_next = Some(error);
    }

    /// The lines that warn, without those of a connection that broke.
    pub(super) fn failures(&self) -> Vec<String> {
        let all = self.said.all();
        let breaks = ["the connection broke", "it closed the connection", "cannot be reached"];
        all.into_iter().filter(|line| !breaks.iter().any(|words| line.contains(words))).collect()
    }

    /// One line has these words, and no other line warns of anything.
    pub(super) fn check_one_line(&self, words: &str) {
        eventually("a line", || (!self.failures().is_empty()).then_some(()));
        let lines = self.failures();
        assert!(lines.len() == 1 && lines[0].contains(words), "{words:?} in {lines:#?}");
    }

    fn member(&self, boot_id: BootId, address: &impl ToString) -> Member {
        Member {
            name: self.name.as_str().into(),
            boot_id,
            link_address: address.to_string(),
            zone: String::new(),
            wire: WireVersions::OURS,
            state: MemberState::Up,
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.shutdown.begin();
        if let Some(shards) = self.shards.take() {
            shards.stop(Duration::from_secs(10));
        }
    }
}

/// Lines that warn.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// From now on, on this thread.
    fn catch(&self) {
        let lines = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || lines.clone())
            .finish();
        // It lasts as long as the thread, which is that of a shard of this test.
        std::mem::forget(tracing::subscriber::set_default(subscriber));
    }

    fn all(&self) -> Vec<String> {
        let bytes = self.0.lock().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Asks again until there is an answer.
pub(super) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A broker called `name` of the cluster `zoo`, on a port of its own.
pub(super) fn options(name: &str) -> LinkOptions {
    static BOOTS: AtomicU32 = AtomicU32::new(1);
    let boot = u128::from(BOOTS.fetch_add(1, Ordering::Relaxed));
    LinkOptions::new("zoo", name, BootId(boot << 96), SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// Offers the message with this number.
pub(super) fn offer(lane: &Lane, number: u64) {
    offer_of_size(lane, number, QoS::AtLeastOnce, 64);
}

pub(super) fn offer_of_size(lane: &Lane, number: u64, qos: QoS, size: usize) {
    let mut payload = vec![0xAB; size];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    let parts = PublishParts {
        topic: "a/topic",
        payload: &payload,
        properties: None,
        qos,
        retain: false,
        publisher: 1,
        message_id: 2,
        expires_at_millis: None,
        version: None,
        is_for_subscribers: true,
        whom: mqttzoo::cluster::frame::Whom::Everybody,
        groups: &[],
    };
    match lane.offer_data(qos, |out| encode_publish(&parts, out)) {
        Offered::Queued { wake, .. } => wake.into_iter().for_each(std::task::Waker::wake),
        outcome @ (Offered::Dropped | Offered::Refused | Offered::Closed) => panic!("{outcome:?}"),
    }
}

pub(super) fn ring_control(outcome: OfferedControl) {
    match outcome {
        OfferedControl::Queued { wake, .. } => wake.into_iter().for_each(std::task::Waker::wake),
        outcome @ (OfferedControl::Broken(_) | OfferedControl::Closed) => panic!("{outcome:?}"),
    }
}

/// Something of a hundred bytes; this receiver does not look into control frames.
pub(super) fn frame(number: u64) -> impl FnOnce(&mut BytesMut) {
    move |out| {
        out.put_u8(100);
        out.put_u64(number);
        out.put_bytes(0, 92);
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
