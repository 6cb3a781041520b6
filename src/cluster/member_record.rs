//! What the znode of a broker says about it, as text that a person can read.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::identity::{BootId, Member, MemberState, WireVersions};

/// The content of `/brokers/<name>`. A field that a later program adds is skipped.
#[derive(Deserialize, Serialize)]
struct Record {
    boot_id: String,
    link_address: String,
    #[serde(default)]
    zone: String,
    wire: [u16; 2],
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<Seal>,
}

/// What tells brokers of one cluster from others.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Seal {
    /// The name of the cluster.
    pub cluster: String,
    /// That the broker knows the secret of the links, in hexadecimal digits. Empty where there is none.
    pub proof: String,
    /// The same of what it authenticates itself to ZooKeeper with.
    #[serde(default)]
    pub access: String,
    /// How it propagates messages. Empty where an earlier program does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub propagation: String,
    /// Fingerprints of those who sign the certificates of its links; none of them where it has no
    /// TLS. An earlier program does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<Vec<String>>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Joining,
    Up,
    Draining,
}

/// Why the content of a znode tells nothing about a broker.
#[derive(Debug, thiserror::Error)]
pub enum MemberRecordError {
    /// It is larger than any that we write.
    #[error("it has {0} bytes")]
    Size(usize),
    /// It is no such text.
    #[error("it is not the record of a broker")]
    Text(#[source] serde_json::Error),
    /// Its boot id is none.
    #[error("it has no boot id")]
    BootId,
}

/// What the znode of `member` is to hold.
#[must_use]
pub fn encode(member: &Member, seal: Option<Seal>) -> Bytes {
    let record = Record {
        boot_id: member.boot_id.to_string(),
        link_address: member.link_address.clone(),
        zone: member.zone.clone(),
        wire: [member.wire.oldest, member.wire.newest],
        state: match member.state {
            MemberState::Joining => State::Joining,
            MemberState::Up => State::Up,
            MemberState::Draining => State::Draining,
        },
        seal,
    };
    serde_json::to_vec(&record).expect("a record of texts and numbers can be written").into()
}

/// The broker called `name`, from what its znode holds.
///
/// # Errors
///
/// Something else made the znode, or a program that is not compatible.
pub fn decode(name: &str, bytes: &[u8]) -> Result<Member, MemberRecordError> {
    decode_sealed(name, bytes).map(|(member, _seal)| member)
}

/// The same, with what tells whether it is one of ours.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_sealed(
    name: &str,
    bytes: &[u8],
) -> Result<(Member, Option<Seal>), MemberRecordError> {
    if bytes.len() > BYTES_MAX {
        return Err(MemberRecordError::Size(bytes.len()));
    }
    let record: Record = serde_json::from_slice(bytes).map_err(MemberRecordError::Text)?;
    let [oldest, newest] = record.wire;
    let member = Member {
        name: Arc::from(name),
        boot_id: BootId::parse(&record.boot_id).ok_or(MemberRecordError::BootId)?,
        link_address: record.link_address,
        zone: record.zone,
        wire: WireVersions { oldest, newest },
        state: match record.state {
            State::Joining => MemberState::Joining,
            State::Up => MemberState::Up,
            State::Draining => MemberState::Draining,
        },
    };
    Ok((member, record.seal))
}

const BYTES_MAX: usize = 4 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn member(state: MemberState) -> Member {
        Member {
            name: "b1".into(),
            boot_id: BootId(7),
            link_address: "b1.example:1884".to_owned(),
            zone: "east".to_owned(),
            wire: WireVersions::OURS,
            state,
        }
    }

    #[test]
    fn a_record_is_text_and_comes_back_as_it_was() {
        for state in [MemberState::Joining, MemberState::Up, MemberState::Draining] {
            let bytes = encode(&member(state), None);
            assert_eq!(decode("b1", &bytes).unwrap(), member(state));
        }
        expect_test::expect![[
            r#"{"boot_id":"00000000000000000000000000000007","link_address":"b1.example:1884","zone":"east","wire":[1,5],"state":"up"}"#
        ]]
        .assert_eq(std::str::from_utf8(&encode(&member(MemberState::Up), None)).unwrap());
    }

    #[test]
    fn a_later_program_may_say_more() {
        let text = br#"{"boot_id":"00000000000000000000000000000007","link_address":"a:1",
            "wire":[1,2],"state":"joining","shoe_size":46}"#;
        let member = decode("b1", text).unwrap();
        assert_eq!((member.zone.as_str(), member.wire.newest), ("", 2));
    }

    #[test]
    fn a_seal_comes_back_with_its_record() {
        let (cluster, proof) = ("ours".to_owned(), "0f".to_owned());
        let seal = Seal { cluster, proof, ..Seal::default() };
        let bytes = encode(&member(MemberState::Up), Some(seal.clone()));
        let expected = (member(MemberState::Up), Some(seal));
        assert_eq!(decode_sealed("b1", &bytes).unwrap(), expected);
        assert!(bytes.ends_with(br#""seal":{"cluster":"ours","proof":"0f","access":""}}"#));
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        let short_id = br#"{"boot_id":"7","link_address":"","wire":[1,1],"state":"up"}"#;
        assert!(matches!(decode("b", short_id), Err(MemberRecordError::BootId)));
        assert!(matches!(decode("b", b""), Err(MemberRecordError::Text(_))));
        assert!(matches!(decode("b", &[b' '; 5_000]), Err(MemberRecordError::Size(5_000))));
    }
}
