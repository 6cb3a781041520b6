//! The bytes of the links: batches of frames, and the handshake before them.
//!
//! What decodes is valid and keeps slices of what was received: topics and payloads are not copied.
//! Nothing is allocated beyond what the received bytes justify, whatever lengths they tell.

mod batch;
mod control;
mod error;
mod handshake;
mod primitive;
mod publish;
#[cfg(test)]
mod tests;
mod will;
mod window;

pub use batch::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, Batch, BatchHeader, Frames, RawFrame};
pub use control::encode_control;
pub use error::WireError;
pub use handshake::{
    CHALLENGE_BYTES, LETTER_BYTES_MAX, Letter, NOBODY, Nonce, Proof, RECEIVED_BYTES, challenge,
    decode_challenge, decode_hello, decode_received, decode_welcome, encode_hello, encode_received,
    encode_welcome,
};
pub use primitive::ENTRIES_MAX;
pub use publish::{PublishParts, encode_publish};
pub use window::{
    RELAY_WINDOW_HEAD_BYTES, RelayAck, RelayContent, RelayHeader, RelayPart, decode_relay_header,
    decode_relay_window, encode_relay_header, encode_relay_part, encode_relay_window,
    relay_piece_len,
};

/// The largest frame that is taken unless something else is configured: the largest packet of MQTT,
/// and room for what is said of it.
pub const FRAME_BYTES_MAX: usize = crate::mqtt::PACKET_SIZE_MAX + 1_024 * 1_024;
