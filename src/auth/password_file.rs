//! The password file: a line `user:$argon2id$...` for each user.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use argon2::{
    Argon2,
    password_hash::{PasswordVerifier, phc::PasswordHash},
};

use super::{FileError, read, telling_lines};

/// The users and the hashes of their passwords.
#[derive(Debug)]
pub struct PasswordFile {
    users: BTreeMap<Arc<str>, PasswordHash>,
    /// Checked when there is no such user, so that the answer takes as long as a wrong password.
    decoy: PasswordHash,
}

impl PasswordFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or a line of it makes no sense.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Self::parse(path, &read("password file", path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let mut users = BTreeMap::new();
        for (line, entry) in telling_lines(text) {
            let wrong = |message: String| FileError::Line { path: path.to_owned(), line, message };
            let (user, hash) = parse_entry(entry).map_err(wrong)?;
            if users.insert(Arc::from(user), hash).is_some() {
                return Err(wrong(format!("user {user} has two lines: remove one of them")));
            }
        }
        let decoy = users.values().next().cloned();
        let decoy = decoy.unwrap_or_else(|| parse_hash(DECOY).expect("the decoy is well-formed"));
        Ok(Self { users, decoy })
    }

    /// Whether `password` is the one of `user`. Takes as long as a hash, whatever the answer.
    #[must_use]
    pub fn verify(&self, user: &str, password: &[u8]) -> bool {
        let known = self.users.get(user);
        let is_right =
            Argon2::default().verify_password(password, known.unwrap_or(&self.decoy)).is_ok();
        is_right && known.is_some()
    }

    /// How many users there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are none, so that nobody gets in by a password.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

fn parse_entry(entry: &str) -> Result<(&str, PasswordHash), String> {
    let (user, hash) = entry
        .split_once(':')
        .filter(|(user, _)| !user.is_empty())
        .ok_or_else(|| format!("not a line `user:hash`; {REMEDY}"))?;
    Ok((user, parse_hash(hash)?))
}

fn parse_hash(text: &str) -> Result<PasswordHash, String> {
    let hash = PasswordHash::new(text).map_err(|error| format!("bad hash: {error}; {REMEDY}"))?;
    if hash.algorithm.as_str() != "argon2id" || hash.salt.is_none() || hash.hash.is_none() {
        return Err(format!("not a whole argon2id hash; {REMEDY}"));
    }
    argon2::Params::try_from(&hash)
        .map_err(|error| format!("bad parameters: {error}; {REMEDY}"))?;
    Ok(hash)
}

const REMEDY: &str = "write lines with `mqtt_broker passwd FILE USER`";

/// Of the default cost.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                     AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::passwd::hash;

    fn parse(text: &str) -> Result<PasswordFile, String> {
        PasswordFile::parse(Path::new("users"), text).map_err(|error| error.to_string())
    }

    fn alice_and_bob() -> PasswordFile {
        let lines = format!(
            "# users\n\nalice:{}\nbob smith:{}\n",
            hash(b"wonder").unwrap(),
            hash(b"builder").unwrap()
        );
        parse(&lines).unwrap()
    }

    #[test]
    fn a_user_is_known_by_the_password_and_by_nothing_else() {
        let file = alice_and_bob();
        assert_eq!(file.len(), 2);
        assert!(file.verify("alice", b"wonder") && file.verify("bob smith", b"builder"));
        assert!(!file.verify("alice", b"builder") && !file.verify("alice", b""));
        assert!(!file.verify("Alice", b"wonder") && !file.verify("", b"wonder"));
    }

    #[test]
    fn nobody_gets_in_by_the_decoy() {
        let file = alice_and_bob();
        assert!(!file.verify("mallory", b"wonder"), "the decoy is the hash of alice");
        let empty = parse("").unwrap();
        assert!(empty.is_empty() && !empty.verify("alice", b""));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_file_and_line() {
        for (text, message) in [
            ("alice", "users:1: not a line `user:hash`"),
            ("\n# x\n:$argon2id$", "users:3: not a line `user:hash`"),
            ("alice:secret", "users:1: bad hash"),
            (
                "alice:$scrypt$ln=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
                "users:1: not a whole argon2id hash",
            ),
            ("alice:$argon2i$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA", "users:1: not a whole"),
            (
                "alice:$argon2id$v=19$m=1,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "users:1: bad parameters",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
            assert!(error.contains("mqtt_broker passwd"), "it says what to do: {error}");
        }
        let twice = format!("a:{DECOY}\na:{DECOY}");
        assert_eq!(parse(&twice).unwrap_err(), "users:2: user a has two lines: remove one of them");
    }

    /// Story: an answer that comes at once for a user who does not exist tells which users do. The
    /// decoy makes both cost a hash; the fastest of several runs is compared, with a wide margin.
    #[test]
    fn an_unknown_user_costs_as_much_as_a_wrong_password() {
        let file = alice_and_bob();
        let fastest = |user: &str| -> Duration {
            let one = || {
                let clock = Stopwatch::start();
                assert!(!file.verify(user, b"wrong"));
                clock.elapsed()
            };
            (0..5).map(|_| one()).min().unwrap()
        };
        let (known, unknown) = (fastest("alice"), fastest("nobody"));
        assert!(unknown * 4 > known, "known {known:?}, unknown {unknown:?}");
    }

    /// The processor time of this thread: what else runs on the machine does not count.
    struct Stopwatch(Duration);

    impl Stopwatch {
        fn start() -> Self {
            Self(Self::now())
        }

        fn elapsed(&self) -> Duration {
            Self::now().saturating_sub(self.0)
        }

        fn now() -> Duration {
            let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            let nanos: u64 = text.split(' ').next().unwrap().parse().unwrap();
            Duration::from_nanos(nanos)
        }
    }
}
