//! Sessions: who has them, and what is known of them.

use std::sync::Arc;

use super::state::{PlaceState, Run, Session, State};
use crate::ports::auth::SessionUser;
use crate::ports::store::{
    DueWill, Epoch, OwnerId, QueueEnds, SessionId, SessionLife, SessionRecord, SessionRef, Slots,
};

impl State {
    pub(super) fn put_session(
        &mut self,
        session: SessionRef,
        (client_id, user): (&Arc<str>, SessionUser),
        slot: u16,
        (life, sent_below): (SessionLife, Option<u64>),
        run: &mut Run,
    ) {
        let former = self.clients.get(client_id).copied();
        let stored = [Some(session.id), former];
        let stored = stored.into_iter().flatten().filter_map(|id| self.sessions.get(&id));
        let is_ours = |stored: &Session| stored.may_be_taken(run.owner, session.epoch);
        if !stored.into_iter().all(is_ours) || self.ended.contains_key(&session.id) {
            return run.fence(session);
        }
        if let Some(former) = former.filter(|former| *former != session.id) {
            self.end_session(former);
        }
        let (owner, epoch) = (run.owner, session.epoch);
        if let Some(stored) = self.sessions.get_mut(&session.id) {
            (stored.owner, stored.epoch, stored.life) = (owner, epoch, life);
            (stored.user, stored.sent_below) = (user, sent_below);
            return;
        }
        let client_id = Arc::clone(client_id);
        self.clients.insert(Arc::clone(&client_id), session.id);
        let (will, subscriptions, incoming, queue) = Default::default();
        let new = Session {
            client_id,
            user,
            slot,
            owner,
            epoch,
            life,
            will,
            subscriptions,
            incoming,
            queue,
            sent_below,
        };
        self.sessions.insert(session.id, new);
    }

    pub(super) fn take_session(
        &mut self,
        client_id: &Arc<str>,
        epoch: Epoch,
        run: &mut Run,
    ) -> Option<Box<SessionRecord>> {
        let id = *self.clients.get(client_id)?;
        let session = self.sessions.get_mut(&id)?;
        if !session.may_be_taken(run.owner, epoch) {
            run.fence(SessionRef { id, epoch });
            return None;
        }
        session.give_to(run.owner, epoch);
        Some(Box::new(session.record(id)))
    }

    pub(super) fn take_sessions(
        &mut self,
        former: Option<OwnerId>,
        slots: &Slots,
        epoch: Epoch,
        limit: u32,
        owner: OwnerId,
    ) -> u32 {
        let is_wanted = |session: &&mut Session| {
            session.epoch < epoch
                && former.is_none_or(|former| session.owner == former)
                && match slots {
                    Slots::All => true,
                    Slots::Only(slots) => slots.contains(&session.slot),
                }
        };
        let wanted = self.sessions.values_mut().filter(is_wanted).take(limit as usize);
        let taken = wanted.map(|session| session.give_to(owner, epoch));
        u32::try_from(taken.count()).expect("no more than the limit were taken")
    }

    pub(super) fn end_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.clients.remove(&session.client_id);
        for incoming in session.incoming.values() {
            self.need_no_more(Some(incoming.message).filter(|_| !incoming.is_routed()));
        }
        self.ended.insert(id, session.queue);
    }

    pub(super) fn list_sessions(
        &self,
        (owner, claim): (OwnerId, Option<Epoch>),
        after: Option<SessionId>,
        limit: u32,
    ) -> Vec<SessionRecord> {
        let is_wanted = |id: SessionId, session: &Session| {
            session.owner == owner
                && claim.is_none_or(|claim| session.epoch == claim)
                && after.is_none_or(|after| id > after)
        };
        let wanted = self.sessions.iter().filter(|(id, session)| is_wanted(**id, session));
        wanted.take(limit as usize).map(|(id, session)| session.record(*id)).collect()
    }

    pub(super) fn due_wills(&self, limit: u32, run: &Run) -> Vec<DueWill> {
        let mut due: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.owner == run.owner)
            .filter_map(|(&id, session)| {
                let will = session.will.as_ref()?;
                let at = will.fires_at_millis.filter(|at| *at <= run.now_millis)?;
                let session = SessionRef { id, epoch: session.epoch };
                Some((at, DueWill { session, will: Arc::clone(will) }))
            })
            .collect();
        due.sort_by_key(|(at, due)| (*at, due.session.id));
        due.into_iter().take(limit as usize).map(|(_, due)| due).collect()
    }
}

impl Session {
    /// Whether a claim takes it: a newer one, or the same again.
    fn may_be_taken(&self, owner: OwnerId, epoch: Epoch) -> bool {
        self.epoch < epoch || (self.epoch == epoch && self.owner == owner)
    }

    fn give_to(&mut self, owner: OwnerId, epoch: Epoch) {
        (self.owner, self.epoch) = (owner, epoch);
        let at_most = self.ends().map(|ends| ends.sent_below_at_most());
        let sent_below = self.sent_below.or(at_most).unwrap_or(1);
        self.sent_below = Some(sent_below.min(self.next_sequence()));
    }

    fn ends(&self) -> Option<QueueEnds> {
        let mut live = self
            .queue
            .iter()
            .filter(|(_, place)| !matches!(place.state, PlaceState::Done(_)))
            .map(|(sequence, _)| *sequence);
        let count = live.clone().count() as u64;
        let first = live.next()?;
        let last = live.next_back().unwrap_or(first);
        Some(QueueEnds { first, last, count })
    }

    fn next_sequence(&self) -> u64 {
        self.queue.last_key_value().map_or(1, |(last, _)| last + 1)
    }

    fn record(&self, id: SessionId) -> SessionRecord {
        SessionRecord {
            session: SessionRef { id, epoch: self.epoch },
            client_id: Arc::clone(&self.client_id),
            user: self.user.clone(),
            life: self.life,
            will: self.will.clone(),
            subscriptions: self.subscriptions.values().cloned().collect(),
            incoming: self.incoming.values().copied().collect(),
            queue: self.ends(),
            next_sequence: self.next_sequence(),
            sent_below: self.sent_below,
        }
    }
}
