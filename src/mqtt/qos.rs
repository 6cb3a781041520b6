//! Quality of Service.

/// How surely an Application Message is delivered.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum QoS {
    /// At most once delivery: nothing is acknowledged.
    #[default]
    AtMostOnce = 0,
    /// At least once delivery: answered by PUBACK.
    AtLeastOnce = 1,
    /// Exactly once delivery: PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

impl QoS {
    /// Reads the two bits of the wire form; 3 is no QoS [MQTT-3.3.1-4].
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The two bits of the wire form.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u8 {
        self as u8
    }
}
