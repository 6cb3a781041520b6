//! WebSocket frames (RFC 6455, section 5), as a server sees and makes them.
//!
//! The decoder works in place: frames go in, the payload of binary frames stays, moved to the
//! front. So the bytes of MQTT land in the reader's own buffer, an idle connection needs none, and
//! packets may be split and joined across frames as they like [MQTT-6.0.0-2].

use smallvec::SmallVec;

/// Reads the frames of a client, in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct FrameDecoder {
    /// The header being read; empty while in a payload.
    header: SmallVec<[u8; HEADER_BYTES_MAX]>,
    payload: Option<Payload>,
    /// A message has begun and its last frame has not been seen.
    is_in_message: bool,
}

/// What one piece contained.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Decoded {
    /// So many bytes of MQTT are at the front of the piece.
    pub(super) kept: usize,
    /// The last ping in it is to be answered with this.
    pub(super) pong: Option<Vec<u8>>,
    /// Nothing after this point is read.
    pub(super) end: Option<End>,
}

/// Why reading ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The client closes, with this status code if it gave one.
    Closed(Option<[u8; 2]>),
    /// The client breaks the rules.
    Violation(WebSocketViolation),
}

/// A rule the client broke.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WebSocketViolation {
    /// MQTT is carried in binary frames only [MQTT-6.0.0-1].
    #[error("a WebSocket text frame, where MQTT is carried in binary frames")]
    TextFrame,
    /// A client has to mask.
    #[error("a WebSocket frame without a mask")]
    Unmasked,
    /// No extension was agreed.
    #[error("a WebSocket frame with reserved bits or an unknown opcode")]
    Reserved,
    /// A ping, pong or close that is fragmented or longer than 125 bytes.
    #[error("a WebSocket control frame that is fragmented or too long")]
    ControlFrame,
    /// A continuation of nothing, or a new message within another.
    #[error("WebSocket fragments out of order")]
    Fragments,
    /// A frame longer than any packet.
    #[error("a WebSocket frame longer than any MQTT packet")]
    TooLong,
}

impl WebSocketViolation {
    /// The status code of the close frame that answers it.
    pub(super) fn status(self) -> [u8; 2] {
        let status: u16 = match self {
            Self::TextFrame => 1003,
            Self::TooLong => 1009,
            Self::Unmasked | Self::Reserved | Self::ControlFrame | Self::Fragments => 1002,
        };
        status.to_be_bytes()
    }
}

#[derive(Debug)]
struct Payload {
    left: u64,
    /// Its first byte masks the next byte.
    mask: u32,
    kind: PayloadKind,
}

#[derive(Debug)]
enum PayloadKind {
    Mqtt,
    Control { opcode: u8, bytes: Vec<u8> },
}

impl FrameDecoder {
    /// Decodes one piece in place.
    pub(super) fn decode(&mut self, piece: &mut [u8]) -> Decoded {
        let mut decoded = Decoded::default();
        let mut at = 0;
        while at < piece.len() && decoded.end.is_none() {
            at += match self.payload {
                None => self.read_header(piece.split_at(at).1, &mut decoded),
                Some(_) => self.read_payload(piece, at, &mut decoded),
            };
            self.finish_frame(&mut decoded);
        }
        decoded
    }

    /// Takes header bytes from `rest`, as many as the header still needs.
    fn read_header(&mut self, rest: &[u8], decoded: &mut Decoded) -> usize {
        let missing = header_len(&self.header) - self.header.len();
        let taken = missing.min(rest.len());
        self.header.extend_from_slice(rest.split_at(taken).0);
        if self.header.len() < header_len(&self.header) {
            return taken;
        }
        match self.begin_payload() {
            Ok(payload) => self.payload = Some(payload),
            Err(violation) => decoded.end = Some(End::Violation(violation)),
        }
        self.header.clear();
        taken
    }

