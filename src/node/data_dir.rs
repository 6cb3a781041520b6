//! The data directory: one broker at a time, and `ports.json` for scripts and tests.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::shown;
use crate::net::{BoundListener, TransportKind};

/// A data directory that is this broker's alone.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    /// The lock ends with the process, however it ends.
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made or written to.
    #[error("cannot use the data directory {path}: choose another one with --data-dir")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another broker has it.
    #[error(
        "the data directory {path} is in use by another broker: stop that one, or choose another \
         directory with --data-dir"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

impl DataDir {
    pub(super) fn lock(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(unusable)?;
        let lock = File::create(path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Writes which ports were bound; whoever reads it reads all of it.
    pub(super) fn write_ports(&self, ports: &Ports) -> Result<(), DataDirError> {
        let write = || {
            let draft = self.path.join("ports.json.new");
            fs::write(&draft, serde_json::to_vec(ports)?)?;
            fs::rename(draft, self.path.join("ports.json"))
        };
        write().map_err(|source| DataDirError::Unusable { path: self.path.clone(), source })
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Nobody listens there any more. It may never have been written.
        let _absent = fs::remove_file(self.path.join("ports.json"));
    }
}

/// Every port that is bound, by what is spoken there.
#[derive(Debug, Default, Serialize)]
pub(super) struct Ports {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tcp: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ws: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    wss: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unix: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) admin: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) link: Option<u16>,
}

impl Ports {
    pub(super) fn note(&mut self, listener: &BoundListener) {
        let ports = match listener.kind() {
            TransportKind::Tcp => &mut self.tcp,
            TransportKind::Tls => &mut self.tls,
            TransportKind::WebSocket => &mut self.ws,
            TransportKind::SecureWebSocket => &mut self.wss,
            TransportKind::Unix => {
                self.unix.extend(listener.addresses().filter_map(|at| shown(at).err()));
                return;
            }
        };
        for address in listener.addresses().filter_map(|at| shown(at).ok()) {
            if !ports.contains(&address.port()) {
                ports.push(address.port());
            }
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        formatter.write_str(&json)
    }
}
