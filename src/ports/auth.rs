//! Authentication and authorisation: who may come in, and what they may do.
//!
//! A CONNECT waits for its answer without holding anything but itself: the request is handed over,
//! and the answer comes back through its completion.

use std::{fmt, sync::Arc};

use bytes::Bytes;

/// What a CONNECT says of who is there.
#[derive(Clone)]
pub struct AuthRequest {
    /// The Client Identifier.
    pub client_id: Arc<str>,
    /// The User Name.
    pub user_name: Option<Arc<str>>,
    /// The Password.
    pub password: Option<Bytes>,
    /// Where the connection comes from.
    pub peer: Arc<str>,
    /// The common name of its TLS certificate, which TLS has verified.
    pub tls_common_name: Option<Arc<str>>,
}

/// The password stays out of every log.
impl fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest")
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .field("has_password", &self.password.is_some())
            .field("peer", &self.peer)
            .field("tls_common_name", &self.tls_common_name)
            .finish()
    }
}

/// Who a client was found to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The Client Identifier.
    pub client_id: Arc<str>,
    /// The User Name that was proven.
    pub user_name: Option<Arc<str>>,
    /// Whether nothing was proven.
    pub anonymous: bool,
}

/// Whose a Session is. Nobody else comes to it by its Client Identifier, which is no secret: what
/// waits in it is what this user may read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum SessionUser {
    /// Nobody knows: it is of whoever comes next.
    #[default]
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

    /// Who comes back with this Client Identifier, and whether that is known.
    #[must_use]
    pub fn identify(&self, client_id: Arc<str>) -> (Identity, bool) {
        let (user_name, is_known) = match self {
            Self::Known(user_name) => (user_name.clone(), true),
            Self::Unknown => (None, false),
        };
        let anonymous = user_name.is_none();
        (Identity { client_id, user_name, anonymous }, is_known)
    }

    /// Bytes of its name.
    #[must_use]
    pub fn name_bytes(&self) -> usize {
        match self {
            Self::Known(Some(name)) => name.len(),
            Self::Known(None) | Self::Unknown => 0,
        }
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

/// The answer to an [`AuthRequest`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthVerdict {
    /// Come in.
    Granted(Identity),
    /// Stay out.
    Refused(RefusalReason),
}

/// Why a client stays out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefusalReason {
    /// User Name or Password is wrong: 0x86.
    BadUserNameOrPassword,
    /// Nothing was proven where something has to be: 0x87.
    NotAuthorized,
    /// The source cannot answer now: 0x88.
    Unavailable,
}

/// Takes the answer.
pub trait Completion: Send {
    /// Whether somebody still waits. An answer that nobody waits for need not be found: a CONNECT
    /// that was given up leaves its request behind. Once `false`, it stays so.
    fn is_wanted(&self) -> bool;

    /// Takes the answer; does not block.
    fn complete(self: Box<Self>, verdict: AuthVerdict);
}

/// The authenticator has as many requests as it takes. The CONNECT is refused with 0x89.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("too many clients are being authenticated")]
pub struct AuthBusy;

/// Decides who may come in.
pub trait Authenticator: Send + Sync {
    /// Hands a request over. `completion` is told once, from any thread, possibly before this
    /// returns; or never, when it is no longer wanted. It is never told when the request was not
    /// taken.
    ///
    /// # Errors
    /// As many requests are waiting as may.
    fn submit(&self, request: AuthRequest, completion: Box<dyn Completion>)
    -> Result<(), AuthBusy>;
}

/// Decides what a client may do.
pub trait Authorizer: Send + Sync {
    /// Whether `who` may publish to `topic`; asked of will messages too.
    fn may_publish(&self, who: &Identity, topic: &str) -> bool;
    /// Whether `who` may subscribe to `filter`, which may be one of a shared subscription.
    fn may_subscribe(&self, who: &Identity, filter: &str) -> bool;
    /// Goes up whenever earlier answers may be void, so that they can be kept until then.
    fn generation(&self) -> u64;
}
