//! Exports: Sessions that this broker was told to give up.
//!
//! The Session is claimed from the registry as by another connection: whoever has it ends. Its
//! Subscriptions go first. When they are in effect at the other broker, and everything has come that
//! was routed here before, it is frozen and the rest goes. Until then it can be taken back.

use std::sync::Arc;
use std::task::Waker;

use crate::broker::connect::Former;
use crate::broker::disconnect::Client;
use crate::broker::durable::Taking;
use crate::broker::peers::Peers;
use crate::broker::peers::handover::Parts;
use crate::broker::peers::ownership::claims::NO_CLAIM;
use crate::broker::peers::ownership::stored::Leaving;
use crate::broker::peers::ownership::{State, Work};
use crate::broker::registry::{ClaimProgress, Claimed, Parked, Released, SessionClaim};
use crate::broker::turn::Turn;
use crate::cluster::frame::{ControlFrame, Handover, Revoke, Token};
use crate::cluster::identity::{BootId, WireVersions};
use crate::mqtt::{QoS, TopicFilter};
use crate::ports::auth::SessionUser;

/// What others know and change of an export.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an event that comes once, in any order")]
pub(super) struct Export {
    pub(super) client_id: Arc<str>,
    /// Under which the identifier was ours.
    pub(super) former: Token,
    /// Under which it is the successor's.
    token: Token,
    pub(super) to: BootId,
    claim: u64,
    wants_session: bool,
    /// For whom.
    user: SessionUser,
    /// It cannot be taken back.
    pub(super) is_frozen: bool,
    /// There is another successor than there was.
    is_redirected: bool,
    /// The successor has taken what it was sent.
    has_taken: bool,
    /// Nobody there waits for it.
    is_declined: bool,
}

/// How far an export has come.
#[derive(Default)]
pub(super) enum Outgoing {
    /// The Session is not in our hands.
    #[default]
    Start,
    /// Its owner is to give it up.
    Claiming(Arc<SessionClaim>),
    /// Its Subscriptions are on their way.
    Offered { client: Box<Client>, parts: Parts },
    /// They are in effect there; what was routed here before comes ahead of the marks that peers are asked
    /// for.
    Marking { client: Box<Client>, round: Option<u64> },
    /// It is stored, and what has come is to be stored as well.
    Leaving(Leaving),
    /// The rest is on its way.
    Sending { parts: Parts },
    /// The same of one that the store has, until it is taken from there.
    Parting { parts: Parts, wanted: Wanted },
    /// Nobody has taken it from there: it is ours again, if the store says so.
    Reclaiming { taking: Arc<Taking>, wanted: Wanted },
}

/// What a stored Session wants that has left: others go on sending it here until it is taken, so that they
/// know for whom to keep it if this broker dies before.
pub(super) type Wanted = Vec<(TopicFilter, QoS)>;

impl Export {
    pub(super) fn new(client_id: Arc<str>, former: Token, revoke: &Revoke) -> Self {
        Self {
            client_id,
            former,
            token: revoke.token,
            to: revoke.to,
            claim: revoke.claim,
            wants_session: revoke.wants_session,
            user: revoke.user.clone(),
            is_frozen: false,
            is_redirected: false,
            has_taken: false,
            is_declined: false,
        }
    }

    /// Under which it is the successor's.
    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// Where it stands among all that are expected.
    pub(super) fn expected(&self, number: u64) -> (BootId, u64, u64) {
        (self.to, self.claim, number)
    }

    /// Whether this is the order it goes by.
    pub(super) fn goes_by(&self, token: Token) -> bool {
        self.token == token
    }

    /// As it is. What it was told is told once.
    pub(super) fn take_news(&mut self) -> Self {
        let taken = self.clone();
        self.is_redirected = false;
        self.has_taken = false;
        self.is_declined = false;
        taken
    }

    /// Whether it goes by this order, or by a later one.
    pub(super) fn has_heard(&self, revoke: &Revoke) -> bool {
        revoke.token <= self.token
    }

    /// A later order says who the successor is. All begins anew, also where it is the same: what was
    /// sent goes by the former order. `false` when it is not later.
    pub(super) fn redirect(&mut self, revoke: &Revoke) -> bool {
        if self.has_heard(revoke) {
            return false;
        }
        self.token = revoke.token;
        self.to = revoke.to;
        self.claim = revoke.claim;
        self.wants_session = revoke.wants_session;
        self.user = revoke.user.clone();
        self.is_redirected = true;
        self.has_taken = false;
        self.is_declined = false;
        true
    }
}

