//! Links between brokers, over TCP.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::broker::peers::receive::ReceiveError;
use crate::cluster::frame::{Cursors, Hello, Welcome};
use crate::cluster::identity::{BootId, Member, WireVersions};
use crate::cluster::lane::{Lane, Taken};
use crate::cluster::wire::{self, Batch, BatchHeader, Letter};
use crate::runtime::background::BackgroundHandle;
use crate::runtime::shard::ShardHandles;

/// Takes what comes by links.
pub trait Receiver: Send + Sync + 'static {
    /// Somebody dials.
    fn hello(&self, hello: &Hello) -> Welcome;
    /// A batch.
    ///
    /// # Errors
    /// The link is to be closed.
    fn receive(&self, from: BootId, batch: &Batch) -> Result<Cursors, ReceiveError>;
}

/// The links to all peers.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

struct Inner {
    cluster: String,
    name: String,
    boot_id: Mutex<BootId>,
    background: BackgroundHandle,
    shards: Arc<ShardHandles>,
    open: Mutex<HashMap<BootId, (String, Arc<tokio::sync::Notify>)>>,
}

impl Links {
    /// Starts accepting.
    #[must_use]
    pub fn start(
        cluster: String,
        name: String,
        boot_id: BootId,
        listener: TcpListener,
        receiver: Arc<dyn Receiver>,
        background: BackgroundHandle,
        shards: Arc<ShardHandles>,
    ) -> Self {
        let inner = Arc::new(Inner {
            cluster,
            name,
            boot_id: Mutex::new(boot_id),
            background,
            shards,
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&inner);
        inner.background.spawn("link acceptor", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = Arc::clone(&receiver);
                let Ok(stream) = stream.into_std() else { continue };
                accepting.shards.pick().spawn("link in", async move {
                    let Ok(stream) = TcpStream::from_std(stream) else { return };
                    let _ = accept(stream, receiver).await;
                });
            }
        });
        Self(inner)
    }
    /// A peer.
    pub fn open(&self, member: &Member, lane: Arc<Lane>) {
        let stop = Arc::new(tokio::sync::Notify::new());
        let entry = (member.link_address.clone(), Arc::clone(&stop));
        if self.0.open.lock().insert(member.boot_id, entry).is_some() {
            return;
        }
        let inner = Arc::clone(&self.0);
        let (to, address) = (member.boot_id, member.link_address.clone());
        self.0.shards.pick().spawn("link out", async move {
            loop {
                if lane.is_closed() {
                    return;
                }
                let _ = dial(&inner, to, &address, &lane).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    /// Its record has changed.
    pub fn update(&self, _member: &Member) {}
    /// Whether somebody answers.
    pub fn ask(&self, _member: &Member) {}
    /// Gone.
    pub fn close(&self, boot_id: BootId) {
        self.0.open.lock().remove(&boot_id);
    }
    /// Anew.
    pub fn begin_life(&self, boot_id: BootId) {
        *self.0.boot_id.lock() = boot_id;
    }
}

async fn read_letter(stream: &mut TcpStream) -> io::Result<Bytes> {
    let len = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(len) + 32];
    stream.read_exact(&mut bytes).await?;
    bytes.truncate(usize::from(len));
    Ok(bytes.into())
}

async fn dial(inner: &Inner, to: BootId, address: &str, lane: &Lane) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut challenge = [0; wire::CHALLENGE_BYTES];
    stream.read_exact(&mut challenge).await?;
    let hello = Hello {
        cluster: inner.cluster.clone(),
        name: inner.name.clone(),
        boot_id: *inner.boot_id.lock(),
        to,
        wire: WireVersions::OURS,
        gone: lane.gone(),
    };
    let mut out = BytesMut::new();
    Letter { body: wire::encode_hello(&[0; 32], &hello), proof: [0; 32] }.encode(&mut out);
    stream.write_all(&out).await?;
    let body = read_letter(&mut stream).await?;
    match wire::decode_welcome(&body).map_err(io::Error::other)? {
        Welcome::Accepted { received, .. } => lane.rewind(received).map_err(io::Error::other)?,
        Welcome::Refused { reason, .. } => {
            tracing::debug!(address, reason, "link refused");
            return Ok(());
        }
    }
    let (mut read, mut write) = stream.into_split();
    let reading = async {
        let mut bytes = [0; wire::RECEIVED_BYTES];
        loop {
            if read.read_exact(&mut bytes).await.is_err() {
                return;
            }
            if lane.received(wire::decode_received(&bytes)).is_err() {
                return;
            }
        }
    };
    let writing = async {
        let mut batches = VecDeque::new();
        loop {
            let taken = std::future::poll_fn(|cx: &mut Context<'_>| {
                match lane.take(256 * 1024, cx.waker(), &mut batches) {
                    Taken::Nothing => Poll::Pending,
                    other => Poll::Ready(other),
                }
            })
            .await;
            if !matches!(taken, Taken::Batches) {
                return;
            }
            while let Some(mut batch) = batches.pop_front() {
                while batch.has_remaining() {
                    if write.write_buf(&mut batch).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let (mut reading, mut writing) = (Box::pin(reading), Box::pin(writing));
    std::future::poll_fn(|cx| {
        if Pin::new(&mut reading).as_mut().poll(cx).is_ready()
            || Pin::new(&mut writing).as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
    Ok(())
}

async fn accept(mut stream: TcpStream, receiver: Arc<dyn Receiver>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(&wire::challenge(&[0; 32])).await?;
    let body = read_letter(&mut stream).await?;
    let (_, hello) = wire::decode_hello(&body).map_err(io::Error::other)?;
    let welcome = receiver.hello(&hello);
    let mut out = BytesMut::new();
    Letter { body: wire::encode_welcome(&welcome), proof: [0; 32] }.encode(&mut out);
    stream.write_all(&out).await?;
    if !matches!(welcome, Welcome::Accepted { .. }) {
        return Ok(());
    }
    let mut buffer = BytesMut::with_capacity(256 * 1024);
    loop {
        let mut cursors = None;
        while let Some(header) =
            BatchHeader::peek(&buffer, wire::FRAME_BYTES_MAX).map_err(io::Error::other)?
        {
            if buffer.len() < header.batch_len {
                break;
            }
            let bytes = buffer.split_to(header.batch_len).freeze();
            let batch = Batch::new(header, bytes).map_err(io::Error::other)?;
            match receiver.receive(hello.boot_id, &batch) {
                Ok(received) => cursors = Some(received),
                Err(error) => {
                    tracing::warn!(%error, "link");
                    return Ok(());
                }
            }
        }
        if let Some(cursors) = cursors {
            stream.write_all(&wire::encode_received(cursors)).await?;
        }
        buffer.reserve(256 * 1024);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
