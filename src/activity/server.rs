//! The log on a server: a connection to PostgreSQL whose schema is there.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::SinkExt as _;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement, Transaction};

use super::copy::{COPY, CopyBuffer};
use super::portion::{Gap, Portion, Start};
use super::row::{Kind, Row};
use super::sink::Trouble;
use super::writer::DAY_MILLIS;
use crate::runtime::background::give_way;
use crate::runtime::sql_state;

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else { return Self::Absent(error.to_string()) };
        let why = format!("{} ({})", said.message(), said.code().code());
        if sql_state::is_transient(said.code()) { Self::Absent(why) } else { Self::Refused(why) }
    }
}

/// A connection, and what it has made sure of.
pub(super) struct Link {
    client: Client,
    statements: Statements,
    /// Starts that have a row.
    boots: BTreeSet<i64>,
    /// Days that have a partition.
    days: BTreeSet<u64>,
}

/// What each portion is written with: the server reads it once.
struct Statements {
    newest: Statement,
    copy: Statement,
    note: Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> Result<Self, Trouble> {
        let (newest, copy, note) =
            tokio::try_join!(client.prepare(NEWEST), client.prepare(COPY), client.prepare(NOTE))?;
        Ok(Self { newest, copy, note })
    }
}

impl Link {
    /// Makes the schema where it is not there, and introduces this start of the broker.
    pub(super) async fn open(mut client: Client, start: &Start) -> Result<Self, Trouble> {
        // What counts as written is on the server's disk. A standby is not waited for.
        client.batch_execute("SET lock_timeout = 3000; SET synchronous_commit = local").await?;
        make_schema(&mut client).await?;
        let statements = Statements::prepare(&client).await?;
        let (boots, days) = Default::default();
        let mut link = Self { client, statements, boots, days };
        link.introduce(start).await?;
        Ok(link)
    }

    /// Makes room for what a start has to tell. One that was thought to say nothing any more is
    /// believed when it does.
    async fn introduce(&mut self, start: &Start) -> Result<(), Trouble> {
        if self.boots.contains(&start.boot) {
            return Ok(());
        }
        let parameters: [&(dyn ToSql + Sync); 3] =
            [&start.boot, &&*start.broker, &time(start.since_millis)];
        self.client.execute(INTRODUCE, &parameters).await?;
        self.client.execute(BELIEVE, &[&start.boot]).await?;
        // Those of a spool come one behind the other.
        if self.boots.len() >= BOOTS_MAX {
            self.boots.clear();
        }
        self.boots.insert(start.boot);
        Ok(())
    }

    /// Writes rows, but for those that an earlier try has written, and what is missing among them.
    pub(super) async fn write(&mut self, portion: &Portion) -> Result<(), Trouble> {
        let start = &*portion.start;
        self.introduce(start).await?;
        let days = portion.rows.iter().map(|row| row.at_millis / DAY_MILLIS);
        for day in days.collect::<BTreeSet<_>>() {
            self.make_day(day).await?;
        }
        let Self { client, statements: Statements { newest, copy, note }, .. } = self;
        let transaction = client.transaction().await?;
        let written: i64 = transaction.query_one(newest, &[&start.boot]).await?.try_get(0)?;
        let rows: Vec<_> = portion.rows_after(written).collect();
        let Some(last) = rows.last() else { return Ok(()) };
        note_gaps(&transaction, &portion.gaps_after(written), start).await?;
        copy_rows(&transaction, copy, &rows, start).await?;
        let is_complete = last.kind == Kind::Stopped;
        transaction.execute(note, &[&start.boot, &last.number, &is_complete]).await?;
        Ok(transaction.commit().await?)
    }

    /// Earlier starts of this broker that have not taken their leave will not say any more.
    pub(super) async fn settle(&self, start: &Start) -> Result<(), Trouble> {
        self.client.execute(SETTLE, &[&start.boot, &&*start.broker]).await?;
        Ok(())
    }

    /// A partition for each day, so that a day goes without a trace.
    async fn make_day(&mut self, day: u64) -> Result<(), Trouble> {
        if self.days.contains(&day) {
            return Ok(());
        }
        let transaction = self.client.transaction().await?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS mqtt_log.{} PARTITION OF mqtt_log.event
             FOR VALUES FROM ('{}') TO ('{}')",
            partition(day),
            date(day).format("%Y-%m-%d 00:00:00+00"),
            date(day + 1).format("%Y-%m-%d 00:00:00+00"),
        );
        transaction.batch_execute(&sql).await?;
        transaction.commit().await?;
        // Rows come in the order of time, or nearly so.
        self.days.retain(|known| known + 2 > day);
        self.days.insert(day);
        Ok(())
    }

    /// Removes the days before `oldest`, and starts of brokers that were followed by others.
    pub(super) async fn forget_before(&self, oldest: u64) -> Result<(), Trouble> {
        let oldest_name = partition(oldest);
        for row in self.client.query(PARTITIONS, &[]).await? {
            let name: String = row.try_get(0)?;
            let is_day = name.strip_prefix(PREFIX).is_some_and(|digits| {
                digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_digit())
            });
            if is_day && name < oldest_name {
                let sql = format!("DROP TABLE IF EXISTS mqtt_log.{name}");
                self.client.batch_execute(&sql).await?;
            }
        }
        let before = time(oldest * DAY_MILLIS);
        self.client.execute("DELETE FROM mqtt_log.gap WHERE at < $1", &[&before]).await?;
        self.client.execute(FORGET_WRITERS, &[&before]).await?;
        Ok(())
    }
}

