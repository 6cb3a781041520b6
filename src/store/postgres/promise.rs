//! What a commit of this server is worth: asked when a connection is made, and told in the log.

use std::fmt;

use tokio_postgres::Client;

use crate::store::retry::Failure;

/// What a commit outlives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Promise {
    has_fsync: bool,
    has_standby: bool,
}

impl Promise {
    /// Asks the server. Commits are waited for, whatever its default is: who may log in may say so.
    pub(super) async fn of(client: &Client) -> Result<Self, Failure> {
        client.batch_execute(WAIT).await?;
        let row = client.query_one(ASK, &[]).await?;
        Ok(Self { has_fsync: row.try_get(0)?, has_standby: row.try_get(1)? })
    }

    /// Whether what was acknowledged may be lost on the server itself.
    pub(super) fn is_broken(self) -> bool {
        !self.has_fsync
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match (self.has_fsync, self.has_standby) {
            (false, _) => "what is acknowledged may be lost when its machine fails: fsync is off",
            (true, false) => {
                "what is acknowledged outlives a crash of the server, and not a failover: there is \
                 no synchronous standby"
            }
            (true, true) => {
                "what is acknowledged outlives a crash of the server, and a failover to a \
                 synchronous standby"
            }
        })
    }
}

const WAIT: &str = "SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')";
const ASK: &str = "SELECT current_setting('fsync') = 'on',
    current_setting('synchronous_standby_names') <> ''";
