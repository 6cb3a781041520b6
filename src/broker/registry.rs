//! Who owns which Session: one owner per Client Identifier at any time.
//!
//! A Session is owned by a connection or parked here. A connection that wants one that another
//! connection owns leaves a claim; the owner gives the Session up at its next turn and the claim is
//! granted. Of several claims the newest stands, the others are told to go.

mod part;

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::task::Waker;

use foldhash::fast::FixedState;
use parking_lot::Mutex;

use crate::broker::card::ClientCard;
use crate::broker::disconnect::Client;
use crate::broker::places::{Place, Places};
use crate::broker::registry::part::Part;
use crate::ports::auth::SessionUser;
use crate::ports::clock::Tick;
use crate::session::mailbox::{Mailbox, Notice};

/// The Sessions of one broker.
pub struct Registry {
    parts: Box<[Mutex<Part>]>,
    hashing: FixedState,
    places: Arc<Places>,
}

enum Entry {
    Owned {
        /// `None` between a claim's grant and the moment its connection has the Session in hand.
        mailbox: Option<Arc<Mailbox>>,
        card: Option<Arc<ClientCard>>,
        /// Whose it is, as long as there is no card.
        user: SessionUser,
        successor: Option<Arc<SessionClaim>>,
    },
    Parked(Box<Parked>),
}

/// A Session without a connection.
#[derive(Debug)]
pub struct Parked {
    /// The Session and what belongs to it.
    pub client: Box<Client>,
    /// When the Session ends.
    pub expires_at: Option<Tick>,
    /// When its will is published.
    pub will_at: Option<Tick>,
}

/// A connection's wish for a Session that another one owns.
pub struct SessionClaim(Mutex<ClaimState>);

enum ClaimState {
    Waiting(Waker),
    /// The Session, or nothing when it ended with its owner's connection.
    Granted(Option<Box<Client>>),
    Superseded,
    Taken,
}

/// What asking for a Client Identifier came to.
pub enum Claimed {
    /// Nobody has it; the caller owns it now.
    Free,
    /// It was parked; the caller owns it now.
    Parked(Box<Parked>),
    /// Another connection owns it: ask the claim when woken, and wake the owner.
    Waiting(Arc<SessionClaim>, Option<Waker>),
    /// There are as many Sessions as there may be.
    Full,
    /// It is another user's, this one's, and stays as it is.
    Foreign(SessionUser),
}

/// Who has a Client Identifier after its owner gave it up.
#[must_use]
pub enum Released {
    /// A claim that waited; its connection is to be woken.
    Granted(Option<Waker>),
    /// The registry, or nobody.
    Parked,
}

/// What a claim has come to.
pub enum ClaimProgress {
    /// Not yet.
    Waiting,
    /// The caller owns the Client Identifier, and the Session if there is one.
    Granted(Option<Box<Client>>),
    /// A newer connection wants it: give up.
    Superseded,
}

/// What the registry knows of one Client Identifier, for the admin port.
pub struct Listed {
    /// The Client Identifier.
    pub client_id: Arc<str>,
    /// The present connection, else the last one.
    pub card: Option<Arc<ClientCard>>,
    /// Whether a connection owns it now.
    pub is_connected: bool,
    /// The mailbox.
    pub mailbox: Option<Arc<Mailbox>>,
    /// When a parked Session ends.
    pub expires_at: Option<Tick>,
}

impl Parked {
    /// The times it waits for.
    #[must_use]
    pub fn times(&self) -> [Option<Tick>; 2] {
        [self.expires_at, self.will_at]
    }

    /// What belongs to it, for a connection that may turn out not to be let in.
    #[must_use]
    pub fn into_client(mut self) -> Box<Client> {
        self.client.due = Some(Box::new(self.times()));
        self.client
    }
}

impl SessionClaim {
    /// What it has come to; `waker` is kept while it waits.
    pub fn poll(&self, waker: &Waker) -> ClaimProgress {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, ClaimState::Taken) {
            ClaimState::Waiting(_) => {
                *state = ClaimState::Waiting(waker.clone());
                ClaimProgress::Waiting
            }
            ClaimState::Granted(client) => ClaimProgress::Granted(client),
            ClaimState::Superseded | ClaimState::Taken => ClaimProgress::Superseded,
        }
    }

    fn settle(&self, settled: ClaimState) -> Option<Waker> {
        match std::mem::replace(&mut *self.0.lock(), settled) {
            ClaimState::Waiting(waker) => Some(waker),
            ClaimState::Granted(_) | ClaimState::Superseded | ClaimState::Taken => None,
        }
    }
}

impl Registry {
    /// An empty registry for at most `sessions_max` Sessions.
    #[must_use]
    pub fn new(sessions_max: usize, hash_seed: u64) -> Self {
        let hashing = FixedState::with_seed(hash_seed);
        let part = || Mutex::new(Part::new(hashing.clone()));
        Self {
            parts: (0..PARTS).map(|_| part()).collect(),
            places: Arc::new(Places::new(sessions_max)),
            hashing,
        }
    }

