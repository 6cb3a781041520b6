//! One shard's way to the store: what its turn has to have stored, and who waits for it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use crate::broker::durable::gated::{Frames, Gated, Gathered};
use crate::broker::durable::taking::Taking;
use crate::broker::durable::{Durable, Page, message_id};
use crate::broker::peers::ticket::PublishTicket;
use crate::ports::clock::Tick;
use crate::ports::message::{Delivery, Message, MessageId};
use crate::ports::store::{
    Batch, Done, Full, Operation, OwnerId, Pointer, SessionRef, StoreError, StoredMessage,
    Submitter, Ticket,
};
use crate::session::mailbox::{Gathering, GatheringEnd, Mailbox, PageWanted};

/// Collects the operations of a turn.
pub(crate) struct Keeper {
    durable: Arc<Durable>,
    submitter: Box<dyn Submitter>,
    /// Of the turn that runs.
    operations: Vec<Operation>,
    awaiting: Vec<Awaiting>,
    /// Whether the publish that runs has something in `operations`, or in `gathered`.
    has_kept: bool,
    /// Queues in which what was handed out last waits in memory, for Sessions on their way to the store.
    gathered: Gathered,
    /// Sessions that were asked for by connections that have gone. Each holds its Client Identifier in the
    /// registry, which bounds them.
    pub(super) unattended: Vec<(Arc<str>, Arc<Taking>)>,
    /// Whose answers wait for such a queue.
    gated: Vec<(Arc<Gathering>, Vec<Gated>)>,
    /// Queues that have ended, and what other members of Shared Subscriptions were handed of them.
    heirs: Vec<(Arc<Gathering>, Vec<Arc<PublishTicket>>)>,
    /// Handed over, in the order of their tickets.
    under_way: VecDeque<(Ticket, Stake)>,
    /// The store had no room for it. Until it has, what comes is added to it.
    returned: Option<Returned>,
    /// What has become too much in the meantime, and nobody has heard.
    given_up: Option<Settled>,
    /// Who is to hear of it.
    waker: Option<Waker>,
    /// What the store failed to take, and can be said at any later time.
    unsaid: Vec<Operation>,
    /// Whose Sessions it was told of and did not take, each once however often that was,
    unsure: BTreeSet<Arc<str>>,
    /// and whether it answers by now.
    may_be_told: bool,
    /// Operations of that kind for which there was no room.
    forgotten: u64,
    /// Operations there were, ever.
    pushed: u64,
    /// Numbers of messages that are drawn and not given.
    numbers: std::ops::Range<u64>,
}

/// A batch that waits for room.
struct Returned {
    batch: Batch,
    bytes: usize,
    stake: Stake,
}

/// What depends on a batch.
struct Stake {
    /// On whose behalf it is.
    owner: OwnerId,
    awaiting: Vec<Awaiting>,
    /// Sessions that it says are ours.
    put: Vec<SessionRef>,
    /// Since when it is the store's turn.
    since: Tick,
    /// What of it is to be said again if it fails.
    lasting: Vec<Operation>,
}

/// Who waits for a batch.
#[derive(Debug)]
pub(crate) enum Awaiting {
    /// A message in a queue.
    Place {
        /// The queue.
        mailbox: Arc<Mailbox>,
        /// Where in it.
        sequence: u64,
        /// What it is charged for.
        bytes: usize,
        /// What it is.
        message: MessageId,
        /// Whether its publisher sends it again and it is to come once.
        is_once: bool,
        /// As another member had it, where one handed it on.
        handed_on: Option<Box<Delivery>>,
    },
    /// An acknowledgement.
    Answer(Arc<PublishTicket>),
    /// Another broker, for what came of its messages.
    Frames(Frames),
    /// Whoever waits for messages that were collected in memory, and are to be stored by now.
    Gathering(Arc<Gathering>),
    /// A Session whose queue is read.
    Page(Arc<Page>),
    /// A queue that is full, of which this is read so that the oldest can give way.
    Head(Arc<Mailbox>, PageWanted),
    /// A connection that wants the Session that a client may have had elsewhere.
    Taking(Arc<Taking>),
    /// Nobody: the era is asked for.
    Era,
}

impl Awaiting {
    /// The Session that is to have a message, unless it is over.
    pub(super) fn session(&self) -> Option<SessionRef> {
        let mailbox = match self {
            Self::Place { mailbox, .. } => mailbox,
            Self::Answer(_)
            | Self::Frames(_)
            | Self::Gathering(_)
            | Self::Page(_)
            | Self::Head(..)
            | Self::Taking(_)
            | Self::Era => {
                return None;
            }
        };
        mailbox.stored_as().filter(|_| !mailbox.has_ended())
    }
}

