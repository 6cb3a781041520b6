//! Connections that come to nothing: counted, and one line a minute for each kind.

use crate::cluster::frame::RefusalCode;
use crate::ports::clock::Tick;
use crate::runtime::line_limit::LineLimit;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection that was accepted came to nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// Too many have not said who they are, or too many peers are connected.
    TooMany,
    /// It did not say who it is in time, or left before.
    Silent,
    /// TLS failed.
    Tls,
    /// It is no broker.
    NotALink,
    /// It does not know the secret.
    Secret,
    /// It belongs to another cluster.
    Cluster,
    /// It looks for somebody else.
    Addressee,
    /// There is no wire version that both speak.
    WireVersion,
    /// The broker does not want it: it is dead, for one.
    NotWelcome,
    /// The broker takes no links yet: nothing is wrong, and it is counted apart.
    NotYet,
}

impl Refusal {
    /// What is said of it to whoever dialled.
    pub(super) fn code(self) -> RefusalCode {
        match self {
            Self::Secret | Self::Cluster => RefusalCode::Mistrust,
            Self::NotYet => RefusalCode::NotYet,
            Self::WireVersion => RefusalCode::WireVersion,
            Self::TooMany
            | Self::Silent
            | Self::Tls
            | Self::NotALink
            | Self::Addressee
            | Self::NotWelcome => RefusalCode::Other,
        }
    }
}

/// The count and the lines of each kind.
#[derive(Debug)]
pub(super) struct Refusals([OneKind; KINDS]);

#[derive(Debug)]
struct OneKind {
    count: AtomicU64,
    lines: LineLimit,
}

impl Refusals {
    pub(super) fn new() -> Self {
        let one = || OneKind { count: AtomicU64::new(0), lines: LineLimit::per_minute(1) };
        Self(std::array::from_fn(|_| one()))
    }

    /// Counts one. Tells whether a line may be written, and how many were not since the last.
    pub(super) fn note(&self, refusal: Refusal, now: Tick) -> Option<u64> {
        self.count(refusal);
        self.of(refusal).lines.allow(now)
    }

    /// Counts one of which there is nothing to tell.
    pub(super) fn count(&self, refusal: Refusal) {
        self.of(refusal).count.fetch_add(1, Ordering::Relaxed);
    }

    /// Those that came to nothing and will not come to more.
    pub(super) fn total(&self) -> u64 {
        let all: u64 = self.0.iter().map(|kind| kind.count.load(Ordering::Relaxed)).sum();
        all.saturating_sub(self.put_off())
    }

    /// Those that came too early.
    pub(super) fn put_off(&self) -> u64 {
        self.of(Refusal::NotYet).count.load(Ordering::Relaxed)
    }

    fn of(&self, refusal: Refusal) -> &OneKind {
        self.0.get(refusal as usize).expect("there is one for each kind")
    }
}

const KINDS: usize = Refusal::NotYet as usize + 1;
