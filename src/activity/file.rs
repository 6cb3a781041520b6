//! The log in a file of its own beside the store, for a broker without a server: SQLite.
//!
//! Nobody waits for a row, so a commit does not wait for the disk: a power cut may cost the last ones.

use std::path::PathBuf;

use rusqlite::types::ToSql;
use rusqlite::{Connection, params};

use super::portion::Portion;
use super::row::Row;
use super::sink::Trouble;
use super::writer::DAY_MILLIS;

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Absent(error.to_string())
    }
}

/// The file, opened when it is needed.
pub(super) struct File {
    path: PathBuf,
    connection: Option<Connection>,
}

impl File {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, connection: None }
    }

    /// Closes it: what comes next opens it anew.
    pub(super) fn close(&mut self) {
        self.connection = None;
    }

    /// Writes rows, all or none, and a row for each gap among them.
    pub(super) fn write(&mut self, portion: &Portion) -> Result<(), Trouble> {
        let (boot, broker) = (portion.start.boot, &*portion.start.broker);
        let transaction = self.open()?.transaction()?;
        let newest = "SELECT coalesce(max(number), 0) FROM event WHERE boot = ?";
        let written: i64 = transaction.query_row(newest, [boot], |row| row.get(0))?;
        let gaps: Vec<_> = portion.gaps_after(written).iter().map(Row::dropped).collect();
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for row in gaps.iter().chain(portion.rows_after(written)) {
                let at = i64::try_from(row.at_millis).unwrap_or(i64::MAX);
                let values: [&dyn ToSql; COLUMNS] = [
                    &at,
                    &broker,
                    &boot,
                    &row.number,
                    &row.kind.as_str(),
                    &row.client_id.as_deref(),
                    &row.user_name.as_deref(),
                    &row.address.as_deref(),
                    &row.listener.as_deref(),
                    &row.topic.as_deref(),
                    &row.qos,
                    &row.reason_code,
                    &row.reason.as_deref(),
                    &row.bytes,
                    &row.preview.as_deref(),
                    &row.count,
                ];
                insert.execute(values)?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Removes a bounded part of what is older than `oldest_day`; `true` when there may be more.
    pub(super) fn forget_before(&mut self, oldest_day: u64) -> Result<bool, Trouble> {
        let before = i64::try_from(oldest_day.saturating_mul(DAY_MILLIS)).unwrap_or(i64::MAX);
        let removed = self.open()?.execute(FORGET, params![before, FORGOTTEN_MAX])?;
        Ok(i64::try_from(removed).is_ok_and(|removed| removed >= FORGOTTEN_MAX))
    }

    fn open(&mut self) -> Result<&mut Connection, Trouble> {
        if self.connection.is_none() {
            let connection = Connection::open(&self.path)?;
            connection.execute_batch(SCHEMA)?;
            self.connection = Some(connection);
        }
        Ok(self.connection.as_mut().expect("it was opened"))
    }
}

const COLUMNS: usize = 16;
const INSERT: &str = "INSERT OR IGNORE INTO event (at, broker, boot, number, kind, client_id,
    user_name, address, listener, topic, qos, reason_code, reason, bytes, preview, count)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const FORGET: &str = "DELETE FROM event WHERE rowid IN
    (SELECT rowid FROM event WHERE at < ? ORDER BY at LIMIT ?)";
/// Rows removed at a time.
const FORGOTTEN_MAX: i64 = 10_000;

/// `at` is in milliseconds since 1970.
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS event (
        at INTEGER NOT NULL, broker TEXT NOT NULL, boot INTEGER NOT NULL, number INTEGER NOT NULL,
        kind TEXT NOT NULL, client_id TEXT, user_name TEXT, address TEXT, listener TEXT,
        topic TEXT, qos INTEGER, reason_code INTEGER, reason TEXT, bytes INTEGER, preview BLOB,
        count INTEGER
    );
    CREATE INDEX IF NOT EXISTS event_at ON event (at);
    CREATE INDEX IF NOT EXISTS event_client ON event (client_id, at);
    CREATE UNIQUE INDEX IF NOT EXISTS event_number ON event (boot, number);
    CREATE VIEW IF NOT EXISTS connection AS
        SELECT began.client_id, began.at AS since, ended.at AS until, began.boot, began.user_name,
               began.address, began.listener, ended.reason_code, ended.reason
        FROM event AS began LEFT JOIN event AS ended ON ended.rowid = (
            SELECT rowid FROM event
            WHERE client_id = began.client_id AND kind = 'disconnected' AND boot = began.boot
              AND number > began.number AND address IS began.address
            ORDER BY number LIMIT 1)
        WHERE began.kind = 'connected';";
