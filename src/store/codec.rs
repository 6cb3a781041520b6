//! Values as columns hold them. Numbers without a sign are stored with the same bits and one; bytes
//! are in the order in which the values are.

use std::sync::Arc;

use bytes::{Buf, BufMut};
use smallvec::SmallVec;

use crate::mqtt::{QoS, RetainHandling, SubscriptionOptions, TopicFilter};
use crate::ports::auth::SessionUser;
use crate::ports::message::SubscriptionTag;
use crate::ports::store::{Epoch, OwnerId, RetainedVersion};

pub(super) fn owner_bytes(owner: OwnerId) -> [u8; 16] {
    owner.0.to_be_bytes()
}

pub(super) fn owner_of(bytes: &[u8]) -> Option<OwnerId> {
    Some(OwnerId(u128::from_be_bytes(bytes.try_into().ok()?)))
}

/// Compared byte by byte they are in the order of the epochs.
pub(super) fn epoch_bytes(epoch: Epoch) -> [u8; 24] {
    let mut bytes = [0; 24];
    let mut out = &mut bytes[..];
    out.put_u64(epoch.era);
    out.put_u64(epoch.slots.cast_unsigned() ^ SIGN);
    out.put_u64(epoch.counter);
    bytes
}

pub(super) fn epoch_of(mut bytes: &[u8]) -> Option<Epoch> {
    if bytes.len() != 24 {
        return None;
    }
    let era = bytes.get_u64();
    let slots = (bytes.get_u64() ^ SIGN).cast_signed();
    Some(Epoch { era, slots, counter: bytes.get_u64() })
}

/// Compared byte by byte they are in the order of the versions.
pub(super) fn version_bytes(version: RetainedVersion) -> [u8; 24] {
    let mut bytes = [0; 24];
    let mut out = &mut bytes[..];
    out.put_u64(version.time);
    out.put_u128(version.owner.0);
    bytes
}

pub(super) fn version_of(mut bytes: &[u8]) -> Option<RetainedVersion> {
    if bytes.len() != 24 {
        return None;
    }
    let time = bytes.get_u64();
    Some(RetainedVersion { time, owner: OwnerId(bytes.get_u128()) })
}

/// The QoS and the RETAIN flag.
pub(super) fn flags(qos: QoS, retain: bool) -> i16 {
    i16::from(qos.bits()) | if retain { RETAIN } else { 0 }
}

pub(super) fn qos_of(flags: i16) -> Option<QoS> {
    QoS::from_bits(u8::try_from(flags & 0b11).ok()?)
}

pub(super) fn retain_of(flags: i16) -> bool {
    flags & RETAIN != 0
}

/// The user of a Session: nothing where nobody knows, and what nobody's name is for who has proven
/// nothing.
pub(super) fn user_bytes(user: &SessionUser) -> Option<Vec<u8>> {
    match user {
        SessionUser::Unknown => None,
        SessionUser::Known(None) => Some(vec![ANONYMOUS]),
        SessionUser::Known(Some(name)) => Some([&[NAMED], name.as_bytes()].concat()),
    }
}

pub(super) fn user_of(bytes: Option<&[u8]>) -> Option<SessionUser> {
    match bytes {
        None => Some(SessionUser::Unknown),
        Some([ANONYMOUS]) => Some(SessionUser::Known(None)),
        Some([NAMED, name @ ..]) => {
            Some(SessionUser::Known(Some(std::str::from_utf8(name).ok()?.into())))
        }
        Some(_) => None,
    }
}

const ANONYMOUS: u8 = b'-';
const NAMED: u8 = b'=';

pub(super) fn options_bits(options: SubscriptionOptions) -> i16 {
    let handling = match options.retain_handling {
        RetainHandling::SendAtSubscribe => 0,
        RetainHandling::SendIfNew => 1,
        RetainHandling::DoNotSend => 2,
    };
    i16::from(options.qos.bits())
        | i16::from(options.no_local) << 2
        | i16::from(options.retain_as_published) << 3
        | handling << 4
}

pub(super) fn options_of(bits: i16) -> Option<SubscriptionOptions> {
    Some(SubscriptionOptions {
        qos: qos_of(bits)?,
        no_local: bits & 1 << 2 != 0,
        retain_as_published: bits & 1 << 3 != 0,
        retain_handling: match bits >> 4 {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        },
    })
}

/// The Subscription Identifiers behind their number, then the filter of the Shared Subscription.
pub(super) fn tag_bytes(tag: Option<&SubscriptionTag>) -> Option<Vec<u8>> {
    let tag = tag?;
    let mut bytes = Vec::new();
    bytes.put_u32(u32::try_from(tag.subscription_ids.len()).expect("a client has fewer than that"));
    tag.subscription_ids.iter().for_each(|id| bytes.put_u32(*id));
    bytes.put_slice(tag.shared_filter.as_ref().map_or("", TopicFilter::as_str).as_bytes());
    Some(bytes)
}

pub(super) fn tag_of(mut bytes: &[u8]) -> Option<Arc<SubscriptionTag>> {
    let mut subscription_ids = SmallVec::new();
    for _ in 0..bytes.try_get_u32().ok()? {
        subscription_ids.push(bytes.try_get_u32().ok()?);
    }
    let filter = std::str::from_utf8(bytes).ok()?;
    let shared_filter =
        if filter.is_empty() { None } else { Some(TopicFilter::parse(filter).ok()?) };
    Some(Arc::new(SubscriptionTag { subscription_ids, shared_filter }))
}

/// A moment far away is the last one there is.
pub(super) fn millis(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

pub(super) fn millis_of(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

const SIGN: u64 = 1 << 63;
const RETAIN: i16 = 1 << 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epochs() -> impl Strategy<Value = Epoch> {
        (0..3u64, -2..3i64, any::<u64>()).prop_map(|(era, slots, counter)| Epoch {
            era,
            slots,
            counter,
        })
    }

    proptest! {
        #[test]
        fn bytes_are_in_the_order_of_epochs(one in epochs(), other in epochs()) {
            prop_assert_eq!(epoch_bytes(one).cmp(&epoch_bytes(other)), one.cmp(&other));
            prop_assert_eq!(epoch_of(&epoch_bytes(one)), Some(one));
        }

        #[test]
        fn bytes_are_in_the_order_of_versions(one: (u64, u128), other: (u64, u128)) {
            let version = |(time, owner)| RetainedVersion { time, owner: OwnerId(owner) };
            let (one, other) = (version(one), version(other));
            prop_assert_eq!(version_bytes(one).cmp(&version_bytes(other)), one.cmp(&other));
            prop_assert_eq!(version_of(&version_bytes(one)), Some(one));
        }

        #[test]
        fn tags_are_read_back(ids: Vec<u32>, is_shared: bool) {
            let shared_filter = is_shared.then(|| TopicFilter::parse("$share/g/a/+").unwrap());
            let tag = SubscriptionTag { subscription_ids: ids.into(), shared_filter };
            let read = tag_of(&tag_bytes(Some(&tag)).unwrap());
            prop_assert_eq!(read.as_deref(), Some(&tag));
        }
    }

    #[test]
    fn options_are_read_back() {
        for bits in 0..48 {
            let Some(options) = options_of(bits) else { continue };
            assert_eq!(options_bits(options), bits);
        }
        assert_eq!(options_of(3), None);
        assert_eq!(options_of(3 << 4), None);
    }
}
