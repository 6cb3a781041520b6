//! Imports: Sessions on their way to this broker.
//!
//! A Session is subscribed here, and announced, before its contents come: what is published meanwhile
//! is collected. When all of it is here it is parked, as if its client had left a moment ago, and the
//! connection that waits for it comes in as any other.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::broker::acknowledge::Level;
use crate::broker::card::{ClientCard, Origin};
use crate::broker::complaints::Complaints;
use crate::broker::disconnect::Client;
use crate::broker::latest::Offer;
use crate::broker::peers::Peers;
use crate::broker::peers::handover::{MovedSubscription, ReceivedSession};
use crate::broker::peers::ownership::claims::NO_CLAIM;
use crate::broker::peers::ownership::exports::WINDOW_PARTS;
use crate::broker::peers::ownership::stored::Fetching;
use crate::broker::peers::ownership::{State, Work};
use crate::broker::permissions::Permissions;
use crate::broker::places::Place;
use crate::broker::registry::Claimed;
use crate::broker::replay::{Replay, Replays};
use crate::broker::routes::Destination;
use crate::broker::turn::Turn;
use crate::cluster::frame::{ControlFrame, Handover, Token};
use crate::cluster::identity::BootId;
use crate::mqtt::ProtocolVersion;
use crate::ports::auth::SessionUser;
use crate::ports::message::SubscriptionTag;
use crate::routing::RetainedCursor;
use crate::session::mailbox::Mailbox;
use crate::session::session::{Session, Subscription};

/// What others know and change of an import.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) client_id: Arc<str>,
    pub(super) from: BootId,
    /// Of the order by which it comes from there.
    token: Token,
    /// Not yet looked at; as many as were asked for.
    parts: VecDeque<Bytes>,
    has_begun: bool,
    has_last: bool,
    /// Whoever had it is dead.
    pub(super) is_lost: bool,
}

/// What has come of a Session.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) received: ReceivedSession,
    /// Parts that came since more were asked for.
    parts: u32,
    /// The Session, once its Subscriptions are known.
    pub(super) client: Option<Box<Client>>,
    /// Of our interest, that all must have applied.
    version: u64,
    is_applied: bool,
    /// Whether more was asked for since.
    has_asked: bool,
    /// Part of it makes no sense, or is not to be had: the rest is let pass.
    pub(super) has_failed: bool,
    /// Where the store has it.
    pub(super) fetching: Fetching,
}

/// What is new of an import.
struct News {
    claim: u64,
    client_id: Arc<str>,
    from: BootId,
    /// By which it was granted.
    token: Token,
    parts: VecDeque<Bytes>,
    has_last: bool,
    is_lost: bool,
}

impl Import {
    pub(super) fn new(client_id: Arc<str>, from: BootId, token: Token) -> Self {
        Self {
            client_id,
            from,
            token,
            parts: VecDeque::new(),
            has_begun: false,
            has_last: false,
            is_lost: false,
        }
    }

    /// It is granted now, and comes from `former`; from nobody, as far as the coordinator knows. What
    /// has come by another order does not count.
    pub(super) fn expect_from(&mut self, former: Option<BootId>, token: Token) {
        match former {
            Some(former) if former == self.from && token == self.token => {}
            Some(former) => *self = Self::new(Arc::clone(&self.client_id), former, token),
            None => self.is_lost = true,
        }
    }

    /// Whether any of it has come.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }
}

