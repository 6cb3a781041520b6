//! Sessions that are stored, when they move: what is stored does not travel.
//!
//! The former holder lets the store have all there is and says so; the new one takes the Session from
//! there under its token, and puts what it has collected meanwhile behind. What has come to both is
//! known to the store by the identifier of the message, and is there once.

use std::sync::Arc;
use std::task::Waker;

use crate::broker::disconnect::Client;
use crate::broker::durable::{Taking, TakingEnd};
use crate::broker::peers::Peers;
use crate::broker::peers::again::LeftOuts;
use crate::broker::peers::handover::Parts;
use crate::broker::peers::ownership::exports::{Export, Outgoing, Wanted, is_live};
use crate::broker::peers::ownership::imports::Incoming;
use crate::broker::peers::ticket::PublishTicket;
use crate::broker::replay::Replay;
use crate::broker::turn::Turn;
use crate::cluster::frame::Token;
use crate::mqtt::{QoS, TopicFilter};
use crate::ports::auth::SessionUser;
use crate::ports::store::SessionRecord;
use crate::routing::SubscriberKey;
use crate::session::handover::Contents;
use crate::session::mailbox::Mailbox;
use crate::session::session::Session;

/// A Session that goes into the store, and what of it does not.
pub(super) struct Leaving {
    mailbox: Arc<Mailbox>,
    /// Answered when the store has answered for all that it was told before.
    stored: Option<Arc<PublishTicket>>,
    /// What its client has published.
    contents: Contents,
    left_out: LeftOuts,
    pub(super) wanted: Wanted,
}

/// How far a Session is on its way out of the store.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    taking: Option<Arc<Taking>>,
}

