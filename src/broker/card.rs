//! What is known of a client beside its Session: for logs, the admin port and access control.

use std::sync::Arc;

use crate::mqtt::ProtocolVersion;
use crate::ports::auth::{Identity, SessionUser};
use crate::ports::clock::Tick;

/// Where a connection comes from, as its listener saw it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// Address and port of the client, or of the client a proxy spoke for.
    pub address: Arc<str>,
    /// The listener it came in by.
    pub listener: Arc<str>,
    /// The common name of its TLS certificate.
    pub tls_common_name: Option<Arc<str>>,
}

/// A connected client, as others see it.
#[derive(Clone, Debug)]
pub struct ClientCard {
    /// Who it is.
    pub identity: Identity,
    /// Whether the User Name is known: it is not of a Session that a store or a broker of before has
    /// told us of.
    pub is_user_known: bool,
    /// Where it comes from.
    pub origin: Origin,
    /// The version it speaks.
    pub version: ProtocolVersion,
    /// Its Keep Alive in seconds, zero for none.
    pub keep_alive_secs: u16,
    /// Its Session Expiry Interval in seconds.
    pub session_expiry_secs: u32,
    /// When it connected.
    pub connected_at: Tick,
}

impl ClientCard {
    /// Whose its Session is.
    #[must_use]
    pub fn session_user(&self) -> SessionUser {
        if self.is_user_known { SessionUser::from(&self.identity) } else { SessionUser::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There may be a million. With the counts of its `Arc` it fills a size class of the allocator.
    #[test]
    fn a_card_is_small() {
        assert!(size_of::<ClientCard>() + 16 <= 128, "{}", size_of::<ClientCard>());
    }
}
