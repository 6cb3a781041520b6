//! What the way to the ensemble can be told.

use std::fmt;
use std::time::Duration;

use super::Servers;

/// How the ensemble is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is.
    pub servers: Servers,
    /// How long a session lives after the last word from us. The ensemble may grant another time:
    /// ask [`super::ZooKeeper::session_timeout`].
    pub session_timeout: Duration,
    /// Who we are. Given, the znodes we create are ours alone; else they are everybody's.
    pub digest: Option<Digest>,
    /// Speak TLS.
    pub tls: Option<Tls>,
}

/// A user of the ensemble, by ZooKeeper's `digest` scheme.
#[derive(Clone, Eq, PartialEq)]
pub struct Digest {
    /// Its name. A colon ends it.
    pub user: String,
    /// Its password. It crosses the network in clear text unless TLS is spoken.
    pub password: String,
}

/// Whom we trust and who we are.
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM: who signs the certificates of the servers.
    pub ca: String,
    /// Who we are. Servers want to know it unless they have `ssl.clientAuth=none`.
    pub identity: Option<Identity>,
}

/// A certificate of ours.
#[derive(Clone)]
pub struct Identity {
    /// PEM: the certificate, then those between it and the root.
    pub certificate: String,
    /// PEM: its private key, not encrypted.
    pub key: String,
}

impl Digest {
    /// As ZooKeeper takes it.
    pub(super) fn wire_form(&self) -> Vec<u8> {
        format!("{}:{}", self.user, self.password).into_bytes()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Digest").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_printed() {
        let digest = Digest { user: "zoo".to_owned(), password: "keeper".to_owned() };
        assert_eq!(digest.wire_form(), b"zoo:keeper");
        assert_eq!(format!("{digest:?}"), r#"Digest { user: "zoo", .. }"#);
    }
}
