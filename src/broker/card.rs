//! What is known of a client beside its Session: for logs, the admin port and access control.

use std::fmt;
use std::sync::Arc;

use crate::mqtt::ProtocolVersion;
use crate::ports::auth::Identity;
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

/// Whose a Session is. Nobody else comes to it by its Client Identifier, which is no secret: what
/// waits in it is what this user may read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SessionUser {
    /// Nobody knows: it is of whoever comes next.
    Unknown,
    /// The one of this User Name; `None` for those who have proven nothing.
    Known(Option<Arc<str>>),
}

impl SessionUser {
    /// Whether one who comes is not kept away from the Session of this one.
    #[must_use]
    pub fn admits(&self, other: &Self) -> bool {
        self == other || *self == Self::Unknown || *other == Self::Unknown
    }

    /// This one, or the other where this one is not known.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        if *self == Self::Unknown { other.clone() } else { self.clone() }
    }
}

impl From<&Identity> for SessionUser {
    fn from(identity: &Identity) -> Self {
        Self::Known(identity.user_name.clone())
    }
}

impl fmt::Display for SessionUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("nobody knows whom"),
            Self::Known(None) => f.write_str("anonymous"),
            Self::Known(Some(name)) => write!(f, "{name:?}"),
        }
    }
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
