//! Removes what is of no use any more.

use super::state::{PlaceState, Run, State};
use crate::ports::message::MessageId;
use crate::ports::store::{Collected, Operation, SessionId};

impl State {
    pub(super) fn collect(&mut self, operation: &Operation, run: &Run) -> Collected {
        let Operation::Collect {
            sessions_before_millis,
            messages_before_millis,
            memories_before_millis,
            limit,
        } = *operation
        else {
            return Collected::default();
        };
        let limit = limit as usize;
        let mut collected = Collected::default();
        self.collect_sessions(sessions_before_millis, limit, run, &mut collected);
        self.collect_ended(limit, &mut collected);
        self.collect_expired(messages_before_millis, limit, &mut collected);
        self.collect_memories(memories_before_millis, limit, &mut collected);
        self.collect_retained(messages_before_millis, memories_before_millis, &mut collected);
        collected
    }

    fn collect_sessions(&mut self, before: u64, limit: usize, run: &Run, into: &mut Collected) {
        let is_over = |at: Option<u64>| at.is_some_and(|at| at < before);
        let mut over: Vec<(u64, SessionId)> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.owner == run.owner && session.will.is_none())
            .filter(|(_, session)| is_over(session.life.expires_at_millis))
            .map(|(id, session)| (session.life.expires_at_millis.unwrap_or(0), *id))
            .collect();
        over.sort_unstable();
        over.truncate(limit);
        into.has_more |= over.len() == limit;
        for (_, id) in over {
            self.end_session(id);
            into.sessions.push(id);
        }
    }

    fn collect_ended(&mut self, limit: usize, into: &mut Collected) {
        let mut left = limit;
        while left > 0
            && let Some((id, mut queue)) = self.ended.pop_first()
        {
            while left > 0
                && let Some((_, place)) = queue.pop_first()
            {
                self.drop_message(place.message, into);
                into.pointers += 1;
                left -= 1;
            }
            if !queue.is_empty() {
                self.ended.insert(id, queue);
            }
        }
        into.has_more |= !self.ended.is_empty();
    }

    fn collect_expired(&mut self, before: u64, limit: usize, into: &mut Collected) {
        let is_expired = |at: Option<u64>| at.is_some_and(|at| at < before);
        let expired: Vec<MessageId> = self
            .messages
            .iter()
            .filter(|(_, kept)| is_expired(kept.message.expires_at_millis))
            .map(|(id, _)| *id)
            .take(limit)
            .collect();
        into.has_more |= expired.len() == limit;
        let queues = self.sessions.values_mut().map(|session| &mut session.queue);
        let mut dropped = Vec::new();
        for queue in queues.chain(self.ended.values_mut()) {
            queue.retain(|_, place| {
                let is_gone = place.message.filter(|id| expired.contains(id));
                dropped.extend(is_gone);
                is_gone.is_none()
            });
        }
        into.pointers += dropped.len() as u64;
        for id in dropped {
            self.drop_message(Some(id), into);
        }
    }

    fn collect_memories(&mut self, before: u64, limit: usize, into: &mut Collected) {
        let mut left = limit;
        for session in self.sessions.values_mut() {
            session.queue.retain(|_, place| {
                let is_old = matches!(place.state, PlaceState::Done(at) if at < before);
                let goes = is_old && left > 0;
                left -= usize::from(goes);
                !goes
            });
        }
        into.pointers += (limit - left) as u64;
        into.has_more |= left == 0;
    }

    fn collect_retained(&mut self, expired: u64, memories: u64, into: &mut Collected) {
        let before = self.retained.len();
        self.retained.retain(|_, retained| {
            let message = retained.record.message.as_ref();
            let expires_at = message.and_then(|message| message.expires_at_millis);
            let is_expired = expires_at.is_some_and(|at| at < expired);
            let is_forgotten = retained.deleted_at.is_some_and(|at| at < memories);
            !is_expired && !is_forgotten
        });
        into.retained += (before - self.retained.len()) as u64;
    }

    fn drop_message(&mut self, message: Option<MessageId>, into: &mut Collected) {
        let before = self.messages.len();
        self.need_no_more(message);
        into.messages += (before - self.messages.len()) as u64;
    }
}
