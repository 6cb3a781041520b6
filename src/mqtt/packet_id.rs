//! Packet Identifiers.

use std::fmt;
use std::num::NonZeroU16;

use super::DecodeError;

/// A Packet Identifier. Zero is not a value it can have [MQTT-2.2.1-3].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The lowest Packet Identifier.
    pub const MIN: Self = Self(NonZeroU16::MIN);
    /// The highest Packet Identifier.
    pub const MAX: Self = Self(NonZeroU16::MAX);

    /// The Packet Identifier of this number, if it is one.
    #[must_use]
    #[inline]
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Parses the two bytes of the wire form.
    ///
    /// # Errors
    ///
    /// Refuses zero.
    #[inline]
    pub fn from_wire(bytes: [u8; 2]) -> Result<Self, DecodeError> {
        Self::new(u16::from_be_bytes(bytes)).ok_or(DecodeError::ZeroPacketId)
    }

    /// The number.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The Packet Identifier after this one; the highest is followed by the lowest.
    #[must_use]
    #[inline]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(number) => Self(number),
            None => Self::MIN,
        }
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_wraps_past_zero() {
        assert_eq!(PacketId::MIN.next().get(), 2);
        assert_eq!(PacketId::MAX.next(), PacketId::MIN);
    }

    #[test]
    fn zero_is_refused() {
        assert_eq!(PacketId::new(0), None);
        assert_eq!(PacketId::from_wire([0, 0]), Err(DecodeError::ZeroPacketId));
        assert_eq!(PacketId::from_wire([1, 2]).unwrap().get(), 0x0102);
    }
}
