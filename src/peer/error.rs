//! Why a link does not stand, or no longer does.

use crate::cluster::frame::RefusalCode;
use crate::cluster::identity::BootId;
use crate::cluster::lane::CursorError;
use crate::cluster::wire::{NOBODY, WireError};
use crate::peer::receiver::ReceiveError;
use crate::peer::tls::LinkTlsError;
use std::io;

/// What ended a link, or kept it from standing. The link is dialled again, whatever it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("its address cannot be found yet")]
    Resolve(#[source] io::Error),
    #[error("its name has no address yet")]
    NoAddress,
    #[error("it cannot be reached")]
    Connect(#[source] io::Error),
    #[error("it does not answer in time")]
    TimedOut,
    #[error("it says nothing: do both use TLS, or neither?")]
    Silent,
    #[error("TLS fails: do both use it, with certificates of the same CA?")]
    Tls(#[source] io::Error),
    #[error(transparent)]
    TlsName(LinkTlsError),
    #[error("it refuses the link, {}: {reason}", known(*boot_id))]
    Refused { reason: String, boot_id: BootId, code: RefusalCode },
    #[error("it does not prove that it knows the link secret")]
    NotProven,
    #[error("it chose wire version {0}, which was not offered")]
    WireVersion(u16),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("it closed the connection")]
    Ended,
    #[error("it says what no broker would say")]
    Wire(#[from] WireError),
    #[error("it cannot go on where it is")]
    Cursor(#[from] CursorError),
    #[error("a batch was not taken")]
    Receive(#[from] ReceiveError),
    #[error("the control stream was cut, and begins anew")]
    Restart,
    #[error("it receives nothing of what is sent to it")]
    Stuck,
    /// The lane is closed: not dialled again.
    #[error("the peer is gone for good")]
    Closed,
}

impl LinkError {
    /// Whether it is in doubt that the peer belongs to this cluster at all: another secret, another
    /// name of the cluster, a certificate of somebody else. Then nothing is to reach it by another way.
    pub(super) fn is_mistrust(&self) -> bool {
        match self {
            Self::NotProven | Self::TlsName(_) => true,
            // A connection that broke in the handshake says nothing.
            Self::Tls(error) => error.kind() == io::ErrorKind::InvalidData,
            Self::Refused { code, .. } => *code == RefusalCode::Mistrust,
            Self::Resolve(_)
            | Self::NoAddress
            | Self::Connect(_)
            | Self::TimedOut
            | Self::Silent
            | Self::WireVersion(_)
            | Self::Broken(_)
            | Self::Ended
            | Self::Wire(_)
            | Self::Cursor(_)
            | Self::Receive(_)
            | Self::Restart
            | Self::Stuck
            | Self::Closed => false,
        }
    }
}

/// An error in one line, with what caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

/// Who answered, as far as it said.
fn known(boot_id: BootId) -> String {
    if boot_id == NOBODY { "nameless".to_owned() } else { format!("as {boot_id:?}") }
}
