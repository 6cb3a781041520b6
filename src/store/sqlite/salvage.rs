//! Takes over what can be read of a damaged file.
//!
//! Each table is read from its beginning until a page cannot be read, and then from its end back to
//! the same page: what is lost is what lies between. What refers to a message that was lost is left
//! out. Numbers that name Sessions and messages are not given again, also where the row that counts them
//! is lost.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use crate::ports::store::Epoch;
use crate::store::codec::epoch_of;
use crate::store::key::key_text;
use crate::store::retry::Failure;

/// What came of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Salvaged {
    /// Rows that were taken over.
    pub(super) rows: u64,
    /// Tables of which a part cannot be read.
    pub(super) gaps: u64,
    /// Rows that were left out because their message is lost, or since they are none of ours.
    pub(super) orphans: u64,
}

/// Copies what can be read of `damaged` into `new`, which has our schema. Who works on it already has the
/// number `newest`: nobody has a higher one.
pub(super) fn take_over(
    new: &mut Connection,
    damaged: &Path,
    newest: Option<u64>,
) -> Result<Salvaged, Failure> {
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
    let newest = newest.and_then(|newest| i64::try_from(newest).ok()).unwrap_or(NUMBER_MAX);
    go_on_counting(&copy, newest, &mut salvaged)?;
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
            Err(error) => match Failure::from(error) {
                Failure::Refused(_) => salvaged.orphans += 1,
                failure @ (Failure::Transient(_) | Failure::Damaged(_)) => return Err(failure),
            },
        }
    }
}

/// The next broker gets a number above those of all that have left something here, so that it may take
/// their Sessions, and names nothing as they did.
fn go_on_counting(new: &Connection, newest: i64, salvaged: &mut Salvaged) -> Result<(), Failure> {
    let mut numbers = take_stock(new, newest, salvaged)?;
    for sql in NUMBERS {
        numbers.push(new.query_row(sql, [], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0));
    }
    let highest = numbers.into_iter().filter(|number| (0..=newest).contains(number)).max();
    new.execute("UPDATE cluster SET numbers = ?1", [highest.unwrap_or(0)])?;
    Ok(())
}

/// The numbers of those who had the Sessions. A Session that cannot be read ends: nobody could take it,
/// and it would keep its client from having another one.
fn take_stock(new: &Connection, newest: i64, salvaged: &mut Salvaged) -> Result<Vec<i64>, Failure> {
    let (mut numbers, mut unreadable) = (Vec::new(), Vec::new());
    let mut statement = new.prepare("SELECT uid, epoch, client_key, client_id FROM session")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let epoch: Option<Vec<u8>> = row.get(1).ok();
        let epoch = epoch.and_then(|bytes| epoch_of(&bytes));
        let name = row.get(2).ok().and_then(|key| key_text(key, row.get(3).ok()?));
        let is_ours = |epoch: &Epoch| epoch.era == 0 && (0..=newest).contains(&epoch.slots);
        let number = epoch.filter(is_ours).map(|epoch| epoch.slots);
        match number.zip(name) {
            Some((number, _)) => numbers.push(number),
            None => unreadable.push(row.get::<_, i64>(0)?),
        }
    }
    for uid in unreadable {
        new.execute("DELETE FROM session WHERE uid = ?1", [uid])?;
        new.execute("DELETE FROM will WHERE session = ?1", [uid])?;
        new.execute("INSERT OR IGNORE INTO ended_session (uid) VALUES (?1)", [uid])?;
        salvaged.orphans += 1;
    }
    Ok(numbers)
}

/// Where numbers of brokers stand: by themselves, and at the head of what they name.
const NUMBERS: [&str; 6] = [
    "SELECT max(number) FROM broker WHERE number < 1 << 22",
    "SELECT numbers FROM cluster WHERE typeof(numbers) = 'integer' UNION ALL SELECT 0",
    "SELECT max(uid) >> 40 FROM session WHERE uid < 1 << 62",
    "SELECT max(id) >> 40 FROM message WHERE id < 1 << 62",
    "SELECT max(message_id) >> 40 FROM incoming WHERE message_id < 1 << 62",
    "SELECT max(id) >> 40 FROM retained WHERE id < 1 << 62",
];
/// No broker was started as often: a higher number is damage.
const NUMBER_MAX: i64 = 1 << 22;

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
