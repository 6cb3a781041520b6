//! Where the log goes.
//!
//! An event is formatted where it happens and handed to a thread that writes. The queue between them
//! is bounded in lines and in bytes, and a line that does not fit is dropped and counted: a full
//! disk or a stopped terminal must not stop a shard. The writer is ours, because it has to take a
//! newly opened file between two lines when the log is rotated.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tracing::{Level, Subscriber, subscriber::SetGlobalDefaultError};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
    reload,
};

/// What is logged, how, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The least important events that are logged.
    pub level: LevelFilter,
    /// How an event is written.
    pub form: Form,
    /// The file the log is appended to; standard error if absent.
    pub file: Option<PathBuf>,
}

/// How an event is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// A line for people, coloured on a terminal.
    Human,
    /// One JSON object per line.
    Json,
}

/// Why the log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The file cannot be opened.
    #[error(
        "cannot open the log file {path}: check --log-file and the permissions of its directory"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The thread that writes has not got on for long.
    #[error("the log is not being written: whoever reads it has stopped")]
    Stuck,
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that writes the log")]
    Spawn(#[source] io::Error),
    /// There is a log already.
    #[error("the log of this process was started before")]
    Started(#[from] SetGlobalDefaultError),
}

/// The running log. Dropping it writes what is queued and ends.
#[derive(Debug)]
pub struct Logging {
    filter: reload::Handle<Targets, Registry>,
    queue: Queue,
    file: Option<PathBuf>,
    writer: Option<Writer>,
}

/// The thread that writes.
#[derive(Debug)]
struct Writer {
    /// Closed when the thread ends; nothing is ever sent.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Logging {
    /// Starts the log of this process.
    ///
    /// # Errors
    /// The file cannot be opened, or the log was started before.
    pub fn start(options: Options) -> Result<Self, LoggingError> {
        let (subscriber, logging) = Self::build(options)?;
        tracing::subscriber::set_global_default(subscriber)?;
        Ok(logging)
    }

    fn build(
        options: Options,
    ) -> Result<(impl Subscriber + Send + Sync + 'static, Self), LoggingError> {
        let sink = match &options.file {
            Some(path) => Sink::File(open(path)?),
            None => Sink::StandardError,
        };
        let is_coloured = options.file.is_none()
            && io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (queue, entries) = Queue::new();
        let queued = queue.clone();
        let (ends, ended) = sync_channel(0);
        let writer = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                let _ends = ends;
                write_entries(&entries, &queued, sink);
            })
            .map_err(LoggingError::Spawn)?;
        let writer = Writer { ended, thread: writer };
        let (filter, filter_handle) = reload::Layer::new(targets(options.level));
        let lines = tracing_subscriber::fmt::layer().with_writer(queue.clone());
        let lines = match options.form {
            Form::Human => lines.with_ansi(is_coloured).boxed(),
            Form::Json => lines
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .boxed(),
        };
        let subscriber = Registry::default().with(filter).with(lines);
        let logging =
            Self { filter: filter_handle, queue, file: options.file, writer: Some(writer) };
        Ok((subscriber, logging))
    }

    /// A handle to look at the log and to change its level.
    #[must_use]
    pub fn handle(&self) -> LogHandle {
        LogHandle { filter: self.filter.clone(), dropped: Arc::clone(&self.queue.dropped) }
    }

    /// Changes what is logged from now on.
    pub fn set_level(&self, level: LevelFilter) {
        self.handle().set_level(level);
    }

    /// Opens the log file anew: its name may belong to a new file by now. The next lines go there.
    ///
    /// # Errors
    /// It cannot be opened. The log goes on in the file it has.
    pub fn reopen(&self) -> Result<(), LoggingError> {
        let Some(path) = &self.file else { return Ok(()) };
        let file = open(path)?;
        // A queue that is full belongs to a log nobody can write to now; it stays where it is.
        self.queue.entries.try_send(Entry::Reopened(file)).map_err(|_| LoggingError::Stuck)
    }
}

