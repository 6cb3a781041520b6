//! A session is made.

use std::time::Duration;

use zookeeper_client as zk;

use super::session::Session;
use super::{Options, StartError, Tls};

/// How a session is made, any number of times.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    options: Options,
    tls: Option<zk::TlsOptions>,
}

/// How long a server may be silent before another is tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Patience {
    /// So that the lease stands when one of several hangs, and the client tries it once more before
    /// it comes to another.
    Short,
    /// The ensemble as a whole is slow: another server answers no sooner.
    Long,
}

impl Patience {
    /// In a session that lasts so long.
    fn silence(self, session_timeout: Duration) -> Duration {
        let longest = SILENCE_MAX.min(session_timeout * 2 / 5);
        match self {
            Self::Short => (session_timeout / 6).max(SILENCE_MIN).min(longest),
            Self::Long => longest,
        }
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// Nobody answers.
    #[error("no server answers")]
    NoServer(#[source] zk::Error),
    /// It has no place for us yet.
    #[error("cannot create {path}")]
    Chroot {
        /// The path below which everything is to be.
        path: String,
        /// What it said.
        #[source]
        source: zk::Error,
    },
}

impl Connector {
    /// How `options` say. Files of TLS are checked now.
    pub(super) fn new(options: Options) -> Result<Self, StartError> {
        let tls = options.tls.as_ref().map(tls_options).transpose();
        Ok(Self { tls: tls.map_err(StartError::Tls)?, options })
    }

    /// How the ensemble is reached.
    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Makes a session: every server is tried once.
    pub(super) async fn connect(self, patience: Patience) -> Result<Session, ConnectError> {
        let client = self.client(patience).await.map_err(ConnectError::NoServer)?;
        let silence = patience.silence(self.options.session_timeout);
        let silence = (patience == Patience::Short).then_some(silence);
        let Some(chroot) = self.options.servers.chroot() else {
            return Ok(Session::new(client, self.acls(), silence));
        };
        let refused = |source| ConnectError::Chroot { path: chroot.to_owned(), source };
        if make_path(&client, chroot, self.acls()).await.map_err(refused)? {
            // A cluster that begins, or a path with a slip of the pen in it.
            tracing::info!(path = chroot, "there was no such path in ZooKeeper: it was made");
        }
        let below = client.chroot(chroot).expect("a chroot was checked when it was parsed");
        Ok(Session::new(below, self.acls(), silence))
    }

    async fn client(&self, patience: Patience) -> Result<zk::Client, zk::Error> {
        let session_timeout = self.options.session_timeout;
        let mut connector = zk::Client::connector()
            .with_session_timeout(session_timeout)
            .with_connection_timeout(patience.silence(session_timeout))
            .with_fail_eagerly();
        if let Some(digest) = &self.options.digest {
            connector = connector.with_auth("digest", &digest.wire_form());
        }
        let hosts = self.options.servers.hosts();
        match &self.tls {
            Some(tls) => connector.with_tls(tls.clone()).secure_connect(hosts).await,
            None => connector.connect(hosts).await,
        }
    }

    fn acls(&self) -> zk::Acls<'static> {
        match self.options.digest {
            Some(_) => zk::Acls::creator_all(),
            None => zk::Acls::anyone_all(),
        }
    }
}

/// Creates `path` and its parents; whether it had to. One that is there may be in a place where we may
/// not create.
async fn make_path(
    client: &zk::Client,
    path: &str,
    acls: zk::Acls<'static>,
) -> Result<bool, zk::Error> {
    if client.check_stat(path).await?.is_some() {
        return Ok(false);
    }
    client.mkdir(path, &zk::CreateMode::Persistent.with_acls(acls)).await?;
    Ok(true)
}

fn tls_options(tls: &Tls) -> Result<zk::TlsOptions, zk::Error> {
    let options = zk::TlsOptions::new().with_pem_ca(&tls.ca)?;
    match &tls.identity {
        Some(identity) => options.with_pem_identity(&identity.certificate, &identity.key),
        None => Ok(options),
    }
}

/// How long one attempt may take, however long a name takes to resolve.
pub(super) const ATTEMPT_MAX: Duration = Duration::from_secs(30);
/// The longest that a server may be silent. The client's own choice is two fifths of the session
/// timeout alone: half a minute of a long one would be lost on a server in an election.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// A server may stand still for a moment: none is left sooner, but for the shortest session
/// timeouts.
const SILENCE_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(6);

    /// One hung server of three ended leases: it had two fifths of T to answer, and as much again
    /// when the client chose it once more.
    #[test]
    fn a_lease_outlives_a_server_that_hangs_and_is_tried_again() {
        let silence = Patience::Short.silence(T);
        // The client looks eight times in that time whether it has passed.
        let noticed = silence * 9 / 8;
        let (beat, lease) = (T / 6, T * 2 / 3);
        assert!(beat + 2 * noticed + T / 12 <= lease, "{silence:?}");
    }

    #[test]
    fn patience_is_bounded_both_ways() {
        let secs = Duration::from_secs;
        assert_eq!(Patience::Short.silence(secs(3)), secs(1));
        assert_eq!(Patience::Short.silence(secs(2)), Duration::from_millis(800));
        assert_eq!(Patience::Short.silence(secs(60)), secs(5));
        assert_eq!(Patience::Long.silence(T), Duration::from_millis(2_400));
        assert_eq!(Patience::Long.silence(secs(60)), secs(5));
    }
}
