//! All links of a broker.

use crate::cluster::frame::{Cursors, Hello};
use crate::cluster::identity::{BootId, Member};
use crate::cluster::lane::Lane;
use crate::peer::accept::accept;
use crate::peer::accepted::AcceptedLinks;
use crate::peer::dial::dial;
use crate::peer::incoming::IncomingCounters;
use crate::peer::link::Link;
use crate::peer::options::LinkOptions;
use crate::peer::receiver::Receiver;
use crate::peer::refusal::Refusals;
use crate::peer::status::{LinkCounts, LinkStatus};
use crate::peer::tls::{LinkTls, LinkTlsError};
use crate::runtime::line_limit::LineLimit;
use crate::runtime::port_owner::owner_of;
use crate::runtime::shard::ShardHandles;
use crate::runtime::{Clock, Shutdown};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What links stand on.
#[derive(Clone)]
pub struct LinkContext {
    /// Who takes what peers send.
    pub receiver: Arc<dyn Receiver>,
    /// Where links live.
    pub shards: Arc<ShardHandles>,
    /// What time it is.
    pub clock: Clock,
    /// When it begins, every link ends. What is to be sent before is to be waited for before.
    pub shutdown: Shutdown,
}

/// All links of a broker. Clones are the same links.
#[derive(Clone, Debug)]
pub struct Links {
    pub(super) ground: Arc<Ground>,
    local_address: SocketAddr,
}

