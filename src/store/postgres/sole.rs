//! A broker that is alone keeps others out of its database.
//!
//! Without this, two brokers that are both alone and were given the same database by mistake would
//! take each other's Sessions. The lock belongs to the connection: it is gone when the process is, and
//! the server notices within seconds when the machine is.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::ports::store::OwnerId;
use crate::store::codec::owner_bytes;
use crate::store::retry::Failure;

/// Takes the place of the one broker, or says who has it.
pub(super) async fn keep_others_out(client: &Client, owner: OwnerId) -> Result<(), Failure> {
    client.batch_execute(SETTINGS).await?;
    // It came with PostgreSQL 14, and not to all systems: elsewhere a statement goes on to its end.
    let _may_be_unknown = client.batch_execute(LOOKS).await;
    // Whoever was killed a moment ago goes away while we wait; a connection that we have given up
    // keeps its place until its statement ends, or the server finds that nobody is there.
    let taken = client.execute("SELECT pg_advisory_lock($1)", &[&PLACE]).await;
    taken.map_err(|error| {
        match error.code() {
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => Failure::Transient(
            "another broker keeps its Sessions in this database (give each one of its own), or the \
             former connection of this broker has not ended there yet"
                .to_owned(),
        ),
        _ => error.into(),
    }
    })?;
    client.batch_execute("SET lock_timeout = 0").await?;
    // While the connection was lost somebody else may have come, taken our Sessions, and gone.
    let later = client.query(LATER, &[&owner_bytes(owner).to_vec()]).await?;
    if later.is_empty() {
        return Ok(());
    }
    Err(Failure::Refused(
        "another broker has taken over the Sessions in this database: start this one again"
            .to_owned(),
    ))
}

/// "mqttzoo1", as a number.
const PLACE: i64 = 0x6d71_7474_7a6f_6f31;

const SETTINGS: &str = "SET lock_timeout = 3000; SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

/// A statement that runs, or waits for a lock, ends soon after its broker has gone.
const LOOKS: &str = "SET client_connection_check_interval = 2000";

const LATER: &str =
    "SELECT 1 FROM broker AS ours JOIN broker AS other ON other.number > ours.number
    WHERE ours.owner = $1 LIMIT 1";