/// A batch that was answered.
pub(crate) struct Settled {
    /// On whose behalf it was.
    pub(crate) owner: OwnerId,
    pub(crate) awaiting: Vec<Awaiting>,
    /// Sessions that it said were ours.
    pub(crate) put: Vec<SessionRef>,
    pub(crate) outcome: Result<Done, StoreError>,
    /// Whether the store was never asked.
    pub(crate) is_overflow: bool,
}

impl Keeper {
    pub(crate) fn new(durable: Arc<Durable>) -> Self {
        Self {
            submitter: durable.store().submitter(),
            durable,
            operations: Vec::new(),
            awaiting: Vec::new(),
            has_kept: false,
            gathered: Gathered::default(),
            unattended: Vec::new(),
            gated: Vec::new(),
            heirs: Vec::new(),
            under_way: VecDeque::new(),
            returned: None,
            given_up: None,
            waker: None,
            unsaid: Vec::new(),
            unsure: BTreeSet::new(),
            may_be_told: false,
            forgotten: 0,
            pushed: 0,
            numbers: 0..0,
        }
    }

    #[inline]
    pub(crate) fn durable(&self) -> &Arc<Durable> {
        &self.durable
    }

    pub(crate) fn push(&mut self, operation: Operation) {
        self.pushed += 1;
        self.operations.push(operation);
    }

