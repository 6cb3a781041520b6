//! Takes over what can be read of a damaged file.
//!
//! Each table is read from its beginning until a page cannot be read, and then from its end back to
//! the same page: what is lost is what lies between. What refers to a message that was lost is left
//! out.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use crate::store::retry::Failure;

/// What came of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Salvaged {
    /// Rows that were taken over.
    pub(super) rows: u64,
    /// Tables of which a part cannot be read.
    pub(super) gaps: u64,
    /// Rows that were left out because their message is lost.
    pub(super) orphans: u64,
}

/// Copies what can be read of `damaged` into `new`, which has our schema.
pub(super) fn take_over(new: &mut Connection, damaged: &Path) -> Result<Salvaged, Failure> {
    let mut salvaged = Salvaged::default();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(old) = Connection::open_with_flags(damaged, flags) else {
        salvaged.gaps = TABLES.len() as u64;
        return Ok(salvaged);
    };
    let copy = new.transaction()?;
    for (table, key) in TABLES {
        for order in ["ASC", "DESC"] {
            let sorted: Vec<_> =
                key.split(", ").map(|column| format!("{column} {order}")).collect();
            let read = format!("SELECT * FROM {table} ORDER BY {}", sorted.join(", "));
            let is_whole = copy_rows(&old, &read, &copy, table, &mut salvaged)?;
            if is_whole {
                break;
            }
            salvaged.gaps += u64::from(order == "DESC");
        }
    }
    copy.commit()?;
    Ok(salvaged)
}

/// Copies rows until the end, or until one cannot be read; `true` at the end.
fn copy_rows(
    old: &Connection,
    read: &str,
    new: &Connection,
    table: &str,
    salvaged: &mut Salvaged,
) -> Result<bool, Failure> {
    let Ok(mut statement) = old.prepare(read) else { return Ok(false) };
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let places: Vec<_> = (1..=columns.len()).map(|place| format!("?{place}")).collect();
    let write = format!(
        "INSERT OR {} INTO {table} ({}) VALUES ({})",
        // There is one row of `cluster` in a new file, too.
        if table == "cluster" { "REPLACE" } else { "IGNORE" },
        columns.join(", "),
        places.join(", ")
    );
    let Ok(mut rows) = statement.query([]) else { return Ok(false) };
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(true),
            Err(_) => return Ok(false),
        };
        let values: Result<Vec<Value>, _> =
            (0..columns.len()).map(|place| row.get(place)).collect();
        let Ok(values) = values else { continue };
        match new.prepare_cached(&write)?.execute(params_from_iter(values)) {
            Ok(inserted) => salvaged.rows += inserted as u64,
            Err(error) if is_constraint(&error) => salvaged.orphans += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
}

/// In an order in which what is referred to comes first, with the columns of their keys.
const TABLES: [(&str, &str); 11] = [
    ("cluster", "one"),
    ("broker", "owner"),
    ("session", "uid"),
    ("ended_session", "uid"),
    ("subscription", "session, filter_key"),
    ("message", "id"),
    ("pointer", "session, sequence"),
    ("incoming", "session, packet_id"),
    ("will", "session"),
    ("retained", "topic_key"),
    ("receive_cursor", "receiver, origin, stream"),
];
