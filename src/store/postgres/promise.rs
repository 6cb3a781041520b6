//! What a commit of this server is worth: asked when a connection is made and now and then after that,
//! told in the log and by `/readyz`.

use std::fmt;

use tokio_postgres::Client;

use crate::store::retry::Failure;

/// What a commit outlives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Promise {
    has_fsync: bool,
    standby: Standby,
    /// What `synchronous_commit` was before we asked for more.
    raised_from: Option<String>,
}

/// What is known of synchronous standbys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standby {
    /// The server waits for none.
    NotNamed,
    /// It waits for one, and none is there.
    Absent,
    /// It waits for one, and so many are there.
    Present(i64),
    /// It waits for one; this user may not see whether one is there.
    Unseen,
}

impl Promise {
    /// Asks the server. Commits are waited for, whatever its default is: who may log in may say so.
    pub(super) async fn of(client: &Client) -> Result<Self, Failure> {
        let was: String = client.query_one(WAS, &[]).await?.try_get(0)?;
        client.batch_execute(WAIT).await?;
        let row = client.query_one(ASK, &[]).await?;
        let (has_fsync, is_named) = (row.try_get(0)?, row.try_get(1)?);
        let (may_see, count): (bool, i64) = (row.try_get(2)?, row.try_get(3)?);
        let standby = match (is_named, may_see, count) {
            (false, _, _) => Standby::NotNamed,
            (true, false, _) => Standby::Unseen,
            (true, true, 0) => Standby::Absent,
            (true, true, count) => Standby::Present(count),
        };
        let raised_from = WEAK.contains(&&*was).then_some(was);
        Ok(Self { has_fsync, standby, raised_from })
    }

    /// The same again, on a connection that has asked before.
    pub(super) async fn again(&self, client: &Client) -> Result<Self, Failure> {
        let raised_from = self.raised_from.clone();
        Ok(Self { raised_from, ..Self::of(client).await? })
    }

    /// Whether what was acknowledged may be lost on the server itself, or nothing can be acknowledged.
    pub(super) fn is_broken(&self) -> bool {
        !self.has_fsync || self.standby == Standby::Absent
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.has_fsync {
            return formatter.write_str(
                "what is acknowledged may be lost when its machine fails: fsync is off",
            );
        }
        formatter.write_str("what is acknowledged outlives a crash of the server, and ")?;
        match self.standby {
            Standby::NotNamed => {
                formatter.write_str("not a failover: there is no synchronous standby")?;
            }
            Standby::Present(count) => {
                write!(formatter, "a failover to a synchronous standby: {count} of them there")?;
            }
            Standby::Absent => formatter.write_str(
                "a failover to a synchronous standby, of which none is there: nothing that is \
                 stored is acknowledged until one is",
            )?,
            Standby::Unseen => formatter.write_str(
                "a failover to a synchronous standby; whether one is there this user may not see \
                 (GRANT pg_read_all_stats)",
            )?,
        }
        match &self.raised_from {
            Some(was) => write!(formatter, " (synchronous_commit is {was} there, and on for us)"),
            None => Ok(()),
        }
    }
}

/// What would acknowledge before it is stored where it must be.
const WEAK: [&str; 3] = ["off", "local", "remote_write"];
const WAS: &str = "SELECT current_setting('synchronous_commit')";
const WAIT: &str = "SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')";
const ASK: &str = "SELECT current_setting('fsync') = 'on',
    current_setting('synchronous_standby_names') <> '',
    pg_has_role('pg_read_all_stats', 'USAGE'),
    (SELECT count(*) FROM pg_stat_replication
     WHERE sync_state IN ('sync', 'quorum') AND state = 'streaming')";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_holds() {
        let promise = |standby| Promise { has_fsync: true, standby, raised_from: None };
        for (standby, words, is_broken) in [
            (Standby::NotNamed, "not a failover: there is no synchronous standby", false),
            (Standby::Present(2), "a failover to a synchronous standby: 2 of them there", false),
            (Standby::Absent, "none is there", true),
            (Standby::Unseen, "may not see", false),
        ] {
            let promise = promise(standby);
            assert!(promise.to_string().contains(words), "{promise}");
            assert_eq!(promise.is_broken(), is_broken);
        }
        let raised = Promise { raised_from: Some("off".into()), ..promise(Standby::NotNamed) };
        assert!(raised.to_string().ends_with("(synchronous_commit is off there, and on for us)"));
        assert!(Promise { has_fsync: false, ..raised }.to_string().contains("fsync is off"));
    }
}
