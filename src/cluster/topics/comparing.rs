//! After a reconnect: what of the tree may have changed unnoticed?
//!
//! What changed while there was no connection goes unsaid, and to list everything again is a read for
//! every topic. A broker whose connection stood all the time knows better: asked for the digests of
//! its parts it tells them, and only parts that differ are listed. It answers when it has seen all that
//! was committed before the question: a write that changes nothing takes it there, and everything it
//! was told of by then has been read.

use std::collections::VecDeque;

use bytes::Bytes;

use super::listing::Listing;
use super::{Topics, TopicsOutput};
use crate::cluster::bank::Mark;
use crate::cluster::frame::{DigestQuestion, PartDigest};
use crate::cluster::identity::BootId;
use crate::cluster::paths::TOPICS;
use crate::ports::Tick;
use crate::ports::coordination::{Change, CoordinationError, CreateMode, Reply, Request, Ticket};

/// Questions of ours and of others.
#[derive(Default)]
pub(super) struct Comparing {
    /// Since when our connection stands.
    connected_at: Option<Tick>,
    /// When the first one was seen to end since when not everything has been compared or listed.
    lost_at: Option<Tick>,
    /// Whether everything has been listed once.
    has_listed: bool,
    /// Of the question that waits for an answer.
    number: u64,
    /// What others wait for.
    questions: VecDeque<Question>,
}

struct Question {
    from: BootId,
    number: u64,
    step: Step,
}

enum Step {
    /// Until a write that is sent now is answered, changes may be under way to us.
    Fence(Ticket),
    /// What has changed is being read.
    Reading(Mark),
}

impl Topics {
    /// A broker that was not connected all the time wants to know what we have. There is no answer
    /// when we were not connected either.
    pub fn ask_digests(&mut self, from: BootId, question: DigestQuestion) {
        let margin = self.options.outage_millis_max;
        let stood_at = self.comparing.connected_at.and_then(|at| self.cluster_millis(at));
        let has_stood =
            stood_at.is_some_and(|at| at.saturating_add(margin) <= question.lost_at_millis);
        if !has_stood || !self.is_connected || self.comparing.questions.len() >= QUESTIONS_MAX {
            self.readings.questions_declined += 1;
            return;
        }
        let (data, mode) = (Bytes::new(), CreateMode::Persistent);
        let path = TOPICS.to_owned();
        let fence = self.submit(Request::Change(Change::Create { path, data, mode }));
        let (number, step) = (question.number, Step::Fence(fence));
        self.comparing.questions.push_back(Question { from, number, step });
    }

    /// What another broker has. Parts of which we have the same are not listed again.
    pub fn note_digests(&mut self, number: u64, theirs: &[PartDigest]) {
        let is_awaited = matches!(self.listing, Listing::Comparing(_));
        if !is_awaited || number != self.comparing.number || !self.is_connected {
            return;
        }
        let ours = self.table.digests();
        if theirs.len() != ours.len() {
            return;
        }
        let pairs = (0..=u8::MAX).zip(ours.iter().zip(theirs));
        let differing: VecDeque<u8> =
            pairs.filter(|(_, (ours, theirs))| ours != theirs).map(|(part, _)| part).collect();
        self.readings.comparisons += 1;
        self.readings.parts_differing += u64::try_from(differing.len()).unwrap_or(u64::MAX);
        self.list_parts(differing);
    }

    pub(super) fn note_connection(&mut self, now: Tick) {
        self.comparing.connected_at = Some(now);
        self.comparing.questions.clear();
    }

    pub(super) fn note_disconnection(&mut self, now: Tick) {
        if self.comparing.connected_at.take().is_some() {
            self.comparing.lost_at.get_or_insert(now);
        }
        self.comparing.questions.clear();
    }

    /// Asks others, if there is anything to be compared and anybody to be asked.
    pub(super) fn compare(&mut self, now: Tick) -> Option<Listing> {
        if !self.comparing.has_listed || self.live.len() < 2 || self.readings.untracked > 0 {
            return None;
        }
        let lost_at = self.comparing.lost_at.unwrap_or(now);
        let lost_at_millis = self.cluster_millis(lost_at)?;
        self.comparing.number += 1;
        let question = DigestQuestion { number: self.comparing.number, lost_at_millis };
        self.outputs.push_back(TopicsOutput::Compare(question));
        Some(Listing::Comparing(now.plus_millis(ANSWER_MILLIS)))
    }

    /// All that there is has been listed, or is known not to have changed.
    pub(super) fn note_listed(&mut self) {
        self.table.holdings.note_listed();
        self.comparing.has_listed = true;
        self.comparing.lost_at = None;
    }

    /// Takes the answer to a fence; whether it was one.
    pub(super) fn take_fence(
        &mut self,
        ticket: Ticket,
        outcome: &Result<Reply, CoordinationError>,
    ) -> bool {
        let is_its = |one: &Question| matches!(one.step, Step::Fence(fence) if fence == ticket);
        let Some(place) = self.comparing.questions.iter().position(is_its) else { return false };
        let is_there = matches!(outcome, Ok(_) | Err(CoordinationError::NodeExists));
        match self.comparing.questions.get_mut(place).filter(|_| is_there) {
            Some(question) => question.step = Step::Reading(self.table.holdings.mark()),
            None => drop(self.comparing.questions.remove(place)),
        }
        true
    }

    /// Whether an answer to another broker waits until everything that has changed is in the books.
    #[must_use]
    pub fn awaits_holdings(&self) -> bool {
        self.comparing.questions.iter().any(|one| matches!(one.step, Step::Reading(_)))
    }

    /// Answers what can be answered.
    pub(super) fn answer_questions(&mut self) {
        let Self { comparing, table, outputs, .. } = self;
        comparing.questions.retain(|question| {
            let Step::Reading(mark) = question.step else { return true };
            if !table.holdings.is_settled(mark) {
                return true;
            }
            let parts = table.digests().to_vec();
            outputs.push_back(TopicsOutput::Digests(question.from, question.number, parts));
            false
        });
    }
}

/// How long an answer is waited for.
const ANSWER_MILLIS: u64 = 2_000;
const QUESTIONS_MAX: usize = 64;