    fn begin_payload(&mut self) -> Result<Payload, WebSocketViolation> {
        let [first, second, rest @ ..] = self.header.as_slice() else {
            unreachable!("a header has at least its two bytes");
        };
        let (opcode, is_final) = (first & 0x0F, first & FIN != 0);
        if first & RESERVED != 0 {
            return Err(WebSocketViolation::Reserved);
        }
        if second & MASKED == 0 {
            return Err(WebSocketViolation::Unmasked);
        }
        let (length, mask) = rest.split_at(rest.len() - 4);
        let left = match length {
            [] => u64::from(second & LENGTH),
            longer => longer.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let mask = mask.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let kind = self.kind_of(opcode, is_final, left)?;
        Ok(Payload { left, mask, kind })
    }

    fn kind_of(
        &mut self,
        opcode: u8,
        is_final: bool,
        length: u64,
    ) -> Result<PayloadKind, WebSocketViolation> {
        match opcode {
            TEXT => return Err(WebSocketViolation::TextFrame),
            CLOSE | PING | PONG if !is_final || length > CONTROL_BYTES_MAX => {
                return Err(WebSocketViolation::ControlFrame);
            }
            CLOSE | PING | PONG => return Ok(PayloadKind::Control { opcode, bytes: Vec::new() }),
            CONTINUATION if !self.is_in_message => return Err(WebSocketViolation::Fragments),
            BINARY if self.is_in_message => return Err(WebSocketViolation::Fragments),
            CONTINUATION | BINARY if length > FRAME_BYTES_MAX => {
                return Err(WebSocketViolation::TooLong);
            }
            CONTINUATION | BINARY => {}
            _ => return Err(WebSocketViolation::Reserved),
        }
        self.is_in_message = !is_final;
        Ok(PayloadKind::Mqtt)
    }

    /// Takes payload bytes from `piece` at `at`; those of MQTT move to the front.
    fn read_payload(&mut self, piece: &mut [u8], at: usize, decoded: &mut Decoded) -> usize {
        let Some(payload) = &mut self.payload else {
            unreachable!("the caller looked");
        };
        let available = piece.len() - at;
        let taken = usize::try_from(payload.left).map_or(available, |left| left.min(available));
        let bytes = match &mut payload.kind {
            PayloadKind::Mqtt => {
                piece.copy_within(at..at + taken, decoded.kept);
                let bytes = piece.split_at_mut(decoded.kept).1.split_at_mut(taken).0;
                decoded.kept += taken;
                bytes
            }
            PayloadKind::Control { bytes, .. } => {
                let begin = bytes.len();
                bytes.extend_from_slice(piece.split_at(at).1.split_at(taken).0);
                bytes.split_at_mut(begin).1
            }
        };
        payload.mask = unmask(bytes, payload.mask);
        payload.left -= taken as u64;
        taken
    }

    /// Acts on the frame if it is complete; a frame without payload is, once its header is.
    fn finish_frame(&mut self, decoded: &mut Decoded) {
        let Some(payload) = self.payload.take_if(|payload| payload.left == 0) else {
            return;
        };
        match payload.kind {
            PayloadKind::Control { opcode: PING, bytes } => decoded.pong = Some(bytes),
            PayloadKind::Control { opcode: CLOSE, bytes } => {
                let status = bytes.first_chunk().copied();
                decoded.end = Some(End::Closed(status));
            }
            PayloadKind::Mqtt | PayloadKind::Control { .. } => {}
        }
    }
}

/// The header of a binary frame that holds a whole message.
pub(super) fn binary_header(length: usize) -> SmallVec<[u8; HEADER_BYTES_MAX]> {
    header(BINARY, length)
}

/// A whole control frame. The payload is at most 125 bytes: it comes from one, or is a status.
pub(super) fn control_frame(control: Control, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() as u64 <= CONTROL_BYTES_MAX);
    let opcode = match control {
        Control::Pong => PONG,
        Control::Close => CLOSE,
    };
    let mut frame = header(opcode, payload.len()).to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// The control frames a server sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Control {
    Pong,
    Close,
}