    /// Operations there were, ever: who has brought some is told from who has not.
    #[inline]
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed
    }

    pub(crate) fn await_batch(&mut self, awaiting: Awaiting) {
        self.awaiting.push(awaiting);
    }

    /// Has a message stored in one more queue; `make` tells it when it is new to this batch.
    pub(crate) fn enqueue(
        &mut self,
        id: MessageId,
        pointer: Pointer,
        make: impl FnOnce() -> StoredMessage,
    ) {
        self.has_kept = true;
        self.pushed += 1;
        if let Some(Operation::Enqueue { message, pointers }) = self.operations.last_mut()
            && message.id == id
        {
            pointers.push(pointer);
            return;
        }
        let message = Arc::new(make());
        self.operations.push(Operation::Enqueue { message, pointers: vec![pointer] });
    }

    /// What is handed out waits in memory, in a queue of which this says what becomes of it.
    pub(super) fn gather(&mut self, gathering: &Arc<Gathering>, message: &Arc<Message>) {
        self.has_kept = true;
        self.gathered.add(gathering, message);
    }

    /// Where what was handed out waits in memory, since this was last asked.
    pub(crate) fn take_gathered(&mut self) -> Gathered {
        std::mem::take(&mut self.gathered)
    }

    /// This has been handed out before, and nobody waits for it yet.
    pub(crate) fn go_on_gathering(&mut self, gathered: Gathered) {
        self.gathered = gathered;
    }

    /// The publish that runs has to wait for this batch.
    pub(crate) fn note_kept(&mut self) {
        self.has_kept = true;
    }

    /// Whether something was noted since this was last asked.
    #[inline]
    pub(crate) fn take_has_kept(&mut self) -> bool {
        std::mem::take(&mut self.has_kept)
    }

    /// A name for a message.
    #[inline]
    pub(crate) fn draw_message_id(&mut self) -> MessageId {
        if self.numbers.is_empty() {
            let first = self.durable.draw_message_numbers(NUMBERS);
            self.numbers = first..first + NUMBERS;
        }
        let number = self.numbers.next().unwrap_or_default();
        message_id(self.durable.start(), number)
    }

    /// Ends a turn: hands over what it has collected.
    #[inline]
    pub(crate) fn flush(&mut self, now: Tick) {
        self.has_kept = false;
        self.gathered = Gathered::default();
        if self.operations.is_empty() && self.awaiting.is_empty() {
            return;
        }
        if self.returned.is_some() {
            return self.add_to_returned();
        }
        self.hand_over(now);
    }

    /// Behind what waits for room, as far as there is any: then all of it is given up, as if the store
    /// had. Only its place in the line is kept.
    fn add_to_returned(&mut self) {
        let Some(returned) = &mut self.returned else { return };
        returned.bytes += self.operations.iter().map(Operation::charged_bytes).sum::<usize>();
        returned.stake.lasting.extend(lasting_of(&self.operations));
        returned.stake.put.extend(put_by(&self.operations));
        returned.batch.operations.append(&mut self.operations);
        returned.stake.awaiting.append(&mut self.awaiting);
        let count = returned.batch.operations.len();
        if count <= RETURNED_OPERATIONS_MAX && returned.bytes <= RETURNED_BYTES_MAX {
            return;
        }
        returned.bytes = 0;
        returned.batch.operations = Vec::new();
        let lasting = std::mem::take(&mut returned.stake.lasting);
        let awaiting = std::mem::take(&mut returned.stake.awaiting);
        let owner = returned.stake.owner;
        let given_up = self.given_up.get_or_insert_with(|| Settled {
            owner,
            awaiting: Vec::new(),
            put: Vec::new(),
            outcome: Err(StoreError::Transient(NO_ROOM.to_owned())),
            is_overflow: true,
        });
        given_up.awaiting.extend(awaiting);
        self.say_later(lasting);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn hand_over(&mut self, now: Tick) {
        let batch = Batch {
            owner: self.durable.owner(),
            now_millis: self.durable.unix_millis(now),
            operations: std::mem::take(&mut self.operations),
        };
        let awaiting = std::mem::take(&mut self.awaiting);
        let lasting = lasting_of(&batch.operations).collect();
        let (owner, put) = (batch.owner, put_by(&batch.operations).collect());
        self.submit(batch, Stake { owner, awaiting, put, since: now, lasting });
    }

    fn submit(&mut self, batch: Batch, stake: Stake) {
        match self.submitter.submit(batch) {
            Ok(ticket) => self.under_way.push_back((ticket, stake)),
            Err(Full(batch)) => {
                let bytes = batch.charged_bytes();
                self.returned = Some(Returned { batch, bytes, stake });
            }
        }
    }

    /// Lets an answer wait for a queue.
    pub(super) fn wait_behind(&mut self, gathering: Arc<Gathering>, gated: Gated) {
        match self.gated.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &gathering)) {
            Some((_, waiting)) => waiting.push(gated),
            None => self.gated.push((gathering, vec![gated])),
        }
    }

    /// Lets those who wait for a queue wait until others have what was in it.
    pub(super) fn wait_for_heirs(
        &mut self,
        gathering: &Arc<Gathering>,
        tickets: Vec<Arc<PublishTicket>>,
    ) {
        self.heirs.push((Arc::clone(gathering), tickets));
    }

    /// Tells what has come of queues whose heirs have all answered; else `waker` is called when one does.
    pub(super) fn poll_heirs(&mut self, waker: &Waker) {
        self.heirs.retain_mut(|(gathering, tickets)| {
            let mut is_refused = false;
            tickets.retain(|ticket| {
                let outcome = ticket.poll(waker);
                is_refused |= outcome.is_some_and(|outcome| !outcome.is_success());
                outcome.is_none()
            });
            if is_refused {
                gathering.end(GatheringEnd::Failed);
            } else if tickets.is_empty() {
                gathering.end(GatheringEnd::Lost);
            }
            !gathering.has_ended()
        });
    }

    /// Those whose queue has come to an end; else `waker` is called when one has.
    pub(super) fn poll_gated(&mut self, waker: &Waker) -> Vec<(GatheringEnd, Vec<Gated>)> {
        let mut ended = Vec::new();
        self.gated.retain_mut(|(gathering, waiting)| match gathering.poll(waker) {
            Some(end) => {
                ended.push((end, std::mem::take(waiting)));
                false
            }
            None => true,
        });
        ended
    }

    /// Whether the store has no room: publishers are to wait.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.returned.is_some()
    }

    /// Since when the store owes an answer.
    pub(crate) fn waits_since(&self) -> Option<Tick> {
        let under_way = self.under_way.front().map(|(_, stake)| stake.since);
        under_way.or_else(|| self.returned.as_ref().map(|returned| returned.stake.since))
    }

    fn say_later(&mut self, operations: Vec<Operation>) {
        for operation in operations {
            let is_session = matches!(operation, Operation::PutSession { .. });
            let count = if is_session { self.unsure.len() } else { self.unsaid.len() };
            if count >= UNSAID_MAX {
                self.forgotten += 1;
            } else if let Operation::PutSession { client_id, .. } = operation {
                self.unsure.insert(client_id);
            } else {
                self.unsaid.push(operation);
            }
        }
    }

    /// The store answers: what it has missed goes with the next batch, a part at a time.
    fn say_again(&mut self) {
        let count = self.unsaid.len().min(SAID_AGAIN_MAX);
        self.operations.extend(self.unsaid.drain(..count));
        self.may_be_told = true;
    }

    /// Of whom the store, which answers, is to be told anew how their Sessions are: what it missed may be
    /// out of date.
    pub(crate) fn take_unsure(&mut self) -> Vec<Arc<str>> {
        if !std::mem::take(&mut self.may_be_told) {
            return Vec::new();
        }
        let next = std::iter::from_fn(|| self.unsure.pop_first());
        next.take(SAID_AGAIN_MAX).collect()
    }

    /// Whether the store has missed something, and nothing is under way whose answer would bring it
    /// along.
    pub(crate) fn owes(&self) -> bool {
        let owes = !self.unsaid.is_empty() || !self.unsure.is_empty();
        owes && self.under_way.is_empty() && self.returned.is_none()
    }

    /// Says a part of what the store has missed, whether anything else is to be said or not.
    pub(crate) fn remind(&mut self) {
        if self.owes() {
            self.say_again();
        }
    }

    /// How many operations were forgotten since this was last asked.
    pub(crate) fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// The next answer, else `waker` is called when there is one, or room.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Option<Settled> {
        if let Some(completion) = self.submitter.poll(waker) {
            let (ticket, stake) = self.under_way.pop_front()?;
            let Stake { owner, awaiting, put, lasting, .. } = stake;
            debug_assert_eq!(ticket, completion.ticket, "answers come in their order");
            let outcome = completion.outcome;
            match &outcome {
                Ok(_) => self.say_again(),
                Err(StoreError::Transient(_)) => self.say_later(lasting),
                Err(StoreError::Fenced | StoreError::Broken(_)) => {}
            }
            return Some(Settled { owner, awaiting, put, outcome, is_overflow: false });
        }
        self.waker = Some(waker.clone());
        if let Some(Returned { batch, stake, .. }) = self.returned.take() {
            self.submit(batch, stake);
        }
        self.given_up.take()
    }
}

