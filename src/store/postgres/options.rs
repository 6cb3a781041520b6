//! Where the server is, as `libpq` writes it: `host=db user=mqtt` or `postgresql://mqtt@db/mqtt`.

use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio_postgres::Config;

use super::tls::{self, MakeTls, Trust};

/// A server, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    pub(super) config: Config,
    pub(super) tls: MakeTls,
    /// How long a group is tried before its batches are answered that there is no store.
    pub patience: Duration,
    /// How long the server may take for one try, before the connection is given up.
    pub answer_within: Duration,
}

/// Why a string says no server.
#[derive(Debug, thiserror::Error)]
pub enum PostgresOptionsError {
    /// It is not written as `libpq` has it.
    #[error("this is not a connection string of PostgreSQL")]
    Syntax(#[source] tokio_postgres::Error),
    /// The file of `sslrootcert` is of no use.
    #[error("cannot use the certificates in {path}: {reason}")]
    RootCertificates {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

impl PostgresOptions {
    /// Parses a connection string. Beside what the driver knows, `sslmode` may be `verify-ca` or
    /// `verify-full`, and `sslrootcert` names a file or is `system`. As with `libpq`, `prefer` and
    /// `require` believe any certificate unless there is an `sslrootcert`.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PostgresOptionsError> {
        let (rest, trust) = take_trust(text);
        let mut config: Config = rest.parse().map_err(PostgresOptionsError::Syntax)?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WITHIN);
        }
        config.application_name("mqttzoo");
        Ok(Self {
            config,
            tls: tls_of(&trust)?,
            patience: Duration::from_secs(30),
            answer_within: Duration::from_secs(10),
        })
    }
}

/// What a string says of certificates.
#[derive(Debug, Default, Eq, PartialEq)]
struct TrustWords {
    is_verified: bool,
    roots: Option<String>,
}

fn tls_of(words: &TrustWords) -> Result<MakeTls, PostgresOptionsError> {
    let trust = match words.roots.as_deref() {
        Some("system") => Trust::Roots(system_roots()),
        Some(path) => Trust::Roots(roots_of(path)?),
        None if words.is_verified => Trust::Roots(system_roots()),
        None => Trust::Anybody,
    };
    tls::make(trust).map_err(PostgresOptionsError::Tls)
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn roots_of(path: &str) -> Result<RootCertStore, PostgresOptionsError> {
    let unusable =
        |reason: String| PostgresOptionsError::RootCertificates { path: path.to_owned(), reason };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(unusable("there is none".to_owned()));
    }
    Ok(roots)
}

/// Takes out of a string what the driver does not know.
fn take_trust(text: &str) -> (String, TrustWords) {
    let mut words = TrustWords::default();
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    if is_url {
        let Some((head, query)) = text.split_once('?') else { return (text.to_owned(), words) };
        let kept: Vec<_> = query.split('&').filter_map(|pair| keep(pair, &mut words)).collect();
        let mark = if kept.is_empty() { "" } else { "?" };
        return (format!("{head}{mark}{}", kept.join("&")), words);
    }
    let kept: Vec<_> = pairs(text).into_iter().filter_map(|pair| keep(pair, &mut words)).collect();
    (kept.join(" "), words)
}

/// What the driver is told of one `key=value`.
fn keep(pair: &str, words: &mut TrustWords) -> Option<String> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    match (key.trim(), value.trim().trim_matches('\'')) {
        ("sslmode", "verify-ca" | "verify-full") => {
            words.is_verified = true;
            Some("sslmode=require".to_owned())
        }
        ("sslrootcert", path) => {
            words.roots = Some(path.replace("%2F", "/"));
            None
        }
        _ => Some(pair.to_owned()),
    }
}

/// The `key=value`s of a string: a blank inside quotes is no end.
fn pairs(text: &str) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(|character: char| {
        let is_plain = !is_escaped;
        is_escaped = character == '\\' && is_plain;
        is_quoted ^= character == '\'' && is_plain;
        character.is_whitespace() && !is_quoted
    })
    .filter(|pair| !pair.is_empty())
    .collect()
}

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::SslMode;

    #[test]
    fn both_forms_are_understood() {
        for text in [
            "host=db port=5433 user=mqtt password='a b' dbname=mq sslmode=require",
            "postgresql://mqtt:a%20b@db:5433/mq?sslmode=require",
        ] {
            let config = PostgresOptions::parse(text).unwrap().config;
            assert_eq!(config.get_ports(), [5433], "{text}");
            assert_eq!(config.get_user(), Some("mqtt"));
            assert_eq!(config.get_password(), Some(&b"a b"[..]));
            assert_eq!(config.get_dbname(), Some("mq"));
            assert_eq!(config.get_ssl_mode(), SslMode::Require);
        }
    }

    #[test]
    fn what_the_driver_does_not_know_is_taken_out() {
        for text in [
            "host=db sslmode=verify-full sslrootcert='/ca.pem' user=mqtt",
            "postgres://mqtt@db?sslmode=verify-full&sslrootcert=%2Fca.pem",
        ] {
            let (rest, words) = take_trust(text);
            let roots = Some("/ca.pem".to_owned());
            assert_eq!(words, TrustWords { is_verified: true, roots }, "{text}");
            assert_eq!(rest.parse::<Config>().unwrap().get_ssl_mode(), SslMode::Require);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(matches!(PostgresOptions::parse("no pairs"), Err(PostgresOptionsError::Syntax(_))));
        let missing = PostgresOptions::parse("host=db sslrootcert=/nowhere/ca.pem");
        assert!(matches!(missing, Err(PostgresOptionsError::RootCertificates { .. })));
    }
}
