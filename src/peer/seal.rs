//! What the znode of a broker says so that only brokers of its kind become its peers.
//!
//! A link would be refused for the same reasons; but by then the broker is one of those that all others
//! wait for. It guards against mistakes: whoever may write to ZooKeeper can copy what is there.

use std::fmt::Write as _;

use super::{Authorities, Secret};
use crate::cluster::identity::BootId;
use crate::cluster::member_record::Seal;
use crate::cluster::membership::vetting::Guard;

/// What brokers of a cluster have in common.
#[derive(Clone, Debug)]
pub struct ClusterSeal {
    /// The name of the cluster.
    pub cluster: String,
    /// The secret of the links, or none.
    pub secret: Secret,
    /// What they authenticate themselves to ZooKeeper with, or nothing: who has something else makes
    /// znodes that the others cannot read.
    pub access: Secret,
    /// How they propagate messages: `links` or `znodes`.
    pub propagation: String,
    /// Who signs the certificates of their links.
    pub authorities: Authorities,
}

impl Guard for ClusterSeal {
    fn seal(&self, name: &str, boot_id: BootId) -> Seal {
        let body = body(&self.cluster, name, boot_id);
        let proof = |secret: &Secret| secret.seal(&body).map(|proof| digits(&proof));
        Seal {
            cluster: self.cluster.clone(),
            proof: proof(&self.secret).unwrap_or_default(),
            access: proof(&self.access).unwrap_or_default(),
            propagation: self.propagation.clone(),
            authorities: Some(self.authorities.shown()),
        }
    }

    fn objection(&self, name: &str, boot_id: BootId, seal: &Seal) -> Option<String> {
        if seal.cluster != self.cluster {
            return Some(format!(
                "broker {name} is of the cluster {:?} and this one of {:?}: give both the same --cluster, \
                 or each cluster a path of its own in --zookeeper",
                seal.cluster, self.cluster
            ));
        }
        let body = body(&self.cluster, name, boot_id);
        let (what, option) = if !is_same(&self.secret, &body, &seal.proof) {
            ("the link secrets differ, those", "--link-secret-file")
        } else if !is_same(&self.access, &body, &seal.access) {
            ("the ZooKeeper users differ, those", "--zookeeper-auth-file")
        } else if !seal.authorities.as_ref().is_none_or(|theirs| self.authorities.may_meet(theirs))
        {
            ("the authorities of the link certificates differ, those", "--link-cafile")
        } else {
            return None;
        };
        Some(format!(
            "{what} of broker {name} and of this one: give all brokers the same {option}, or none"
        ))
    }

    fn remark(&self, name: &str, seal: &Seal) -> Option<String> {
        let (theirs, ours) = (&seal.propagation, &self.propagation);
        (!theirs.is_empty() && theirs != ours).then(|| {
            format!(
                "broker {name} has --propagation {theirs} and this one {ours}: a broker with znodes \
                 dials nobody, and what it sends goes through ZooKeeper; give all brokers the same"
            )
        })
    }
}

/// Whether who wrote this has the same secret, or none as well.
fn is_same(secret: &Secret, body: &[u8], proof: &str) -> bool {
    // A later program may write what are no such digits.
    let Some(proof) = bytes_of(proof) else { return true };
    if proof.is_empty() || secret.is_none() {
        return proof.is_empty() && secret.is_none();
    }
    secret.believes_seal(body, &proof)
}

