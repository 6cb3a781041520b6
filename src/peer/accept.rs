//! The listener of links, and the tasks that read them.

use crate::cluster::frame::{RefusalCode, Welcome};
use crate::cluster::identity::BootId;
use crate::cluster::wire::NOBODY;
use crate::peer::accepted::ReadRight;
use crate::peer::error::{LinkError, chain};
use crate::peer::handshake::Caller;
use crate::peer::incoming::Incoming;
use crate::peer::links::Ground;
use crate::peer::refusal::Refusal;
use crate::peer::stream::{LinkStream, set_up};
use crate::runtime::ShardHandle;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsStream};

/// Accepts links until the shutdown begins.
pub(super) async fn accept(listener: TcpListener, ground: Arc<Ground>) {
    let shutdown = ground.shutdown.clone();
    tokio::select! {
        () = shutdown.begun() => {}
        () = accept_all(&listener, &ground) => {}
    }
}

async fn accept_all(listener: &TcpListener, ground: &Arc<Ground>) {
    loop {
        match poll_fn(|cx| poll_accept(listener, ground, cx)).await {
            (shard, Ok((stream, address))) => welcome(&shard, stream, address, ground),
            (_, Err(error)) => {
                if let Some(unsaid) = ground.accept_lines.allow(ground.clock.now()) {
                    tracing::error!(%error, unsaid, "cannot accept links of peers");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Accepts in the context of the shard that will read the link.
fn poll_accept(
    listener: &TcpListener,
    ground: &Ground,
    cx: &mut Context<'_>,
) -> Poll<(ShardHandle, io::Result<(TcpStream, SocketAddr)>)> {
    let shard = ground.shards.pick();
    let accepted = ready!(shard.enter(|| listener.poll_accept(cx)));
    Poll::Ready((shard.clone(), accepted))
}

fn welcome(shard: &ShardHandle, stream: TcpStream, address: SocketAddr, ground: &Arc<Ground>) {
    let Some(half_open) = HalfOpen::new(&ground.half_open, ground.options.half_open_max) else {
        return refuse(ground, Refusal::TooMany, address, "too many have not said who they are");
    };
    let id = shard.id();
    let ground = ground.clone();
    shard.spawn("link from a peer", async move {
        let shutdown = ground.shutdown.clone();
        tokio::select! {
            () = shutdown.begun() => {}
            () = serve(stream, address, id, half_open, &ground) => {}
        }
    });
}

/// One connection, from the first byte to its end.
async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    shard: usize,
    half_open: HalfOpen,
    ground: &Ground,
) {
    let asked = tokio::time::timeout(ground.options.handshake_timeout, ask(stream, ground)).await;
    let (mut stream, caller) = match asked.unwrap_or(Err(LinkError::Silent)) {
        Ok(asked) => asked,
        Err(error) => return refuse(ground, kind(&error), address, &chain(&error)),
    };
    let admitted = admit(&caller, address, ground).await;
    let (answer, right) = match admitted {
        Ok(Some((welcome, right))) => (welcome, Ok(right)),
        Ok(None) => return,
        Err(objection) => (objection.in_words(), Err(objection)),
    };
    let said = caller.answer(&mut stream, &answer, &ground.options.secret);
    let said = tokio::time::timeout(ground.options.handshake_timeout, said).await;
    drop(half_open);
    let right = match right {
        Ok(right) => right,
        Err(objection) => {
            let reason = format!("{} dials: {}", caller.hello.name, objection.reason);
            return refuse(ground, objection.kind, address, &reason);
        }
    };
    if !matches!(said, Ok(Ok(()))) {
        return;
    }
    read(stream, &caller, shard, &right, ground).await;
}

async fn ask(stream: TcpStream, ground: &Ground) -> Result<(LinkStream, Caller), LinkError> {
    set_up(&stream).map_err(LinkError::Broken)?;
    let mut stream = match &ground.tls {
        None => LinkStream::Plain(stream),
        Some(tls) => {
            let acceptor = TlsAcceptor::from(tls.current().server.clone());
            let stream = acceptor.accept(stream).await.map_err(LinkError::Tls)?;
            LinkStream::Tls(Box::new(TlsStream::Server(stream)))
        }
    };
    let caller = Caller::ask(&mut stream, &ground.options.secret).await?;
    Ok((stream, caller))
}

/// Why a caller is sent away.
struct Objection {
    kind: Refusal,
    reason: String,
    boot_id: BootId,
}

impl Objection {
    /// It says nothing of us but the reason.
    fn in_words(&self) -> Welcome {
        let (reason, boot_id) = (self.reason.clone(), self.boot_id);
        Welcome::Refused { reason, boot_id, code: self.kind.code() }
    }
}

/// Decides on a caller. `None`: it has dialled once more meanwhile.
async fn admit<'a>(
    caller: &Caller,
    address: SocketAddr,
    ground: &'a Ground,
) -> Result<Option<(Welcome, ReadRight<'a>)>, Objection> {
    object(caller, ground)?;
    let now = ground.clock.now();
    let boot_id = caller.hello.boot_id;
    let right = ground.accepted.announce(boot_id, address, now, ground.options.links_max);
    let objection = |kind, reason| Objection { kind, reason, boot_id: ground.boot_id() };
    let mut right =
        right.ok_or_else(|| objection(Refusal::TooMany, "too many peers are connected".into()))?;
    if !right.take().await {
        return Ok(None);
    }
    // While it waited we may have become another.
    let wire = object(caller, ground)?;
    match ground.receiver.hello(&caller.hello) {
        Welcome::Accepted { received, .. } => {
            Ok(Some((Welcome::Accepted { wire, received }, right)))
        }
        Welcome::Refused { reason, boot_id, code } => {
            let kind = match code {
                RefusalCode::NotYet => Refusal::NotYet,
                RefusalCode::WireVersion => Refusal::WireVersion,
                RefusalCode::Mistrust | RefusalCode::Other => Refusal::NotWelcome,
            };
            Err(Objection { kind, reason, boot_id })
        }
    }
}

/// What is wrong with a caller, as far as the link knows; or the wire version to speak.
fn object(caller: &Caller, ground: &Ground) -> Result<u16, Objection> {
    let Caller { hello, is_proven, .. } = caller;
    let boot_id = ground.boot_id();
    let options = &ground.options;
    if !is_proven {
        let reason = "the link secrets differ".into();
        return Err(Objection { kind: Refusal::Secret, reason, boot_id: NOBODY });
    }
    let objection = |kind, reason| Err(Objection { kind, reason, boot_id });
    if hello.cluster != options.cluster {
        let reason =
            format!("the clusters differ: {:?} here, {:?} there", options.cluster, hello.cluster);
        return Err(Objection { kind: Refusal::Cluster, reason, boot_id: NOBODY });
    }
    if hello.to != boot_id || hello.boot_id == boot_id {
        let reason = format!("this is {} as {boot_id:?}, not {:?}", options.name, hello.to);
        return objection(Refusal::Addressee, reason);
    }
    options.wire.common(hello.wire).ok_or_else(|| {
        let (ours, theirs) = (options.wire, hello.wire);
        let reason = format!(
            "no common wire version: {} to {} here, {} to {} there",
            ours.oldest, ours.newest, theirs.oldest, theirs.newest
        );
        Objection { kind: Refusal::WireVersion, reason, boot_id }
    })
}

async fn read(
    stream: LinkStream,
    caller: &Caller,
    shard: usize,
    right: &ReadRight<'_>,
    ground: &Ground,
) {
    let from = caller.hello.boot_id;
    let mut incoming = Incoming::new(stream, from, shard, ground);
    let error = tokio::select! {
        // Once it is cut, no batch is handed on any more.
        biased;
        () = right.cut() => return,
        error = poll_fn(|cx| incoming.poll(cx)) => error,
    };
    let peer = &caller.hello.name;
    if matches!(error, LinkError::Ended | LinkError::Broken(_)) {
        tracing::debug!(%peer, "a link from a peer ended: {}", chain(&error));
    } else if let Some(unsaid) = ground.read_lines.allow(ground.clock.now()) {
        tracing::warn!(%peer, unsaid, "a link from a peer is closed: {}", chain(&error));
    }
}

fn refuse(ground: &Ground, refusal: Refusal, address: SocketAddr, reason: &str) {
    if refusal == Refusal::NotYet {
        ground.refusals.count(refusal);
        return tracing::debug!(%address, "a link from a peer is put off: {reason}");
    }
    if let Some(unsaid) = ground.refusals.note(refusal, ground.clock.now()) {
        tracing::warn!(%address, unsaid, "a link from a peer is refused: {reason}");
    }
}

fn kind(error: &LinkError) -> Refusal {
    match error {
        LinkError::Tls(_) => Refusal::Tls,
        LinkError::TimedOut | LinkError::Silent | LinkError::Ended | LinkError::Broken(_) => {
            Refusal::Silent
        }
        LinkError::Resolve(_)
        | LinkError::NoAddress
        | LinkError::Connect(_)
        | LinkError::TlsName(_)
        | LinkError::Refused { .. }
        | LinkError::NotProven
        | LinkError::WireVersion(_)
        | LinkError::Wire(_)
        | LinkError::Cursor(_)
        | LinkError::Receive(_)
        | LinkError::Restart
        | LinkError::Stuck
        | LinkError::Closed => Refusal::NotALink,
    }
}

/// A connection that has not said who it is: counted until it has.
struct HalfOpen(Arc<AtomicUsize>);

impl HalfOpen {
    fn new(count: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let half_open = Self(count.clone());
        (before < max).then_some(half_open)
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
