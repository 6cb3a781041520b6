//! Opens the file, brings its schema up to date, and sets a damaged one aside.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::salvage::{self, Salvaged};
use crate::store::migrations::{self, SQLITE};
use crate::store::retry::Failure;

/// Where the file is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    directory: PathBuf,
}

impl Place {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Opens what is there, or makes it.
    pub(super) fn open(&self) -> Result<Connection, Failure> {
        let mut connection = Connection::open(self.file())?;
        prepare(&connection)?;
        migrate(&mut connection)?;
        Ok(connection)
    }

    /// Sets a damaged file aside, and takes over from it what can be read. `now_millis` makes its new
    /// name one that nothing has. `newest` is the number of who works on it, if it was registered.
    pub(super) fn replace_damaged(
        &self,
        why: &str,
        now_millis: u64,
        newest: Option<u64>,
    ) -> Result<Connection, Failure> {
        let aside = self.directory.join(format!("{FILE}.damaged-{now_millis}"));
        tracing::error!(
            file = %self.file().display(),
            aside = %aside.display(),
            why,
            "the store is damaged: it is set aside, and what can be read is taken over"
        );
        self.rename(&self.file(), &aside)?;
        let (connection, salvaged) = self.take_over(&aside, newest).inspect_err(|failure| {
            // Where there is no room for a second file, say: the next try finds the first one again.
            tracing::error!(%failure, "what can be read of the store could not be taken over");
            self.put_back(&aside);
        })?;
        tracing::warn!(
            rows = salvaged.rows,
            unreadable = salvaged.gaps,
            orphans = salvaged.orphans,
            "what could be read of the damaged store has been taken over"
        );
        Ok(connection)
    }

    fn take_over(
        &self,
        aside: &Path,
        newest: Option<u64>,
    ) -> Result<(Connection, Salvaged), Failure> {
        let mut connection = self.open()?;
        let salvaged = salvage::take_over(&mut connection, aside, newest)?;
        Ok((connection, salvaged))
    }

    /// Has the damaged file in its place again, and nothing of the new one.
    fn put_back(&self, aside: &Path) {
        for ending in ["-wal", ""] {
            let _absent = fs::remove_file(with_ending(&self.file(), ending));
        }
        if let Err(failure) = self.rename(aside, &self.file()) {
            tracing::error!(%failure, "the damaged store could not be put back");
        }
    }

    /// The file with its log, which belongs to it by its name.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        for ending in ["-wal", ""] {
            move_if_there(&with_ending(from, ending), &with_ending(to, ending))?;
        }
        // An index of the log, which is made anew.
        let _absent = fs::remove_file(with_ending(&self.file(), "-shm"));
        Ok(())
    }
}

fn move_if_there(from: &Path, to: &Path) -> Result<(), Failure> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::Transient(format!("cannot rename {}: {error}", from.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// What holds for every connection.
fn prepare(connection: &Connection) -> Result<(), Failure> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Nobody else should have the file; whoever looks at it does so for a moment.
    connection.busy_timeout(std::time::Duration::from_millis(500))?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Failure::Transient(format!("the file has no write-ahead log but {mode}")));
    }
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -65536;
         PRAGMA wal_autocheckpoint = 8192;
         PRAGMA journal_size_limit = 67108864;",
    )?;
    Ok(())
}

/// Takes the steps that the file lacks, each in a transaction of its own.
fn migrate(connection: &mut Connection) -> Result<(), Failure> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS migration (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL)",
    )?;
    let newest = "SELECT version FROM migration ORDER BY version DESC LIMIT 1";
    let version = connection.query_row(newest, [], |row| row.get(0)).optional()?.unwrap_or(0);
    for migration in migrations::pending(version) {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step.execute_batch(&migration.text(SQLITE))?;
        let note = "INSERT INTO migration (version, name) VALUES (?1, ?2)";
        step.execute(note, (migration.version, migration.name))?;
        step.commit()?;
        tracing::debug!(version = migration.version, name = migration.name, "store migrated");
    }
    if version > migrations::newest() {
        tracing::warn!(
            version,
            known = migrations::newest(),
            "the store was written by a newer version"
        );
    }
    Ok(())
}

pub(super) const FILE: &str = "store.sqlite";
const STATEMENTS_MAX: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    /// A file from the field has all rows that its version wrote, and gets what it lacks.
    #[test]
    fn every_released_schema_is_brought_up_to_date() {
        for upto in 0..=migrations::newest() {
            let directory = tempdir();
            let mut old = Connection::open(directory.path.join(FILE)).unwrap();
            old.execute_batch(
                "CREATE TABLE migration (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL)",
            )
            .unwrap();
            for migration in migrations::MIGRATIONS.iter().filter(|it| it.version <= upto) {
                let step = old.transaction().unwrap();
                step.execute_batch(&migration.text(SQLITE)).unwrap();
                let note = "INSERT INTO migration (version, name) VALUES (?1, ?2)";
                step.execute(note, (migration.version, migration.name)).unwrap();
                step.commit().unwrap();
            }
            if upto >= 1 {
                old.execute("INSERT INTO ended_session (uid) VALUES (7)", []).unwrap();
            }
            drop(old);
            let place = Place::new(directory.path.clone());
            for _ in 0..2 {
                let connection = place.open().unwrap();
                let count =
                    |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
                assert_eq!(count("SELECT count(*) FROM migration"), migrations::newest());
                let kept = count("SELECT count(*) FROM ended_session WHERE uid = 7");
                assert_eq!(kept, i64::from(upto >= 1));
            }
        }
    }

    struct TempDir {
        path: PathBuf,
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _gone = fs::remove_dir_all(&self.path);
        }
    }

    fn tempdir() -> TempDir {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("mqttzoo-migrations-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        TempDir { path }
    }
}
