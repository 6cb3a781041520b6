//! What is said before the first batch, and what the receiver answers after it.
//!
//! ```text
//! acceptor: challenge   magic, 32 random bytes
//! dialer:   letter      32 random bytes, Hello      proof over the challenge and these
//! acceptor: letter      Welcome                     proof over the dialer's random bytes and this
//! dialer:   batches ...
//! acceptor: received ...
//! ```
//!
//! A proof is a keyed hash; where no secret is configured it is 32 zeros, and nobody looks at it.
//! This layer carries proofs and does not make them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::cluster::frame::{Cursors, Hello, RefusalCode, Welcome};
use crate::cluster::identity::{BootId, WireVersions};
use crate::cluster::wire::WireError;
use crate::cluster::wire::primitive::{Reader, Sink};

/// Bytes that nobody can foresee, so that no handshake can be played again.
pub type Nonce = [u8; 32];
/// A keyed hash.
pub type Proof = [u8; 32];

/// A part of the handshake and the proof that the sender knows the secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Letter {
    /// What it says.
    pub body: Bytes,
    /// Made over the body.
    pub proof: Proof,
}

impl Letter {
    /// The bytes of the letter that `bytes` begin with; `None` when that takes more bytes.
    ///
    /// # Errors
    ///
    /// When it is longer than any letter.
    pub fn peek(bytes: &[u8]) -> Result<Option<usize>, WireError> {
        let Some(len) = bytes.first_chunk::<2>() else { return Ok(None) };
        let size = usize::from(u16::from_be_bytes(*len)) + LETTER_OVERHEAD_BYTES;
        if size > LETTER_BYTES_MAX {
            return Err(WireError::TooLarge { size, maximum: LETTER_BYTES_MAX });
        }
        Ok(Some(size))
    }

    /// Reads a whole letter.
    ///
    /// # Errors
    ///
    /// When there are more or fewer bytes.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let len = usize::from(reader.u16()?);
        let letter = Self { body: reader.slice(len)?, proof: reader.array()? };
        reader.finish()?;
        Ok(letter)
    }

    /// Appends the letter to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        let len = u16::try_from(self.body.len()).expect("a letter is short");
        out.put_u16(len);
        out.put_slice(&self.body);
        out.put_slice(&self.proof);
    }
}

/// The first bytes on a link, from whoever accepts.
#[must_use]
pub fn challenge(nonce: &Nonce) -> Bytes {
    let mut out = BytesMut::with_capacity(CHALLENGE_BYTES);
    out.put_slice(MAGIC);
    out.put_slice(nonce);
    out.freeze()
}

/// Reads a whole challenge.
///
/// # Errors
///
/// When whoever accepted is no broker of ours.
pub fn decode_challenge(bytes: &[u8; CHALLENGE_BYTES]) -> Result<Nonce, WireError> {
    let nonce = bytes.strip_prefix(MAGIC).and_then(|nonce| nonce.try_into().ok());
    nonce.ok_or(WireError::NotALink)
}

/// The body of the dialer's letter.
#[must_use]
pub fn encode_hello(nonce: &Nonce, hello: &Hello) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(nonce);
    out.words(&hello.cluster);
    out.words(&hello.name);
    out.boot_id(hello.boot_id);
    out.boot_id(hello.to);
    out.u16(hello.wire.oldest);
    out.u16(hello.wire.newest);
    write_cursors(hello.gone, &mut out);
    out.freeze()
}

/// Reads the body of the dialer's letter. What a later version adds behind it is passed over.
///
/// # Errors
///
/// Says what is wrong with it.
pub fn decode_hello(body: &Bytes) -> Result<(Nonce, Hello), WireError> {
    let mut reader = Reader::new(body);
    let nonce = reader.array()?;
    let hello = Hello {
        cluster: reader.owned_string()?,
        name: reader.owned_string()?,
        boot_id: reader.boot_id()?,
        to: reader.boot_id()?,
        wire: WireVersions { oldest: reader.u16()?, newest: reader.u16()? },
        gone: read_cursors(&mut reader)?,
    };
    Ok((nonce, hello))
}

/// The body of the acceptor's letter.
#[must_use]
pub fn encode_welcome(welcome: &Welcome) -> Bytes {
    let mut out = BytesMut::new();
    match welcome {
        Welcome::Accepted { wire, received } => {
            out.u8(ACCEPTED);
            out.u16(*wire);
            write_cursors(*received, &mut out);
        }
        Welcome::Refused { reason, boot_id, code } => {
            out.u8(REFUSED);
            out.words(reason);
            out.boot_id(*boot_id);
            // Brokers that do not know of it pass over what stands here.
            out.u8(match code {
                RefusalCode::Other => 0,
                RefusalCode::Mistrust => MISTRUST,
                RefusalCode::NotYet => NOT_YET,
                RefusalCode::WireVersion => WIRE_VERSION,
            });
        }
    }
    out.freeze()
}

/// Reads the body of the acceptor's letter. What a later version adds behind it is passed over.
///
/// # Errors
///
/// Says what is wrong with it.
pub fn decode_welcome(body: &Bytes) -> Result<Welcome, WireError> {
    let mut reader = Reader::new(body);
    match reader.u8()? {
        ACCEPTED => {
            let wire = reader.u16()?;
            Ok(Welcome::Accepted { wire, received: read_cursors(&mut reader)? })
        }
        REFUSED => {
            let reason = reader.owned_string()?;
            let boot_id = reader.boot_id()?;
            let code = match reader.u8().ok() {
                Some(MISTRUST) => RefusalCode::Mistrust,
                Some(NOT_YET) => RefusalCode::NotYet,
                Some(WIRE_VERSION) => RefusalCode::WireVersion,
                // Who does not write it names nobody where it does not trust.
                None if boot_id == NOBODY => RefusalCode::Mistrust,
                Some(_) | None => RefusalCode::Other,
            };
            Ok(Welcome::Refused { reason, boot_id, code })
        }
        _ => Err(WireError::Value("welcome")),
    }
}

/// What a receiver answers.
#[must_use]
pub fn encode_received(cursors: Cursors) -> [u8; RECEIVED_BYTES] {
    let mut bytes = [0; RECEIVED_BYTES];
    let mut room = &mut bytes[..];
    room.put_u64(cursors.control);
    room.put_u64(cursors.data);
    bytes
}

/// Reads what a receiver answers.
#[must_use]
pub fn decode_received(bytes: &[u8; RECEIVED_BYTES]) -> Cursors {
    let mut rest = &bytes[..];
    Cursors { control: rest.get_u64(), data: rest.get_u64() }
}

fn write_cursors(cursors: Cursors, out: &mut BytesMut) {
    out.put_slice(&encode_received(cursors));
}

fn read_cursors(reader: &mut Reader<'_>) -> Result<Cursors, WireError> {
    reader.array().map(|bytes| decode_received(&bytes))
}

/// As whom a broker refuses a link with somebody whom it does not trust.
pub const NOBODY: BootId = BootId(0);

/// The bytes of a challenge.
pub const CHALLENGE_BYTES: usize = MAGIC.len() + size_of::<Nonce>();
/// No letter is longer.
pub const LETTER_BYTES_MAX: usize = 4_096;
/// What a receiver answers has always this length.
pub const RECEIVED_BYTES: usize = 16;

/// Tells a broker's link from whatever else may answer at an address.
const MAGIC: &[u8; 8] = b"MZ-LINK\0";
const LETTER_OVERHEAD_BYTES: usize = 2 + size_of::<Proof>();
const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;
const MISTRUST: u8 = 1;
const NOT_YET: u8 = 2;
const WIRE_VERSION: u8 = 3;
