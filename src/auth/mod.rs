//! Who may come in, and what they may do: passwords and access rules kept in files.
//!
//! Both files are read whole, and read again on demand; one that has a fault changes nothing, and
//! the broker goes on with what it knew. Hashing a password takes tens of milliseconds, so it is
//! done on a thread of its own that a bounded queue feeds.

pub mod access_file;
pub mod authenticator;
pub mod passwd;
pub mod password_file;

mod filter;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use access_file::AccessFile;
pub use authenticator::{Options, PasswordAuthenticator};
pub use password_file::PasswordFile;

/// Why a file of this module cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the {what} {path}: check the path and its permissions")]
    Unreadable {
        /// Which file it is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of it makes no sense.
    #[error("{path}:{line}: {message}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to do.
        message: String,
    },
    /// The thread that hashes cannot be started.
    #[error("cannot start the thread that checks passwords")]
    Spawn(#[source] io::Error),
}

fn read(what: &'static str, path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|source| FileError::Unreadable {
        what,
        path: path.to_owned(),
        source,
    })
}

/// The lines that say something, with their numbers: neither empty nor a comment.
fn telling_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod test_directory;
