//! Who may come in, and what they may do: from the files the configuration names.

use std::sync::Arc;

use crate::auth::{AccessFile, FileError, Options, PasswordAuthenticator};
use crate::broker::Guards;
use crate::config::Config;
use crate::ports::auth::{Authenticator, Authorizer};

/// The files that stand behind the [`Guards`] of a broker.
#[derive(Clone, Default)]
pub(super) struct GuardFiles {
    passwords: Option<Arc<PasswordAuthenticator>>,
    access: Option<Arc<AccessFile>>,
}

impl GuardFiles {
    pub(super) fn open(config: &Config) -> Result<Self, FileError> {
        let waiting_max = config.auth.auth_waiting_max.get();
        let passwords =
            config.auth.password_file.clone().map(|file| {
                PasswordAuthenticator::start(Options { file, waiting_max }).map(Arc::new)
            });
        let access = config.auth.acl_file.as_deref().map(AccessFile::open);
        Ok(Self { passwords: passwords.transpose()?, access: access.transpose()?.map(Arc::new) })
    }

    pub(super) fn guards(&self) -> Guards {
        Guards {
            authenticator: self
                .passwords
                .clone()
                .map(|passwords| passwords as Arc<dyn Authenticator>),
            authorizer: self.access.clone().map(|access| access as Arc<dyn Authorizer>),
        }
    }

    /// Reads the passwords again, if there are any.
    pub(super) fn reload_passwords(&self) -> Option<Result<(), FileError>> {
        Some(self.passwords.as_ref()?.reload().map(|_count| ()))
    }

    /// Reads the access rules again, if there are any.
    pub(super) fn reload_access(&self) -> Option<Result<(), FileError>> {
        Some(self.access.as_ref()?.reload())
    }
}
