//! Where the server is, as `libpq` writes it: `host=db user=mqtt` or `postgresql://mqtt@db/mqtt`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};

use super::tls::{self, MakeTls, Trust};
use crate::ports::store::OwnerId;

/// A server, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    pub(super) config: Config,
    pub(super) tls: MakeTls,
    /// How long a group is tried, answers of the server included, before its batches are answered
    /// that there is no store.
    pub patience: Duration,
    /// Who keeps everything there, so that nobody else may: a broker that is alone.
    pub sole_owner: Option<OwnerId>,
}

/// What is said of a server beside, or instead of, a connection string.
#[derive(Clone, Default)]
pub struct PostgresParts {
    /// The connection string, which says what the next four say.
    pub string: Option<String>,
    /// The name, the address, or the directory of a Unix socket.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
    /// The database.
    pub name: Option<String>,
    /// Whom to log in as.
    pub user: Option<String>,
    /// With what.
    pub password: Option<String>,
    /// `sslmode`, in the words of `libpq`.
    pub ssl_mode: Option<&'static str>,
    /// Authorities of the server's certificate.
    pub cafile: Option<PathBuf>,
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
        Self::assemble(PostgresParts { string: Some(text.to_owned()), ..PostgresParts::default() })
    }

    /// The same from parts.
    ///
    /// # Errors
    ///
    /// Says what is wrong with them.
    pub fn assemble(parts: PostgresParts) -> Result<Self, PostgresOptionsError> {
        let (mut config, mut words) = match &parts.string {
            Some(text) => {
                let (rest, words) = take_trust(text);
                (rest.parse().map_err(PostgresOptionsError::Syntax)?, words)
            }
            None => (config_of(&parts), TrustWords::default()),
        };
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WITHIN);
        }
        if let Some(password) = &parts.password {
            config.password(password);
        }
        config.application_name("mqttzoo");
        // Only one of several can be written to, so that any order will do. A random one gets past a
        // server that takes connections and says nothing.
        let is_picky = config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite;
        if is_picky && config.get_hosts().len().max(config.get_hostaddrs().len()) > 1 {
            config.load_balance_hosts(LoadBalanceHosts::Random);
        }
        let has_cafile = parts.cafile.is_some();
        if let Some(cafile) = parts.cafile {
            words.roots = Some(cafile.to_string_lossy().into_owned());
        }
        match parts.ssl_mode.or(has_cafile.then_some("verify-full")) {
            Some("disable") => drop(config.ssl_mode(SslMode::Disable)),
            Some("prefer") => drop(config.ssl_mode(SslMode::Prefer)),
            Some(word) => {
                config.ssl_mode(SslMode::Require);
                words.is_verified = word != "require";
            }
            None => {}
        }
        Ok(Self {
            config,
            tls: tls_of(&words)?,
            patience: Duration::from_secs(30),
            sole_owner: None,
        })
    }

    /// The server and the database, as a line of the log names them: no user, no password.
    #[must_use]
    pub fn place(&self) -> String {
        let mut place = String::new();
        for host in self.config.get_hosts() {
            let comma = if place.is_empty() { "" } else { "," };
            let _infallible = match host {
                Host::Tcp(name) => write!(place, "{comma}{name}"),
                Host::Unix(path) => write!(place, "{comma}{}", path.display()),
            };
        }
        let user = self.config.get_user();
        format!("{place}/{}", self.config.get_dbname().or(user).unwrap_or_default())
    }
}

/// What is not said is as it is in our manifests.
fn config_of(parts: &PostgresParts) -> Config {
    let mut config = Config::new();
    config
        .host(parts.host.as_deref().unwrap_or("localhost"))
        .port(parts.port)
        .dbname(parts.name.as_deref().unwrap_or(OURS))
        .user(parts.user.as_deref().unwrap_or(OURS));
    config
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
        // A server that is not in recovery may be written to, unless somebody says otherwise.
        ("target_session_attrs", "primary") => Some("target_session_attrs=read-write".to_owned()),
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

/// The database, and the user, where nobody says otherwise.
const OURS: &str = "mqttzoo";
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_servers_the_one_is_wanted_that_takes_writes() {
        for text in [
            "host=a,b port=1,2 user=mqtt target_session_attrs=read-write",
            "host=a,b port=1,2 user=mqtt target_session_attrs=primary",
            "postgresql://mqtt@a:1,b:2/mqtt?target_session_attrs=read-write",
        ] {
            let config = PostgresOptions::parse(text).unwrap().config;
            assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite, "{text}");
            assert_eq!((config.get_hosts().len(), config.get_ports()), (2, &[1, 2][..]), "{text}");
        }
    }

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

    #[test]
    fn parts_are_as_good_as_a_string() {
        let parts = PostgresParts {
            host: Some("db".to_owned()),
            port: 5_433,
            password: Some("a b".to_owned()),
            ssl_mode: Some("require"),
            ..PostgresParts::default()
        };
        let options = PostgresOptions::assemble(parts).unwrap();
        assert_eq!(options.place(), "db/mqttzoo");
        assert_eq!(options.config.get_ports(), [5_433]);
        assert_eq!(options.config.get_user(), Some("mqttzoo"));
        assert_eq!(options.config.get_password(), Some(&b"a b"[..]));
        assert_eq!(options.config.get_ssl_mode(), SslMode::Require);
        let beside = |string: &str, ssl_mode| {
            let (string, password) = (Some(string.to_owned()), Some("p".to_owned()));
            let parts = PostgresParts { string, password, ssl_mode, ..PostgresParts::default() };
            PostgresOptions::assemble(parts).unwrap()
        };
        let options = beside("postgres://m@one,two/mq?sslmode=require", Some("disable"));
        assert_eq!(options.place(), "one,two/mq");
        assert_eq!(options.config.get_ssl_mode(), SslMode::Disable);
        assert_eq!(options.config.get_password(), Some(&b"p"[..]));
        assert_eq!(beside("host=/run/postgresql user=m", None).place(), "/run/postgresql/m");
    }
}
