//! `mqtt_broker passwd`: writes the password file.

use std::{
    fs::{self, OpenOptions},
    io::{self, BufRead, IsTerminal, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use argon2::{Argon2, password_hash::PasswordHasher};

/// Why the password file was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum PasswdError {
    /// The user name cannot stand in the file.
    #[error(
        "`{0}` cannot be a user name here: it must not be empty, contain `:` or control \
         characters, begin with `#`, or begin or end with a space"
    )]
    UserName(String),
    /// There is no such user.
    #[error("{path} has no user {user}")]
    UnknownUser {
        /// The file.
        path: PathBuf,
        /// The user.
        user: String,
    },
    /// The password is empty.
    #[error("the password is empty: type one, or give it as the first line of standard input")]
    Empty,
    /// The two passwords typed differ.
    #[error("the two passwords differ: nothing was changed")]
    Differ,
    /// The password cannot be read.
    #[error("cannot read the password")]
    Ask(#[source] io::Error),
    /// The password cannot be hashed.
    #[error("cannot hash the password: {0}")]
    Hash(argon2::password_hash::Error),
    /// The file cannot be read.
    #[error("cannot read {path}: check its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: check the permissions of its directory")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Asks for a password: twice on a terminal, otherwise the first line of standard input.
///
/// # Errors
/// There is none, or the two differ.
pub fn ask_password(user: &str) -> Result<String, PasswdError> {
    if !io::stdin().is_terminal() {
        return first_line(&mut io::stdin().lock());
    }
    let ask = |prompt: String| rpassword::prompt_password(prompt).map_err(PasswdError::Ask);
    let password = ask(format!("Password of {user}: "))?;
    if password.is_empty() {
        return Err(PasswdError::Empty);
    }
    if ask("The same again: ".to_owned())? != password {
        return Err(PasswdError::Differ);
    }
    Ok(password)
}

/// Sets the password of `user` in the file at `path`, which is made if it does not exist.
///
/// # Errors
/// The file is then as it was.
pub fn set_password(path: &Path, user: &str, password: &[u8]) -> Result<(), PasswdError> {
    require_user_name(user)?;
    if password.is_empty() {
        return Err(PasswdError::Empty);
    }
    let entry = format!("{user}:{}", hash(password)?);
    let mut lines = read_lines(path)?;
    match lines.iter_mut().find(|line| is_of(line, user)) {
        Some(line) => *line = entry,
        None => lines.push(entry),
    }
    replace(path, &lines)
}

/// Removes `user` from the file at `path`.
///
/// # Errors
/// There is no such user, or the file cannot be written; it is then as it was.
pub fn remove_user(path: &Path, user: &str) -> Result<(), PasswdError> {
    let mut lines = read_lines(path)?;
    let before = lines.len();
    lines.retain(|line| !is_of(line, user));
    if lines.len() == before {
        let path = path.to_owned();
        return Err(PasswdError::UnknownUser { path, user: user.to_owned() });
    }
    replace(path, &lines)
}

/// The argon2id hash of `password`, with a salt of its own.
pub(super) fn hash(password: &[u8]) -> Result<String, PasswdError> {
    let hash = Argon2::default().hash_password(password).map_err(PasswdError::Hash)?;
    Ok(hash.to_string())
}

fn first_line(input: &mut impl BufRead) -> Result<String, PasswdError> {
    let mut line = String::new();
    input.read_line(&mut line).map_err(PasswdError::Ask)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(PasswdError::Empty);
    }
    Ok(password.to_owned())
}

fn require_user_name(user: &str) -> Result<(), PasswdError> {
    let is_possible = !user.is_empty()
        && !user.contains(|c: char| c == ':' || c.is_control())
        && !user.starts_with('#')
        && user.trim() == user;
    if is_possible { Ok(()) } else { Err(PasswdError::UserName(user.to_owned())) }
}

fn is_of(line: &str, user: &str) -> bool {
    line.trim().split_once(':').is_some_and(|(name, _)| name == user)
}

fn read_lines(path: &Path) -> Result<Vec<String>, PasswdError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(PasswdError::Read { path: path.to_owned(), source }),
    }
}

/// Writes the file anew beside the old one and puts it in its place, so that a broker that reads it
/// meanwhile sees the one or the other.
fn replace(path: &Path, lines: &[String]) -> Result<(), PasswdError> {
    // A link stays a link: the file it points to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = PathBuf::from(name);
    let written = write_anew(&fresh, &target, lines).and_then(|()| fs::rename(&fresh, &target));
    written.map_err(|source| {
        let _left = fs::remove_file(&fresh);
        PasswdError::Write { path: path.to_owned(), source }
    })
}

fn write_anew(fresh: &Path, target: &Path, lines: &[String]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
    if let Ok(old) = fs::metadata(target) {
        // Root may write the file for another user, who has to go on reading it; anybody else owns
        // it already.
        let _kept = fchown(&file, Some(old.uid()), Some(old.gid()));
    }
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{PasswordFile, test_directory::TestDirectory};

    #[test]
    fn a_password_is_set_changed_and_removed_and_the_rest_is_left_alone() {
        let directory = TestDirectory::new();
        let path = directory.0.join("users");
        set_password(&path, "alice", b"one").unwrap();
        set_password(&path, "bob", b"two").unwrap();
        let with_comment = format!("# ours\n{}", fs::read_to_string(&path).unwrap());
        fs::write(&path, with_comment).unwrap();
        set_password(&path, "alice", b"three").unwrap();
        let file = PasswordFile::open(&path).unwrap();
        assert!(file.verify("alice", b"three") && !file.verify("alice", b"one"));
        assert!(file.verify("bob", b"two"));
        remove_user(&path, "alice").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ours\nbob:$argon2id$") && !text.contains("alice"), "{text}");
        assert!(matches!(remove_user(&path, "alice"), Err(PasswdError::UnknownUser { .. })));
    }

    #[test]
    fn only_its_owner_can_read_the_file() {
        let directory = TestDirectory::new();
        let path = directory.file("users", "");
        set_password(&path, "alice", b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_stays_a_link() {
        let directory = TestDirectory::new();
        let (path, link) = (directory.file("users", ""), directory.0.join("link"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        set_password(&link, "alice", b"one").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&path).unwrap().starts_with("alice:"));
    }

    #[test]
    fn names_that_would_break_the_file_are_refused() {
        let directory = TestDirectory::new();
        let path = directory.0.join("users");
        for user in ["", "a:b", "a\nb", "#a", " a", "a "] {
            let outcome = set_password(&path, user, b"one");
            assert!(matches!(outcome, Err(PasswdError::UserName(_))), "{user:?}");
        }
        assert!(!path.exists());
        assert!(matches!(set_password(&path, "a", b""), Err(PasswdError::Empty)));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_said() {
        let error = set_password(Path::new("/nowhere/at/all"), "alice", b"one").unwrap_err();
        assert!(error.to_string().starts_with("cannot write /nowhere/at/all: "), "{error}");
    }

    #[test]
    fn the_first_line_of_the_input_is_the_password() {
        let read = |text: &str| first_line(&mut text.as_bytes()).ok();
        assert_eq!(read("one two\r\nthree\n").as_deref(), Some("one two"));
        assert_eq!(read("one").as_deref(), Some("one"));
        assert_eq!(read("\n"), None);
        assert_eq!(read(""), None);
    }
}
