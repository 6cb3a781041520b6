//! The common name in a certificate, by a walk through its DER (RFC 5280, section 4.1).
//!
//! The certificate has been verified when we look: a surprise here means no name, nothing worse.

/// The first common name of the subject.
pub(super) fn common_name(certificate: &[u8]) -> Option<Box<str>> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (mut rest, _) = expect(SEQUENCE, certificate)?;
    if let Some((_version, after)) = expect(EXPLICIT_0, rest) {
        rest = after;
    }
    for field in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE] {
        // Serial number, signature algorithm, issuer, validity.
        rest = expect(field, rest)?.1;
    }
    let (subject, _) = expect(SEQUENCE, rest)?;
    elements(subject)
        .filter(|(tag, _)| *tag == SET)
        .flat_map(|(_, set)| elements(set))
        .find_map(|(_, attribute)| common_name_of(attribute))
}

fn common_name_of(attribute: &[u8]) -> Option<Box<str>> {
    let (oid, rest) = expect(OID, attribute)?;
    let (tag, value, _) = element(rest)?;
    if oid != COMMON_NAME || !TEXTS.contains(&tag) {
        return None;
    }
    let name = std::str::from_utf8(value).ok()?;
    (!name.is_empty() && !name.contains('\0')).then(|| name.into())
}

/// The content of the first element, which has to have this tag, and what follows it.
fn expect(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(input)?;
    (found == tag).then_some((content, rest))
}

fn elements(mut input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, rest) = element(input)?;
        input = rest;
        Some((tag, content))
    })
}

/// Splits off one element: its tag, its content, and what follows.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, first, rest @ ..] = input else {
        return None;
    };
    let (length, rest) = match first {
        short @ 0..=0x7F => (usize::from(*short), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0F))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xA0;

/// `UTF8String`, `PrintableString`, `IA5String`: the ones that are UTF-8 as they stand.
const TEXTS: [u8; 3] = [0x0C, 0x13, 0x16];

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    fn certificate(names: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_found_among_others() {
        let name = |names: &[_]| common_name(&certificate(names));
        let organisation = (DnType::OrganizationName, "Meadow");
        let common = (DnType::CommonName, "sensor-7 \u{e9}");
        assert_eq!(name(&[organisation.clone(), common]).as_deref(), Some("sensor-7 \u{e9}"));
        assert_eq!(name(&[organisation]), None);
        assert_eq!(name(&[(DnType::CommonName, "")]), None);
    }

    #[test]
    fn cut_or_changed_bytes_never_panic() {
        let whole = certificate(&[(DnType::CommonName, "sensor-7")]);
        for at in 0..whole.len() {
            common_name(&whole[..at]);
            let mut changed = whole.clone();
            changed[at] ^= 0xFF;
            common_name(&changed);
        }
    }
}
