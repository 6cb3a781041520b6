//! A row as bytes, for the spool.

use bytes::{Buf as _, BufMut as _, TryGetError};

use super::row::{Kind, Row};

/// Why bytes are no row.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    /// They end too early.
    #[error("it ends too early")]
    Short(#[from] TryGetError),
    /// A text is none.
    #[error("a text is not UTF-8")]
    Text(#[from] std::str::Utf8Error),
    /// What happened has no name.
    #[error("there is no kind {0}")]
    Kind(u8),
}

/// Puts a row behind what is there.
pub(super) fn encode(row: &Row, out: &mut Vec<u8>) {
    out.put_u64(row.at_millis);
    out.put_i64(row.number);
    out.put_u8(row.kind as u8);
    for text in
        [&row.client_id, &row.user_name, &row.address, &row.listener, &row.topic, &row.reason]
    {
        put_bytes(text.as_deref().map(str::as_bytes), out);
    }
    put_bytes(row.preview.as_deref(), out);
    for number in [row.qos.map(i64::from), row.reason_code.map(i64::from), row.bytes, row.count] {
        out.put_u8(number.is_some().into());
        out.put_i64(number.unwrap_or_default());
    }
}

/// Takes a row from the front.
pub(super) fn decode(bytes: &mut &[u8]) -> Result<Row, DecodeError> {
    let (at_millis, number, code) =
        (bytes.try_get_u64()?, bytes.try_get_i64()?, bytes.try_get_u8()?);
    let kind = Kind::from_code(code).ok_or(DecodeError::Kind(code))?;
    Ok(Row {
        number,
        client_id: text(bytes)?,
        user_name: text(bytes)?,
        address: text(bytes)?,
        listener: text(bytes)?,
        topic: text(bytes)?,
        reason: text(bytes)?,
        preview: take_bytes(bytes)?.map(Into::into),
        qos: integer(bytes)?.and_then(|value| value.try_into().ok()),
        reason_code: integer(bytes)?.and_then(|value| value.try_into().ok()),
        bytes: integer(bytes)?,
        count: integer(bytes)?,
        ..Row::new(at_millis, kind)
    })
}

/// Nothing is told from nothing much: a length is one more than it is.
fn put_bytes(part: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(part) = part else { return out.put_u16(0) };
    // Texts are cut long before.
    let part = part.get(..PART_MAX).unwrap_or(part);
    out.put_u16(u16::try_from(part.len() + 1).unwrap_or(u16::MAX));
    out.put_slice(part);
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, DecodeError> {
    let Some(length) = usize::from(bytes.try_get_u16()?).checked_sub(1) else { return Ok(None) };
    let available = bytes.len();
    let Some((part, rest)) = bytes.split_at_checked(length) else {
        return Err(TryGetError { requested: length, available }.into());
    };
    *bytes = rest;
    Ok(Some(part))
}

fn text(bytes: &mut &[u8]) -> Result<Option<Box<str>>, DecodeError> {
    let part = take_bytes(bytes)?;
    Ok(part.map(std::str::from_utf8).transpose()?.map(Into::into))
}

fn integer(bytes: &mut &[u8]) -> Result<Option<i64>, DecodeError> {
    let is_there = bytes.try_get_u8()? != 0;
    let value = bytes.try_get_i64()?;
    Ok(is_there.then_some(value))
}

const PART_MAX: usize = u16::MAX as usize - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_it_was_and_its_beginning_is_none() {
        let row = Row {
            number: 7,
            client_id: Some("c".into()),
            user_name: Some("".into()),
            topic: Some("t/\u{e4}".into()),
            reason: Some("why".into()),
            qos: Some(2),
            reason_code: Some(0x87),
            bytes: Some(1 << 40),
            preview: Some([0, 0xff, 0x80].into()),
            count: Some(-1),
            ..Row::new(1_700_000_000_000, Kind::Published)
        };
        let mut bytes = Vec::new();
        encode(&row, &mut bytes);
        assert_eq!(decode(&mut &*bytes).unwrap(), row);
        for end in 0..bytes.len() {
            assert!(decode(&mut &bytes[..end]).is_err(), "{end}");
        }
        bytes[16] = 0xee;
        assert!(matches!(decode(&mut &*bytes), Err(DecodeError::Kind(0xee))));
    }
}