/// The log, from anywhere. Clones are the same log.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
    dropped: Arc<AtomicU64>,
}

impl LogHandle {
    /// Changes what is logged from now on.
    pub fn set_level(&self, level: LevelFilter) {
        // Fails only when the subscriber is gone, and then nothing is logged anyway.
        let _unheard = self.filter.reload(targets(level));
    }

    /// What is logged now.
    #[must_use]
    pub fn level(&self) -> LevelFilter {
        let is_logged =
            |level: &Level| self.filter.with_current(|now| now.would_enable(OURS, level));
        let logged = LEVELS.iter().take_while(|level| is_logged(level).unwrap_or(false)).last();
        logged.map_or(LevelFilter::OFF, |level| LevelFilter::from_level(*level))
    }

    /// How many lines were dropped because the writer was behind.
    #[must_use]
    pub fn dropped_lines(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // Whoever reads the log may have stopped reading: a broker that ends does not wait for that.
        let is_told = self.queue.entries.try_send(Entry::End).is_ok();
        if is_told && let Some(Writer { ended, thread }) = self.writer.take() {
            let has_ended = ended.recv_timeout(END_TIMEOUT) == Err(RecvTimeoutError::Disconnected);
            if has_ended {
                let _ended = thread.join();
            }
        }
    }
}

/// What the writing thread is told.
enum Entry {
    /// Write this.
    Line(Vec<u8>),
    /// Write to this file from now on.
    Reopened(File),
    /// Write what came before, and end.
    End,
}

/// The way to the writing thread.
#[derive(Clone, Debug)]
struct Queue {
    entries: SyncSender<Entry>,
    /// Bytes of the queued lines.
    bytes: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    fn new() -> (Self, Receiver<Entry>) {
        let (entries, receiver) = sync_channel(QUEUED_LINES_MAX);
        (Self { entries, bytes: Arc::default(), dropped: Arc::default() }, receiver)
    }

    fn offer(&self, line: &[u8]) {
        let bytes_after = self.bytes.fetch_add(line.len(), Ordering::Relaxed) + line.len();
        let is_queued = bytes_after <= QUEUED_BYTES_MAX
            && match self.entries.try_send(Entry::Line(line.to_vec())) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
            };
        if !is_queued {
            self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Each event arrives as one write.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.offer(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Queue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Where lines end up.
enum Sink {
    File(File),
    StandardError,
}

impl Sink {
    fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(lines),
            Self::StandardError => io::stderr().lock().write_all(lines),
        }
    }
}

/// The writing thread: gathers what is queued, writes it at once.
fn write_entries(entries: &Receiver<Entry>, queue: &Queue, mut sink: Sink) {
    let mut lines = Vec::new();
    while let Ok(first) = entries.recv() {
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Line(line) => {
                    queue.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                    lines.extend_from_slice(&line);
                }
                Entry::Reopened(file) => {
                    write_batch(&mut sink, &mut lines, queue);
                    sink = Sink::File(file);
                }
                Entry::End => return write_batch(&mut sink, &mut lines, queue),
            }
            next = if lines.len() < BATCH_BYTES { entries.try_recv().ok() } else { None };
        }
        write_batch(&mut sink, &mut lines, queue);
    }
}

fn write_batch(sink: &mut Sink, lines: &mut Vec<u8>, queue: &Queue) {
    if sink.write_all(lines).is_err() {
        // A full disk: there is no other place to say so than the counter.
        let lost = lines.split(|byte| *byte == b'\n').skip(1).count();
        queue.dropped.fetch_add(u64::try_from(lost).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    lines.clear();
}

/// Our own events down to `level`; those of the libraries we use only when they warn.
fn targets(level: LevelFilter) -> Targets {
    // It tells each failed attempt to connect; `coordination` says the same once a minute.
    let zookeeper = if level < LevelFilter::DEBUG { LevelFilter::OFF } else { LevelFilter::WARN };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("zookeeper_client", zookeeper)
        .with_target(OURS, level)
        .with_target("mqtt_broker", level)
}

fn open(path: &Path) -> Result<File, LoggingError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|source| LoggingError::Open { path: path.to_owned(), source })
}

