//! What an error of the server or of the driver means to us.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

use crate::runtime::sql_state;
use crate::store::retry::Failure;

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            // What cannot be put into a parameter is our fault; all else is the connection's.
            let why = chain(&error);
            let is_ours = why.starts_with("error serializing");
            return if is_ours { Self::Refused(why) } else { Self::Transient(why) };
        };
        let why = format!("{} ({})", said.message(), said.code().code());
        if is_transient(said.code()) { Self::Transient(why) } else { Self::Refused(why) }
    }
}

/// Another try may do, also since somebody else was quicker.
fn is_transient(code: &SqlState) -> bool {
    sql_state::is_transient(code)
        // Another broker has made a Session for the same client.
        || *code == SqlState::UNIQUE_VIOLATION
}

/// The error with its causes.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let text = deeper.to_string();
        if !why.contains(&text) {
            why = format!("{why}: {text}");
        }
        cause = deeper.source();
    }
    why
}