/// Why links cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LinkStartError {
    /// The files of TLS are wrong.
    #[error("TLS between brokers cannot be set up")]
    Tls(#[source] LinkTlsError),
    /// There is nothing to listen on.
    #[error(
        "cannot listen for other brokers on {address}{}: choose another link port or address",
        owner.as_ref().map_or_else(String::new, |owner| format!(", which {owner} has"))
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Who has the port, if the system tells.
        owner: Option<String>,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What all tasks of the links share.
pub(super) struct Ground {
    pub(super) options: LinkOptions,
    pub(super) receiver: Arc<dyn Receiver>,
    pub(super) shards: Arc<ShardHandles>,
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
    pub(super) tls: Option<LinkTls>,
    pub(super) accepted: AcceptedLinks,
    pub(super) refusals: Refusals,
    pub(super) counters: IncomingCounters,
    pub(super) half_open: Arc<AtomicUsize>,
    pub(super) accept_lines: LineLimit,
    pub(super) read_lines: LineLimit,
    boot_id: Mutex<BootId>,
    dialled: Mutex<BTreeMap<BootId, Arc<Link>>>,
}

impl Links {
    /// Listens for links of peers. Nobody is dialled yet.
    ///
    /// # Errors
    ///
    /// When there is nothing to listen on, or the files of TLS are wrong.
    pub fn start(options: LinkOptions, context: LinkContext) -> Result<Self, LinkStartError> {
        let LinkContext { receiver, shards, clock, shutdown } = context;
        let tls = options.tls.clone().map(LinkTls::load).transpose();
        let tls = tls.map_err(LinkStartError::Tls)?;
        let (socket, local_address) = listen(options.listen)?;
        let ground = Arc::new(Ground {
            boot_id: Mutex::new(options.boot_id),
            options,
            receiver,
            shards,
            clock,
            shutdown,
            tls,
            accepted: AcceptedLinks::default(),
            refusals: Refusals::new(),
            counters: IncomingCounters::default(),
            half_open: Arc::default(),
            accept_lines: LineLimit::per_minute(1),
            read_lines: LineLimit::per_minute(1),
            dialled: Mutex::default(),
        });
        let shard = ground.shards.pick();
        let listener = shard.enter(|| tokio::net::TcpListener::from_std(socket));
        let listener = listener.map_err(|source| LinkStartError::Listen {
            address: local_address,
            owner: None,
            source,
        })?;
        shard.spawn("acceptor of links", accept(listener, ground.clone()));
        Ok(Self { ground, local_address })
    }

    /// Where it listens: for the own znode, unless another address leads here.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Dials `member` from now on, and sends it what `lane` has. A member that is dialled already is
    /// dialled at its present address next time, and keeps the lane that it has. A boot id that was
    /// closed is not opened again: the sequence numbers of a second lane would be known already.
    pub fn open(&self, member: &Member, lane: Arc<Lane>) {
        let mut dialled = self.ground.dialled.lock();
        if let Some(link) = dialled.get(&member.boot_id) {
            return link.set_address(&member.link_address);
        }
        let link = Link::new(&member.name, member.boot_id, &member.link_address, lane);
        let link = Arc::new(link);
        dialled.insert(member.boot_id, link.clone());
        drop(dialled);
        let ground = self.ground.clone();
        ground.shards.pick().spawn("link to a peer", dial(link, ground.clone()));
    }

    /// The peer is gone for good: its lane is closed, it is not dialled any more, and what it sends
    /// is not read any more. That it does not come back is for [`Receiver::hello`] to see to.
    pub fn close(&self, boot_id: BootId) {
        if let Some(link) = self.ground.dialled.lock().remove(&boot_id) {
            end(&link);
        }
        self.ground.accepted.cut(boot_id);
    }

    /// This broker has left: it dials nobody any more, and waits until its peers have heard of it and
    /// have closed their links to it, so that none of them finds one broken. At most for `limit`.
    pub async fn part(&self, limit: Duration) {
        self.end_dialled();
        let all_closed = async {
            while self.ground.accepted.count() > 0 {
                tokio::time::sleep(PART_POLL).await;
            }
        };
        let _in_time = tokio::time::timeout(limit, all_closed).await;
    }

    /// Closes the connection that was dialled to a peer, if it stands, and dials again: nothing gets
    /// through.
    pub fn redial(&self, boot_id: BootId) {
        if let Some(link) = self.ground.dialled.lock().get(&boot_id) {
            link.redial.notify_waiters();
        }
    }

    /// This broker was declared dead and goes on as another: all links end, all lanes are closed,
    /// and peers find only the new boot id here.
    pub fn restart_as(&self, boot_id: BootId) {
        *self.ground.boot_id.lock() = boot_id;
        self.end_dialled();
        self.ground.accepted.cut_all();
    }

    fn end_dialled(&self) {
        let dialled = std::mem::take(&mut *self.ground.dialled.lock());
        for link in dialled.values() {
            end(link);
        }
    }

    /// Reads the files of TLS again, for the connections to come.
    ///
    /// # Errors
    ///
    /// When a file is missing or wrong; everything stays as it was then.
    pub fn reload_tls(&self) -> Result<(), LinkTlsError> {
        self.ground.tls.as_ref().map_or(Ok(()), LinkTls::reload)
    }

    /// Every peer that is dialled, in the order of their boot ids.
    #[must_use]
    pub fn status(&self) -> Vec<LinkStatus> {
        let links: Vec<_> = self.ground.dialled.lock().values().cloned().collect();
        let with_accepted = |link: &Arc<Link>| LinkStatus {
            accepted: self.ground.accepted.status(link.boot_id),
            ..link.status()
        };
        links.iter().map(with_accepted).collect()
    }

    /// Counts over all links.
    #[must_use]
    pub fn counts(&self) -> LinkCounts {
        let ground = &self.ground;
        LinkCounts {
            refused: ground.refusals.total(),
            put_off: ground.refusals.put_off(),
            half_open: ground.half_open.load(Ordering::Relaxed),
            accepted: ground.accepted.count(),
            received_bytes: ground.counters.bytes.load(Ordering::Relaxed),
            received_batches: ground.counters.batches.load(Ordering::Relaxed),
        }
    }
}

impl Ground {
    /// The present life of this broker.
    pub(super) fn boot_id(&self) -> BootId {
        *self.boot_id.lock()
    }

    /// What we say to the life `to` of a broker, of whose frames to it those up to `gone` are gone.
    pub(super) fn hello(&self, to: BootId, gone: Cursors) -> Hello {
        Hello {
            cluster: self.options.cluster.clone(),
            name: self.options.name.clone(),
            boot_id: self.boot_id(),
            to,
            wire: self.options.wire,
            gone,
        }
    }
}

impl fmt::Debug for Ground {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ground").field("options", &self.options).finish_non_exhaustive()
    }
}

impl fmt::Debug for LinkContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LinkContext").finish_non_exhaustive()
    }
}

fn end(link: &Link) {
    if let Some(waker) = link.lane.close() {
        waker.wake();
    }
    link.closed.begin();
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), LinkStartError> {
    // The standard library sets SO_REUSEADDR: a restart does not wait for old connections.
    let bound = TcpListener::bind(address).and_then(|socket| {
        socket.set_nonblocking(true)?;
        let local_address = socket.local_addr()?;
        Ok((socket, local_address))
    });
    let owner = || owner_of(address.port()).filter(|_| address.port() != 0);
    bound.map_err(|source| LinkStartError::Listen { address, owner: owner(), source })
}

/// How often it is seen whether links are closed.
const PART_POLL: Duration = Duration::from_millis(5);
