//! A directory for temporary files that goes with what it belongs to.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// How many were made: two may have the same name at a time.
static MADE: AtomicU32 = AtomicU32::new(0);

/// The directory. Dropping it removes it and what is in it.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// A new one of this program's own, with `name` in its name.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn new(name: &str) -> io::Result<Self> {
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("mqttzoo-bench-{process}-{number}-{name}"));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left behind is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