fn body(cluster: &str, name: &str, boot_id: BootId) -> Vec<u8> {
    [cluster.as_bytes(), b"\0", name.as_bytes(), b"\0", &boot_id.0.to_be_bytes()].concat()
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Nothing when they are no such digits.
fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(cluster: &str, secret: Secret) -> ClusterSeal {
        let (cluster, propagation) = (cluster.to_owned(), "links".to_owned());
        let authorities = Authorities::default();
        ClusterSeal { cluster, secret, access: Secret::none(), propagation, authorities }
    }

    /// What `one` says of `other`.
    fn objection(one: &ClusterSeal, other: &ClusterSeal) -> Option<String> {
        one.objection("b", BootId(7), &other.seal("b", BootId(7)))
    }

    #[test]
    fn who_has_another_secret_or_name_or_none_is_objected_to() {
        let ours = seal("ours", Secret::new(b"squeamish ossifrage"));
        let open = seal("ours", Secret::none());
        assert_eq!(objection(&ours, &ours), None);
        assert_eq!(objection(&open, &open), None);
        let differing = seal("ours", Secret::new(b"sixteen characters"));
        for (one, other) in
            [(&ours, &differing), (&differing, &ours), (&ours, &open), (&open, &ours)]
        {
            assert!(objection(one, other).unwrap().contains("the link secrets differ"));
        }
        let guarded = ClusterSeal { access: Secret::new(b"user:password"), ..ours.clone() };
        assert_eq!(objection(&guarded, &guarded), None);
        for (one, other) in [(&ours, &guarded), (&guarded, &ours)] {
            assert!(objection(one, other).unwrap().contains("--zookeeper-auth-file"));
        }
        let elsewhere = seal("theirs", Secret::new(b"squeamish ossifrage"));
        assert!(objection(&ours, &elsewhere).unwrap().contains("--cluster"));
    }

    /// It came in without a word, and all that it sent went through ZooKeeper.
    #[test]
    fn who_propagates_otherwise_is_let_in_with_a_remark() {
        let ours = seal("ours", Secret::none());
        let other = ClusterSeal { propagation: "znodes".to_owned(), ..ours.clone() };
        let sealed = other.seal("b", BootId(7));
        assert_eq!(objection(&ours, &other), None);
        assert!(
            ours.remark("b", &sealed).unwrap().contains("--propagation znodes and this one links")
        );
        assert_eq!(other.remark("b", &sealed), None);
        let of_before = Seal { propagation: String::new(), ..sealed };
        assert_eq!(ours.remark("b", &of_before), None, "who does not say may be as we are");
    }

    #[test]
    fn whose_certificates_nobody_here_believes_is_objected_to() {
        let plain = seal("ours", Secret::none());
        let sealed = plain.seal("b", BootId(7));
        let with = |authorities: &[&str]| Seal {
            authorities: Some(authorities.iter().map(|&one| one.to_owned()).collect()),
            ..sealed.clone()
        };
        let words = plain.objection("b", BootId(7), &with(&["0a"])).unwrap();
        assert!(words.contains("--link-cafile"), "{words}");
        assert_eq!(plain.objection("b", BootId(7), &with(&[])), None);
        let of_before = Seal { authorities: None, ..sealed.clone() };
        assert_eq!(plain.objection("b", BootId(7), &of_before), None);
    }

    #[test]
    fn a_seal_is_that_of_one_life_of_one_broker() {
        let ours = seal("ours", Secret::new(b"squeamish ossifrage"));
        let sealed = ours.seal("b", BootId(7));
        assert_eq!(ours.objection("b", BootId(7), &sealed), None);
        assert!(ours.objection("c", BootId(7), &sealed).is_some());
        assert!(ours.objection("b", BootId(8), &sealed).is_some());
    }

    #[test]
    fn a_secret_that_is_being_changed_is_believed() {
        let (old, new) = (&b"squeamish ossifrage"[..], &b"correct horse battery"[..]);
        let steps = [
            Secret::new(old),
            Secret::changing(old, [new]),
            Secret::changing(new, [old]),
            Secret::new(new),
        ];
        let steps = steps.map(|secret| seal("ours", secret));
        for pair in steps.windows(2) {
            let [one, other] = pair else { unreachable!("windows of two") };
            assert_eq!(objection(one, other), None);
            assert_eq!(objection(other, one), None);
        }
    }
}