impl Turn<'_> {
    /// Nothing comes to a stored Session here any more; what has come is to be stored.
    pub(super) fn leave_to_store(&mut self, mut client: Box<Client>) -> Leaving {
        let mailbox = Arc::clone(client.session.mailbox());
        self.leave_index(&client.session);
        let wanted = client.session.subscriptions();
        let wanted = wanted.map(|(filter, one)| (filter.clone(), one.options.qos)).collect();
        // The store has all of it but what its client has published.
        let unreleased = self.hand_over_stored(&mut client.session).unreleased;
        let contents = Contents { unreleased, ..Contents::default() };
        let left_out = client.waiting.take().map(|waiting| waiting.left_out).unwrap_or_default();
        Leaving { mailbox, stored: self.tell_when_kept(), contents, left_out, wanted }
    }

    /// Hands over what is not stored once the rest is.
    pub(super) fn finish_leaving(
        &mut self,
        peers: &Peers,
        export: &Export,
        mut leaving: Leaving,
        waker: &Waker,
    ) -> Option<Outgoing> {
        while let Some(stored) = &leaving.stored {
            if stored.poll(waker).is_none() {
                return Some(Outgoing::Leaving(leaving));
            }
            // What other shards had in hand when it left may have been told later.
            let is_settled = leaving.mailbox.is_settled();
            leaving.stored = if is_settled { None } else { self.tell_when_kept() };
        }
        self.let_go(&export.client_id);
        let Leaving { mailbox, mut contents, left_out, wanted, .. } = leaving;
        contents.recent = mailbox.take_recent(self.now);
        let mut parts = Parts::of_stored(&contents, &left_out, &mailbox.take_given_up(), peers);
        if !is_live(peers, export.to) {
            return self.reclaim(peers, export, (None, wanted), waker);
        }
        self.send_parts(peers, export, &mut parts, true);
        Some(Outgoing::Parting { parts, wanted })
    }

    /// Whoever was to take a Session from the store is dead, or has not got it: as long as nobody else has,
    /// what is published is to come to it here.
    pub(super) fn reclaim(
        &mut self,
        peers: &Peers,
        export: &Export,
        (taking, wanted): (Option<Arc<Taking>>, Wanted),
        waker: &Waker,
    ) -> Option<Outgoing> {
        let durable = self.broker.durable().map(Arc::clone)?;
        let (client_id, epoch) = (&export.client_id, durable.epoch_of(export.token()));
        let mut asked = match taking {
            Some(taking) => taking,
            None => self.take_from_store(client_id, epoch)?,
        };
        loop {
            match asked.poll(waker) {
                None => return Some(Outgoing::Reclaiming { taking: asked, wanted }),
                Some(TakingEnd::Failed) => {
                    asked = self.take_again(client_id, epoch, &asked)?;
                    continue;
                }
                Some(TakingEnd::Found(record)) => {
                    if self.restore_session(&durable, &record).is_ok() {
                        self.keep_adopted(peers, client_id, export.token());
                    }
                }
                Some(TakingEnd::Nobody | TakingEnd::Fenced) => {}
            }
            return self.forget_wanted(&wanted);
        }
    }

    /// Somebody has the Session. The export is over.
    pub(super) fn forget_wanted(&mut self, wanted: &[(TopicFilter, QoS)]) -> Option<Outgoing> {
        self.withdraw_interest(wanted.iter().map(|(filter, qos)| (filter, *qos)));
        None
    }

    /// Takes a Session that has come by way of the store. `false` while the store is asked.
    pub(super) fn take_moved(
        &mut self,
        client_id: &Arc<str>,
        token: Token,
        incoming: &mut Incoming,
        waker: &Waker,
    ) -> bool {
        let Some(durable) = self.broker.durable().map(Arc::clone) else {
            incoming.has_failed = true;
            return true;
        };
        loop {
            let Some(taking) = incoming.fetching.taking.clone() else {
                let epoch = durable.epoch_of(token);
                incoming.fetching.taking = self.take_from_store(client_id, epoch);
                continue;
            };
            match taking.poll(waker) {
                None => return false,
                Some(TakingEnd::Found(record)) => self.bring_over(&record, incoming),
                // It has taken its time, and what is collected has been answered for.
                Some(TakingEnd::Failed) => {
                    let epoch = durable.epoch_of(token);
                    incoming.fetching.taking = self.take_again(client_id, epoch, &taking);
                    continue;
                }
                // Whoever waits for it asks the store anew.
                Some(TakingEnd::Nobody | TakingEnd::Fenced) => {
                    incoming.has_failed = true;
                }
            }
            return true;
        }
    }

    /// The Session is here as it was stored. What was collected for it comes behind.
    fn bring_over(&mut self, record: &SessionRecord, incoming: &mut Incoming) {
        let Some(mut collecting) = incoming.client.take() else { return };
        let mailbox = Arc::clone(collecting.session.mailbox());
        let given_up = &incoming.received.given_up;
        let Some(mut client) = self.bring_behind(record, &mailbox, given_up) else {
            return self.end_session(*collecting);
        };
        self.leave_interest(&collecting.session, &client.session);
        let Contents { unreleased, recent, .. } = &mut incoming.received.contents;
        client.session.restore_unreleased(unreleased.drain(..));
        mailbox.recall(std::mem::take(recent));
        if collecting.card.session_user() != SessionUser::Unknown {
            client.card = Arc::clone(&collecting.card);
        }
        for replay in std::mem::take(&mut collecting.replays).into_queue() {
            move_replay(&collecting, &mut client, replay);
        }
        incoming.client = Some(client);
    }

    /// What `former` wanted is wanted by `latter`, of the same mailbox, as far as that does.
    fn leave_interest(&mut self, former: &Session, latter: &Session) {
        if let Some(peers) = self.broker.peers() {
            let wanted = former.subscriptions().map(|(filter, one)| (filter, one.options.qos));
            let mut wakes = Vec::new();
            peers.interest().remove(wanted, &mut wakes);
            self.shard.wake_each(wakes);
        }
        let filters = former.subscriptions().map(|(filter, _)| filter);
        let gone: Vec<_> = filters.filter(|filter| latter.subscription(filter).is_none()).collect();
        let key = SubscriberKey(former.key().0);
        self.change_index(&gone, |index, filter| {
            index.unsubscribe(key, filter);
        });
    }
}

/// The Subscription of a replay has another number in the Session that was stored.
fn move_replay(from: &Client, to: &mut Client, replay: Replay) {
    let mut subscriptions = from.session.subscriptions();
    let Some((filter, _)) = subscriptions.find(|(_, one)| one.serial == replay.serial) else {
        return;
    };
    if let Some(subscription) = to.session.subscription(filter) {
        to.replays.push(Replay { serial: subscription.serial, ..replay });
    }
}
