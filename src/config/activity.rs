//! What is written down of clients.

use std::num::NonZeroU32;

use super::{
    option::options,
    value::{above_zero, choices},
};
use crate::mqtt::TopicFilter;

options! {
    /// Who came and went, and why: the broker writes connects, disconnects, refusals and Subscriptions
    /// into tables. Nothing waits for that: what there is no time for is dropped, and counted. Tables and
    /// queries: `docs/ACTIVITY.md`.
    #[heading = "Activity log"]
    pub struct Activity {
        /// Where it is written: into the schema `mqtt_log` of the `database`, where there is one (in a
        /// cluster as well), into a `file`, `activity.sqlite` in `data_dir`, or nowhere, `off`.
        activity_log: ActivityLog as "PLACE" = ActivityLog::Database,
        /// The topic filters of the topics whose publishes are written as well, with the first 256 bytes
        /// of their payload; may be repeated. It costs the publisher's shard a comparison for each
        /// filter and publish.
        activity_publishes: Vec<TopicFilter> as "FILTER" = Vec::new(),
        /// Days for which rows are kept. Older days are removed whole.
        activity_days: NonZeroU32 as "N" = above_zero(30),
    }
}

choices! {
    /// Where the activity log is kept.
    pub enum ActivityLog {
        /// In PostgreSQL.
        Database = "database",
        /// In the data directory.
        File = "file",
        /// Nowhere.
        Off = "off",
    }
    expected "database, file, off"
}
