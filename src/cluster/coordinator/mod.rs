//! Who holds which Client Identifier: the broker that coordinates a slot decides.
//!
//! A claim is answered with a token; whoever held the identifier before is told to give it up. *One
//! move at a time*: while a Session is on its way, further claims wait until its new holder says that
//! it is settled. So of one identifier never more is open than who gives it up and who gets it.
//!
//! *One map at a time*: with every slot map all begins anew. Whoever goes by it reports what it holds
//! of the slots, and asks again for what it was not granted; nothing is granted before every live
//! broker has reported, since an empty registry would grant what another broker has. What is said by
//! an older map counts no more, on both sides: what it was about stands in the reports. What is said
//! by a newer one is kept until that map comes.

mod holding;
mod repeat;
mod voice;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::cluster::coordinator::holding::{Asker, Holding, Stay};
use crate::cluster::coordinator::voice::Voice;
use crate::cluster::frame::{Claim, ControlFrame, Grant, Held, Revoke, Token, Whereabouts};
use crate::cluster::identity::BootId;
use crate::ports::auth::SessionUser;

pub use voice::Word;

/// The registry of the Client Identifiers whose slots this broker coordinates.
#[derive(Debug)]
pub struct Coordinator {
    holdings: HashMap<Arc<str>, Holding, FixedState>,
    era: u64,
    epoch: i64,
    counter: u64,
    voices: BTreeMap<BootId, Voice>,
    /// Brokers that have not reported for this epoch. Claims wait for them.
    awaited: BTreeSet<BootId>,
    deferred: VecDeque<Asker>,
    /// Whether Sessions of the dead are being taken from a store: a Session that nobody has may turn
    /// up, and whoever wants it waits.
    awaits_store: bool,
    /// Who holds what another one holds as well, under a higher token.
    rivals: Vec<(Arc<str>, Holding)>,
}

/// Something to tell a broker, which may be this one.
#[derive(Clone, Debug, PartialEq)]
pub struct Telling {
    /// Whom.
    pub to: BootId,
    /// What.
    pub frame: ControlFrame,
}

impl Coordinator {
    /// It knows of nobody.
    #[must_use]
    pub fn new(hash_seed: u64) -> Self {
        Self {
            holdings: HashMap::with_hasher(FixedState::with_seed(hash_seed)),
            era: 0,
            epoch: 0,
            counter: 0,
            voices: BTreeMap::new(),
            awaited: BTreeSet::new(),
            deferred: VecDeque::new(),
            awaits_store: false,
            rivals: Vec::new(),
        }
    }

    /// There is another slot map, by which each of `awaited` is to report.
    #[must_use]
    pub fn start_epoch(
        &mut self,
        epoch: i64,
        awaited: impl IntoIterator<Item = BootId>,
    ) -> Vec<Telling> {
        self.epoch = epoch;
        self.holdings.clear();
        self.deferred.clear();
        self.rivals.clear();
        self.awaited = awaited.into_iter().collect();
        let mut words = Vec::new();
        for (from, voice) in &mut self.voices {
            if voice.epoch == epoch {
                words.extend(std::mem::take(&mut voice.ahead).into_iter().map(|one| (*from, one)));
            }
        }
        words.into_iter().flat_map(|(from, word)| self.hear(from, word)).collect()
    }

    /// A broker says something. It is heard while both go by the same slot map.
    #[must_use]
    pub fn hear(&mut self, from: BootId, word: Word) -> Vec<Telling> {
        let voice = self.voices.entry(from).or_default();
        voice.note(&word);
        if voice.epoch < self.epoch || word.epoch().is_some_and(|epoch| epoch < self.epoch) {
            return Vec::new();
        }
        if voice.epoch > self.epoch {
            if let Word::Claim(claim) = &word
                && voice.ahead.len() >= DEFERRED_MAX
            {
                return vec![refusal(from, claim.claim, TOO_MANY_DEFERRED)];
            }
            voice.ahead.push(word);
            return Vec::new();
        }
        match word {
            Word::Claim(claim) => self.claim(from, claim),
            Word::Report(_, held) => {
                let asked: Vec<_> =
                    held.into_iter().filter_map(|held| self.note(from, held)).collect();
                self.go_on(asked)
            }
            Word::ReportComplete(_) => {
                self.awaited.remove(&from);
                self.go_on(Vec::new())
            }
            Word::Settled(client_id, token) => {
                let asked =
                    self.note(from, Held { client_id, token, whereabouts: Whereabouts::Here });
                self.go_on(asked)
            }
            Word::Released(client_id, token) => {
                let asked = self.release(from, &client_id, token);
                self.go_on(asked)
            }
        }
    }