/// Those that are true whenever they are said: Sessions that have ended do not come back, no place is
/// given twice, and what a client has released is told from the next one with its identifier, as is a
/// will that is gone. Who waits for the last may not come again. How a Session was is not said again, but
/// how it is by then.
fn lasting_of(operations: &[Operation]) -> impl Iterator<Item = Operation> {
    let is_lasting = |operation: &&Operation| {
        matches!(
            operation,
            Operation::EndSession(_)
                | Operation::Acknowledge { .. }
                | Operation::Forget { .. }
                | Operation::RemoveIncoming { .. }
                | Operation::RemoveWill { message: Some(_), .. }
                | Operation::PutSession { .. }
        )
    };
    operations.iter().filter(is_lasting).cloned()
}

/// Sessions that operations say are ours.
fn put_by(operations: &[Operation]) -> impl Iterator<Item = SessionRef> {
    operations.iter().filter_map(|operation| {
        let Operation::PutSession { session, .. } = operation else { return None };
        Some(*session)
    })
}

/// Operations kept to be said again. More are forgotten: what they would have removed is there again
/// after the next start, and a message of QoS 1 comes once more.
const UNSAID_MAX: usize = 65_536;
/// Those said again in one batch.
const SAID_AGAIN_MAX: usize = 4_096;
/// Operations that a shard collects while the store has no room, and their bytes. More: they are given
/// up, and those who wait for them are told.
const RETURNED_OPERATIONS_MAX: usize = 32_768;
const RETURNED_BYTES_MAX: usize = 64 * 1_024 * 1_024;
const NO_ROOM: &str = "the store has no room";
/// Numbers of messages drawn at a time.
const NUMBERS: u64 = 1 << 12;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use parking_lot::Mutex;

    use super::*;
    use crate::broker::peers::ticket::RemoteOutcome;
    use crate::mqtt::QoS;
    use crate::ports::store::{Completion, Epoch, OwnerId, SessionId, Store, StoreHealth};
    use crate::session::fixtures;

    /// A store that takes nothing before it is told to, and remembers what it took.
    #[derive(Default)]
    struct Narrow(Arc<Mutex<Room>>);

    #[derive(Default)]
    struct Room {
        is_open: bool,
        taken: Vec<Batch>,
    }

    struct Door(Arc<Mutex<Room>>);

    impl Store for Narrow {
        fn submitter(&self) -> Box<dyn Submitter> {
            Box::new(Door(Arc::clone(&self.0)))
        }

        fn health(&self) -> StoreHealth {
            StoreHealth::Good
        }
    }

    impl Submitter for Door {
        fn submit(&mut self, batch: Batch) -> Result<Ticket, Full> {
            let mut room = self.0.lock();
            if !room.is_open {
                return Err(Full(batch));
            }
            room.taken.push(batch);
            Ok(Ticket(room.taken.len() as u64))
        }

        fn poll(&mut self, _waker: &Waker) -> Option<Completion> {
            None
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn keeper() -> (Keeper, Arc<Mutex<Room>>) {
        let store = Narrow::default();
        let room = Arc::clone(&store.0);
        (Keeper::new(Arc::new(Durable::new(Arc::new(store), OwnerId(1), 0))), room)
    }

    fn end(id: u64) -> Operation {
        Operation::EndSession(SessionRef { id: SessionId(id), epoch: Epoch::default() })
    }

    #[test]
    fn what_comes_behind_a_batch_without_room_is_stored_with_it_and_in_order() {
        let (mut keeper, room) = keeper();
        for id in 1..=3 {
            keeper.push(end(id));
            keeper.flush(Tick::ZERO);
        }
        assert!(keeper.is_full());
        assert!(keeper.poll(Waker::noop()).is_none());
        room.lock().is_open = true;
        assert!(keeper.poll(Waker::noop()).is_none());
        assert!(!keeper.is_full());
        let taken = std::mem::take(&mut room.lock().taken);
        let operations: Vec<_> = taken.into_iter().map(|batch| batch.operations).collect();
        assert_eq!(operations, [[end(1), end(2), end(3)]]);
    }

    #[test]
    fn more_than_may_wait_for_room_is_given_up_and_those_who_wait_are_told() {
        let (mut keeper, room) = keeper();
        let woken = Arc::<Woken>::default();
        assert!(keeper.poll(&Waker::from(Arc::clone(&woken))).is_none());
        let ticket = Arc::new(PublishTicket::new(false));
        keeper.push(end(0));
        keeper.await_batch(Awaiting::Answer(ticket));
        keeper.flush(Tick::ZERO);
        (1..=RETURNED_OPERATIONS_MAX as u64).for_each(|id| keeper.push(end(id)));
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        keeper.flush(Tick::ZERO);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        let given_up = keeper.poll(Waker::noop()).expect("they are told");
        assert!(given_up.is_overflow && given_up.outcome.is_err());
        assert_eq!(given_up.awaiting.len(), 1);
        assert!(keeper.is_full(), "its place in the line is kept");
        keeper.push(end(9));
        keeper.flush(Tick::ZERO);
        room.lock().is_open = true;
        assert!(keeper.poll(Waker::noop()).is_none());
        assert_eq!(room.lock().taken.pop().map(|batch| batch.operations), Some(vec![end(9)]));
    }

    /// Nothing comes from the store by then.
    #[test]
    fn who_waits_for_a_queue_on_another_shard_is_called_when_the_last_heir_has_answered() {
        let [(mut here, _), (mut there, _)] = [keeper(), keeper()];
        let gathering = Arc::<Gathering>::default();
        let message = Arc::new(fixtures::message(QoS::AtLeastOnce));
        let answer = Gated::Answer(Arc::new(PublishTicket::new(false)), message);
        there.wait_behind(Arc::clone(&gathering), answer);
        let tickets = [(); 2].map(|()| Arc::new(PublishTicket::new(false)));
        here.wait_for_heirs(&gathering, tickets.to_vec());
        let [of_here, beyond] = [(); 2].map(|()| Arc::<Woken>::default());
        let calls = |woken: &Arc<Woken>| woken.0.load(Ordering::Relaxed);
        for (ticket, calls_before) in tickets.iter().zip(0..) {
            here.poll_heirs(&Waker::from(Arc::clone(&of_here)));
            assert!(there.poll_gated(&Waker::from(Arc::clone(&beyond))).is_empty());
            assert_eq!((calls(&of_here), calls(&beyond)), (calls_before, 0));
            ticket.answer(RemoteOutcome::Enqueued).expect("somebody waits").wake();
        }
        here.poll_heirs(Waker::noop());
        assert_eq!((calls(&of_here), calls(&beyond)), (2, 1));
        let ended = there.poll_gated(Waker::noop());
        assert!(matches!(&ended[..], [(GatheringEnd::Lost, waiting)] if waiting.len() == 1));
    }
}
