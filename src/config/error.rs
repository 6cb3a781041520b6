//! Why a configuration is refused, each in one line: what, where, what to do.

use std::{fmt, io, path::PathBuf};

/// Why the broker cannot start with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line makes no sense.
    #[error("{0} (--help lists the flags)")]
    Usage(String),
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {path}: check --config and its permissions")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration file is not TOML.
    #[error("{path}, line {line}: not valid TOML: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// The configuration file has a key that means nothing.
    #[error("{path}, line {line}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// The key.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// A value cannot be understood.
    #[error("{origin}: {key}: {message}")]
    Value {
        /// Where the value stands.
        origin: Origin,
        /// The option.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// Each value is fine and together they are not.
    #[error("{0}")]
    Contradiction(String),
    /// There is no place for the data directory.
    #[error(
        "no place for the data directory: neither HOME nor XDG_STATE_HOME is set: give --data-dir DIR"
    )]
    NoDataDir,
}

/// Where a value was given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// In the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Where in it.
        line: usize,
    },
    /// In the environment, under this name.
    Variable(String),
    /// On the command line, with this flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// Something odd about the configuration that does not prevent the start: one line of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Warning {
    /// A variable has our prefix and no meaning.
    UnknownVariable {
        /// Its name.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// Variables that Kubernetes derives from a Service named `mqttzoo` were passed over.
    KubernetesVariables(Vec<String>),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVariable { name, hint } => {
                write!(f, "environment variable {name} is unknown and ignored{hint}")
            }
            Self::KubernetesVariables(names) => write!(
                f,
                "{} environment variables of Kubernetes services ignored ({})",
                names.len(),
                names.join(", ")
            ),
        }
    }
}

/// `: did you mean X?` when one of `known` is close to `given`, else nothing.
pub(super) fn suggestion<S: AsRef<str>>(given: &str, known: impl IntoIterator<Item = S>) -> String {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(given, name.as_ref()), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map_or_else(String::new, |(_, name)| format!(": did you mean `{}`?", name.as_ref()))
}
