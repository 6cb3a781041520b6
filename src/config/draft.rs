//! The configuration while it is put together from the file, the environment and the flags.

use std::collections::BTreeMap;

use super::{Config, ConfigError, Origin};

/// A value given to an option, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Setting {
    /// The option.
    pub(super) key: String,
    /// The value; several for an option that takes several.
    pub(super) texts: Vec<String>,
    /// Where it was given.
    pub(super) origin: Origin,
}

impl Setting {
    /// The error for a value that cannot be understood.
    pub(super) fn error(self, message: String) -> ConfigError {
        ConfigError::Value { origin: self.origin, key: self.key, message }
    }
}

/// A configuration and where its values are from.
#[derive(Default)]
pub(super) struct Draft {
    /// The configuration so far.
    pub(super) config: Config,
    /// The options that were given, and where last.
    pub(super) origins: BTreeMap<String, Origin>,
}

impl Draft {
    /// Sets one option; a later setting replaces an earlier one.
    pub(super) fn apply(&mut self, setting: Setting) -> Result<(), ConfigError> {
        let outcome = self
            .config
            .sections_mut()
            .into_iter()
            .find_map(|group| group.set(&setting.key, &setting.texts));
        match outcome {
            Some(Ok(())) => {
                self.origins.insert(setting.key, setting.origin);
                Ok(())
            }
            Some(Err(message)) => Err(setting.error(message)),
            None => Err(setting.error("there is no such option".to_owned())),
        }
    }
}
