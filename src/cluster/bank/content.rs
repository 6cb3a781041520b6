//! What the znodes of the bank hold: one line of text, so that a person can read the books.

use bytes::Bytes;

use super::funds::Funds;
use crate::cluster::identity::BootId;

pub(super) fn encode_free(free: Funds) -> Bytes {
    Bytes::from(format!("{FREE} {free}"))
}

/// Reads the content of `/bank`. It is made empty; nothing is free before the leader has counted.
#[must_use]
pub fn decode_free(data: &[u8]) -> Option<Funds> {
    if data.is_empty() {
        return Some(Funds::ZERO);
    }
    Funds::parse(std::str::from_utf8(data).ok()?.strip_prefix(FREE)?.strip_prefix(' ')?)
}

pub(super) fn encode_lease(boot_id: BootId, funds: Funds) -> Bytes {
    Bytes::from(format!("{LEASE} {boot_id} {funds}"))
}

/// Reads the content of a lease: whose, and how much.
#[must_use]
pub fn decode_lease(data: &[u8]) -> Option<(BootId, Funds)> {
    let text = std::str::from_utf8(data).ok()?.strip_prefix(LEASE)?.strip_prefix(' ')?;
    let (boot_id, funds) = text.split_once(' ')?;
    Some((BootId::parse(boot_id)?, Funds::parse(funds)?))
}

/// The first word of each content: what it is, and in which version of this form.
const FREE: &str = "free/1";
const LEASE: &str = "lease/1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_read_back_and_not_taken_for_each_other() {
        let funds = Funds { topics: 7, znode_bytes: 8, relay_bytes: 9 };
        assert_eq!(decode_free(&encode_free(funds)), Some(funds));
        assert_eq!(decode_lease(&encode_lease(BootId(5), funds)), Some((BootId(5), funds)));
        assert_eq!(decode_free(&encode_lease(BootId(5), funds)), None);
        assert_eq!(decode_lease(&encode_free(funds)), None);
        assert_eq!(decode_free(b"\xff"), None);
        assert_eq!(decode_free(b""), Some(Funds::ZERO), "it was made, and nobody has counted yet");
    }
}
