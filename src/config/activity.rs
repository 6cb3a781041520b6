//! What is written down of clients.

use std::num::NonZeroU32;

use super::{
    option::options,
    value::{ByteSize, Shape, Value, above_zero, choices, quoted},
};
use crate::broker::telling::Sample;
use crate::mqtt::TopicFilter;

options! {
    /// Who came and went, and why: the broker writes connects, disconnects, refusals and Subscriptions
    /// into tables. Nothing waits for that: what there is no room for is dropped, and counted. Tables and
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
        /// The same for one in `N` publishes of each thread, or for none where `N` is 0: `100:plant/#`,
        /// `0:plant/noise/#`; may be repeated. The first that matches decides, and is asked before
        /// `activity_publishes`.
        activity_samples: Vec<Sample> as "N:FILTER" = Vec::new(),
        /// What rows may take on the disk, in `activity-spool` in `data_dir`, while the database is away
        /// for longer than memory lasts. What there is no room for is dropped, and told as a gap. `off`:
        /// rows wait in memory alone.
        activity_spool_bytes_max: Option<ByteSize> as "SIZE" = Some(ByteSize::mib(256)),
        /// Days for which rows are kept. Older days are removed whole.
        activity_days: NonZeroU32 as "N" = above_zero(30),
    }
}

impl Activity {
    /// All that is said of publishes, in the order in which it decides.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let all = self.activity_publishes.iter().cloned();
        let all = all.map(|filter| Sample { filter, every: 1 });
        self.activity_samples.iter().cloned().chain(all).collect()
    }
}

impl Value for Vec<Sample> {
    const SHAPE: Shape = Shape::Many;

    fn read(texts: &[String]) -> Result<Self, String> {
        let sample = |text: &String| {
            let parts = text.split_once(':');
            let sample = parts.and_then(|(every, filter)| {
                let filter = TopicFilter::parse(filter).ok()?;
                let every = every.trim().parse().ok()?;
                (!filter.as_str().starts_with('$')).then_some(Sample { filter, every })
            });
            sample.ok_or_else(|| {
                format!(
                    "`{text}` is not a number, a colon, and a topic filter that begins without $"
                )
            })
        };
        texts.iter().map(sample).collect()
    }

    fn show(&self) -> Option<String> {
        let show =
            |sample: &Sample| quoted(&format!("{}:{}", sample.every, sample.filter.as_str()));
        Some(format!("[{}]", self.iter().map(show).collect::<Vec<_>>().join(", ")))
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
