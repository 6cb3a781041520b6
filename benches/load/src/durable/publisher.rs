//! A publisher that always has a thousand messages under way, and knows what was acknowledged.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::{
    burst::{BUFFER_LEN, Burst},
    clock,
    error::LoadError,
    frames::{PUBACK, Version},
    stamp::Stamp,
    target::Target,
    wire::{PublishOptions, Template, packet_id},
};

/// The publisher, at work on a thread of its own.
#[derive(Debug)]
pub struct Publisher {
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<Result<(), LoadError>>,
}

impl Publisher {
    /// Publishes to [`TOPIC`] from now on.
    ///
    /// # Errors
    /// The broker does not let it in.
    pub fn start(target: &Target) -> Result<Self, LoadError> {
        let stream = super::receiver::open(target, "load-publisher", crate::wire::Start::Clean)?;
        let stream = stream.into_stream();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&acknowledged);
        let thread = thread::spawn(move || work(stream, &counter));
        Ok(Self { acknowledged, thread })
    }

    /// How many messages were acknowledged: these, in their order.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until its connection has ended, and says how many were acknowledged.
    ///
    /// # Errors
    /// The broker sent what is no acknowledgement, or another one's.
    pub fn join(self) -> Result<u64, LoadError> {
        match self.thread.join() {
            Ok(Ok(()) | Err(LoadError::Closed(_))) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(LoadError::Refused("the publisher's thread ended".to_owned())),
        }
        Ok(self.acknowledged.load(Ordering::Relaxed))
    }
}

fn work(mut stream: TcpStream, acknowledged: &AtomicU64) -> Result<(), LoadError> {
    let template = template();
    let mut first = Vec::new();
    let mut next = 0;
    let mut publish = |out: &mut Vec<u8>| {
        template.append(out, Stamp { flow: 0, sequence: next, sent: clock::now() });
        next += 1;
    };
    (0..UNDER_WAY).for_each(|_| publish(&mut first));
    stream.write_all(&first).map_err(LoadError::io(DOING))?;
    let mut buffer = vec![0; BUFFER_LEN];
    let mut reader = Burst::new(&mut stream, &mut buffer, DOING);
    let mut expected = 0;
    let mut is_astray = false;
    loop {
        reader.read(|frame, out| {
            if frame.first != PUBACK {
                return;
            }
            is_astray |= frame.ack_id() != Some(packet_id(expected).to_be_bytes());
            expected += 1;
            publish(out);
        })?;
        if is_astray {
            return Err(LoadError::Refused("PUBACK out of order".to_owned()));
        }
        acknowledged.store(expected, Ordering::Relaxed);
    }
}

/// What is published, 256 bytes each.
#[must_use]
pub fn template() -> Template {
    Template::new(&PublishOptions {
        version: Version::V311,
        topic: TOPIC.to_owned(),
        varied: None,
        qos: 1,
        retain: false,
        payload_len: 256,
    })
}

/// Where it is published.
pub const TOPIC: &str = "load/durable";
const UNDER_WAY: u64 = 1_000;
const DOING: &str = "publishing to a broker that stores";