impl Outgoing {
    /// Whether it is to ask peers how far they have come.
    pub(super) fn wants_round(&self) -> bool {
        matches!(self, Self::Marking { round: None, .. })
    }

    pub(super) fn join_round(&mut self, number: u64) {
        if let Self::Marking { round, .. } = self {
            round.get_or_insert(number);
        }
    }

    /// The question it waits for.
    pub(super) fn round(&self) -> Option<u64> {
        match self {
            Self::Marking { round, .. } => *round,
            Self::Start
            | Self::Claiming(_)
            | Self::Offered { .. }
            | Self::Leaving(_)
            | Self::Sending { .. }
            | Self::Parting { .. }
            | Self::Reclaiming { .. } => None,
        }
    }
}

impl State {
    pub(super) fn note_taken(&mut self, from: BootId, claim: u64) {
        if self.exports.note(from, claim, |export| export.has_taken = true) {
            self.wake_task();
        }
    }

    pub(super) fn note_declined(&mut self, from: BootId, claim: u64) {
        if self.exports.note(from, claim, |export| export.is_declined = true) {
            self.wake_task();
        }
    }

    /// An export is over. An order that came meanwhile is about what is left.
    fn close_export(&mut self, number: u64, token: Token) {
        let Some(export) = self.exports.remove(number) else { return };
        if export.token == token {
            return;
        }
        let Export { client_id, token, to, claim, wants_session, user, .. } = export;
        let id = client_id.to_string();
        let order = Revoke { client_id: id, token, to, claim, wants_session, user };
        self.part_with(&client_id, &order);
    }
}

