//! What is to be written for a topic: decided afresh from what is known whenever its turn comes.

use bytes::Bytes;

use super::boots::{Boot, Boots};
use super::known::{Flags, Kind, Known, Own, Seen};
use super::options::Lifetimes;
use super::record::{Content, Record};
use crate::cluster::identity::BootId;
use crate::cluster::version::Version;
use crate::ports::Tick;

/// The next write for a topic.
#[derive(Debug)]
pub(super) enum Plan {
    Nothing,
    Create(Draft),
    /// At this version of the znode.
    Set(Draft, i32),
    Delete(i32),
    /// To make room: nobody who lives pays for it, and it has no value.
    EvictOrphan(i32),
}

/// Content to be written.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) version: Version,
    pub(super) expires_at_millis: u64,
    pub(super) kind: Kind,
    pub(super) data: Bytes,
}

/// What a plan depends on beside the topic.
pub(super) struct Context<'a> {
    pub(super) now: Tick,
    pub(super) cluster_millis: u64,
    pub(super) own: BootId,
    pub(super) boots: &'a Boots,
    /// How long a registration lives without being refreshed.
    pub(super) lifetime_millis: u64,
    pub(super) lifetimes: &'a Lifetimes,
    /// Whose znodes are looked after; `None` unless we lead.
    pub(super) live_payers: Option<&'a [BootId]>,
    /// Whether there is so much that orphans without a value are to go before their time.
    pub(super) is_crowded: bool,
}

impl Context<'_> {
    pub(super) fn plan(&self, known: &Known) -> Plan {
        match (known.own.as_deref(), known.seen) {
            (Some(own), None) => Plan::Create(Draft::of(own)),
            (Some(own), Some(seen)) => self.plan_value(known, own, &seen),
            (None, None) if known.flags.has(Flags::WANTED) => {
                Plan::Create(self.registration(Version { time: 0, boot_id: self.own }))
            }
            (None, None) => Plan::Nothing,
            (None, Some(seen)) => self.plan_seen(known, &seen),
        }
    }

    /// Whether a topic calls for a write, or for a word to the broker.
    pub(super) fn needs_attention(&self, known: &Known) -> bool {
        if !known.is_certain() || known.flags.has(Flags::QUEUED) {
            return false;
        }
        self.is_own_void(known)
            || self.is_fading(known)
            || !matches!(self.plan(known), Plan::Nothing)
    }

    /// Whether the own value has no say any more: it has expired, or there is a later one.
    pub(super) fn is_own_void(&self, known: &Known) -> bool {
        let Some(own) = known.own.as_deref() else { return false };
        self.is_expired(own.expires_at_millis) || self.is_superseded(known)
    }

    /// Whether the tree has a later value than ours.
    pub(super) fn is_superseded(&self, known: &Known) -> bool {
        let (Some(own), Some(seen)) = (known.own.as_deref(), known.seen) else { return false };
        seen.version(self.boots) > own.version
    }

    /// Whether the registration will end soon, as nobody has said that it is used.
    pub(super) fn is_fading(&self, known: &Known) -> bool {
        let is_registration = known.seen.is_some_and(|seen| seen.kind == Kind::Registration);
        known.is_ours()
            && is_registration
            && known.own.is_none()
            && !known.flags.has(Flags::USED)
            && !known.flags.has(Flags::FADING)
            && self.is_old(known, self.lifetime_millis)
    }

    pub(super) fn is_expired(&self, expires_at_millis: u64) -> bool {
        expires_at_millis <= self.cluster_millis
    }

    fn plan_value(&self, known: &Known, own: &Own, seen: &Seen) -> Plan {
        let version = seen.version(self.boots);
        let is_to_keep = own.version == version
            && seen.payer == Boot::OWN
            && self.is_old(known, self.lifetimes.ttl_millis)
            // One that ends before the ensemble collects it needs no care.
            && own.expires_at_millis > self.cluster_millis.saturating_add(self.lifetimes.ttl_millis / 2);
        if seen.kind == Kind::Unreadable || !(own.version > version || is_to_keep) {
            return Plan::Nothing;
        }
        Plan::Set(Draft::of(own), seen.znode_version)
    }

    fn plan_seen(&self, known: &Known, seen: &Seen) -> Plan {
        if seen.kind == Kind::Unreadable {
            return Plan::Nothing;
        }
        if seen.payer != Boot::OWN {
            return self.plan_of_others(seen);
        }
        if self.is_expired(seen.expires_at_millis) {
            return Plan::Delete(seen.znode_version);
        }
        let is_registration = seen.kind == Kind::Registration;
        if is_registration
            && known.flags.has(Flags::USED)
            && self.is_old(known, self.lifetime_millis)
        {
            return Plan::Set(self.registration(seen.version(self.boots)), seen.znode_version);
        }
        Plan::Nothing
    }

    /// Only the leader sweeps what nobody pays for, and not before it has expired; when room is short
    /// what has no value goes at once. Whoever uses the topic registers it anew, and pays.
    fn plan_of_others(&self, seen: &Seen) -> Plan {
        let payer = self.boots.at(seen.payer);
        let is_orphan = self.live_payers.is_some_and(|live| !live.contains(&payer));
        if is_orphan
            && self.is_expired(
                seen.expires_at_millis.saturating_add(self.lifetimes.orphan_grace_millis),
            )
        {
            return Plan::Delete(seen.znode_version);
        }
        if is_orphan && self.is_crowded && seen.kind == Kind::Registration {
            return Plan::EvictOrphan(seen.znode_version);
        }
        Plan::Nothing
    }

    /// Whether half of what it lives has passed since it was written.
    fn is_old(&self, known: &Known, lives_millis: u64) -> bool {
        let half = lives_millis.min(self.lifetimes.ttl_millis) / 2;
        self.now.saturating_since(known.written_at) >= half
    }

    fn registration(&self, version: Version) -> Draft {
        let expires_at_millis = self.cluster_millis.saturating_add(self.lifetime_millis);
        let content = Content::Registration;
        let record = Record { version, payer: self.own, expires_at_millis, content };
        let kind = Kind::Registration;
        Draft { version, expires_at_millis, kind, data: record.encode() }
    }
}

impl Draft {
    fn of(own: &Own) -> Self {
        Self {
            version: own.version,
            expires_at_millis: own.expires_at_millis,
            kind: own.kind,
            data: own.data.clone(),
        }
    }
}