fn header(opcode: u8, length: usize) -> SmallVec<[u8; HEADER_BYTES_MAX]> {
    let mut header = SmallVec::new();
    header.push(FIN | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < LENGTH_16 => header.push(short),
        (_, Ok(medium)) => {
            header.push(LENGTH_16);
            header.extend_from_slice(&medium.to_be_bytes());
        }
        (_, Err(_)) => {
            header.push(LENGTH_64);
            header.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    header
}

/// How long the header will be, as far as its first bytes tell.
fn header_len(header: &[u8]) -> usize {
    let Some(second) = header.get(1) else {
        return 2;
    };
    let length = match second & LENGTH {
        LENGTH_16 => 2,
        LENGTH_64 => 8,
        _ => 0,
    };
    // Without a mask there is an error to report, for which the two bytes are enough.
    2 + if second & MASKED == 0 { 4 } else { length + 4 }
}

/// Applies the mask and returns it turned to where the next byte is.
fn unmask(bytes: &mut [u8], mask: u32) -> u32 {
    let wide = u64::from(mask) << 32 | u64::from(mask);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        for (byte, key) in chunk.iter_mut().zip(wide.to_le_bytes()) {
            *byte ^= key;
        }
    }
    let mut mask = mask;
    for byte in chunks.into_remainder() {
        let [key, ..] = mask.to_le_bytes();
        *byte ^= key;
        mask = mask.rotate_right(8);
    }
    mask
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

const HEADER_BYTES_MAX: usize = 14;
const CONTROL_BYTES_MAX: u64 = 125;

/// The longest MQTT packet: five bytes of fixed header, then what four bytes of length can say.
/// Nothing of a frame is ever held, so that this bounds no memory, only nonsense.
const FRAME_BYTES_MAX: u64 = 268_435_455 + 5;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as a client sends it.
    pub(in crate::net) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = header(first & 0x0F, payload.len()).to_vec();
        frame[0] = first;
        frame[1] |= MASKED;
        let mask = [0x12, 0x34, 0x56, 0x78];
        frame.extend(mask);
        frame.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
        frame
    }

    fn decode_all(pieces: &[&[u8]]) -> (Vec<u8>, Option<Vec<u8>>, Option<End>) {
        let mut decoder = FrameDecoder::default();
        let (mut mqtt, mut pong, mut end) = (Vec::new(), None, None);
        for piece in pieces {
            let mut piece = piece.to_vec();
            let outcome = decoder.decode(&mut piece);
            mqtt.extend_from_slice(&piece[..outcome.kept]);
            pong = outcome.pong.or(pong);
            end = end.or(outcome.end);
        }
        (mqtt, pong, end)
    }

    fn check(frames: &[Vec<u8>], mqtt: &[u8], pong: Option<&[u8]>, end: Option<&End>) {
        let bytes = frames.concat();
        let single: Vec<_> = bytes.chunks(1).collect();
        for pieces in [vec![bytes.as_slice()], single] {
            let (read, answer, ended) = decode_all(&pieces);
            assert_eq!(read, mqtt);
            assert_eq!(answer.as_deref(), pong);
            assert_eq!(ended.as_ref(), end);
        }
    }

    #[test]
    fn binary_frames_of_every_length_form_are_joined() {
        let long = vec![7; 70_000];
        let frames = [masked(0x82, b"ab"), masked(0x82, &long[..300]), masked(0x82, &long)];
        let mqtt = [b"ab".to_vec(), long[..300].to_vec(), long.clone()].concat();
        check(&frames, &mqtt, None, None);
    }

    #[test]
    fn fragments_are_joined_with_control_frames_between_them() {
        let frames = [
            masked(0x02, b"a"),
            masked(0x89, b"are you there"),
            masked(0x00, b"b"),
            masked(0x8A, b""),
            masked(0x80, b"c"),
            masked(0x82, b""),
            masked(0x82, b"d"),
        ];
        check(&frames, b"abcd", Some(b"are you there"), None);
    }

    #[test]
    fn close_ends_and_what_follows_is_not_read() {
        let frames = [masked(0x82, b"a"), masked(0x88, &[0x03, 0xE8]), masked(0x82, b"b")];
        let bytes = frames.concat();
        let (read, _, end) = decode_all(&[&bytes]);
        assert_eq!((read.as_slice(), end), (&b"a"[..], Some(End::Closed(Some([0x03, 0xE8])))));
        check(&[masked(0x88, b"")], b"", None, Some(&End::Closed(None)));
    }

    #[test]
    fn broken_rules_are_told_apart() {
        let violation = |frames: &[Vec<u8>], expected| {
            check(frames, b"", None, Some(&End::Violation(expected)));
        };
        violation(&[masked(0x81, b"text")], WebSocketViolation::TextFrame);
        violation(&[vec![0x82, 0x02, 1, 2, 3, 4]], WebSocketViolation::Unmasked);
        violation(&[masked(0xC2, b"x")], WebSocketViolation::Reserved);
        violation(&[masked(0x83, b"x")], WebSocketViolation::Reserved);
        violation(&[masked(0x09, b"x")], WebSocketViolation::ControlFrame);
        violation(&[masked(0x89, &[0; 126])], WebSocketViolation::ControlFrame);
        violation(&[masked(0x80, b"x")], WebSocketViolation::Fragments);
        violation(&[masked(0x02, b""), masked(0x82, b"")], WebSocketViolation::Fragments);
        let too_long = [&[0x82, 0xFF][..], &(FRAME_BYTES_MAX + 1).to_be_bytes(), &[0; 4]].concat();
        violation(&[too_long], WebSocketViolation::TooLong);
    }

    proptest! {
        /// [MQTT-6.0.0-2]: however frames and pieces are cut, the same bytes come out.
        #[test]
        fn any_cut_into_frames_and_pieces_gives_the_same_bytes(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8),
            cut in 1_usize..40,
        ) {
            let frames: Vec<_> = payloads.iter().map(|payload| masked(0x82, payload)).collect();
            let bytes = frames.concat();
            let pieces: Vec<_> = bytes.chunks(cut).collect();
            prop_assert_eq!(decode_all(&pieces).0, payloads.concat());
        }
    }
}
