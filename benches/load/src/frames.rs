//! Reading what a broker sends: just enough of MQTT to find payloads and acknowledgements.

/// First byte of a PUBACK.
pub const PUBACK: u8 = 0x40;
/// First byte of a PUBREC.
pub const PUBREC: u8 = 0x50;
/// First byte of a PUBREL.
pub const PUBREL: u8 = 0x62;
/// First byte of a PUBCOMP.
pub const PUBCOMP: u8 = 0x70;
/// First byte of a CONNACK.
pub const CONNACK: u8 = 0x20;
/// First byte of a SUBACK.
pub const SUBACK: u8 = 0x90;
/// First byte of a DISCONNECT.
pub const DISCONNECT: u8 = 0xE0;

/// The protocol version spoken on a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

/// Bytes that are not MQTT.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the broker sent bytes that are not MQTT")]
pub struct Malformed;

/// A packet that has arrived whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first: u8,
    /// What follows the remaining length.
    pub body: &'a [u8],
}

/// The parts of a PUBLISH the bench looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Publish<'a> {
    /// Quality of Service.
    pub qos: u8,
    /// The Packet Identifier's bytes; zero where there is none.
    pub id: [u8; 2],
    /// The payload.
    pub payload: &'a [u8],
}

/// Splits the first whole packet off `bytes`; `None` while it has not arrived whole.
///
/// # Errors
/// The remaining length has more than four bytes.
pub fn split(bytes: &[u8]) -> Result<Option<(Frame<'_>, &[u8])>, Malformed> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((len, rest)) = variable_length(rest)? else { return Ok(None) };
    let Some((body, rest)) = rest.split_at_checked(len) else { return Ok(None) };
    Ok(Some((Frame { first, body }, rest)))
}

/// Splits a variable byte integer off `bytes`.
fn variable_length(bytes: &[u8]) -> Result<Option<(usize, &[u8])>, Malformed> {
    let mut value = 0;
    let mut rest = bytes;
    for shift in [0, 7, 14, 21] {
        let Some((&byte, after)) = rest.split_first() else { return Ok(None) };
        value |= usize::from(byte & 0x7F) << shift;
        rest = after;
        if byte & 0x80 == 0 {
            return Ok(Some((value, rest)));
        }
    }
    Err(Malformed)
}

impl<'a> Frame<'a> {
    /// Packet type and flags with those flags cleared that vary within a type we wait for.
    #[must_use]
    pub fn is_publish(self) -> bool {
        self.first & 0xF0 == 0x30
    }

    /// Reads the frame as a PUBLISH.
    #[must_use]
    pub fn publish(self, version: Version) -> Option<Publish<'a>> {
        let qos = (self.first >> 1) & 3;
        let (topic_len, rest) = self.body.split_first_chunk::<2>()?;
        let mut rest = rest.get(usize::from(u16::from_be_bytes(*topic_len))..)?;
        let mut id = [0, 0];
        if qos > 0 {
            let (bytes, after) = rest.split_first_chunk::<2>()?;
            id = *bytes;
            rest = after;
        }
        if version == Version::V5 {
            let (len, after) = variable_length(rest).ok()??;
            rest = after.get(len..)?;
        }
        Some(Publish { qos, id, payload: rest })
    }

    /// The Packet Identifier of an acknowledgement.
    #[must_use]
    pub fn ack_id(self) -> Option<[u8; 2]> {
        self.body.first_chunk::<2>().copied()
    }

    /// The Receive Maximum a 5.0 CONNACK names, by walking its properties.
    #[must_use]
    pub fn receive_maximum(self) -> Option<u16> {
        let (len, rest) = variable_length(self.body.get(2..)?).ok()??;
        let mut rest = rest.get(..len)?;
        while let Some((&id, after)) = rest.split_first() {
            if id == 0x21 {
                return after.first_chunk::<2>().copied().map(u16::from_be_bytes);
            }
            rest = after.get(property_len(id, after)?..)?;
        }
        None
    }
}

/// The length of a CONNACK property's value.
fn property_len(id: u8, value: &[u8]) -> Option<usize> {
    let text = |at: usize| {
        let bytes = value.get(at..)?.first_chunk::<2>()?;
        Some(2 + usize::from(u16::from_be_bytes(*bytes)))
    };
    match id {
        0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Some(1),
        0x13 | 0x22 => Some(2),
        0x11 | 0x27 => Some(4),
        0x26 => Some(text(0)? + text(text(0)?)?),
        _ => text(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_split_off_when_it_is_whole() {
        let bytes = [0x40, 2, 0, 9, 0xD0, 0];
        let (frame, rest) = split(&bytes).unwrap().unwrap();
        assert_eq!(frame.ack_id(), Some([0, 9]));
        assert_eq!(rest, [0xD0, 0]);
        assert_eq!(split(&bytes[..3]), Ok(None));
        assert_eq!(split(&[0x30, 0x80, 0x80, 0x80, 0x80]), Err(Malformed));
    }

    #[test]
    fn a_publish_is_read_in_both_versions() {
        let v311 = Frame { first: 0x32, body: b"\0\x01t\0\x05hello" };
        let v5 = Frame { first: 0x32, body: b"\0\x01t\0\x05\x02\x01\x01hello" };
        let wanted = Publish { qos: 1, id: [0, 5], payload: b"hello" };
        assert_eq!(v311.publish(Version::V311), Some(wanted));
        assert_eq!(v5.publish(Version::V5), Some(wanted));
    }

    #[test]
    fn the_receive_maximum_is_found_behind_other_properties() {
        let body = b"\0\0\x0A\x22\0\x0A\x12\0\x01x\x21\0\x14";
        assert_eq!(Frame { first: CONNACK, body }.receive_maximum(), Some(20));
        assert_eq!(Frame { first: CONNACK, body: b"\0\0\0" }.receive_maximum(), None);
    }
}
