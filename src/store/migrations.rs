//! The schema, as a list of steps that both databases take in the same words.
//!
//! The two dialects differ in five words, which stand in braces. That is why this is not done by a
//! library: those that know both databases want a folder for each. A step that was released is never
//! changed. Steps expand: a broker of the version before must be able to work on the result, because
//! in a cluster it does. What it would take away waits for a version that no longer needs it.

/// One step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Migration {
    /// From one, without gaps.
    pub(super) version: i64,
    /// What it is for.
    pub(super) name: &'static str,
    text: &'static str,
}

/// The words in which the databases differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    bytes: &'static str,
    key: &'static str,
    clustered: &'static str,
    postgres: &'static str,
}

/// All steps, in order.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "sessions and messages",
        text: include_str!("migrations/0001_sessions_and_messages.sql"),
    },
    Migration {
        version: 2,
        name: "no foreign keys",
        text: include_str!("migrations/0002_no_foreign_keys.sql"),
    },
    Migration {
        version: 3,
        name: "users of sessions",
        text: include_str!("migrations/0003_users_of_sessions.sql"),
    },
    Migration {
        version: 4,
        name: "how far queues were sent",
        text: include_str!("migrations/0004_how_far_queues_were_sent.sql"),
    },
];

/// Those of SQLite. The key of a table is the address of its rows; other tables lie in their key.
/// What is for PostgreSQL alone, a line each, is a comment here.
pub(super) const SQLITE: Dialect = Dialect {
    bytes: "BLOB",
    key: "INTEGER NOT NULL PRIMARY KEY",
    clustered: "WITHOUT ROWID",
    postgres: "-- ",
};

/// Those of PostgreSQL.
pub(super) const POSTGRES: Dialect =
    Dialect { bytes: "BYTEA", key: "BIGINT NOT NULL PRIMARY KEY", clustered: "", postgres: "" };

impl Migration {
    /// The step in the words of a database.
    pub(super) fn text(&self, dialect: Dialect) -> String {
        self.text
            .replace("{bytes}", dialect.bytes)
            .replace("{key}", dialect.key)
            .replace("{clustered}", dialect.clustered)
            .replace("{postgres}", dialect.postgres)
    }
}

/// The steps that a schema of `version` lacks.
pub(super) fn pending(version: i64) -> impl Iterator<Item = &'static Migration> {
    MIGRATIONS.iter().filter(move |migration| migration.version > version)
}

/// The version that all steps lead to.
pub(super) fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_counted_and_no_word_is_left_open() {
        for (place, migration) in (1..).zip(MIGRATIONS) {
            assert_eq!(migration.version, place, "{}", migration.name);
            for dialect in [SQLITE, POSTGRES] {
                assert!(!migration.text(dialect).contains(['{', '}']), "{}", migration.name);
            }
        }
    }

    /// What was released stands in files in the field: a change of its text would never reach them.
    #[test]
    fn released_steps_are_as_they_were() {
        let digest = |text: &str| {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            digest.as_ref().first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).unwrap()
        };
        let digests: Vec<_> = MIGRATIONS.iter().map(|it| digest(it.text)).collect();
        assert_eq!(digests, RELEASED, "add a step instead of changing one");
    }

    /// The beginnings of their SHA-256.
    const RELEASED: [u64; 4] = [
        0x3c0e_fade_dc9c_26a4,
        0xbd78_45bd_dc0f_1a73,
        0x5ee7_0b58_26c1_0b82,
        0x4efb_f2e6_6c1c_4379,
    ];
}
