//! Use cases of an operator: looks at clients, and ends one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::registry::{Listed, ParkedFate};
use crate::broker::turn::Turn;
use crate::mqtt::ReasonCode;
use crate::ports::message::SessionKey;
use crate::session::mailbox::Notice;

/// Which clients are asked for.
#[derive(Clone, Debug)]
pub struct ClientQuery {
    /// Only Client Identifiers after this one.
    pub after: Option<String>,
    /// Only Client Identifiers that begin like this.
    pub prefix: Option<String>,
    /// Only those with this User Name.
    pub user_name: Option<String>,
    /// Only those that are connected, or only those that are not.
    pub is_connected: Option<bool>,
    /// How many at most.
    pub limit: usize,
}

/// Some clients, in the order of their Client Identifiers.
pub struct ClientPage {
    /// The clients.
    pub clients: Vec<Listed>,
    /// Whether there are more after them.
    pub has_more: bool,
}

/// The Subscriptions of a parked Session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParkedSubscriptions {
    /// How many there are.
    pub count: usize,
    /// Their Topic Filters, as many as were asked for, in no particular order.
    pub filters: Vec<String>,
}

/// What ending a client came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// There is no such Session.
    Unknown,
    /// Its connection is told, and ends it at its next turn.
    Told(SessionKey),
    /// It is moving between connections: ask again.
    Moving,
    /// It has ended.
    Ended,
}

impl Broker {
    /// The clients that `query` asks for. Looks at every Session: the price of an order that
    /// nothing else needs.
    #[must_use]
    pub fn list_clients(&self, query: &ClientQuery) -> ClientPage {
        let mut found = BTreeMap::new();
        let mut has_more = false;
        self.registry.for_each(|listed| {
            if !query.matches(&listed) {
                return;
            }
            found.insert(Arc::clone(&listed.client_id), listed);
            if found.len() > query.limit {
                found.pop_last();
                has_more = true;
            }
        });
        ClientPage { clients: found.into_values().collect(), has_more }
    }

    /// The Subscriptions of a Session, at most `max` of them, while no connection owns it: a
    /// connection has its Session to itself.
    #[must_use]
    pub fn parked_subscriptions(&self, client_id: &str, max: usize) -> Option<ParkedSubscriptions> {
        let read = self.registry.decide_parked(client_id, |parked| {
            let subscriptions = parked.client.session.subscriptions();
            let count = subscriptions.len();
            let filters = subscriptions.take(max).map(|(filter, _)| filter.as_str().to_owned());
            ParkedFate::Stays(ParkedSubscriptions { count, filters: filters.collect() })
        });
        read.map(|(subscriptions, _)| subscriptions)
    }
}

impl ClientQuery {
    fn matches(&self, listed: &Listed) -> bool {
        // Without a card it is still on its way in.
        let Some(card) = &listed.card else { return false };
        let user_name = card.identity.user_name.as_deref();
        self.after.as_deref().is_none_or(|after| &*listed.client_id > after)
            && self.prefix.as_deref().is_none_or(|prefix| listed.client_id.starts_with(prefix))
            && self.user_name.as_deref().is_none_or(|wanted| user_name == Some(wanted))
            && self.is_connected.is_none_or(|wanted| listed.is_connected == wanted)
    }
}

impl Turn<'_> {
    /// Ends a Session, and the connection that owns it with 0x98 (Administrative action). With
    /// `only`, no other Session that has taken its place since.
    pub fn end_client(&mut self, client_id: &str, only: Option<SessionKey>) -> Ending {
        self.end_client_for(client_id, only, ReasonCode::AdministrativeAction)
    }

    /// Ends all Sessions here, connected or not: others may have granted their Client Identifiers
    /// anew. What is stored of them stays.
    pub fn let_clients_go(&mut self, reason_code: ReasonCode) {
        let mut client_ids = Vec::new();
        self.broker.registry.for_each(|listed| client_ids.push(listed.client_id));
        for client_id in client_ids {
            // One that is moving between connections is let in by nobody who has no lease.
            self.let_client_go(&client_id, reason_code);
        }
    }

    fn end_client_for(
        &mut self,
        client_id: &str,
        only: Option<SessionKey>,
        reason_code: ReasonCode,
    ) -> Ending {
        let Some(listed) = self.broker.registry.find(client_id) else { return Ending::Unknown };
        let Some(mailbox) = listed.mailbox else { return Ending::Moving };
        if only.is_some_and(|only| only != mailbox.key()) {
            return Ending::Unknown;
        }
        if listed.is_connected {
            let notice = Notice::EndSession(reason_code);
            self.shard.wake_later(mailbox.notify(notice));
            return Ending::Told(mailbox.key());
        }
        let decided = self.broker.registry.decide_parked(client_id, |parked| {
            if parked.client.session.key() != mailbox.key() {
                return ParkedFate::Stays(None);
            }
            ParkedFate::Ends(Some([parked.expires_at, parked.will_at]))
        });
        let Some((times, Some(client))) = decided else { return Ending::Moving };
        self.broker.timers.cancel(&listed.client_id, times.unwrap_or_default());
        self.shard.counters.sessions_ended_by_operator.increment();
        self.end_session(*client);
        self.surrender(client_id);
        Ending::Ended
    }
}
