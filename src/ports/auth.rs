//! Authentication and authorisation: who may come in, and what they may do.

use std::sync::Arc;

use bytes::Bytes;

/// What a CONNECT says of who is there.
#[derive(Clone, Debug)]
pub struct AuthRequest {
    /// The Client Identifier.
    pub client_id: Arc<str>,
    /// The User Name.
    pub user_name: Option<Arc<str>>,
    /// The Password.
    pub password: Option<Bytes>,
    /// Where the connection comes from.
    pub peer: Arc<str>,
    /// The common name of its TLS certificate.
    pub tls_common_name: Option<Arc<str>>,
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
    /// Known, but not welcome here: 0x87.
    NotAuthorized,
    /// The source cannot answer now: 0x88.
    Unavailable,
}

/// Takes the answer.
pub type Completion = Box<dyn FnOnce(AuthVerdict) + Send>;

/// The authenticator has as many requests as it takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("too many clients are being authenticated")]
pub struct AuthBusy;

/// Decides who may come in.
pub trait Authenticator: Send + Sync {
    /// Hands a request over; `completion` is called once, from any thread, possibly at once.
    fn submit(&self, request: AuthRequest, completion: Completion) -> Result<(), AuthBusy>;
}

/// Decides what a client may do.
pub trait Authorizer: Send + Sync {
    /// Whether `who` may publish to `topic`.
    fn may_publish(&self, who: &Identity, topic: &str) -> bool;
    /// Whether `who` may subscribe to `filter`.
    fn may_subscribe(&self, who: &Identity, filter: &str) -> bool;
    /// Goes up whenever earlier answers may be void.
    fn generation(&self) -> u64;
}
