//! Rows as `COPY ... FROM STDIN BINARY` takes them.
//!
//! Made here, and not by `tokio_postgres::binary_copy`: that looks a type up for each field, and hands
//! over four kilobytes at a time. Each of them takes the processor from whoever makes rows ready to
//! whoever sends them, and then to the server, for some twenty rows.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::portion::Start;
use super::row::Row;

/// Rows that are made ready to be sent.
pub(super) struct CopyBuffer<'a> {
    start: &'a Start,
    bytes: BytesMut,
}

impl<'a> CopyBuffer<'a> {
    /// The beginning, for rows of this start.
    pub(super) fn new(start: &'a Start) -> Self {
        let mut bytes = BytesMut::with_capacity(BYTES_AT_ONCE + ROOM);
        bytes.put_slice(SIGNATURE);
        // No flags, and no extension of the header.
        bytes.put_u64(0);
        Self { start, bytes }
    }

    /// Puts a row behind what is there.
    pub(super) fn put(&mut self, row: &Row) {
        let Self { start: Start { boot, broker, .. }, bytes } = self;
        bytes.put_i16(COLUMNS);
        put_i64(bytes, Some(postgres_micros(row.at_millis)));
        put_bytes(bytes, Some(broker.as_bytes()));
        put_i64(bytes, Some(*boot));
        put_i64(bytes, Some(row.number));
        put_bytes(bytes, Some(row.kind.as_str().as_bytes()));
        for text in [&row.client_id, &row.user_name, &row.address, &row.listener, &row.topic] {
            put_text(bytes, text.as_deref());
        }
        put_i16(bytes, row.qos);
        put_i16(bytes, row.reason_code);
        put_text(bytes, row.reason.as_deref());
        put_i64(bytes, row.bytes);
        put_bytes(bytes, row.preview.as_deref());
        put_i64(bytes, row.count);
    }

    /// What is ready, if it is worth to be sent by itself.
    pub(super) fn full(&mut self) -> Option<Bytes> {
        (self.bytes.len() >= BYTES_AT_ONCE).then(|| self.bytes.split().freeze())
    }

    /// The rest.
    pub(super) fn end(mut self) -> Bytes {
        self.bytes.put_i16(-1);
        self.bytes.freeze()
    }
}

fn put_i64(bytes: &mut BytesMut, number: Option<i64>) {
    put_bytes(bytes, number.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
}

fn put_i16(bytes: &mut BytesMut, number: Option<i16>) {
    put_bytes(bytes, number.map(i16::to_be_bytes).as_ref().map(<[u8; 2]>::as_slice));
}

fn put_text(bytes: &mut BytesMut, text: Option<&str>) {
    put_bytes(bytes, text.map(str::as_bytes));
}

/// A length and what is that long; NULL has none.
fn put_bytes(bytes: &mut BytesMut, field: Option<&[u8]>) {
    let Some(field) = field else { return bytes.put_i32(-1) };
    bytes.put_i32(i32::try_from(field.len()).expect("texts and previews are cut"));
    bytes.put_slice(field);
}

/// Microseconds since the year 2000.
fn postgres_micros(unix_millis: u64) -> i64 {
    let millis = i64::try_from(unix_millis).unwrap_or(i64::MAX);
    millis.saturating_sub(YEAR_2000_MILLIS).saturating_mul(1_000)
}

/// What is sent at once.
const BYTES_AT_ONCE: usize = 32 * 1_024;
/// For the row that makes it full.
const ROOM: usize = 8 * 1_024;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const YEAR_2000_MILLIS: i64 = 946_684_800_000;
const COLUMNS: i16 = 16;
/// The columns in the order of [`CopyBuffer::put`].
pub(super) const COPY: &str = "COPY mqtt_log.event (at, broker, boot, number, kind, client_id,
    user_name, address, listener, topic, qos, reason_code, reason, bytes, preview, count)
    FROM STDIN BINARY";

#[cfg(test)]
mod tests {
    use super::super::row::Kind;
    use super::*;

    fn start() -> Start {
        Start { boot: -5, since_millis: 0, broker: "b".into() }
    }

    /// The format by the book (PostgreSQL, COPY, binary format): a signature, flags, and no extension;
    /// then how many fields a row has, and each of them behind its length.
    #[test]
    fn a_row_is_its_fields_behind_their_lengths() {
        let start = start();
        let mut buffer = CopyBuffer::new(&start);
        let row = Row {
            number: 7,
            client_id: Some("c".into()),
            topic: Some("".into()),
            qos: Some(1),
            preview: Some([0, 0xff].into()),
            ..Row::new(946_684_801_500, Kind::Published)
        };
        buffer.put(&row);
        assert!(buffer.full().is_none());
        let mut expected = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x10".to_vec();
        let mut field = |field: Option<&[u8]>| {
            let length = field.map_or(-1, |field| i32::try_from(field.len()).unwrap());
            expected.extend(length.to_be_bytes());
            expected.extend(field.unwrap_or_default());
        };
        field(Some(&1_500_000_i64.to_be_bytes()));
        field(Some(b"b"));
        field(Some(&(-5_i64).to_be_bytes()));
        field(Some(&7_i64.to_be_bytes()));
        field(Some(b"published"));
        field(Some(b"c"));
        (0..3).for_each(|_| field(None));
        field(Some(b""));
        field(Some(&1_i16.to_be_bytes()));
        (0..3).for_each(|_| field(None));
        field(Some(&[0, 0xff]));
        field(None);
        expected.extend([0xff; 2]);
        assert_eq!(buffer.end(), expected);
    }

    #[test]
    fn much_is_sent_in_parts() {
        let start = start();
        let (mut buffer, mut parts, mut bytes) = (CopyBuffer::new(&start), 0, 0);
        for number in 1..=1_000 {
            buffer.put(&Row { number, ..Row::new(1, Kind::Connected) });
            if let Some(part) = buffer.full() {
                (parts, bytes) = (parts + 1, bytes + part.len());
            }
        }
        bytes += buffer.end().len();
        let each = 2 + 16 * 4 + 3 * 8 + "b".len() + "connected".len();
        assert_eq!((bytes, parts), (19 + 1_000 * each + 2, 1_000 * each / BYTES_AT_ONCE));
    }
}