impl Turn<'_> {
    pub(super) fn poll_outgoing(&mut self, peers: &Peers, work: &mut Work, waker: &Waker) {
        let also = std::mem::take(&mut work.passed).into_iter().chain(work.bells.take());
        for (number, export) in self.own(peers, |state| state.exports.take_due(also)) {
            let waker = work.bells.waker(number, waker);
            let outgoing = work.outgoing.remove(&number).unwrap_or_default();
            let round = outgoing.round();
            let outgoing = self.advance_export(peers, number, &export, outgoing, &waker);
            if outgoing.as_ref().and_then(Outgoing::round) != round {
                work.rounds.leave(round, number);
            }
            if let Some(outgoing) = outgoing {
                if outgoing.wants_round() {
                    work.rounds.want(number);
                }
                work.outgoing.insert(number, outgoing);
            } else {
                self.own(peers, |state| state.close_export(number, export.token));
            }
        }
    }

    /// Goes on with an export; `None` when it is over.
    fn advance_export(
        &mut self,
        peers: &Peers,
        number: u64,
        export: &Export,
        outgoing: Outgoing,
        waker: &Waker,
    ) -> Option<Outgoing> {
        match outgoing {
            Outgoing::Start => self.claim_export(peers, export, waker),
            Outgoing::Claiming(claim) => match claim.poll(waker) {
                ClaimProgress::Waiting => Some(Outgoing::Claiming(claim)),
                ClaimProgress::Granted(client) => self.offer_export(peers, export, client),
                // A connection came in between, and has to go as well.
                ClaimProgress::Superseded => self.claim_export(peers, export, waker),
            },
            Outgoing::Offered { client, .. } | Outgoing::Marking { client, .. }
                if export.is_redirected || export.is_declined || !is_live(peers, export.to) =>
            {
                if export.is_redirected {
                    return self.offer_export(peers, export, Some(client));
                }
                self.take_back(peers, export, client);
                None
            }
            Outgoing::Offered { client, mut parts } if export.has_taken => {
                if parts.is_empty() && (collects(&client) || client.waiting.is_some()) {
                    return Some(Outgoing::Marking { client, round: None });
                }
                if parts.is_empty() {
                    return self.freeze(peers, number, export, client, waker);
                }
                self.send_parts(peers, export, &mut parts, false);
                Some(Outgoing::Offered { client, parts })
            }
            Outgoing::Marking { mut client, round: Some(round) }
                if Self::has_passed(peers, round) =>
            {
                let is_settled = client.settle_unheard(&self.shard.counters, waker)
                    || client.stored.is_some() && client.settle_unanswered(peers);
                if !is_settled {
                    return Some(Outgoing::Marking { client, round: Some(round) });
                }
                self.freeze(peers, number, export, client, waker)
            }
            Outgoing::Leaving(leaving) => self.finish_leaving(peers, export, leaving, waker),
            Outgoing::Sending { .. } if export.is_declined || !is_live(peers, export.to) => None,
            Outgoing::Sending { parts } if export.has_taken => self.send_rest(peers, export, parts),
            Outgoing::Parting { wanted, .. }
                if export.is_declined || !is_live(peers, export.to) =>
            {
                self.reclaim(peers, export, (None, wanted), waker)
            }
            // It has been taken.
            Outgoing::Parting { parts, wanted } if export.has_taken && parts.is_empty() => {
                self.forget_wanted(&wanted)
            }
            Outgoing::Parting { mut parts, wanted } if export.has_taken => {
                self.send_parts(peers, export, &mut parts, true);
                Some(Outgoing::Parting { parts, wanted })
            }
            Outgoing::Reclaiming { taking, wanted } => {
                self.reclaim(peers, export, (Some(taking), wanted), waker)
            }
            Outgoing::Parting { .. }
            | Outgoing::Offered { .. }
            | Outgoing::Marking { .. }
            | Outgoing::Sending { .. } => Some(outgoing),
        }
    }

    fn claim_export(&mut self, peers: &Peers, export: &Export, waker: &Waker) -> Option<Outgoing> {
        match self.broker.registry().claim(&export.client_id, &export.user, waker) {
            Claimed::Free => self.offer_export(peers, export, None),
            Claimed::Parked(parked) => {
                self.broker.timers().cancel(&export.client_id, parked.times());
                let client = match self.former(*parked) {
                    Former::Kept(client) => Some(client),
                    Former::None => None,
                };
                self.offer_export(peers, export, client)
            }
            Claimed::Waiting(claim, owner) => {
                self.shard.wake_later(owner);
                Some(Outgoing::Claiming(claim))
            }
            Claimed::Foreign(holder) => {
                self.stay_with(peers, export, holder);
                None
            }
            Claimed::Full => {
                self.own(peers, |state| {
                    state.tell_empty(export.to, export.claim, &export.client_id, export.token);
                });
                None
            }
        }
    }

    /// The Session is not of the user who wants it there: it stays with its own, who notices nothing.
    fn stay_with(&mut self, peers: &Peers, export: &Export, holder: SessionUser) {
        self.own(peers, |state| {
            let foreign = ControlFrame::Foreign { claim: export.claim, holder };
            // First, so that it is the reason which the client is told.
            state.tell(export.to, foreign);
            state.keep(&export.client_id, export.token);
        });
    }

    /// The Session is in our hands, if there is one.
    fn offer_export(
        &mut self,
        peers: &Peers,
        export: &Export,
        mut client: Option<Box<Client>>,
    ) -> Option<Outgoing> {
        if let Some(client) =
            client.take_if(|client| !client.card.session_user().admits(&export.user))
        {
            self.stay_with(peers, export, client.card.session_user());
            self.park_moved(client);
            return None;
        }
        if export.to == peers.boot_id() {
            self.keep_after_all(peers, export, client);
            return None;
        }
        self.shard.counters.sessions_moved_away.increment();
        let client = match client {
            Some(client) if export.claim != NO_CLAIM && !is_live(peers, export.to) => {
                self.take_back(peers, export, client);
                return None;
            }
            Some(client) if export.wants_session => client,
            kept => {
                // Where nobody waits for it, another broker has the Session, or is about to take it from
                // the store: it must be there.
                match kept {
                    Some(client) if export.claim == NO_CLAIM => self.abandon_session(*client),
                    Some(client) => self.end_session(*client),
                    None => {}
                }
                self.let_go(&export.client_id);
                self.own(peers, |state| {
                    state.tell_empty(export.to, export.claim, &export.client_id, export.token);
                });
                return None;
            }
        };
        let wire = peers.find(export.to).map_or(WireVersions::OURS.oldest, |peer| peer.wire());
        let mut parts = Parts::of_subscriptions(&client, wire);
        self.send_parts(peers, export, &mut parts, false);
        Some(Outgoing::Offered { client, parts })
    }

    /// The successor is a connection of ours.
    fn keep_after_all(&mut self, peers: &Peers, export: &Export, client: Option<Box<Client>>) {
        match client {
            Some(client) if export.wants_session => self.take_back(peers, export, client),
            other => {
                if let Some(client) = other {
                    self.end_session(*client);
                }
                self.let_go(&export.client_id);
                self.own(peers, |state| {
                    state.tell_empty(export.to, export.claim, &export.client_id, export.token);
                });
            }
        }
    }

    /// Nothing comes to the Session here any more, and what there is of it goes.
    fn freeze(
        &mut self,
        peers: &Peers,
        number: u64,
        export: &Export,
        mut client: Box<Client>,
        waker: &Waker,
    ) -> Option<Outgoing> {
        if !self.own(peers, |state| state.exports.freeze(number, export.token)) {
            return Some(Outgoing::Marking { client, round: None });
        }
        // The client is back before its will was due [MQTT-3.1.3-9].
        client.will = None;
        if client.stored.is_some() {
            let leaving = self.leave_to_store(client);
            return self.finish_leaving(peers, export, leaving, waker);
        }
        self.withdraw_subscriptions(&client.session);
        let contents = client.session.hand_over(self.now);
        let left_out = client.waiting.take().map(|waiting| waiting.left_out).unwrap_or_default();
        self.let_go(&export.client_id);
        let wire = peers.find(export.to).map_or(WireVersions::OURS.oldest, |peer| peer.wire());
        self.send_rest(peers, export, Parts::of_contents(&contents, &left_out, peers, wire))
    }

    /// The registry has nothing of the Client Identifier any more, but for who waits for it.
    pub(super) fn let_go(&mut self, client_id: &str) {
        if let Released::Granted(successor) = self.broker.registry().release(client_id, None) {
            self.shard.wake_later(successor);
        }
    }

    pub(super) fn send_rest(
        &mut self,
        peers: &Peers,
        export: &Export,
        mut parts: Parts,
    ) -> Option<Outgoing> {
        self.send_parts(peers, export, &mut parts, true);
        (!parts.is_empty()).then_some(Outgoing::Sending { parts })
    }

    pub(super) fn send_parts(
        &mut self,
        peers: &Peers,
        export: &Export,
        parts: &mut Parts,
        is_rest: bool,
    ) {
        self.own(peers, |state| {
            for _ in 0..WINDOW_PARTS {
                let Some(part) = parts.pop() else { return };
                let handover = Handover {
                    claim: export.claim,
                    client_id: export.client_id.to_string(),
                    token: export.token,
                    is_last: is_rest && parts.is_empty(),
                    state: part,
                };
                state.tell(export.to, ControlFrame::Handover(handover));
            }
        });
    }

    /// The successor does not need the Session, or is here: it is ours again.
    fn take_back(&mut self, peers: &Peers, export: &Export, client: Box<Client>) {
        self.own(peers, |state| state.keep(&export.client_id, export.token));
        self.park_moved(client);
    }

    /// Parks a Session that came from elsewhere, or stays after all: then it ends, and its will comes, when
    /// they were due. The caller owns its identifier in the registry.
    pub(super) fn park_moved(&mut self, mut client: Box<Client>) {
        let client_id = Arc::clone(client.session.client_id());
        let [expires_at, will_at] = self.due(&mut client);
        let stored_as = client.session.mailbox().stored_as();
        let parked = Box::new(Parked { client, expires_at, will_at });
        let times = parked.times();
        if let Some(session) = stored_as {
            self.note_stored(session.id, &client_id);
        }
        match self.broker.registry().release(&client_id, Some(parked)) {
            Released::Granted(successor) => self.shard.wake_later(successor),
            Released::Parked => self.schedule_parked(&client_id, times),
        }
    }
}

pub(super) fn is_live(peers: &Peers, boot_id: BootId) -> bool {
    boot_id == peers.boot_id() || peers.find(boot_id).is_some()
}

/// Whether messages wait for the client while it is away.
fn collects(client: &Client) -> bool {
    let mut subscriptions = client.session.subscriptions();
    subscriptions.any(|(_, subscription)| subscription.options.qos > QoS::AtMostOnce)
}

/// Parts sent before the receiver asks for more: what a hand-over takes of the way to it.
pub(super) const WINDOW_PARTS: u32 = 8;