    /// Sessions of the dead are being taken, or have been.
    #[must_use]
    pub fn await_store(&mut self, awaits_store: bool) -> Vec<Telling> {
        self.awaits_store = awaits_store;
        if awaits_store { Vec::new() } else { self.go_on(Vec::new()) }
    }

    fn claim(&mut self, from: BootId, claim: Claim) -> Vec<Telling> {
        if self.awaited.is_empty() {
            return self.answer(from, claim);
        }
        self.defer(from, claim)
    }

    fn defer(&mut self, from: BootId, claim: Claim) -> Vec<Telling> {
        if self.deferred.len() >= DEFERRED_MAX {
            return vec![refusal(from, claim.claim, TOO_MANY_DEFERRED)];
        }
        self.deferred.push_back((from, claim));
        Vec::new()
    }

    fn answer(&mut self, to: BootId, claim: Claim) -> Vec<Telling> {
        match self.holdings.get_mut(claim.client_id.as_str()) {
            Some(known) if known.is_for(to, claim.claim) => {
                // It asked before, and may not have heard the answer.
                let (token, from) = (known.token, known.comes_from());
                let Claim { claim, client_id, .. } = claim;
                let grant = Grant { claim, client_id, token, from };
                vec![Telling { to, frame: ControlFrame::Grant(grant) }]
            }
            Some(Holding { stay: Stay::Arriving { next, .. }, .. }) => {
                let earlier = next.replace(Box::new((to, claim)));
                let earlier =
                    earlier.map(|earlier| refusal(earlier.0, earlier.1.claim, A_LATER_CAME));
                earlier.into_iter().collect()
            }
            Some(known) => {
                let former = known.former_of(to);
                self.grant(to, claim, former)
            }
            None if self.awaits_store && claim.wants_session => self.defer(to, claim),
            None => self.grant(to, claim, None),
        }
    }

    fn grant(&mut self, to: BootId, claim: Claim, former: Option<BootId>) -> Vec<Telling> {
        let token = self.next_token();
        let Claim { claim, client_id, wants_session, user } = claim;
        let stay = match former {
            Some(_) => Stay::Arriving { claim, from: former, next: None },
            None => Stay::Settled,
        };
        self.holdings.insert(Arc::from(client_id.as_str()), Holding { holder: to, token, stay });
        let mut tellings = Vec::with_capacity(2);
        if let Some(former) = former {
            let client_id = client_id.clone();
            let revoke = Revoke { client_id, token, to, claim, wants_session, user };
            tellings.push(Telling { to: former, frame: ControlFrame::Revoke(revoke) });
        }
        let grant = Grant { claim, client_id, token, from: former };
        tellings.push(Telling { to, frame: ControlFrame::Grant(grant) });
        tellings
    }

    /// A token that is higher than all it has given.
    #[must_use]
    pub fn draw_token(&mut self) -> Token {
        self.next_token()
    }

    /// Under which token a Client Identifier is granted, where it is.
    #[must_use]
    pub fn token_of(&self, client_id: &str) -> Option<Token> {
        self.holdings.get(client_id).map(|holding| holding.token)
    }

    fn next_token(&mut self) -> Token {
        self.counter += 1;
        Token { era: self.era, epoch: self.epoch, counter: self.counter }
    }

    /// A broker says what it has to do with an identifier. Whoever waited for that is returned.
    fn note(&mut self, from: BootId, held: Held) -> Option<Asker> {
        let reported = Holding::reported(from, &held);
        let client_id: Arc<str> = Arc::from(held.client_id);
        let Some(known) = self.holdings.get_mut(&client_id) else {
            self.holdings.insert(client_id, reported);
            return None;
        };
        if known.holder == from {
            return known.update(reported).map(|next| *next);
        }
        if known.comes_from() == Some(from) && reported.token < known.token {
            // It knows, or will when it hears what it has been told.
            return None;
        }
        let mut rival = reported;
        if rival.rank() >= known.rank() {
            std::mem::swap(known, &mut rival);
        }
        match rival.stay {
            // It gives it up already.
            Stay::Leaving => known.expect_from(rival.holder),
            Stay::Settled => self.rivals.push((client_id, rival)),
            Stay::Arriving { ref mut next, .. } => {
                let next = next.take();
                self.rivals.push((client_id, rival));
                return next.map(|next| *next);
            }
        }
        None
    }

