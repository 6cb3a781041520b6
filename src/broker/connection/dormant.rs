//! A connection that has nothing to do, as little of it as there has to be.

use std::sync::Arc;
use std::task::Waker;

use crate::broker::Broker;
use crate::broker::card::ClientCard;
use crate::broker::connection::{Connection, Stage};
use crate::broker::disconnect::Client;
use crate::broker::durable::StoredClient;
use crate::broker::options::ConnectionOptions;
use crate::broker::throttle::Throttle;
use crate::broker::wills::KeptWill;
use crate::ports::clock::Tick;
use crate::session::folded::FoldedSession;

/// An open connection for which nothing is to be done until its client says something, somebody
/// wakes it, or its Keep Alive runs out.
#[derive(Debug)]
pub struct Dormant {
    client: Kept,
    heard_at: Tick,
    has_published: bool,
    burdens_store: bool,
}

#[derive(Debug)]
enum Kept {
    /// There is more to it than can be folded.
    Whole(Box<Client>),
    Folded(FoldedClient),
}

/// What a [`Client`] is when nothing is in flight and nothing is owed. What it may publish is asked
/// again.
#[derive(Debug)]
struct FoldedClient {
    session: FoldedSession,
    card: Arc<ClientCard>,
    will: Option<Arc<KeptWill>>,
    stored: Option<Box<StoredClient>>,
    subscription_serial: u32,
    session_expiry_secs: u32,
}

impl Connection {
    /// Whether it waits for nothing but its client, others' messages, and its Keep Alive.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let Stage::Open(client) = &self.stage else { return false };
        let is_waiting = self.held.is_some() || self.partial_since.is_some();
        !is_waiting && self.throttle.is_at_rest() && client.is_at_rest()
    }

    /// Takes out what has to be kept while there is nothing to do, and leaves the connection closed;
    /// `waker` is called from now on. `None` when it is not at rest, or has been woken by now: then
    /// it is as before.
    #[must_use]
    pub fn fall_asleep(&mut self, waker: &Waker) -> Option<Dormant> {
        let Stage::Open(client) = &self.stage else { return None };
        if !self.is_at_rest() || !client.session.mailbox().wait_with(waker) {
            return None;
        }
        let Stage::Open(client) = std::mem::replace(&mut self.stage, Stage::Closed) else {
            return None;
        };
        Some(Dormant {
            client: client.fold(),
            heard_at: self.heard_at,
            has_published: self.throttle.has_published(),
            burdens_store: self.burdens_store,
        })
    }
}

impl Dormant {
    /// When its Keep Alive runs out [MQTT-3.1.2-22].
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        let card = match &self.client {
            Kept::Whole(client) => &client.card,
            Kept::Folded(client) => &client.card,
        };
        silent_at(card, self.heard_at)
    }

    /// The connection as it was. Its next turn is due: it may have been woken.
    #[must_use]
    pub fn wake_up(self, broker: &Broker, options: Arc<ConnectionOptions>) -> Connection {
        let mut throttle = Throttle::new(options.publish_rate_max, self.heard_at);
        if self.has_published {
            throttle.note();
        }
        let mut client = match self.client {
            Kept::Whole(client) => client,
            Kept::Folded(folded) => folded.unfold(broker.seeds.hash),
        };
        client.level = options.acknowledge;
        Connection {
            origin: client.card.origin.clone(),
            stage: Stage::Open(client),
            options,
            heard_at: self.heard_at,
            partial_since: None,
            stalled: None,
            throttle,
            burdens_store: self.burdens_store,
            is_subscribe_held: false,
            held: None,
        }
    }
}

impl Client {
    /// Whether it is owed nothing and owes nothing that is not in its Session.
    fn is_at_rest(&self) -> bool {
        let waits_for_page = self.stored.as_ref().is_some_and(|stored| stored.page.is_some());
        self.waiting.is_none() && !self.has_replays() && !waits_for_page
    }

    /// When its Keep Alive runs out, if it was last heard at `heard_at` [MQTT-3.1.2-22].
    pub(super) fn silent_at(&self, heard_at: Tick) -> Option<Tick> {
        silent_at(&self.card, heard_at)
    }

    /// Folds one that is at rest, as far as that goes.
    fn fold(self: Box<Self>) -> Kept {
        if self.complaints.has_more_to_say() {
            return Kept::Whole(self);
        }
        let client = *self;
        match client.session.fold() {
            Ok(session) => Kept::Folded(FoldedClient {
                session,
                card: client.card,
                will: client.will,
                stored: client.stored,
                subscription_serial: client.subscription_serial,
                session_expiry_secs: client.session_expiry_secs,
            }),
            Err(session) => Kept::Whole(Box::new(Self { session, ..client })),
        }
    }
}

impl FoldedClient {
    fn unfold(self, hash_seed: u64) -> Box<Client> {
        let session = self.session.unfold(hash_seed);
        let client = Client::new(session, self.card, self.session_expiry_secs, self.will);
        let subscription_serial = self.subscription_serial;
        Box::new(Client { stored: self.stored, subscription_serial, ..client })
    }
}

fn silent_at(card: &ClientCard, heard_at: Tick) -> Option<Tick> {
    let keep_alive_millis = u64::from(card.keep_alive_secs) * 1_500;
    (keep_alive_millis > 0).then(|| heard_at.plus_millis(keep_alive_millis))
}
