//! The hash that brokers must agree on.

use xxhash_rust::xxh3::xxh3_64;

/// Of a Client Identifier, a Topic Name, an entry of interest. A constant of the wire.
#[must_use]
pub fn wire_hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}