impl State {
    pub(super) fn note_part(&mut self, from: BootId, handover: Handover) {
        let Handover { claim, client_id, token, is_last, state } = handover;
        if let Some((client_id, pending)) = self.pending.get_key_value(client_id.as_str())
            && pending.claim == claim
            && claim != NO_CLAIM
            && pending.token.is_none()
            && self.imports.get(&claim).is_none_or(|import| import.token < token)
        {
            // The grant is still to come. Of two orders to send it the later counts.
            self.imports.insert(claim, Import::new(Arc::clone(client_id), from, token));
        }
        match self.imports.get_mut(&claim) {
            Some(import) if import.from == from && import.token == token => {
                import.has_begun = true;
                import.has_last |= is_last;
                import.parts.push_back(state);
                self.due_imports.insert(claim);
                self.wake_task();
            }
            // Whoever sends it has been told otherwise, or will be.
            Some(import) if token < import.token => {}
            Some(_) | None if is_last && state.is_empty() => {}
            Some(_) | None => self.tell(from, ControlFrame::HandoverDeclined { claim }),
        }
    }

    /// What is new of what is granted, and these. The rest may go elsewhere after all.
    fn take_news(&mut self, also: impl IntoIterator<Item = u64>) -> Vec<News> {
        let mut due = std::mem::take(&mut self.due_imports);
        due.extend(also);
        self.looks += due.len() as u64;
        due.into_iter().filter_map(|claim| self.news_of(claim)).collect()
    }

    fn news_of(&mut self, claim: u64) -> Option<News> {
        let import = self.imports.get_mut(&claim)?;
        let pending = self.pending.get(&import.client_id).filter(|one| one.claim == claim)?;
        let token = pending.token?;
        (import.has_begun || import.is_lost).then(|| News {
            claim,
            token,
            client_id: Arc::clone(&import.client_id),
            from: import.from,
            parts: std::mem::take(&mut import.parts),
            has_last: import.has_last,
            is_lost: import.is_lost,
        })
    }
}

impl Incoming {
    /// Takes one part. A Session that is sent once more, because it was to go elsewhere meanwhile,
    /// begins anew; what there was of it is returned.
    fn take(&mut self, part: Bytes, peers: &Peers) -> Option<Box<Client>> {
        let mut abandoned = None;
        if ReceivedSession::begins_with(&part) {
            abandoned = std::mem::take(self).client;
        }
        self.parts += 1;
        if !self.has_failed && self.received.take(part, peers).is_err() {
            self.has_failed = true;
        }
        abandoned
    }

    /// The version of our interest that it waits for.
    fn awaited_version(&self) -> Option<u64> {
        (self.client.is_some() && !self.is_applied).then_some(self.version)
    }

    /// Whether the sender waits for our word.
    fn is_due(&self) -> bool {
        match &self.client {
            _ if self.has_failed => self.parts > 0,
            Some(_) => self.is_applied && (!self.has_asked || self.parts >= WINDOW_PARTS),
            None => self.parts >= WINDOW_PARTS,
        }
    }
}

