//! The Sessions on their way elsewhere, found by whatever is said of them.
//!
//! There may be as many as a broker has, and a word comes for each: none is found by looking at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::broker::peers::ownership::exports::Export;
use crate::cluster::frame::{Revoke, Token};
use crate::cluster::identity::BootId;

/// All exports, by a number of ours.
///
/// Invariant: each stands once in `of_client` and once in `expected`, as it is; what is due is there.
#[derive(Default)]
pub(super) struct Exports {
    by_number: BTreeMap<u64, Export>,
    of_client: BTreeSet<(Arc<str>, u64)>,
    /// By successor and claim.
    expected: BTreeSet<(BootId, u64, u64)>,
    /// What was told something since it was last looked at.
    due: BTreeSet<u64>,
    /// How often one was looked at.
    looks: u64,
}

impl Exports {
    pub(super) fn insert(&mut self, number: u64, export: Export) {
        self.of_client.insert((Arc::clone(&export.client_id), number));
        self.expected.insert(export.expected(number));
        self.due.insert(number);
        self.by_number.insert(number, export);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Export> {
        let export = self.by_number.remove(&number)?;
        self.of_client.remove(&(Arc::clone(&export.client_id), number));
        self.expected.remove(&export.expected(number));
        self.due.remove(&number);
        Some(export)
    }

    /// Whether one of this client goes by this order already, or by a later one.
    pub(super) fn have_heard(&mut self, client_id: &Arc<str>, revoke: &Revoke) -> bool {
        let numbers = self.numbers_of(client_id);
        numbers.iter().any(|number| self.get(*number).is_some_and(|one| one.has_heard(revoke)))
    }

    /// The one of this client that can still go another way.
    pub(super) fn open_of(&mut self, client_id: &Arc<str>) -> Option<u64> {
        let numbers = self.numbers_of(client_id);
        numbers.into_iter().find(|number| self.get(*number).is_some_and(|one| !one.is_frozen))
    }

    /// A later order says who the successor is. `false` when it is not later.
    pub(super) fn redirect(&mut self, number: u64, revoke: &Revoke) -> bool {
        let Some(export) = self.by_number.get_mut(&number) else { return false };
        let former = export.expected(number);
        if !export.redirect(revoke) {
            return false;
        }
        self.expected.remove(&former);
        self.expected.insert(export.expected(number));
        self.due.insert(number);
        true
    }

    /// The successor says something of what it gets for a claim. `false` when nothing goes there.
    pub(super) fn note(
        &mut self,
        to: BootId,
        claim: u64,
        change: impl FnOnce(&mut Export),
    ) -> bool {
        self.looks += 1;
        let mut expected = self.expected.range((to, claim, 0)..=(to, claim, u64::MAX));
        let Some(&(_, _, number)) = expected.next() else { return false };
        let Some(export) = self.by_number.get_mut(&number) else { return false };
        change(export);
        self.due.insert(number);
        true
    }

    /// From here on it cannot be taken back. `false` when there is another order meanwhile.
    pub(super) fn freeze(&mut self, number: u64, token: Token) -> bool {
        let export = self.by_number.get_mut(&number).filter(|export| export.goes_by(token));
        export.map(|export| export.is_frozen = true).is_some()
    }

    /// A broker is dead: what was to go there is to be looked at.
    pub(super) fn bury(&mut self, dead: BootId) {
        let to_it = self.expected.range((dead, 0, 0)..=(dead, u64::MAX, u64::MAX));
        self.due.extend(to_it.map(|(_, _, number)| *number));
    }

    /// What is to be looked at, and these; what each was told is told once.
    pub(super) fn take_due(&mut self, also: impl IntoIterator<Item = u64>) -> Vec<(u64, Export)> {
        let mut due = std::mem::take(&mut self.due);
        due.extend(also);
        let mut taken = Vec::with_capacity(due.len());
        for number in due {
            if let Some(export) = self.by_number.get_mut(&number) {
                taken.push((number, export.take_news()));
            }
        }
        self.looks += taken.len() as u64;
        taken
    }

    /// Whether something is still on its way to this broker.
    pub(super) fn are_any_to(&self, broker: BootId) -> bool {
        self.expected.range((broker, 0, 0)..=(broker, u64::MAX, u64::MAX)).next().is_some()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Export> {
        self.by_number.values()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Export> {
        self.by_number.get(&number)
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn looks(&self) -> u64 {
        self.looks
    }

    /// One that is still open at most, and what is left of earlier ones.
    fn numbers_of(&mut self, client_id: &Arc<str>) -> Vec<u64> {
        let (first, last) = ((Arc::clone(client_id), 0), (Arc::clone(client_id), u64::MAX));
        let numbers: Vec<u64> =
            self.of_client.range(first..=last).map(|(_, number)| *number).collect();
        self.looks += numbers.len() as u64;
        numbers
    }
}
