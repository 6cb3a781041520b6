//! What links are configured with.

use crate::cluster::identity::{BootId, WireVersions};
use crate::cluster::wire::FRAME_BYTES_MAX;
use crate::peer::secret::Secret;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What [`Links`](super::Links) are started with.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// The cluster; peers of another one are sent away.
    pub cluster: String,
    /// The name of this broker.
    pub name: String,
    /// Its present life.
    pub boot_id: BootId,
    /// What it speaks.
    pub wire: WireVersions,
    /// Where it listens; port 0 is any free port.
    pub listen: SocketAddr,
    /// What all brokers of the cluster know.
    pub secret: Secret,
    /// TLS on every link; `None` for none.
    pub tls: Option<LinkTlsOptions>,
    /// The largest frame that is taken.
    pub frame_bytes_max: usize,
    /// Connections that have not said who they are, at most.
    pub half_open_max: usize,
    /// Peers that are connected to us, at most.
    pub links_max: usize,
    /// How long a handshake may take, and a connection to be made.
    pub handshake_timeout: Duration,
}

impl LinkOptions {
    /// The usual bounds, without TLS.
    #[must_use]
    pub fn new(cluster: &str, name: &str, boot_id: BootId, listen: SocketAddr) -> Self {
        Self {
            cluster: cluster.to_owned(),
            name: name.to_owned(),
            boot_id,
            wire: WireVersions::OURS,
            listen,
            secret: Secret::none(),
            tls: None,
            frame_bytes_max: FRAME_BYTES_MAX,
            half_open_max: 64,
            links_max: 256,
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

/// The files of TLS on links. Both ends show a certificate, and both ask for one of the shared CA.
#[derive(Clone, Debug)]
pub struct LinkTlsOptions {
    /// The own certificate and its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The CA that has signed the certificates of all brokers.
    pub ca: PathBuf,
    /// The name that every broker's certificate is for. `None`: that of the host that is dialled.
    pub server_name: Option<String>,
}
