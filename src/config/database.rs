//! Where the database is that Sessions are kept in, and what of it must not be shown.

use std::{fmt, path::PathBuf};

use super::{
    ConfigError,
    option::options,
    value::{Scalar, choices, quoted},
};

options! {
    /// PostgreSQL. A broker that is alone keeps persistent Sessions, their queues and retained messages
    /// there instead of in `data_dir`, as soon as one of `db`, `db_host`, `db_name` and `db_user` is
    /// given. While the database is out of reach at the start the broker keeps trying, takes no clients
    /// and says that it is not ready. A database serves one broker that is alone, or all brokers of one
    /// cluster, which keep persistent Sessions and their queues there.
    #[heading = "Database"]
    pub struct Database {
        /// The database as `libpq` writes it: `host=db user=mqttzoo dbname=mqttzoo` or
        /// `postgresql://mqttzoo@db/mqttzoo`. Instead of `db_host`, `db_port`, `db_name` and `db_user`.
        /// A password in it can be read by whoever may list processes or read the file: better is
        /// `db_password_file`.
        db: Option<ConnectionString> as "STRING" = None,
        /// The name or address of the server, or the directory of its Unix socket. `localhost` when
        /// absent.
        db_host: Option<String> as "HOST" = None,
        /// The port of the server.
        db_port: u16 as "PORT" = 5432,
        /// The name of the database on the server. `mqttzoo` when absent.
        db_name: Option<String> as "NAME" = None,
        /// Whom the broker logs in as. `mqttzoo` when absent.
        db_user: Option<String> as "USER" = None,
        /// The password of that user. It is not shown by `--print-config`.
        db_password: Option<Secret> as "PASSWORD" = None,
        /// The file that holds the password, in one line.
        db_password_file: Option<PathBuf> as "FILE" = None,
        /// Whether the connection is encrypted, and whether the server has to show who it is, in the
        /// words of `libpq`: `disable`, `prefer`, `require`, `verify-ca` or `verify-full`; the last two
        /// are the same here, the name is checked in both. When absent: what `db` says of it,
        /// else `verify-full` with `db_cafile` and `prefer` without.
        db_sslmode: Option<SslMode> as "MODE" = None,
        /// The PEM file with the authorities of the server's certificate. Those of the system when
        /// absent.
        db_cafile: Option<PathBuf> as "FILE" = None,
    }
}

impl Database {
    /// Whether there is one.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.db.is_some() || self.part().is_some()
    }

    /// The first option that says what `db` could say.
    fn part(&self) -> Option<&'static str> {
        [("db_host", &self.db_host), ("db_name", &self.db_name), ("db_user", &self.db_user)]
            .into_iter()
            .find_map(|(key, value)| value.is_some().then_some(key))
    }

    pub(super) fn check(&self, no_database: bool) -> Result<(), ConfigError> {
        let contradiction = |what: String| Err(ConfigError::Contradiction(what));
        if let (Some(_), Some(part)) = (&self.db, self.part()) {
            return contradiction(format!(
                "db says where the database is, and so does {part}: give one of them"
            ));
        }
        if self.db_password.is_some() && self.db_password_file.is_some() {
            return contradiction("db_password and db_password_file: give one of them".to_owned());
        }
        if no_database && self.is_given() {
            let key = self.part().unwrap_or("db");
            return contradiction(format!("no_database and {key}: give one of them"));
        }
        Ok(())
    }
}

choices! {
    /// What a connection to PostgreSQL is protected by.
    pub enum SslMode {
        /// Nothing.
        Disable = "disable",
        /// TLS, where the server has it.
        Prefer = "prefer",
        /// TLS, whoever the server is.
        Require = "require",
        /// TLS, and a certificate of an authority that is believed.
        VerifyCa = "verify-ca",
        /// The same, for the name that is dialled.
        VerifyFull = "verify-full",
    }
    expected "disable, prefer, require, verify-ca, verify-full"
}

/// A text that is shown to nobody.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// The text, for whom it is meant.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Scalar for Secret {
    const EXPECTED: &'static str = "a text with at least one character";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    fn toml(&self) -> String {
        quoted(NOT_SHOWN)
    }
}

/// Where a database is, as `libpq` writes it. It is shown where it holds no password.
#[derive(Clone, Eq, PartialEq)]
pub struct ConnectionString(Secret);

impl ConnectionString {
    /// The string, for whom it is meant.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }

    fn shown(&self) -> &str {
        let text = self.reveal();
        let userinfo = text.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
        let may_hold_one = text.to_ascii_lowercase().contains("pass")
            || userinfo.is_some_and(|(userinfo, _)| userinfo.contains(':'));
        if may_hold_one { NOT_SHOWN } else { text }
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Scalar for ConnectionString {
    const EXPECTED: &'static str = "a connection string of PostgreSQL";

    fn parse(text: &str) -> Option<Self> {
        Secret::parse(text).map(Self)
    }

    fn toml(&self) -> String {
        quoted(self.shown())
    }
}

const NOT_SHOWN: &str = "(not shown)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_hold_a_password_is_not_shown() {
        for text in [
            "host=db user=mqtt password=geheim",
            "host=db PassFile=geheim",
            "postgres://mqtt:geheim@db/mqtt",
            "postgresql://mqtt@db/mqtt?password=geheim",
        ] {
            let string = ConnectionString::parse(text).unwrap();
            assert_eq!(string.reveal(), text);
            assert!(!format!("{string:?} {}", string.toml()).contains("geheim"), "{text}");
        }
        for text in ["host=db user=mqtt", "postgresql://mqtt@db:5433/mqtt?sslmode=require"] {
            assert_eq!(ConnectionString::parse(text).unwrap().toml(), quoted(text));
        }
        let secret = Secret::parse("geheim").unwrap();
        assert!(!format!("{secret:?} {}", secret.toml()).contains("geheim"));
    }
}
