//! Queues and messages.

use std::sync::Arc;

use super::state::{Kept, Place, PlaceState, PointerPart, Run, State};
use crate::mqtt::PacketId;
use crate::ports::message::MessageId;
use crate::ports::store::{
    IncomingRecord, PacketState, Pointer, QueuedMessage, QueuedState, SessionId, StoredMessage,
};

impl State {
    pub(super) fn enqueue(
        &mut self,
        message: &Arc<StoredMessage>,
        pointers: Vec<Pointer>,
        run: &mut Run,
    ) {
        for pointer in pointers {
            if !self.is_owned(pointer.session, run.owner) {
                run.fence(pointer.session);
                continue;
            }
            let Some(session) = self.sessions.get_mut(&pointer.session.id) else { continue };
            let repeat_key = pointer.may_repeat.then_some(message.id);
            let is_known =
                |place: &Place| place.repeat_key.is_some() && place.repeat_key == repeat_key;
            let is_taken = session.queue.contains_key(&pointer.sequence);
            if is_taken || session.queue.values().any(is_known) {
                continue;
            }
            let Pointer { qos, retain, tag, .. } = pointer;
            let place = Place {
                state: PlaceState::Waiting,
                pointer: PointerPart { qos, retain, tag },
                message: Some(message.id),
                repeat_key,
            };
            session.queue.insert(pointer.sequence, place);
            self.need(message);
        }
    }

    pub(super) fn acknowledge(&mut self, session: SessionId, sequence: u64, now_millis: u64) {
        let Some(queue) = self.sessions.get_mut(&session).map(|it| &mut it.queue) else { return };
        let Some(place) = queue.get_mut(&sequence) else { return };
        let message = place.message.take();
        if place.repeat_key.is_none() {
            queue.remove(&sequence);
        } else if !matches!(place.state, PlaceState::Done(_)) {
            place.state = PlaceState::Done(now_millis);
        }
        self.need_no_more(message);
    }

    pub(super) fn forget(&mut self, session: SessionId, sequence: u64, now_millis: u64) {
        let Some(queue) = self.sessions.get_mut(&session).map(|it| &mut it.queue) else { return };
        let Some(place) = queue.get_mut(&sequence) else { return };
        if matches!(place.state, PlaceState::Done(_)) {
            return;
        }
        let message = place.message.take();
        place.state = PlaceState::Done(now_millis);
        if place.repeat_key.take().is_none() {
            queue.remove(&sequence);
        }
        self.need_no_more(message);
    }

    pub(super) fn release(&mut self, session: SessionId, sequence: u64) {
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let Some(place) = session.queue.get_mut(&sequence) else { return };
        if place.state == PlaceState::Waiting {
            place.state = PlaceState::Released;
            let message = place.message.take();
            self.need_no_more(message);
        }
    }

    pub(super) fn put_incoming(
        &mut self,
        session: SessionId,
        packet_id: PacketId,
        message: &Arc<StoredMessage>,
    ) {
        let Some(stored) = self.sessions.get_mut(&session) else { return };
        let state = PacketState::Routing;
        let record = IncomingRecord { packet_id, message: message.id, state };
        let former = stored.incoming.get(&packet_id.get()).copied();
        if former.is_some_and(|former| former.message == message.id) {
            return;
        }
        stored.incoming.insert(packet_id.get(), record);
        self.need(message);
        let Some(former) = former else { return };
        self.need_no_more(Some(former.message).filter(|_| !former.is_routed()));
        self.withdraw(former.message);
    }

    /// Takes a message out of the queues in which it waits: it comes again under another name.
    fn withdraw(&mut self, message: MessageId) {
        let mut count = 0;
        for session in self.sessions.values_mut() {
            session.queue.retain(|_, place| {
                let is_meant = place.message == Some(message) && place.repeat_key.is_none();
                count += usize::from(is_meant);
                !is_meant
            });
        }
        for _ in 0..count {
            self.need_no_more(Some(message));
        }
    }

    pub(super) fn route_incoming(
        &mut self,
        session: SessionId,
        packet_id: u16,
        message: MessageId,
    ) {
        let Some(stored) = self.sessions.get_mut(&session) else { return };
        let Some(incoming) = stored.incoming.get_mut(&packet_id) else { return };
        if incoming.message == message && !incoming.is_routed() {
            incoming.state = PacketState::Routed;
            self.need_no_more(Some(message));
        }
    }

    pub(super) fn remove_incoming(
        &mut self,
        session: SessionId,
        packet_id: u16,
        message: MessageId,
    ) {
        let Some(stored) = self.sessions.get_mut(&session) else { return };
        let Some(incoming) = stored.incoming.get(&packet_id).copied() else { return };
        if incoming.message == message {
            stored.incoming.remove(&packet_id);
            self.need_no_more(Some(message).filter(|_| !incoming.is_routed()));
        }
    }

    pub(super) fn read_queue(
        &self,
        session: SessionId,
        after: u64,
        limit: u32,
        bytes_max: u64,
    ) -> Vec<QueuedMessage> {
        let Some(session) = self.sessions.get(&session) else { return Vec::new() };
        let mut bytes = 0;
        let behind = session.queue.range(after.saturating_add(1)..);
        let read = behind.filter_map(|(&sequence, place)| self.queued(sequence, place));
        read.take(limit as usize)
            .take_while(|queued| {
                let is_first = bytes == 0;
                bytes += queued.message.as_ref().map_or(0, |it| it.payload.len() as u64).max(1);
                is_first || bytes <= bytes_max
            })
            .collect()
    }

    fn queued(&self, sequence: u64, place: &Place) -> Option<QueuedMessage> {
        let state = match place.state {
            PlaceState::Waiting => QueuedState::Waiting,
            PlaceState::Released => QueuedState::Released,
            PlaceState::Done(_) => return None,
        };
        let PointerPart { qos, retain, tag } = &place.pointer;
        let message = place.message.and_then(|id| self.messages.get(&id));
        let message = message.map(|kept| Arc::clone(&kept.message));
        let (qos, retain, tag) = (*qos, *retain, tag.clone());
        Some(QueuedMessage { sequence, state, qos, retain, tag, message })
    }

    pub(super) fn read_incoming(
        &self,
        session: SessionId,
        packet_id: u16,
    ) -> Option<Arc<StoredMessage>> {
        let incoming = self.sessions.get(&session)?.incoming.get(&packet_id)?;
        let incoming = Some(incoming).filter(|incoming| !incoming.is_routed())?;
        Some(Arc::clone(&self.messages.get(&incoming.message)?.message))
    }

    fn need(&mut self, message: &Arc<StoredMessage>) {
        let new = || Kept { message: Arc::clone(message), needed_by: 0 };
        self.messages.entry(message.id).or_insert_with(new).needed_by += 1;
    }

    pub(super) fn need_no_more(&mut self, message: Option<MessageId>) {
        let Some(id) = message else { return };
        let Some(kept) = self.messages.get_mut(&id) else { return };
        kept.needed_by -= 1;
        if kept.needed_by == 0 {
            self.messages.remove(&id);
        }
    }
}
