//! Texts as keys of an index.
//!
//! Client Identifiers, Topic Names and Topic Filters have up to 65,535 bytes; an index of PostgreSQL
//! takes 2,704. A short text is its own key. A longer one is known by its beginning and a digest that
//! nobody can make two texts for.

use aws_lc_rs::digest;

/// The key of `text`, and the text itself where the key does not tell it.
pub(super) fn text_key(text: &str) -> (Vec<u8>, Option<&str>) {
    let bytes = text.as_bytes();
    if bytes.len() < KEY_BYTES {
        return (bytes.to_vec(), None);
    }
    let mut key = Vec::with_capacity(KEY_BYTES);
    key.extend(bytes.iter().take(KEY_BYTES - digest::SHA256_OUTPUT_LEN));
    key.extend_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    (key, Some(text))
}

/// The text behind a key; nothing where neither part is one.
pub(super) fn key_text(key: Vec<u8>, text: Option<String>) -> Option<String> {
    match text {
        Some(text) => Some(text),
        None => String::from_utf8(key).ok(),
    }
}

/// The length of every key that is not a text.
const KEY_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_back_from_its_key() {
        for length in [0, 1, 511, 512, 513, 65_535] {
            let text = "x".repeat(length);
            let (key, beside) = text_key(&text);
            assert!(key.len() <= KEY_BYTES);
            assert_eq!(beside.is_some(), length >= KEY_BYTES);
            assert_eq!(key_text(key, beside.map(str::to_owned)), Some(text));
        }
    }

    #[test]
    fn long_texts_that_begin_alike_have_keys_of_their_own() {
        let (one, _) = text_key(&("x".repeat(600) + "1"));
        let (other, _) = text_key(&("x".repeat(600) + "2"));
        assert_ne!(one, other);
    }
}
