//! The store of a broker: opened before anything else can happen, and read before clients come.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::broker::Broker;
use crate::broker::durable::Durable;
use crate::cluster::identity::BootId;
use crate::config::Config;
use crate::gateway::mqtt::ShardContext;
use crate::mqtt::TopicName;
use crate::node::activity;
use crate::node::database::DatabaseError;
use crate::ports::clock::Tick;
use crate::ports::store::{
    Batch, Collected, Completion, Done, Epoch, Full, Operation, OwnerId, Registered, Reply,
    RetainedRecord, SessionId, SessionRecord, Slots, Store, Submitter,
};
use crate::runtime::{Background, Clock, Shutdown};
use crate::store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, StoreCounters};

/// Why a broker has no store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no thread for it.
    #[error("the system gives no thread for the store")]
    Thread(#[source] std::io::Error),
    /// It does not answer.
    #[error(
        "the store in {directory} cannot be used: {reason}; mend it, choose another --data-dir, or \
         keep everything in memory with --no-database"
    )]
    Unusable {
        /// Where it is.
        directory: String,
        /// In words.
        reason: String,
    },
    /// What is configured is no database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// The store, where the configuration wants one, and what to call it.
///
/// # Errors
///
/// It cannot be opened.
pub(super) fn open(
    config: &Config,
    database: Option<PostgresOptions>,
    member: Option<BootId>,
    background: &Background,
    clock: Clock,
) -> Result<Option<Kept>, OpenError> {
    if member.is_some() && !config.keeps_cluster_sessions() {
        if let Some(database) = database {
            tracing::warn!(
                "Sessions, queues and retained messages are in memory, as cluster_sessions says: \
                 PostgreSQL at {} keeps {}",
                database.place(),
                activity::kept_in_database(config),
            );
        }
        return Ok(None);
    }
    if config.broker.no_database {
        return Ok(None);
    }
    let owner = member.map_or_else(draw_owner, |boot_id| OwnerId(boot_id.0));
    let epoch_millis = clock.unix_millis().saturating_sub(clock.now().as_millis());
    let patience = Duration::from_secs(config.broker.store_wait_secs.get().into());
    let (store, counters, place): (Arc<dyn Store>, _, _) = if let Some(mut database) = database {
        let place = Place::Server(database.place());
        if member.is_some() {
            tell_what_is_kept(&database);
        }
        database.sole_owner = member.is_none().then_some(owner);
        database.patience = patience;
        let store = PostgresStore::start(database, &background.handle());
        let counters = store.counters();
        (Arc::new(store), counters, place)
    } else {
        let directory = config.broker.data_dir.clone();
        let place = Place::Directory(directory.display().to_string());
        let options = SqliteOptions { directory, patience, hook: None };
        let store = SqliteStore::start(options).map_err(OpenError::Thread)?;
        let counters = store.counters();
        (Arc::new(store), counters, place)
    };
    let durable = Arc::new(Durable::new(store, owner, epoch_millis));
    if let Place::Directory(directory) = &place {
        // What is wrong with a file is told before anything is opened.
        let mut reader = Reader::new(&durable, clock);
        let registered = background.block_on(reader.register());
        let directory = directory.clone();
        let registered = registered.map_err(|reason| OpenError::Unusable { directory, reason });
        durable.note_registered(registered?);
    }
    Ok(Some(Kept { durable, counters, place }))
}

fn draw_owner() -> OwnerId {
    OwnerId(u128::from(super::draw_seed()) << 64 | u128::from(super::draw_seed()))
}

/// What a broker of a cluster keeps where.
fn tell_what_is_kept(database: &PostgresOptions) {
    tracing::info!(
        "PostgreSQL at {} keeps Sessions, queues and retained messages of this cluster",
        database.place(),
    );
}

/// What outlives the process, and where.
pub(super) struct Kept {
    pub(super) durable: Arc<Durable>,
    pub(super) counters: Arc<StoreCounters>,
    pub(super) place: Place,
}

/// Where the store is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In this directory: what is wrong with it is wrong now.
    Directory(String),
    /// On this server: it may come, and go.
    Server(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => write!(formatter, "SQLite in {directory}"),
            Self::Server(place) => write!(formatter, "PostgreSQL at {place}"),
        }
    }
}

/// What came back from the store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Restored {
    pub(super) sessions: u64,
    pub(super) retained: u64,
    /// What there was no room for: it stays in the store.
    pub(super) left_out: u64,
}

