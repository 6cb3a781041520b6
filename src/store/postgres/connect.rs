//! A connection whose schema is up to date.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_postgres::{Client, Statement};

use super::PostgresOptions;
use super::promise::Promise;
use super::sole::keep_others_out;
use crate::runtime::background::BackgroundHandle;
use crate::store::migrations::{self, POSTGRES};
use crate::store::retry::Failure;

impl PostgresOptions {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    pub async fn connect(&self, tasks: &BackgroundHandle) -> Result<Client, String> {
        // A server that is stopped where it is takes a connection, and says nothing.
        let connected = timeout(HANDSHAKE_WITHIN, self.config.connect(self.tls.clone())).await;
        let connected = connected.map_err(|_| "the server says nothing".to_owned())?;
        let (client, connection) = connected.map_err(|error| {
            let (Failure::Transient(why) | Failure::Damaged(why) | Failure::Refused(why)) =
                Failure::from(error);
            why
        })?;
        tasks.spawn("database connection", async move {
            // The one who waits for an answer hears of it, too.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to PostgreSQL has ended");
            }
        });
        Ok(client)
    }
}

/// A connection and the statements that it knows.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) promise: Promise,
    statements: Mutex<BTreeMap<&'static str, Statement>>,
}

impl Link {
    /// Takes the steps that the schema of a new connection lacks.
    pub(super) async fn open(
        client: Client,
        promise: Promise,
        options: &PostgresOptions,
    ) -> Result<Self, Failure> {
        migrate(&client).await?;
        client.batch_execute(SETTINGS).await?;
        if let Some(owner) = options.sole_owner {
            keep_others_out(&client, owner).await?;
        }
        Ok(Self { client, promise, statements: Mutex::default() })
    }

    /// The prepared form of a statement.
    pub(super) async fn statement(&self, sql: &'static str) -> Result<Statement, Failure> {
        if let Some(known) = self.statements.lock().get(sql).cloned() {
            return Ok(known);
        }
        let prepared = self.client.prepare(sql).await?;
        self.statements.lock().insert(sql, prepared.clone());
        Ok(prepared)
    }
}

/// Takes the steps that the schema lacks, while no other broker does. The lock ends with the
/// connection, however that ends.
async fn migrate(client: &Client) -> Result<(), Failure> {
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let schema = "SELECT 1 FROM pg_namespace WHERE nspname = 'mqttzoo'";
    if client.query_opt(schema, &[]).await?.is_none() {
        // Asked for only when it is needed: the right to do so may be taken away afterwards.
        client.batch_execute("CREATE SCHEMA mqttzoo").await?;
    }
    client.batch_execute("SET search_path TO mqttzoo").await?;
    let table = "SELECT 1 FROM pg_tables WHERE schemaname = 'mqttzoo' AND tablename = 'migration'";
    if client.query_opt(table, &[]).await?.is_none() {
        let sql =
            "CREATE TABLE migration (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL)";
        client.batch_execute(sql).await?;
    }
    let newest = client.query_one("SELECT coalesce(max(version), 0) FROM migration", &[]).await?;
    let version: i64 = newest.try_get(0)?;
    for migration in migrations::pending(version) {
        let step = format!(
            "BEGIN; {} INSERT INTO migration (version, name) VALUES ({}, '{}'); COMMIT",
            migration.text(POSTGRES),
            migration.version,
            migration.name
        );
        client.batch_execute(&step).await?;
        tracing::info!(version = migration.version, name = migration.name, "store migrated");
    }
    if version > migrations::newest() {
        tracing::warn!(
            version,
            known = migrations::newest(),
            "the store was written by a newer version"
        );
    }
    client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    Ok(())
}

/// How long a connection may take, whatever number of servers is tried for it.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// "mqttzoo", as a number.
const LOCK: i64 = 0x6d_7174_747a_6f6f;

/// Every statement looks rows up by keys that it is given, however many there are: a plan that reads
/// a whole table is a mistake that comes from statistics of a moment when the table was empty.
const SETTINGS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off;
    SET enable_mergejoin = off; SET jit = off; SET idle_in_transaction_session_timeout = 30000";
