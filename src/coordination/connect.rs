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
    pub(super) async fn connect(self) -> Result<Session, ConnectError> {
        let client = self.client().await.map_err(ConnectError::NoServer)?;
        let Some(chroot) = self.options.servers.chroot() else {
            return Ok(Session::new(client, self.acls()));
        };
        let refused = |source| ConnectError::Chroot { path: chroot.to_owned(), source };
        if make_path(&client, chroot, self.acls()).await.map_err(refused)? {
            // A cluster that begins, or a path with a slip of the pen in it.
            tracing::info!(path = chroot, "there was no such path in ZooKeeper: it was made");
        }
        let below = client.chroot(chroot).expect("a chroot was checked when it was parsed");
        Ok(Session::new(below, self.acls()))
    }

    async fn client(&self) -> Result<zk::Client, zk::Error> {
        let session_timeout = self.options.session_timeout;
        let mut connector = zk::Client::connector()
            .with_session_timeout(session_timeout)
            .with_connection_timeout(SILENCE_MAX.min(session_timeout * 2 / 5))
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
/// How long a server may be silent before another is tried. The client's own choice is two fifths of
/// the session timeout alone: half a minute of a long one would be lost on a server in an election.
const SILENCE_MAX: Duration = Duration::from_secs(5);