    fn part(&self, client_id: &str) -> &Mutex<Part> {
        let hash = self.hashing.hash_one(client_id);
        let place = usize::try_from(hash >> 48).unwrap_or(0) % PARTS;
        self.parts.get(place).expect("a remainder is in range")
    }

    /// Asks for `client_id` on behalf of a connection of this user, which `waker` wakes; the broker
    /// itself is [`SessionUser::Unknown`].
    #[must_use]
    pub fn claim(&self, client_id: &Arc<str>, user: &SessionUser, waker: &Waker) -> Claimed {
        self.claim_with(client_id, (user, None), waker)
    }

    /// Sets room aside for a Session that is to come. `None` when there is none.
    #[must_use]
    pub fn reserve(&self) -> Option<Place> {
        self.places.reserve()
    }

    /// The same as [`Self::claim`] for a Session that may have a place already.
    pub(crate) fn claim_with(
        &self,
        client_id: &Arc<str>,
        (claimant, place): (&SessionUser, Option<Place>),
        waker: &Waker,
    ) -> Claimed {
        let mut part = self.part(client_id).lock();
        let Some(entry) = part.get_mut(client_id) else {
            match place {
                Some(place) => place.make_use(),
                None if self.places.take() => {}
                None => return Claimed::Full,
            }
            part.insert(Arc::clone(client_id), Entry::in_transition(claimant.clone()));
            return Claimed::Free;
        };
        let holder = entry.user();
        if !holder.admits(claimant) {
            // Before anything is changed: whoever has it does not notice.
            part.fold(client_id);
            return Claimed::Foreign(holder);
        }
        if let Entry::Owned { mailbox, user, successor, .. } = entry {
            // From now on those who come are measured by who waits.
            *user = holder.or(claimant);
            let claim = Arc::new(SessionClaim(Mutex::new(ClaimState::Waiting(waker.clone()))));
            let earlier = successor.replace(Arc::clone(&claim));
            let owner = mailbox.as_ref().and_then(|mailbox| mailbox.notify(Notice::TakenOver));
            let waker = match earlier {
                // The owner knows already.
                Some(earlier) => earlier.settle(ClaimState::Superseded).or(owner),
                None => owner,
            };
            return Claimed::Waiting(claim, waker);
        }
        match std::mem::replace(entry, Entry::in_transition(claimant.or(&holder))) {
            Entry::Parked(parked) => Claimed::Parked(parked),
            Entry::Owned { .. } => Claimed::Free,
        }
    }

    /// The claimant has its Session in hand: later claims reach it through `mailbox`.
    pub fn settle(&self, client_id: &str, mailbox: &Arc<Mailbox>, card: Arc<ClientCard>) {
        let mut part = self.part(client_id).lock();
        let Some(Entry::Owned { mailbox: kept, card: kept_card, successor, .. }) =
            part.get_mut(client_id)
        else {
            return;
        };
        *kept = Some(Arc::clone(mailbox));
        *kept_card = Some(card);
        if successor.is_some() {
            // The owner has its turn now; it looks before it sleeps.
            let _working = mailbox.notify(Notice::TakenOver);
        }
        part.fold(client_id);
    }

    /// The owner gives the Client Identifier up: to the claim that waits, if any, else the Session
    /// is parked, or forgotten when there is none.
    pub fn release(&self, client_id: &str, parked: Option<Box<Parked>>) -> Released {
        let mut part = self.part(client_id).lock();
        let Some(entry) = part.get_mut(client_id) else { return Released::Parked };
        let user = entry.user();
        if let Entry::Owned { successor, .. } = entry
            && let Some(claim) = successor.take()
        {
            *entry = Entry::in_transition(user);
            let client = parked.map(|parked| parked.into_client());
            return Released::Granted(claim.settle(ClaimState::Granted(client)));
        }
        if let Some(parked) = parked {
            *entry = Entry::Parked(parked);
        } else {
            part.remove(client_id);
            self.places.give_back();
        }
        Released::Parked
    }

    /// Parks a Session that another process left. `false` when there is no room for it, or there is
    /// one already.
    #[must_use]
    pub fn restore(&self, client_id: &Arc<str>, parked: Box<Parked>) -> bool {
        let mut part = self.part(client_id).lock();
        if part.contains(client_id) || !self.places.take() {
            return false;
        }
        part.insert(Arc::clone(client_id), Entry::Parked(parked));
        true
    }

    /// Takes a claim back whose connection has gone. When the Session was granted meanwhile it is
    /// returned, and the caller owns it.
    pub fn withdraw(
        &self,
        client_id: &str,
        claim: &Arc<SessionClaim>,
    ) -> Option<Option<Box<Client>>> {
        let mut part = self.part(client_id).lock();
        if let Some(Entry::Owned { successor, .. }) = part.unsettled(client_id)
            && successor.as_ref().is_some_and(|waiting| Arc::ptr_eq(waiting, claim))
        {
            *successor = None;
            part.fold(client_id);
            return None;
        }
        drop(part);
        match std::mem::replace(&mut *claim.0.lock(), ClaimState::Taken) {
            ClaimState::Granted(client) => Some(client),
            ClaimState::Waiting(_) | ClaimState::Superseded | ClaimState::Taken => None,
        }
    }

