//! Where a packet ends: the Fixed Header.

use super::DecodeError;

/// The most bytes a packet has: five of Fixed Header and a Remaining Length of 268,435,455.
pub const PACKET_SIZE_MAX: usize = 5 + 268_435_455;

/// The Fixed Header of a packet, and how many bytes the whole packet has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame {
    /// The Control Packet type and its flags.
    pub first_byte: u8,
    /// The bytes of the Fixed Header: two to five.
    pub header_len: usize,
    /// The bytes of the packet, Fixed Header included.
    pub total_len: usize,
}

impl Frame {
    /// Looks at the start of `bytes`. `None` means that more bytes are needed to tell; a frame is
    /// whole when `bytes` has its `total_len`.
    ///
    /// # Errors
    ///
    /// A Remaining Length of more than four bytes, or a packet over `maximum_packet_size`: told
    /// as soon as it is announced, so that nobody waits for bytes that will be refused.
    #[inline]
    pub fn peek(bytes: &[u8], maximum_packet_size: usize) -> Result<Option<Self>, DecodeError> {
        let Some((&first_byte, rest)) = bytes.split_first() else { return Ok(None) };
        let mut remaining_len = 0;
        for (index, &byte) in rest.iter().take(4).enumerate() {
            remaining_len |= usize::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                let header_len = index + 2;
                let total_len = header_len + remaining_len;
                if total_len > maximum_packet_size {
                    let maximum = maximum_packet_size;
                    return Err(DecodeError::PacketTooLarge { size: total_len, maximum });
                }
                return Ok(Some(Self { first_byte, header_len, total_len }));
            }
        }
        if rest.len() >= 4 { Err(DecodeError::RemainingLengthTooLong) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_told_as_soon_as_it_is_known() {
        let unknown: &[&[u8]] = &[&[], &[0x30], &[0x30, 0x80], &[0x30, 0xFF, 0xFF, 0xFF]];
        for bytes in unknown {
            assert_eq!(Frame::peek(bytes, PACKET_SIZE_MAX), Ok(None), "{bytes:02X?}");
        }
        let known: &[(&[u8], usize, usize)] = &[
            (&[0xC0, 0x00], 2, 2),
            (&[0x30, 0x7F], 2, 129),
            (&[0x30, 0x80, 0x01], 3, 131),
            (&[0x30, 0x80, 0x00], 3, 3),
            (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 5, PACKET_SIZE_MAX),
        ];
        for &(bytes, header_len, total_len) in known {
            let frame = Frame { first_byte: bytes[0], header_len, total_len };
            assert_eq!(Frame::peek(bytes, PACKET_SIZE_MAX), Ok(Some(frame)), "{bytes:02X?}");
        }
    }

    #[test]
    fn a_fifth_byte_of_length_is_malformed() {
        let error = Frame::peek(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], PACKET_SIZE_MAX);
        assert_eq!(error, Err(DecodeError::RemainingLengthTooLong));
    }

    #[test]
    fn the_maximum_packet_size_counts_the_fixed_header() {
        let bytes = [0x30, 0x0A];
        assert!(Frame::peek(&bytes, 12).is_ok());
        let error = DecodeError::PacketTooLarge { size: 12, maximum: 11 };
        assert_eq!(Frame::peek(&bytes, 11), Err(error));
    }
}