impl Restored {
    /// Whether an earlier process has left anything.
    pub(super) fn is_any(&self) -> bool {
        self.sessions + self.retained + self.left_out > 0
    }

    /// Lets nobody take a start that takes long for one that hangs.
    fn tell(&self, told_at: &mut Tick, now: Tick) {
        if now.saturating_since(*told_at) < TELL_MILLIS {
            return;
        }
        *told_at = now;
        let (sessions, retained) = (self.sessions, self.retained);
        tracing::info!(sessions, retained, "what was stored is coming back");
    }
}

/// Puts what an earlier process left into `broker`.
///
/// # Errors
///
/// The store cannot be read; why.
pub(super) async fn restore(
    broker: &Broker,
    Kept { durable, place, .. }: &Kept,
    context: &ShardContext,
    clock: Clock,
) -> Result<Restored, String> {
    let mut reader = Reader::new(durable, clock);
    if let Place::Server(_) = place {
        reader.is_patient = true;
        durable.note_registered(reader.register().await?);
    }
    reader.take_all(durable.epoch()).await?;
    let (mut restored, mut told_at) = (Restored::default(), clock.now());
    let mut after = None;
    loop {
        let page = reader.sessions(after).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.session.id);
        let outcomes = context.run(broker, clock.now(), |turn| {
            let restore = |record| turn.restore_session(durable, record);
            page.iter().map(restore).collect::<Vec<_>>()
        });
        let left_out = outcomes.iter().filter(|outcome| outcome.is_err()).count() as u64;
        restored.sessions += page.len() as u64 - left_out;
        restored.left_out += left_out;
        restored.tell(&mut told_at, clock.now());
    }
    let mut after = None;
    loop {
        let page = reader.retained(after).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.topic.clone());
        let outcomes = context.run(broker, clock.now(), |turn| {
            let restore = |record| turn.restore_retained(durable, record);
            page.iter().map(restore).collect::<Vec<_>>()
        });
        let left_out = outcomes.iter().filter(|outcome| outcome.is_err()).count() as u64;
        restored.retained += page.len() as u64 - left_out;
        restored.left_out += left_out;
        restored.tell(&mut told_at, clock.now());
    }
    Ok(restored)
}

/// Waits until all that was handed over is stored, or cannot be, at most for `limit`.
pub(super) async fn flush(durable: &Arc<Durable>, clock: Clock, limit: Duration) {
    let mut reader = Reader::new(durable, clock);
    let asked = tokio::time::timeout(limit, reader.ask_once(None)).await;
    if !matches!(asked, Ok(Ok(_))) {
        tracing::warn!("what was to be stored last may be missing: the store does not answer");
    }
}

/// Lives on a shard: takes the answers of the store and hands them to whoever waits.
pub(super) async fn serve(broker: Arc<Broker>, context: Arc<ShardContext>, clock: Clock) {
    let mut reminder: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        let is_due = reminder.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
        if is_due {
            reminder = None;
        }
        let owes = context.run(&broker, clock.now(), |turn| {
            if is_due {
                turn.remind_store();
            }
            turn.poll_store(cx.waker())
        });
        if owes && reminder.is_none() {
            // A store that fails is not asked all the time, and one that was mended is told although
            // nobody comes.
            let sleep = reminder.insert(Box::pin(sleep(REMIND)));
            if sleep.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::<()>::Pending
    })
    .await;
}

/// Has the store remove what is of no use any more, a bounded part at a time.
pub(super) async fn collect(durable: Arc<Durable>, clock: Clock, shutdown: Shutdown) {
    let mut reader = Reader::new(&durable, clock);
    loop {
        tokio::select! {
            () = shutdown.begun() => return,
            () = tokio::time::sleep(COLLECT_PERIOD) => {}
        }
        while let Ok(Some(Reply::Collected(Collected { has_more: true, .. }))) =
            reader.ask(collect_some(clock.unix_millis())).await
        {
            tokio::task::yield_now().await;
        }
    }
}

fn collect_some(now_millis: u64) -> Operation {
    Operation::Collect {
        // The broker ends its own Sessions in time; these are others.
        sessions_before_millis: now_millis.saturating_sub(MEMORY_MILLIS),
        messages_before_millis: now_millis.saturating_sub(EXPIRED_MILLIS),
        memories_before_millis: now_millis.saturating_sub(MEMORY_MILLIS),
        limit: COLLECTED_MAX,
    }
}