    /// Takes a parked Session out whose `decide` says so; it is forgotten. Otherwise `decide` may
    /// have changed it in place.
    pub fn decide_parked<R>(
        &self,
        client_id: &str,
        decide: impl FnOnce(&mut Parked) -> ParkedFate<R>,
    ) -> Option<(R, Option<Box<Client>>)> {
        let mut part = self.part(client_id).lock();
        let Some(Entry::Parked(parked)) = part.unsettled(client_id) else { return None };
        match decide(parked) {
            ParkedFate::Stays(result) => Some((result, None)),
            ParkedFate::Ends(result) => {
                let Some(Entry::Parked(parked)) = part.remove(client_id) else { return None };
                self.places.give_back();
                Some((result, Some(parked.client)))
            }
        }
    }

    /// Whether a Session is parked that waits for these times.
    #[must_use]
    pub fn is_parked_until(&self, client_id: &str, times: [Option<Tick>; 2]) -> bool {
        let mut part = self.part(client_id).lock();
        matches!(part.unsettled(client_id), Some(Entry::Parked(parked)) if parked.times() == times)
    }

    /// Takes a parked Session as a connection would; it is given back with [`Self::release`].
    #[must_use]
    pub fn hold_parked(&self, client_id: &str) -> Option<Box<Parked>> {
        let mut part = self.part(client_id).lock();
        let entry = part.unsettled(client_id)?;
        if matches!(entry, Entry::Owned { .. }) {
            return None;
        }
        let user = entry.user();
        match std::mem::replace(entry, Entry::in_transition(user)) {
            Entry::Parked(parked) => Some(parked),
            Entry::Owned { .. } => None,
        }
    }

    /// Sessions there are, connected or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.used()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether somebody owns this Client Identifier, or its Session is parked.
    #[must_use]
    pub fn contains(&self, client_id: &str) -> bool {
        self.part(client_id).lock().contains(client_id)
    }

    /// What is known of one Client Identifier.
    #[must_use]
    pub fn find(&self, client_id: &str) -> Option<Listed> {
        self.part(client_id).lock().find(client_id)
    }

    /// Calls `each` for every Client Identifier, part by part, in no particular order.
    pub fn for_each(&self, mut each: impl FnMut(Listed)) {
        for part in &self.parts {
            let listed = part.lock().listed();
            listed.into_iter().for_each(&mut each);
        }
    }
}

/// What becomes of a parked Session.
pub enum ParkedFate<R> {
    /// It goes on being parked.
    Stays(R),
    /// It ends.
    Ends(R),
}

impl Entry {
    fn in_transition(user: SessionUser) -> Self {
        Self::Owned { mailbox: None, card: None, user, successor: None }
    }

    fn user(&self) -> SessionUser {
        match self {
            Self::Owned { card: Some(card), .. } => card.session_user(),
            Self::Owned { card: None, user, .. } => user.clone(),
            Self::Parked(parked) => parked.client.card.session_user(),
        }
    }

    fn listed(&self, client_id: &Arc<str>) -> Listed {
        let client_id = Arc::clone(client_id);
        match self {
            Self::Owned { mailbox, card, .. } => Listed {
                client_id,
                card: card.clone(),
                is_connected: true,
                mailbox: mailbox.clone(),
                expires_at: None,
            },
            Self::Parked(parked) => Listed {
                client_id,
                card: Some(Arc::clone(&parked.client.card)),
                is_connected: false,
                mailbox: Some(Arc::clone(parked.client.session.mailbox())),
                expires_at: parked.expires_at,
            },
        }
    }
}

/// Parts of the registry, each with a lock of its own.
const PARTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::options::BrokerOptions;
    use crate::broker::stories::Stage;
    use crate::mqtt::ProtocolVersion;

    /// Who asked for a client that was connected left its entry large, and nobody folded it again.
    #[test]
    fn who_only_asks_leaves_an_entry_as_small_as_it_is() {
        let mut stage = Stage::new(BrokerOptions::default());
        let (_client, _connack) = stage.connect("a", ProtocolVersion::V5, 0);
        let registry = &stage.broker.registry;
        let is_settled = || registry.part("a").lock().is_settled("a");
        assert!(is_settled());
        let nothing = registry.decide_parked("a", |_| ParkedFate::Ends(()));
        assert!(nothing.is_none() && is_settled());
        assert!(registry.hold_parked("a").is_none() && is_settled());
        let client_id = Arc::from("a");
        let claimed = registry.claim(&client_id, &SessionUser::Unknown, Waker::noop());
        let Claimed::Waiting(claim, _) = claimed else { panic!("it is connected") };
        assert!(!is_settled());
        assert!(registry.withdraw("a", &claim).is_none() && is_settled());
    }
}
