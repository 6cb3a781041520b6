//! What a message to a peer costs: encoding it into the lane, taking it out, reading it at the other
//! end; and how many a second go through a real link over loopback.
//!
//! `cargo run --release --example link_cost`

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use mqttzoo::cluster::frame::{Cursors, Hello, Welcome};
use mqttzoo::cluster::identity::{BootId, Member, MemberState, WireVersions};
use mqttzoo::cluster::lane::{Lane, LaneOptions, Offered, Taken};
use mqttzoo::cluster::wire::{
    Batch, BatchHeader, FRAME_BYTES_MAX, PublishParts, RawFrame, encode_publish,
};
use mqttzoo::mqtt::QoS;
use mqttzoo::peer::{LinkContext, LinkOptions, Links, ReceiveError, Receiver};
use mqttzoo::runtime::{Clock, Shards, Shutdown};

fn main() {
    let clock = Clock::start();
    for _ in 0..3 {
        in_memory(clock);
    }
    over_loopback(clock);
}

/// One core, no socket. The bytes are copied between the ends, as a socket would, outside of what is
/// measured.
#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn in_memory(clock: Clock) {
    let lane = Lane::new(LaneOptions::default());
    let mut spent = [Duration::ZERO; 3];
    for _ in 0..ROUNDS {
        let begin = on_cpu(clock);
        for _ in 0..ROUND {
            offer(&lane);
        }
        let offered = on_cpu(clock);
        let batches = take(&lane);
        let taken = on_cpu(clock);
        let arrived: Vec<_> = batches.iter().map(|batch| Bytes::copy_from_slice(batch)).collect();
        drop(batches);
        let copied = on_cpu(clock);
        let last = arrived.into_iter().map(read).max().unwrap_or_default();
        let decoded = on_cpu(clock);
        lane.received(Cursors { control: 0, data: last }).expect("it was sent");
        let freed = on_cpu(clock);
        spent[0] += offered.saturating_sub(begin);
        spent[1] += taken.saturating_sub(offered) + freed.saturating_sub(decoded);
        spent[2] += decoded.saturating_sub(copied);
    }
    let [offer, lane, decode] = spent.map(per_frame);
    let total = offer + lane + decode;
    println!(
        "one core, 64 B: encode and offer {offer:.1} ns, take and free {lane:.1} ns, \
         decode {decode:.1} ns, total {total:.1} ns a frame"
    );
}

/// Two ends, two shards each.
#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn over_loopback(clock: Clock) {
    let (one, other) = (End::start(1, clock), End::start(2, clock));
    let lane = Arc::new(Lane::new(LaneOptions::default()));
    one.links.open(&other.member(), lane.clone());
    let begin = clock.elapsed();
    for _ in 0..ROUNDS * ROUND {
        while lane.counts().data_bytes > 8 * 1_024 * 1_024 {
            std::thread::yield_now();
        }
        offer(&lane);
    }
    while !lane.is_flushed() {
        std::thread::yield_now();
    }
    let spent = clock.elapsed().saturating_sub(begin);
    let frames = other.counter.0.load(Ordering::Relaxed);
    println!(
        "over loopback, one publisher: {frames} frames, {:.2} million a second",
        1_000.0 / per_frame(spent)
    );
    for end in [one, other] {
        end.shutdown.begin();
        end.shards.stop(Duration::from_secs(10));
    }
}

fn offer(lane: &Lane) {
    let parts = PublishParts {
        topic: "bench/sensor/42/temp",
        payload: black_box(&[7; 64]),
        properties: None,
        qos: QoS::AtLeastOnce,
        retain: false,
        publisher: 12_345,
        message_id: 67_890,
        expires_at_millis: None,
        version: None,
        is_for_subscribers: true,
        whom: mqttzoo::cluster::frame::Whom::Everybody,
        groups: &[],
    };
    match lane.offer_data(parts.qos, |out| encode_publish(&parts, out)) {
        Offered::Queued { wake, .. } => wake.into_iter().for_each(Waker::wake),
        Offered::Dropped | Offered::Refused | Offered::Closed => unreachable!("it has room"),
    }
}

fn take(lane: &Lane) -> VecDeque<Bytes> {
    let mut batches = VecDeque::new();
    while lane.take(usize::MAX, Waker::noop(), &mut batches) == Taken::Batches {}
    batches
}

/// Reads every frame, and tells the last sequence number.
fn read(bytes: Bytes) -> u64 {
    let header = BatchHeader::peek(&bytes, FRAME_BYTES_MAX).expect("we wrote it");
    let batch = Batch::new(header.expect("it is whole"), bytes).expect("it is whole");
    for raw in batch.frames() {
        black_box(raw.and_then(RawFrame::publish).expect("we wrote it"));
    }
    batch.last_seq()
}

struct End {
    links: Links,
    boot_id: BootId,
    counter: Arc<Counter>,
    shards: Shards,
    shutdown: Shutdown,
}

/// Reads every frame and counts it.
#[derive(Default)]
struct Counter(AtomicU64);

impl Receiver for Counter {
    fn hello(&self, _: &Hello) -> Welcome {
        Welcome::Accepted { wire: 0, received: Cursors::default() }
    }

    fn receive(&self, _: usize, _: BootId, batch: Batch) -> Result<Cursors, ReceiveError> {
        for raw in batch.frames() {
            black_box(raw?.publish()?);
        }
        self.0.fetch_add(u64::from(batch.count), Ordering::Relaxed);
        Ok(Cursors { control: 0, data: batch.last_seq() })
    }
}

impl End {
    fn start(boot: u128, clock: Clock) -> Self {
        let shards = Shards::start(2, 7).expect("there are threads");
        let counter = Arc::<Counter>::default();
        let shutdown = Shutdown::new();
        let context = LinkContext {
            receiver: counter.clone(),
            shards: shards.handles(),
            clock,
            shutdown: shutdown.clone(),
        };
        let boot_id = BootId(boot);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = LinkOptions::new("zoo", "bench", boot_id, listen);
        let links = Links::start(options, context).expect("loopback can be bound");
        Self { links, boot_id, counter, shards, shutdown }
    }

    fn member(&self) -> Member {
        Member {
            name: "bench".into(),
            boot_id: self.boot_id,
            link_address: self.links.local_address().to_string(),
            zone: String::new(),
            wire: WireVersions::OURS,
            state: MemberState::Up,
        }
    }
}

/// How long this thread has run, where the system tells; others may be busy on the same core.
fn on_cpu(clock: Clock) -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|line| line.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| clock.elapsed(), Duration::from_nanos)
}

fn per_frame(spent: Duration) -> f64 {
    spent.as_secs_f64() * 1e9 / f64::from(ROUNDS * ROUND)
}

const ROUND: u32 = 10_000;
const ROUNDS: u32 = 500;
