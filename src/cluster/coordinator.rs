//! Who holds which Client Identifier: the broker that coordinates a slot decides.
//!
//! A claim is answered with a token; whoever held the identifier before is told to give it up. When
//! slots move, their new coordinator answers nothing before every live broker has reported what it
//! holds: an empty registry would grant what another broker has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::cluster::frame::{Claim, ControlFrame, Grant, Held, Revoke, Token};
use crate::cluster::identity::BootId;

/// The registry of the Client Identifiers whose slots this broker coordinates.
#[derive(Debug)]
pub struct Coordinator {
    holdings: HashMap<Arc<str>, Holding, FixedState>,
    era: u64,
    epoch: i64,
    counter: u64,
    /// Live brokers that have not reported for this epoch. Claims wait for them.
    reports_awaited: BTreeSet<BootId>,
    /// The epoch each broker reported for last: it may know of a map before we do.
    reported: BTreeMap<BootId, i64>,
    deferred: VecDeque<(BootId, Claim)>,
}

/// Who holds one Client Identifier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Holding {
    holder: BootId,
    token: Token,
    /// By which it was granted, as long as the holder may wait for the Session; else 0.
    claim: u64,
    /// Whether it has been told to give it up by who coordinated before.
    is_leaving: bool,
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
            reports_awaited: BTreeSet::new(),
            reported: BTreeMap::new(),
            deferred: VecDeque::new(),
        }
    }

    /// Slots have moved: `is_ours` tells whose identifiers are kept, and each of `live` is to report
    /// before anything is granted. Whoever waits for an identifier that is not ours any more asks
    /// where it is now.
    pub fn start_epoch(
        &mut self,
        epoch: i64,
        is_ours: impl Fn(&str) -> bool,
        live: impl IntoIterator<Item = BootId>,
    ) {
        self.epoch = epoch;
        self.holdings.retain(|client_id, _| is_ours(client_id));
        self.deferred.retain(|(_, claim)| is_ours(&claim.client_id));
        let has_reported = |broker: &BootId| self.reported.get(broker) == Some(&epoch);
        self.reports_awaited = live.into_iter().filter(|broker| !has_reported(broker)).collect();
    }

    /// A broker has a client with this identifier at its door.
    #[must_use]
    pub fn claim(&mut self, from: BootId, claim: Claim) -> Vec<Telling> {
        if !self.reports_awaited.is_empty() {
            if self.deferred.len() < DEFERRED_MAX {
                self.deferred.push_back((from, claim));
                return Vec::new();
            }
            let reason = TOO_MANY_DEFERRED.to_owned();
            let frame = ControlFrame::ClaimRefused { claim: claim.claim, reason };
            return vec![Telling { to: from, frame }];
        }
        self.grant(from, claim)
    }

    fn grant(&mut self, to: BootId, claim: Claim) -> Vec<Telling> {
        let token = self.next_token();
        let client_id: Arc<str> = Arc::from(claim.client_id.as_str());
        let holding = Holding { holder: to, token, claim: claim.claim, is_leaving: false };
        let former = self.holdings.insert(client_id, holding);
        // Who is about to give it up may want it back.
        let former = former.filter(|former| former.holder != to || former.is_leaving);
        let former = former.map(|former| former.holder);
        let mut tellings = Vec::with_capacity(2);
        if let Some(holder) = former {
            let revoke = Revoke {
                client_id: claim.client_id.clone(),
                token,
                to,
                claim: claim.claim,
                wants_session: claim.wants_session,
            };
            tellings.push(Telling { to: holder, frame: ControlFrame::Revoke(revoke) });
        }
        let grant = Grant { claim: claim.claim, client_id: claim.client_id, token, from: former };
        tellings.push(Telling { to, frame: ControlFrame::Grant(grant) });
        tellings
    }

    fn next_token(&mut self) -> Token {
        self.counter += 1;
        Token { era: self.era, epoch: self.epoch, counter: self.counter }
    }

    /// A broker holds the identifier no more. What it held under a lower token is not what it has
    /// been granted since.
    pub fn release(&mut self, from: BootId, client_id: &str, token: Token) {
        let is_its = |holding: &Holding| holding.holder == from && holding.token <= token;
        if self.holdings.get(client_id).is_some_and(is_its) {
            self.holdings.remove(client_id);
        }
    }

    /// A broker says what it holds. Of two that hold the same the one with the lower token is told to
    /// give it up: to the other one, if that waits for the Session, since the order to do so may have
    /// come from who did not coordinate any more.
    #[must_use]
    pub fn report(&mut self, from: BootId, held: Vec<Held>) -> Vec<Telling> {
        let mut tellings = Vec::new();
        for Held { client_id, token, claim, is_leaving } in held {
            let reported = Holding { holder: from, token, claim, is_leaving };
            let client_id: Arc<str> = Arc::from(client_id);
            let known = self.holdings.get(&client_id).copied();
            let (winner, loser) = match known {
                Some(known) if known.holder != from && known.token > token => {
                    (known, Some(reported))
                }
                Some(known) if known.holder != from => (reported, Some(known)),
                // It has been granted more than it knew when it reported.
                Some(known) if known.token > token => (known, None),
                Some(_) | None => (reported, None),
            };
            self.holdings.insert(Arc::clone(&client_id), winner);
            // Whoever gives it up already knows to whom.
            if let Some(loser) = loser.filter(|loser| !loser.is_leaving) {
                let revoke = Revoke {
                    client_id: client_id.to_string(),
                    token: winner.token,
                    to: winner.holder,
                    claim: winner.claim,
                    wants_session: winner.claim != 0,
                };
                let frame = ControlFrame::Revoke(revoke);
                tellings.push(Telling { to: loser.holder, frame });
            }
        }
        tellings
    }

    /// A broker has reported everything, as of `epoch`. When it was the last one, claims that waited
    /// are answered.
    #[must_use]
    pub fn complete_report(&mut self, from: BootId, epoch: i64) -> Vec<Telling> {
        self.reported.insert(from, epoch);
        if epoch == self.epoch {
            self.reports_awaited.remove(&from);
        }
        self.answer_deferred()
    }

    /// A broker is dead: it holds nothing, and nobody waits for its report.
    #[must_use]
    pub fn bury(&mut self, dead: BootId) -> Vec<Telling> {
        self.holdings.retain(|_, holding| holding.holder != dead);
        self.deferred.retain(|(from, _)| *from != dead);
        self.reports_awaited.remove(&dead);
        self.reported.remove(&dead);
        self.answer_deferred()
    }

    fn answer_deferred(&mut self) -> Vec<Telling> {
        if !self.reports_awaited.is_empty() {
            return Vec::new();
        }
        let deferred = std::mem::take(&mut self.deferred);
        deferred.into_iter().flat_map(|(from, claim)| self.grant(from, claim)).collect()
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
        self.reports_awaited.len()
    }
}