impl Turn<'_> {
    pub(super) fn poll_imports(&mut self, peers: &Peers, work: &mut Work, waker: &Waker) {
        let mut applied = BTreeSet::new();
        while let Some(&(version, claim)) = work.applying.first()
            && peers.interest().is_applied(version, waker)
        {
            work.applying.pop_first();
            applied.insert(claim);
        }
        applied.extend(work.fetched.take());
        for news in self.own(peers, |state| state.take_news(applied)) {
            let fetched = work.fetched.waker(news.claim, waker);
            let incoming = work.incoming.entry(news.claim).or_default();
            if self.advance_import(peers, &news, incoming, waker)
                && self.fetch_import(&news, incoming, &fetched)
            {
                let incoming = work.incoming.remove(&news.claim).unwrap_or_default();
                if let Some(mailbox) = self.finish_import(peers, &news, incoming) {
                    work.rounds.arrive(mailbox);
                }
            } else if let Some(version) = incoming.awaited_version() {
                work.applying.insert((version, news.claim));
            }
        }
    }

    /// Goes on with an import. `true` when nothing more is to come.
    fn advance_import(
        &mut self,
        peers: &Peers,
        news: &News,
        incoming: &mut Incoming,
        waker: &Waker,
    ) -> bool {
        for part in &news.parts {
            if let Some(abandoned) = incoming.take(part.clone(), peers) {
                self.end_session(*abandoned);
            }
        }
        if incoming.received.has_all_subscriptions && incoming.client.is_none() {
            let subscriptions = std::mem::take(&mut incoming.received.subscriptions);
            let of = (&incoming.received.user, incoming.received.session_expiry_secs);
            let client = self.start_collecting(peers, news, subscriptions, of);
            incoming.version = self.announce_moved(peers, &client);
            incoming.client = Some(client);
        }
        if incoming.client.is_some() && !incoming.is_applied {
            incoming.is_applied = peers.interest().is_applied(incoming.version, waker);
        }
        if news.has_last {
            return incoming.client.is_none() || incoming.is_applied || incoming.has_failed;
        }
        if news.is_lost {
            return true;
        }
        if incoming.is_due() {
            incoming.parts = 0;
            incoming.has_asked = incoming.is_applied;
            let claim = news.claim;
            self.own(peers, |state| state.tell(news.from, ControlFrame::HandoverTaken { claim }));
        }
        false
    }

    /// Takes the rest of a Session from the store, if that is where it is. `false` while it is asked.
    fn fetch_import(&mut self, news: &News, incoming: &mut Incoming, waker: &Waker) -> bool {
        let is_there = news.has_last && incoming.received.is_stored && !incoming.has_failed;
        !is_there || self.take_moved(&news.client_id, news.token, incoming, waker)
    }

    /// The Session as it is subscribed here, with nothing in it yet.
    fn start_collecting(
        &mut self,
        peers: &Peers,
        news: &News,
        subscriptions: Vec<MovedSubscription>,
        (user, session_expiry_secs): (&SessionUser, u32),
    ) -> Box<Client> {
        let client_id = Arc::clone(&news.client_id);
        let (identity, is_user_known) = user.identify(Arc::clone(&client_id));
        let mailbox = Mailbox::new(
            self.broker.draw_session_key(),
            client_id,
            Arc::clone(&self.broker.options.persistent_queue),
            Arc::clone(&self.broker.queue_budget),
        );
        let is_stored = session_expiry_secs > 0 && self.broker.durable().is_some();
        let mailbox = if is_stored { mailbox.to_be_stored() } else { mailbox };
        let mailbox = Arc::new(mailbox.recalling());
        let former = peers.find(news.from);
        let from = former.map_or_else(|| Arc::from("another broker"), |one| Arc::clone(one.name()));
        let mut client = Box::new(Client {
            session: Session::new(mailbox, self.broker.seeds.hash),
            replays: Replays::default(),
            permissions: Permissions::default(),
            level: Level::default(),
            complaints: Complaints::default(),
            subscription_serial: 0,
            will: None,
            card: Arc::new(ClientCard {
                identity,
                is_user_known,
                origin: Origin {
                    address: from,
                    listener: Arc::from("cluster"),
                    tls_common_name: None,
                },
                version: ProtocolVersion::V5,
                keep_alive_secs: 0,
                session_expiry_secs,
                connected_at: self.now,
            }),
            session_expiry_secs,
            waiting: None,
            stored: None,
            due: None,
        });
        let since = self.broker.next_offer();
        for subscription in subscriptions {
            add_subscription(&mut client, subscription, since);
        }
        client
    }

    /// What is published from here on is collected here as well. The version of our interest that all
    /// must have applied before it is so wherever it is published.
    fn announce_moved(&mut self, peers: &Peers, client: &Client) -> u64 {
        let subscriber = Destination::Mailbox(Arc::clone(client.session.mailbox()));
        let subscriptions: Vec<_> = client.session.subscriptions().collect();
        self.change_index(&subscriptions, |index, (filter, one)| {
            let _new = index.subscribe(&subscriber, filter, one.options, one.id);
        });
        let mut wakes = Vec::new();
        let wanted = subscriptions.iter().map(|(filter, one)| (*filter, one.options.qos));
        let version = peers.interest().add(wanted, &mut wakes);
        self.shard.wake_each(wakes);
        version
    }

    /// Parks what has come, or ends what has not come whole. The connection that waits goes on. What
    /// came with the Session may still come by other ways.
    fn finish_import(
        &mut self,
        peers: &Peers,
        news: &News,
        incoming: Incoming,
    ) -> Option<Arc<Mailbox>> {
        let is_whole = news.has_last && !incoming.has_failed;
        if incoming.received.is_stored {
            self.tell_taken(peers, news, is_whole && incoming.client.is_some());
        }
        let arrived = match incoming.client {
            Some(mut client) if is_whole => {
                self.shard.counters.sessions_moved_here.increment();
                if client.stored.is_none() {
                    client.session.take_over(incoming.received.contents);
                    Self::keep_gathered(client.session.mailbox());
                }
                client.remember_left_outs(incoming.received.left_out, &self.shard.counters);
                let mailbox = Arc::clone(client.session.mailbox());
                let place = self.own(peers, |state| state.take_place(news.claim, &news.client_id));
                self.park_import(client, place);
                Some(mailbox)
            }
            Some(client) => {
                self.shard.counters.sessions_lost_on_the_way.increment();
                self.end_session(*client);
                None
            }
            None => {
                let is_lost = incoming.has_failed || news.is_lost && !news.has_last;
                self.shard.counters.sessions_lost_on_the_way.add(u64::from(is_lost));
                None
            }
        };
        self.own(peers, |state| state.note_arrival(news.claim, &news.client_id));
        arrived
    }

    /// Whether it has been taken from the store: its former holder waits for that.
    fn tell_taken(&mut self, peers: &Peers, news: &News, is_taken: bool) {
        let claim = news.claim;
        let word = if is_taken {
            ControlFrame::HandoverTaken { claim }
        } else {
            ControlFrame::HandoverDeclined { claim }
        };
        self.own(peers, |state| state.tell(news.from, word));
    }

    fn park_import(&mut self, client: Box<Client>, place: Option<Place>) {
        let client_id = Arc::clone(client.session.client_id());
        let nobody = SessionUser::Unknown;
        match self.broker.registry().claim_with(&client_id, (&nobody, place), Waker::noop()) {
            Claimed::Free => self.park_moved(client),
            Claimed::Parked(former) => {
                // It should have gone with its token; what has come is later.
                self.broker.timers().cancel(&client_id, former.times());
                self.abandon_session(*former.client);
                self.park_moved(client);
            }
            Claimed::Waiting(claim, owner) => {
                // Somebody came in without a token, and will find out.
                self.shard.wake_later(owner);
                let granted = self.broker.registry().withdraw(&client_id, &claim);
                debug_assert!(granted.is_none(), "the owner has had no turn in between");
                self.shard.counters.sessions_lost_on_arrival.increment();
                self.abandon_session(*client);
            }
            Claimed::Full | Claimed::Foreign(_) => {
                // Room was set aside, unless it was refused in the same instant.
                self.shard.counters.sessions_lost_on_arrival.increment();
                self.abandon_session(*client);
            }
        }
    }
}

fn add_subscription(client: &mut Client, moved: MovedSubscription, since: Offer) {
    let MovedSubscription { filter, options, id, replay_place } = moved;
    client.subscription_serial = client.subscription_serial.wrapping_add(1);
    let serial = client.subscription_serial;
    client.session.subscribe(filter.clone(), Subscription { options, id, serial });
    let Some(place) = replay_place else { return };
    let tag = id.map(|id| {
        let subscription_ids = SmallVec::from_slice(&[id]);
        Arc::new(SubscriptionTag { subscription_ids, shared_filter: None })
    });
    let cursor = RetainedCursor::resume(filter, &place);
    client.replays.push(Replay { cursor, serial, qos: options.qos, since, tag });
}