async fn note_gaps(
    transaction: &Transaction<'_>,
    gaps: &[Gap],
    start: &Start,
) -> Result<(), Trouble> {
    if gaps.is_empty() {
        return Ok(());
    }
    let at: Vec<_> = gaps.iter().map(|gap| time(gap.at_millis)).collect();
    let first: Vec<_> = gaps.iter().map(|gap| gap.first).collect();
    let last: Vec<_> = gaps.iter().map(|gap| gap.last).collect();
    let why: Vec<_> = gaps.iter().map(|gap| gap.why.as_str()).collect();
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&&*start.broker, &start.boot, &at, &first, &last, &why];
    transaction.execute(NOTE_GAPS, &parameters).await?;
    Ok(())
}

async fn copy_rows(
    transaction: &Transaction<'_>,
    statement: &Statement,
    rows: &[&Row],
    start: &Start,
) -> Result<(), Trouble> {
    let mut sink = pin!(transaction.copy_in::<_, Bytes>(statement).await?);
    let mut buffer = CopyBuffer::new(start);
    for rows in rows.chunks(ROWS_AT_ONCE) {
        give_way();
        for row in rows {
            buffer.put(row);
        }
        if let Some(ready) = buffer.full() {
            sink.send(ready).await?;
        }
    }
    sink.send(buffer.end()).await?;
    sink.finish().await?;
    Ok(())
}

/// One broker makes the schema, others wait; each step is taken once.
async fn make_schema(client: &mut Client) -> Result<(), Trouble> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let schema = "SELECT 1 FROM pg_namespace WHERE nspname = 'mqtt_log'";
    if transaction.query_opt(schema, &[]).await?.is_none() {
        // Asked for only when it is needed: the right to do so may be taken away afterwards.
        transaction.batch_execute("CREATE SCHEMA mqtt_log").await?;
    }
    let table = "SELECT 1 FROM pg_tables WHERE schemaname = 'mqtt_log' AND tablename = 'migration'";
    if transaction.query_opt(table, &[]).await?.is_none() {
        transaction.batch_execute("CREATE TABLE mqtt_log.migration (version BIGINT)").await?;
    }
    let newest = "SELECT coalesce(max(version), 0) FROM mqtt_log.migration";
    let version: i64 = transaction.query_one(newest, &[]).await?.try_get(0)?;
    for (step, text) in (1_i64..).zip(STEPS).filter(|(step, _)| *step > version) {
        transaction.batch_execute(text).await?;
        let note = "INSERT INTO mqtt_log.migration (version) VALUES ($1)";
        transaction.execute(note, &[&step]).await?;
    }
    Ok(transaction.commit().await?)
}

fn time(unix_millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unix_millis)
}

fn date(day: u64) -> DateTime<Utc> {
    let millis = i64::try_from(day.saturating_mul(DAY_MILLIS)).unwrap_or(0);
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

/// The table of a day; names are in the order of days.
fn partition(day: u64) -> String {
    format!("{PREFIX}{}", date(day).format("%Y%m%d"))
}

/// A step that was released is never changed: add another one.
const STEPS: [&str; 2] = [include_str!("schema.sql"), include_str!("schema_2.sql")];
const PREFIX: &str = "event_";
/// The name of the schema, as a number.
const LOCK: i64 = 0x6d71_7474_5f6c_6f67;

/// Rows that are made ready in a few microseconds.
const ROWS_AT_ONCE: usize = 16;

/// Starts of which we remember that they have a row.
const BOOTS_MAX: usize = 1_024;

const NEWEST: &str = "SELECT number FROM mqtt_log.writer WHERE boot = $1 FOR UPDATE";
const NOTE: &str = "UPDATE mqtt_log.writer SET number = $2, is_complete = $3 WHERE boot = $1";
const INTRODUCE: &str = "INSERT INTO mqtt_log.writer (boot, broker, since) VALUES ($1, $2, $3)
    ON CONFLICT (boot) DO NOTHING";
const BELIEVE: &str = "WITH wrong AS
    (DELETE FROM mqtt_log.gap WHERE boot = $1 AND last IS NULL RETURNING boot)
    UPDATE mqtt_log.writer SET is_complete = FALSE WHERE boot IN (SELECT boot FROM wrong)";
const SETTLE: &str = "WITH former AS
    (UPDATE mqtt_log.writer SET is_complete = TRUE
     WHERE broker = $2 AND boot <> $1 AND NOT is_complete RETURNING boot, number)
    INSERT INTO mqtt_log.gap (at, broker, boot, first, last, reason)
    SELECT now(), $2, boot, number + 1, NULL, 'the broker ended without a word' FROM former
    ON CONFLICT DO NOTHING";
const NOTE_GAPS: &str = "INSERT INTO mqtt_log.gap (at, broker, boot, first, last, reason)
    SELECT at, $1, $2, first, last, reason
    FROM unnest($3::timestamptz[], $4::bigint[], $5::bigint[], $6::text[])
        AS gap (at, first, last, reason)";

const PARTITIONS: &str = "SELECT child.relname::text FROM pg_inherits
    JOIN pg_class AS child ON child.oid = inhrelid
    WHERE inhparent = 'mqtt_log.event'::regclass";
const FORGET_WRITERS: &str = "DELETE FROM mqtt_log.writer AS former WHERE since < $1 AND EXISTS
    (SELECT 1 FROM mqtt_log.writer AS later
     WHERE later.broker = former.broker AND later.since > former.since)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_names_in_their_order() {
        assert_eq!(partition(0), "event_19700101");
        assert_eq!(partition(20_000), "event_20241004");
        assert!(partition(10_956) < partition(10_957));
    }
}
