//! Links to other brokers: one connection that we dial, for what we say, and one that we accept,
//! for what the other says.
//!
//! [`Links`] dials every peer it is told of and keeps dialling; what it sends comes from the
//! [`Lane`](crate::cluster::lane::Lane) of that peer, and what it receives goes to a [`Receiver`], on
//! a shard. On a connection, the one who accepted answers with cursors and nothing else.
//!
//! Invariants: a link is always read, whatever the receiver thinks of it; of one boot id at most one
//! accepted connection is read at a time; a batch is handed on only when it is whole, came from a
//! broker that knows the secret, and is meant for this boot id; no failure is fatal, and each is one
//! line a minute.

mod accept;
mod accepted;
mod ask;
mod authorities;
mod backoff;
mod dial;
mod error;
mod handshake;
mod incoming;
mod link;
mod links;
mod options;
mod outgoing;
mod receiver;
mod refusal;
mod seal;
mod secret;
mod status;
mod stream;
mod tls;
mod trouble;

pub use authorities::Authorities;
pub use links::{LinkContext, LinkStartError, Links};
pub use options::{LinkOptions, LinkTlsOptions};
pub use receiver::{ReceiveError, Receiver};
pub use seal::ClusterSeal;
pub use secret::Secret;
pub use status::{LinkCounts, LinkStatus};
pub use tls::LinkTlsError;