/// Claims that wait for reports. More are refused, and come again.
const DEFERRED_MAX: usize = 65_536;
const TOO_MANY_DEFERRED: &str = "too many clients wait for the owner of their session to be found";

#[cfg(test)]
mod tests {
    use super::*;

    const A: BootId = BootId(1);
    const B: BootId = BootId(2);

    fn claim(number: u64, client_id: &str) -> Claim {
        Claim { claim: number, client_id: client_id.to_owned(), wants_session: true }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a coordinator says nothing else")]
    fn names(tellings: &[Telling]) -> Vec<(BootId, &'static str)> {
        let name = |telling: &Telling| match &telling.frame {
            ControlFrame::Grant(grant) if grant.from.is_some() => "grant after handover",
            ControlFrame::Grant(_) => "grant",
            ControlFrame::Revoke(_) => "revoke",
            ControlFrame::ClaimRefused { .. } => "refuse",
            _ => "?",
        };
        tellings.iter().map(|telling| (telling.to, name(telling))).collect()
    }

    #[test]
    fn two_claims_in_one_instant_leave_one_holder_with_the_higher_token() {
        let mut coordinator = Coordinator::new(1);
        let first = coordinator.claim(A, claim(1, "c"));
        let second = coordinator.claim(B, claim(2, "c"));
        assert_eq!(names(&first), [(A, "grant")]);
        assert_eq!(names(&second), [(A, "revoke"), (B, "grant after handover")]);
        let (ControlFrame::Grant(former), ControlFrame::Revoke(revoke)) =
            (&first[0].frame, &second[0].frame)
        else {
            panic!("another order")
        };
        assert!(revoke.token > former.token);
    }

    #[test]
    fn what_was_granted_since_is_not_released_by_a_late_word() {
        let mut coordinator = Coordinator::new(1);
        let first = coordinator.claim(A, claim(1, "c"));
        let ControlFrame::Grant(grant) = &first[0].frame else { panic!("no grant") };
        let _again = coordinator.claim(A, claim(2, "c"));
        coordinator.release(A, "c", grant.token);
        assert_eq!(coordinator.len(), 1);
    }

    /// An empty registry grants what another broker holds.
    #[test]
    fn a_new_coordinator_answers_when_all_have_reported() {
        let mut coordinator = Coordinator::new(1);
        coordinator.start_epoch(7, |_| true, [A, B]);
        assert!(coordinator.claim(A, claim(1, "c")).is_empty());
        assert!(coordinator.complete_report(A, 7).is_empty());
        let token = Token { era: 0, epoch: 3, counter: 9 };
        let held = vec![Held { client_id: "c".to_owned(), token, claim: 0, is_leaving: false }];
        assert!(coordinator.report(B, held).is_empty());
        let answers = coordinator.complete_report(B, 7);
        assert_eq!(names(&answers), [(B, "revoke"), (A, "grant after handover")]);
    }

    /// A broker that heard of the new map first reported at once. Its report was not counted, and no
    /// claim was ever answered.
    #[test]
    fn a_report_that_comes_before_the_map_counts() {
        let mut coordinator = Coordinator::new(1);
        coordinator.start_epoch(7, |_| true, [A]);
        assert!(coordinator.complete_report(A, 7).is_empty());
        assert!(coordinator.complete_report(B, 8).is_empty());
        coordinator.start_epoch(8, |_| true, [A, B]);
        assert!(coordinator.claim(B, claim(1, "c")).is_empty());
        assert_eq!(names(&coordinator.complete_report(A, 8)), [(B, "grant")]);
    }

    /// A claim that waited for reports was granted by a broker that had lost the slot meanwhile.
    #[test]
    fn a_claim_for_a_slot_that_moved_away_is_not_answered() {
        let mut coordinator = Coordinator::new(1);
        coordinator.start_epoch(7, |_| true, [A]);
        assert!(coordinator.claim(B, claim(1, "c")).is_empty());
        coordinator.start_epoch(8, |_| false, [A]);
        assert!(coordinator.complete_report(A, 8).is_empty());
        assert_eq!(coordinator.len(), 0);
    }

    #[test]
    fn of_two_reports_the_lower_token_gives_up() {
        let mut coordinator = Coordinator::new(1);
        coordinator.start_epoch(7, |_| true, [A, B]);
        let held = |counter| {
            let token = Token { era: 0, epoch: 3, counter };
            vec![Held { client_id: "c".to_owned(), token, claim: 0, is_leaving: false }]
        };
        assert!(coordinator.report(A, held(2)).is_empty());
        assert_eq!(names(&coordinator.report(B, held(1))), [(B, "revoke")]);
        coordinator.start_epoch(8, |_| true, [A, B]);
        assert_eq!(names(&coordinator.report(B, held(3))), [(A, "revoke")]);
    }

    #[test]
    fn nobody_waits_for_the_report_of_the_dead() {
        let mut coordinator = Coordinator::new(1);
        coordinator.start_epoch(7, |_| true, [B]);
        assert!(coordinator.claim(A, claim(1, "c")).is_empty());
        assert_eq!(names(&coordinator.bury(B)), [(A, "grant")]);
    }
}