    /// A broker holds the identifier no more. What it held under a lower token is not what it has
    /// been granted since. Whoever waited for that is returned.
    fn release(&mut self, from: BootId, client_id: &str, token: Token) -> Option<Asker> {
        let known = self.holdings.get(client_id)?;
        if known.holder != from || known.token > token {
            return None;
        }
        let (client_id, released) = self.holdings.remove_entry(client_id)?;
        let (former, next) = released.fall_back(None);
        if let Some(former) = former {
            self.holdings.insert(client_id, former);
        }
        next.map(|next| *next)
    }

    /// A broker is dead: it holds nothing, and nobody waits for its report. What was on its way to it
    /// is where it was.
    #[must_use]
    pub fn bury(&mut self, dead: BootId) -> Vec<Telling> {
        self.voices.remove(&dead);
        self.awaited.remove(&dead);
        self.deferred.retain(|(from, _)| *from != dead);
        self.rivals.retain(|(_, rival)| rival.holder != dead);
        let mut fallen = Vec::new();
        for (client_id, holding) in &mut self.holdings {
            if let Stay::Arriving { from, next, .. } = &mut holding.stay {
                next.take_if(|next| next.0 == dead);
                from.take_if(|from| *from == dead);
            }
            if holding.holder == dead {
                fallen.push(Arc::clone(client_id));
            }
        }
        fallen.sort_unstable();
        let mut asked = Vec::new();
        for client_id in fallen {
            let Some(holding) = self.holdings.remove(&client_id) else { continue };
            let (former, next) = holding.fall_back(Some(dead));
            asked.extend(next.map(|next| *next));
            if let Some(former) = former {
                self.holdings.insert(client_id, former);
            }
        }
        self.go_on(asked)
    }

    /// Answers who waited, as far as all have reported.
    fn go_on(&mut self, asked: impl IntoIterator<Item = Asker>) -> Vec<Telling> {
        let asked: Vec<_> = asked.into_iter().collect();
        if !self.awaited.is_empty() {
            // They were granted something before, so that they are not too many.
            self.deferred.extend(asked);
            return Vec::new();
        }
        let mut tellings = Vec::new();
        for (client_id, rival) in std::mem::take(&mut self.rivals) {
            tellings.extend(self.turn_away(&client_id, &rival));
        }
        let deferred = std::mem::take(&mut self.deferred);
        for (from, claim) in asked.into_iter().chain(deferred) {
            tellings.extend(self.answer(from, claim));
        }
        tellings
    }

    /// Tells a broker that another one has what it has, or waits for.
    fn turn_away(&mut self, client_id: &Arc<str>, rival: &Holding) -> Vec<Telling> {
        let token = self.next_token();
        let known = self.holdings.get_mut(client_id);
        let Some(known) = known.filter(|known| known.holder != rival.holder) else {
            return Vec::new();
        };
        let (to, client_id) = (known.holder, client_id.to_string());
        if let Stay::Arriving { claim, .. } = rival.stay {
            return vec![refusal(rival.holder, claim, HAS_STAYED)];
        }
        let Stay::Arriving { claim, from, .. } = &mut known.stay else {
            let user = SessionUser::Unknown;
            let revoke = Revoke { client_id, token, to, claim: 0, wants_session: false, user };
            return vec![Telling { to: rival.holder, frame: ControlFrame::Revoke(revoke) }];
        };
        // It has the Session that another one waits for.
        known.token = token;
        *from = Some(rival.holder);
        let (claim, from) = (*claim, *from);
        let id = client_id.clone();
        let user = SessionUser::Unknown;
        let revoke = Revoke { client_id: id, token, to, claim, wants_session: true, user };
        let grant = Grant { claim, client_id, token, from };
        vec![
            Telling { to: rival.holder, frame: ControlFrame::Revoke(revoke) },
            Telling { to, frame: ControlFrame::Grant(grant) },
        ]
    }

    /// Client Identifiers it knows of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.holdings.len()
    }

    /// Whether it knows of none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holdings.is_empty()
    }

    /// Of the slot map it answers by.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Brokers whose reports are still to come.
    #[must_use]
    pub fn reports_awaited(&self) -> usize {
        self.awaited.len()
    }
}

fn refusal(to: BootId, claim: u64, reason: &str) -> Telling {
    Telling { to, frame: ControlFrame::ClaimRefused { claim, reason: reason.to_owned() } }
}

/// Claims that wait for reports or for a slot map. More are refused, and come again.
const DEFERRED_MAX: usize = 65_536;
const TOO_MANY_DEFERRED: &str = "too many clients wait for the owner of their session to be found";
const A_LATER_CAME: &str = "another connection with this client identifier came in";
const HAS_STAYED: &str = "the session stays with the broker that has it";

#[cfg(test)]
mod tests;
