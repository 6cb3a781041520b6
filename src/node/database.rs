//! From the configuration of the database to the options of the store in it.

use std::fs;
use std::io;

use crate::config::{Config, Database, Secret, SslMode};
use crate::store::{PostgresOptions, PostgresOptionsError, PostgresParts};

/// Why the configuration says no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The string or the certificates are of no use.
    #[error("the database cannot be used as it is configured")]
    Options(#[from] PostgresOptionsError),
    /// The password is not there.
    #[error("cannot read the password of the database in {path}: check db_password_file")]
    PasswordFile {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The database, where the configuration has one.
///
/// # Errors
///
/// What is said of it is of no use.
pub(super) fn options(config: &Config) -> Result<Option<PostgresOptions>, DatabaseError> {
    let database = &config.database;
    if !database.is_given() {
        return Ok(None);
    }
    let parts = PostgresParts {
        string: database.db.as_ref().map(|string| string.reveal().to_owned()),
        host: database.db_host.clone(),
        port: database.db_port,
        name: database.db_name.clone(),
        user: database.db_user.clone(),
        password: password(database)?,
        ssl_mode: database.db_sslmode.map(SslMode::as_str),
        cafile: database.db_cafile.clone(),
    };
    Ok(Some(PostgresOptions::assemble(parts)?))
}

fn password(database: &Database) -> Result<Option<String>, DatabaseError> {
    let Some(path) = &database.db_password_file else {
        return Ok(database.db_password.as_ref().map(Secret::reveal).map(str::to_owned));
    };
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(source) => {
            Err(DatabaseError::PasswordFile { path: path.display().to_string(), source })
        }
    }
}
