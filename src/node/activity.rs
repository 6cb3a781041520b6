//! The activity log put together: who is told what happens, and what is measured of it.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt as _;

use crate::activity::{ActivityLog, ActivityOptions, Connect, Place, RingLimits, SpoolOptions};
use crate::broker::telling::Telling;
use crate::config::{ActivityLog as Wanted, ByteSize, Config};
use crate::gateway::mqtt::Observer;
use crate::metrics::{Readings, Source};
use crate::node::cluster::broker_name;
use crate::runtime::Clock;
use crate::runtime::background::{Background, BackgroundHandle};
use crate::store::PostgresOptions;

/// What of it is in the database, in words.
pub(super) fn kept_in_database(config: &Config) -> &'static str {
    match config.activity.activity_log {
        Wanted::Database => "the activity log alone",
        Wanted::File | Wanted::Off => "nothing",
    }
}

fn is_kept(config: &Config) -> bool {
    match config.activity.activity_log {
        Wanted::Database => config.database.is_given(),
        Wanted::File => true,
        Wanted::Off => false,
    }
}

/// What the broker has to tell for it.
pub(super) fn telling(config: &Config) -> Telling {
    if !is_kept(config) {
        return Telling::default();
    }
    Telling { subscriptions: true, publishes: config.activity.samples() }
}

/// Starts it, where the configuration wants one. It has a thread of its own: what is written takes the
/// processor for a while each time, and who stores messages beside the shards is not to wait for it.
pub(super) fn start(
    config: &Config,
    database: Option<&PostgresOptions>,
    clock: Clock,
    background: &Background,
) -> io::Result<Option<(ActivityLog, Background)>> {
    if !is_kept(config) {
        return Ok(None);
    }
    let beside = background.beside(THREAD)?;
    let tasks = beside.handle();
    let place = match database.filter(|_| config.activity.activity_log == Wanted::Database) {
        Some(database) => Place::Server(connect(database.clone(), tasks.clone())),
        None => Place::File(config.broker.data_dir.join(FILE)),
    };
    let is_remote = matches!(place, Place::Server(_));
    let bytes_max = config.activity.activity_spool_bytes_max.filter(|_| is_remote);
    let spool = bytes_max.map(|ByteSize(bytes)| SpoolOptions {
        directory: config.broker.data_dir.join(SPOOL),
        bytes_max: bytes as u64,
    });
    let options = ActivityOptions {
        place,
        spool,
        broker: broker_name(config),
        boot: super::draw_seed().cast_signed(),
        days: config.activity.activity_days.get(),
        limits: RingLimits::default(),
    };
    Ok(Some((ActivityLog::start(options, clock, &tasks), beside)))
}

fn connect(database: PostgresOptions, tasks: BackgroundHandle) -> Connect {
    Box::new(move || {
        let (database, tasks) = (database.clone(), tasks.clone());
        async move { database.connect(&tasks).await }.boxed()
    })
}

/// Who tells it.
pub(super) fn observer(log: &ActivityLog) -> Observer {
    let log = log.clone();
    Arc::new(move |event| log.note_event(event))
}

/// What is measured of it.
pub(super) struct ActivitySource(pub(super) ActivityLog);

impl Source for ActivitySource {
    fn read(&self, readings: &mut Readings) {
        let Self(log) = self;
        let counters = log.counters();
        for (name, help, value) in [
            ("activity_rows_waiting", "Rows in memory that are to be written.", log.waiting()),
            (
                "activity_spool_bytes",
                "Bytes of rows on the disk that are to be written.",
                counters.spool_bytes(),
            ),
        ] {
            readings.gauge(name, help, value);
        }
        for (name, help, value) in [
            ("activity_rows_written", "Rows of the activity log.", counters.written()),
            (
                "activity_rows_dropped",
                "Rows that were not written: there was no room, or the database refused them.",
                counters.dropped(),
            ),
            ("activity_rows_noted", "Rows there have been, written or not.", log.noted()),
            (
                "activity_rows_spooled",
                "Rows that went by the disk because the database did not take them.",
                counters.spooled(),
            ),
            (
                "activity_segments_damaged",
                "Files of rows that could not be read to their end.",
                counters.damaged(),
            ),
            (
                "activity_failures",
                "Times a batch of rows could not be written at once.",
                counters.failures(),
            ),
        ] {
            readings.counter(name, help, value);
        }
    }
}

const THREAD: &str = "activity log";
const FILE: &str = "activity.sqlite";
const SPOOL: &str = "activity-spool";