/// Asks the store one thing after the other.
struct Reader {
    submitter: Box<dyn Submitter>,
    durable: Arc<Durable>,
    clock: Clock,
    /// Whether it goes on asking while there is no answer.
    is_patient: bool,
}

impl Reader {
    fn new(durable: &Arc<Durable>, clock: Clock) -> Self {
        let (submitter, durable) = (durable.store().submitter(), Arc::clone(durable));
        Self { submitter, durable, clock, is_patient: false }
    }

    async fn ask(&mut self, operation: Operation) -> Result<Option<Reply>, String> {
        loop {
            let answer = self.ask_once(Some(operation.clone())).await;
            if answer.is_ok() || !self.is_patient {
                return answer;
            }
            // What is wrong is in the log, and in the health of the store.
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn ask_once(&mut self, operation: Option<Operation>) -> Result<Option<Reply>, String> {
        let now_millis = self.clock.unix_millis();
        let operations = operation.into_iter().collect();
        let batch = Batch { owner: self.durable.owner(), now_millis, operations };
        let mut waiting = Some(batch);
        let Completion { outcome, .. } = poll_fn(|cx| {
            loop {
                if let Some(completion) = self.submitter.poll(cx.waker()) {
                    return Poll::Ready(completion);
                }
                let Some(batch) = waiting.take() else { return Poll::Pending };
                if let Err(Full(batch)) = self.submitter.submit(batch) {
                    waiting = Some(batch);
                    return Poll::Pending;
                }
            }
        })
        .await;
        let Done { replies, .. } = outcome.map_err(|error| error.to_string())?;
        Ok(replies.into_iter().next())
    }

    async fn register(&mut self) -> Result<Registered, String> {
        match self.ask(Operation::Register { root: None }).await? {
            Some(Reply::Registered(registered)) => Ok(registered),
            _ => Err("it does not say who we are".to_owned()),
        }
    }

    async fn take_all(&mut self, epoch: Epoch) -> Result<(), String> {
        loop {
            let (former, slots, limit) = (None, Slots::All, PAGE_MAX);
            let operation = Operation::TakeSessions { former, slots, epoch, limit };
            match self.ask(operation).await? {
                Some(Reply::Count(count)) if count == limit => {}
                _ => return Ok(()),
            }
        }
    }

    async fn sessions(&mut self, after: Option<SessionId>) -> Result<Vec<SessionRecord>, String> {
        let list = Operation::ListSessions { claim: None, after, limit: PAGE_MAX };
        match self.ask(list).await? {
            Some(Reply::Sessions(sessions)) => Ok(sessions),
            _ => Ok(Vec::new()),
        }
    }

    async fn retained(&mut self, after: Option<TopicName>) -> Result<Vec<RetainedRecord>, String> {
        match self.ask(Operation::ListRetained { after, limit: PAGE_MAX }).await? {
            Some(Reply::Retained(retained)) => Ok(retained),
            _ => Ok(Vec::new()),
        }
    }
}

/// How long after a failure the store is told again what nobody waits for.
const REMIND: Duration = Duration::from_secs(1);
/// How often a start that goes on says how far it is.
const TELL_MILLIS: u64 = 5_000;
/// How often the store is asked to remove what is of no use.
const COLLECT_PERIOD: Duration = Duration::from_secs(5);
/// What it removes of each kind at a time.
const COLLECTED_MAX: u32 = 1_000;
/// How long it keeps a message that has expired: one that was sent before that is to be sent again after a
/// start, and released, until it was acknowledged.
const EXPIRED_MILLIS: u64 = 60 * 1_000;
/// How long it keeps in mind what is over.
const MEMORY_MILLIS: u64 = 10 * 60 * 1_000;
/// Records read at a time.
const PAGE_MAX: u32 = 512;
/// How long it is left alone when it does not do what it is asked at the start.
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// A message was sent just before it expired, and the store forgot it before its client had said a word.
    #[test]
    fn what_may_just_have_been_sent_is_not_collected() {
        let now_millis = 1_000_000_000;
        let Operation::Collect { messages_before_millis, .. } = collect_some(now_millis) else {
            panic!("it is to collect")
        };
        assert_eq!(now_millis - messages_before_millis, 60_000);
    }
}
