//! The stamp at the head of every payload: which flow, which message, sent when.

/// What a payload says about itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// The flow (one publisher's stream of messages).
    pub flow: u32,
    /// The message's place in its flow, from zero.
    pub sequence: u64,
    /// When it was handed to the socket, on [`crate::clock::now`].
    pub sent: u64,
}

impl Stamp {
    /// Bytes a stamp takes; the smallest payload the bench sends.
    pub const LEN: usize = 20;

    /// Writes the stamp over the first bytes of `slot`, which is long enough for one.
    pub fn write(self, slot: &mut [u8]) {
        let Some(slot) = slot.first_chunk_mut::<{ Self::LEN }>() else { return };
        let (flow, rest) = slot.split_at_mut(4);
        let (sequence, sent) = rest.split_at_mut(8);
        flow.copy_from_slice(&self.flow.to_le_bytes());
        sequence.copy_from_slice(&self.sequence.to_le_bytes());
        sent.copy_from_slice(&self.sent.to_le_bytes());
    }

    /// Reads the stamp of a payload; `None` when it is too short to be ours.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (flow, rest) = payload.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let sent = rest.first_chunk::<8>()?;
        Some(Self {
            flow: u32::from_le_bytes(*flow),
            sequence: u64::from_le_bytes(*sequence),
            sent: u64::from_le_bytes(*sent),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_payload() {
        let stamp = Stamp { flow: 7, sequence: 1 << 40, sent: u64::MAX };
        let mut payload = [0; 64];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..19]), None);
    }
}