/// What our own events are called by.
const OURS: &str = env!("CARGO_PKG_NAME");

/// The most important first.
const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

/// Lines that wait to be written.
const QUEUED_LINES_MAX: usize = 8_192;

/// Bytes of the lines that wait to be written.
const QUEUED_BYTES_MAX: usize = 8 << 20;

/// Bytes that are written at once.
const BATCH_BYTES: usize = 64 << 10;

/// How long the end of the log may take.
const END_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::fs;

    use tracing::{debug, info, warn};

    use super::*;

    /// A directory that is gone when the test is.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("mqttzoo-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn join(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _gone = fs::remove_dir_all(&self.0);
        }
    }

    fn options(file: &Path, form: Form) -> Options {
        Options { level: LevelFilter::INFO, form, file: Some(file.to_owned()) }
    }

    #[test]
    fn json_is_one_object_per_line() {
        let directory = Directory::new("log-json");
        let path = directory.join("log");
        let (subscriber, logging) = Logging::build(options(&path, Form::Json)).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            info!(client_id = "a\nb", "connected");
            warn!("second");
        });
        drop(logging);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "connected");
        assert_eq!(lines[0]["client_id"], "a\nb");
        assert_eq!(lines[1]["level"], "WARN");
    }

    #[test]
    fn the_level_can_change_while_running() {
        let directory = Directory::new("log-level");
        let path = directory.join("log");
        let (subscriber, logging) = Logging::build(options(&path, Form::Human)).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            debug!("one");
            assert_eq!(logging.handle().level(), LevelFilter::INFO);
            logging.set_level(LevelFilter::DEBUG);
            assert_eq!(logging.handle().level(), LevelFilter::DEBUG);
            debug!("two");
            debug!(target: "rustls", "noise");
            logging.set_level(LevelFilter::OFF);
            assert_eq!(logging.handle().level(), LevelFilter::OFF);
            warn!("three");
        });
        drop(logging);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("two") && !text.contains("one") && !text.contains("three"), "{text}");
        assert!(!text.contains("noise"), "libraries speak up only to warn: {text}");
        assert!(!text.contains('\u{1b}'), "a file has no colours: {text}");
    }

    #[test]
    fn a_rotated_file_is_opened_anew_between_two_lines() {
        let directory = Directory::new("log-rotate");
        let (path, rotated) = (directory.join("log"), directory.join("log.1"));
        let (subscriber, logging) = Logging::build(options(&path, Form::Human)).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            info!("before");
            fs::rename(&path, &rotated).unwrap();
            logging.reopen().unwrap();
            info!("after");
        });
        drop(logging);
        let (old, new) =
            (fs::read_to_string(&rotated).unwrap(), fs::read_to_string(&path).unwrap());
        assert!(old.contains("before") && !old.contains("after"), "{old}");
        assert!(new.contains("after") && !new.contains("before"), "{new}");
    }

    #[test]
    fn a_writer_that_is_behind_costs_lines_and_not_time() {
        let (queue, entries) = Queue::new();
        for _ in 0..QUEUED_LINES_MAX + 3 {
            queue.offer(b"line\n");
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 3);
        assert_eq!(queue.bytes.load(Ordering::Relaxed), QUEUED_LINES_MAX * 5);
        drop(entries);
        let (queue, _entries) = Queue::new();
        queue.offer(&vec![b'x'; QUEUED_BYTES_MAX]);
        queue.offer(b"one more");
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_said() {
        let directory = Directory::new("log-refused");
        let error = Logging::build(options(&directory.0, Form::Human)).err().unwrap();
        assert!(error.to_string().contains("--log-file"), "{error}");
    }
}
