//! QoS 1 and 2 messages that were sent to the client and are not yet acknowledged.
//!
//! Packet Identifiers are given in ascending order, so the place of an entry follows from its
//! identifier and no map is needed: entries acknowledged out of order leave a hole that goes when it
//! reaches the front.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::mqtt::{PacketId, QoS};
use crate::ports::message::{Delivery, Progress};

/// The window of one Session.
#[derive(Debug)]
pub struct InFlight {
    entries: VecDeque<Entry>,
    /// The identifier of the first entry, or the next one to give when there is none.
    first_id: PacketId,
    /// Entries that are not holes.
    live: usize,
    /// How many entries from the front were sent on the present connection; the others were sent on
    /// an earlier one and are to be sent again.
    sent: usize,
    /// Entries among those that are not holes: the send quota in use [MQTT-4.9.0-2].
    live_sent: usize,
}

/// Where a message stands.
#[derive(Clone, Debug)]
pub enum Entry {
    /// QoS 1, PUBLISH sent.
    AwaitsPuback(Delivery),
    /// QoS 2, PUBLISH sent.
    AwaitsPubrec(Delivery),
    /// QoS 2, the client owns the message, PUBREL sent.
    AwaitsPubcomp,
    /// Acknowledged before one that was sent earlier.
    Acknowledged,
}

/// An acknowledgement that fits no message in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no message in flight has this packet identifier")]
pub struct NotInFlight;

impl InFlight {
    /// Nothing in flight.
    #[must_use]
    pub fn new() -> Self {
        Self { entries: VecDeque::new(), first_id: PacketId::MIN, live: 0, sent: 0, live_sent: 0 }
    }

    /// Nothing in flight, and `first_id` is the next identifier to give.
    #[must_use]
    pub fn starting_at(first_id: PacketId) -> Self {
        Self { first_id, ..Self::new() }
    }

    /// The next identifier to give, when there is nothing else to know.
    #[must_use]
    pub fn blank_id(&self) -> Option<PacketId> {
        self.entries.is_empty().then_some(self.first_id)
    }

    /// How many are in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How many more may be sent when `window_max` may be in flight. Holes count against a multiple
    /// of the window, so that a client that never acknowledges its oldest message comes to a halt
    /// instead of growing the queue.
    ///
    /// There is none while messages of an earlier connection are to be sent again: they go first
    /// [MQTT-4.6.0-1].
    #[must_use]
    pub fn room(&self, window_max: usize) -> usize {
        if self.sent < self.entries.len() {
            return 0;
        }
        let span_max = (window_max * HOLES_FACTOR).min(ENTRIES_MAX);
        window_max.saturating_sub(self.live).min(span_max.saturating_sub(self.entries.len()))
    }

    /// Takes a delivery in and gives it an unused Packet Identifier [MQTT-4.3.2-1]. That of one that
    /// is stored follows from its place, so that it is the same when the broker was started anew.
    pub fn push(&mut self, delivery: Delivery) -> PacketId {
        debug_assert!(self.entries.len() < ENTRIES_MAX, "the window was not asked for room");
        if delivery.sequence > 0 {
            self.skip_to(id_at(delivery.sequence));
        }
        let id = nth_after(self.first_id, self.entries.len());
        self.entries.push_back(match (delivery.progress, delivery.qos) {
            (Progress::Released, _) => Entry::AwaitsPubcomp,
            (_, QoS::ExactlyOnce) => Entry::AwaitsPubrec(delivery),
            (_, QoS::AtMostOnce | QoS::AtLeastOnce) => Entry::AwaitsPuback(delivery),
        });
        self.live += 1;
        self.sent += 1;
        self.live_sent += 1;
        id
    }

    /// Makes `id` the next identifier to give. What lies between belongs to messages that were not
    /// sent. Should there be more of them than fit into the window, identifiers go on as they come
    /// until it is empty.
    fn skip_to(&mut self, id: PacketId) {
        if self.entries.is_empty() {
            self.first_id = id;
            return;
        }
        let next = nth_after(self.first_id, self.entries.len());
        let holes = distance(next, id);
        if self.entries.len() + holes < ENTRIES_MAX / 2 {
            self.entries.extend((0..holes).map(|_| Entry::Acknowledged));
            self.sent += holes;
        }
    }

    /// PUBACK: the message is done; returns it.
    ///
    /// # Errors
    ///
    /// Nothing of QoS 1 with this identifier is in flight.
    pub fn puback(&mut self, id: PacketId) -> Result<Delivery, NotInFlight> {
        let entry = self.entry_mut(id).ok_or(NotInFlight)?;
        if !matches!(entry, Entry::AwaitsPuback(_)) {
            return Err(NotInFlight);
        }
        let taken = std::mem::replace(entry, Entry::Acknowledged);
        self.settle(id);
        match taken {
            Entry::AwaitsPuback(delivery) => Ok(delivery),
            Entry::AwaitsPubrec(_) | Entry::AwaitsPubcomp | Entry::Acknowledged => Err(NotInFlight),
        }
    }

    /// PUBREC with success: the client owns the message; PUBREL is due. `None` when it had been
    /// received before.
    ///
    /// # Errors
    ///
    /// Nothing of QoS 2 with this identifier is in flight.
    pub fn pubrec(&mut self, id: PacketId) -> Result<Option<Delivery>, NotInFlight> {
        let entry = self.entry_mut(id).ok_or(NotInFlight)?;
        match entry {
            Entry::AwaitsPubcomp => Ok(None),
            Entry::AwaitsPubrec(_) => match std::mem::replace(entry, Entry::AwaitsPubcomp) {
                Entry::AwaitsPubrec(delivery) => Ok(Some(delivery)),
                Entry::AwaitsPuback(_) | Entry::AwaitsPubcomp | Entry::Acknowledged => Ok(None),
            },
            Entry::AwaitsPuback(_) | Entry::Acknowledged => Err(NotInFlight),
        }
    }

    /// PUBREC with a Reason Code of 0x80 or above: the message is done [MQTT-4.4.0-2].
    ///
    /// # Errors
    ///
    /// No message with this identifier awaits PUBREC.
    pub fn pubrec_refused(&mut self, id: PacketId) -> Result<Delivery, NotInFlight> {
        let entry = self.entry_mut(id).ok_or(NotInFlight)?;
        if !matches!(entry, Entry::AwaitsPubrec(_)) {
            return Err(NotInFlight);
        }
        let taken = std::mem::replace(entry, Entry::Acknowledged);
        self.settle(id);
        match taken {
            Entry::AwaitsPubrec(delivery) => Ok(delivery),
            Entry::AwaitsPuback(_) | Entry::AwaitsPubcomp | Entry::Acknowledged => Err(NotInFlight),
        }
    }

    /// A message that will not be sent again after all: it is done; returns it.
    ///
    /// # Errors
    ///
    /// No message with this identifier awaits PUBACK or PUBREC.
    pub fn give_up(&mut self, id: PacketId) -> Result<Delivery, NotInFlight> {
        self.puback(id).or_else(|NotInFlight| self.pubrec_refused(id))
    }

    /// Puts messages into buffers of their own: they may stay for long.
    pub fn detach_messages(&mut self) {
        for entry in &mut self.entries {
            if let Entry::AwaitsPuback(delivery) | Entry::AwaitsPubrec(delivery) = entry
                && delivery.message.is_in_transit
            {
                delivery.message = Arc::new(delivery.message.detached());
            }
        }
    }

    /// The last place, in a queue that is stored, of what was sent and is not acknowledged.
    #[must_use]
    pub fn last_place(&self) -> Option<u64> {
        let places = self.entries.iter().filter_map(|entry| match entry {
            Entry::AwaitsPuback(delivery) | Entry::AwaitsPubrec(delivery) => {
                Some(delivery.sequence)
            }
            Entry::AwaitsPubcomp | Entry::Acknowledged => None,
        });
        places.max()
    }

    /// PUBCOMP: the identifier is free again.
    ///
    /// # Errors
    ///
    /// No message with this identifier awaits PUBCOMP.
    pub fn pubcomp(&mut self, id: PacketId) -> Result<(), NotInFlight> {
        let entry = self.entry_mut(id).ok_or(NotInFlight)?;
        if !matches!(entry, Entry::AwaitsPubcomp) {
            return Err(NotInFlight);
        }
        *entry = Entry::Acknowledged;
        self.settle(id);
        Ok(())
    }

    /// A new connection: nothing has been sent on it.
    pub fn start_resending(&mut self) {
        self.sent = 0;
        self.live_sent = 0;
    }

    /// What is to be sent again next, in the original order [MQTT-4.4.0-1], as far as the client's
    /// Receive Maximum allows.
    pub fn next_resend(&mut self, window_max: usize) -> Option<(PacketId, &Entry)> {
        while let Some(entry) = self.entries.get(self.sent) {
            let is_hole = matches!(entry, Entry::Acknowledged);
            if !is_hole && self.live_sent >= window_max {
                return None;
            }
            let position = self.sent;
            self.sent += 1;
            if is_hole {
                continue;
            }
            self.live_sent += 1;
            let id = nth_after(self.first_id, position);
            return self.entries.get(position).map(|entry| (id, entry));
        }
        None
    }

    /// How many positions the window spans, holes included.
    #[must_use]
    pub fn span(&self) -> usize {
        self.entries.len()
    }

    /// The window as it stands: the identifier of the first entry, and all entries in order, holes
    /// included. Nothing is left.
    #[must_use]
    pub fn take_apart(&mut self) -> (PacketId, Vec<Entry>) {
        let first_id = self.first_id;
        (first_id, self.drain().collect())
    }

    /// The window that [`Self::take_apart`] took apart, of which nothing has been sent on the present
    /// connection. More entries than there are identifiers are not taken.
    #[must_use]
    pub fn put_together(first_id: PacketId, entries: Vec<Entry>) -> Self {
        let mut entries = VecDeque::from(entries);
        entries.truncate(ENTRIES_MAX);
        let is_live = |entry: &&Entry| !matches!(entry, Entry::Acknowledged);
        let live = entries.iter().filter(is_live).count();
        let mut window = Self { entries, first_id, live, sent: 0, live_sent: 0 };
        window.drop_holes();
        window
    }

    /// Ends the window and hands out what the client had not acknowledged.
    pub fn drain(&mut self) -> impl Iterator<Item = Entry> + '_ {
        self.live = 0;
        self.sent = 0;
        self.live_sent = 0;
        self.entries.drain(..)
    }

    fn entry_mut(&mut self, id: PacketId) -> Option<&mut Entry> {
        self.entries.get_mut(distance(self.first_id, id))
    }

    /// The entry of `id` was acknowledged: drops the holes at the front.
    fn settle(&mut self, id: PacketId) {
        self.live -= 1;
        if distance(self.first_id, id) < self.sent {
            self.live_sent -= 1;
        }
        self.drop_holes();
        if self.entries.is_empty() && self.entries.capacity() > IDLE_CAPACITY {
            self.entries = VecDeque::new();
        }
    }

    fn drop_holes(&mut self) {
        while matches!(self.entries.front(), Some(Entry::Acknowledged)) {
            self.entries.pop_front();
            self.first_id = self.first_id.next();
            self.sent = self.sent.saturating_sub(1);
        }
    }
}

impl Default for InFlight {
    fn default() -> Self {
        Self::new()
    }
}

/// The identifier of the message at this place of a queue that is stored, whose first place is 1.
fn id_at(sequence: u64) -> PacketId {
    let zero_based = sequence.saturating_sub(1) % IDS as u64;
    let id = u16::try_from(zero_based + 1).expect("one of 65,535 identifiers");
    PacketId::new(id).expect("one more than a remainder is not zero")
}

fn nth_after(first: PacketId, n: usize) -> PacketId {
    let zero_based = (usize::from(first.get()) - 1 + n) % IDS;
    let id = u16::try_from(zero_based + 1).expect("one of 65,535 identifiers");
    PacketId::new(id).expect("one more than a remainder is not zero")
}

fn distance(first: PacketId, id: PacketId) -> usize {
    (usize::from(id.get()) + IDS - usize::from(first.get())) % IDS
}

/// Identifiers there are: zero is none.
const IDS: usize = 65_535;
/// More than this would meet identifiers still in use.
const ENTRIES_MAX: usize = IDS - 1;
/// Positions, holes included, that a window may span, in windows.
const HOLES_FACTOR: usize = 8;
/// A window that has run empty keeps room for this many.
const IDLE_CAPACITY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::fixtures::delivery;

    #[test]
    fn identifiers_ascend_wrap_and_are_never_zero() {
        let mut window = InFlight::new();
        for n in 0..200_000_usize {
            let id = window.push(delivery(QoS::AtLeastOnce));
            assert_eq!(usize::from(id.get()), n % IDS + 1);
            window.puback(id).unwrap();
        }
        assert!(window.is_empty());
        assert_eq!(window.span(), 0);
    }

    #[test]
    fn an_acknowledgement_out_of_order_leaves_a_hole_until_it_is_first() {
        let mut window = InFlight::new();
        let first = window.push(delivery(QoS::AtLeastOnce));
        let second = window.push(delivery(QoS::ExactlyOnce));
        assert!(window.pubrec(second).unwrap().is_some());
        assert!(window.pubrec(second).unwrap().is_none());
        window.pubcomp(second).unwrap();
        assert_eq!((window.len(), window.span()), (1, 2));
        assert_eq!(window.pubcomp(second), Err(NotInFlight));
        window.puback(first).unwrap();
        assert_eq!((window.len(), window.span()), (0, 0));
    }

    #[test]
    fn a_stuck_first_message_halts_the_window() {
        let mut window = InFlight::new();
        window.push(delivery(QoS::AtLeastOnce));
        let mut sent = 1;
        while window.room(4) > 0 {
            let id = window.push(delivery(QoS::AtLeastOnce));
            window.puback(id).unwrap();
            sent += 1;
        }
        assert_eq!(sent, 4 * HOLES_FACTOR);
    }

    #[test]
    fn resending_keeps_order_identifiers_and_the_new_receive_maximum() {
        let mut window = InFlight::new();
        let ids: Vec<_> = (0..4).map(|_| window.push(delivery(QoS::AtLeastOnce))).collect();
        window.puback(ids[1]).unwrap();
        window.start_resending();
        assert_eq!(window.room(10), 0, "what was sent before goes first");
        assert_eq!(window.next_resend(2).unwrap().0, ids[0]);
        assert_eq!(window.next_resend(2).unwrap().0, ids[2]);
        assert!(window.next_resend(2).is_none());
        window.puback(ids[0]).unwrap();
        assert_eq!(window.next_resend(2).unwrap().0, ids[3]);
        assert_eq!(window.room(2), 0);
        window.puback(ids[2]).unwrap();
        assert_eq!(window.room(2), 1);
    }

    #[test]
    fn a_window_taken_apart_and_put_together_goes_on_where_it_was() {
        let mut window = InFlight::new();
        let ids: Vec<_> = (0..4).map(|_| window.push(delivery(QoS::AtLeastOnce))).collect();
        let released = window.push(delivery(QoS::ExactlyOnce));
        window.pubrec(released).unwrap();
        window.puback(ids[0]).unwrap();
        window.puback(ids[2]).unwrap();
        let (first_id, entries) = window.take_apart();
        assert_eq!((first_id, entries.len()), (ids[1], 4));
        let mut window = InFlight::put_together(first_id, entries);
        assert_eq!((window.len(), window.room(100)), (3, 0));
        let resent: Vec<_> =
            std::iter::from_fn(|| window.next_resend(100).map(|(id, _)| id)).collect();
        assert_eq!(resent, [ids[1], ids[3], released]);
        window.pubcomp(released).unwrap();
        assert_eq!(window.push(delivery(QoS::AtLeastOnce)), released.next());
    }

    #[test]
    fn the_identifier_of_what_is_stored_follows_from_its_place() {
        let at = |sequence| Delivery { sequence, ..delivery(QoS::AtLeastOnce) };
        let mut window = InFlight::new();
        let one = window.push(at(70_000));
        let other = window.push(at(70_004));
        assert_eq!(one, id_at(70_000));
        assert_eq!((other, window.span(), window.len()), (id_at(70_004), 5, 2));
        window.puback(one).unwrap();
        assert_eq!(window.span(), 1, "what was passed over is no hole at the front");
        window.puback(other).unwrap();
        assert_eq!(window.push(at(70_001 + 65_535)), nth_after(one, 1));
    }

    #[test]
    fn the_last_place_is_that_of_the_last_message_that_is_not_acknowledged() {
        let at = |qos, sequence| Delivery { sequence, ..delivery(qos) };
        let mut window = InFlight::new();
        assert_eq!(window.last_place(), None);
        window.push(at(QoS::AtLeastOnce, 7));
        let released = window.push(at(QoS::ExactlyOnce, 8));
        let last = window.push(at(QoS::AtLeastOnce, 9));
        assert_eq!(window.last_place(), Some(9));
        window.puback(last).unwrap();
        window.pubrec(released).unwrap();
        assert_eq!(window.last_place(), Some(7));
    }

    #[test]
    fn too_many_places_passed_over_do_not_fill_the_window() {
        let at = |sequence| Delivery { sequence, ..delivery(QoS::AtLeastOnce) };
        let mut window = InFlight::new();
        let one = window.push(at(1));
        let other = window.push(at(60_000));
        assert_eq!(other, one.next());
        window.puback(one).unwrap();
        window.puback(other).unwrap();
        assert_eq!(window.push(at(60_001)), id_at(60_001));
    }

    #[test]
    fn an_acknowledgement_of_the_wrong_kind_changes_nothing() {
        let mut window = InFlight::new();
        let one = window.push(delivery(QoS::AtLeastOnce));
        let two = window.push(delivery(QoS::ExactlyOnce));
        assert_eq!(window.pubrec(one).unwrap_err(), NotInFlight);
        assert_eq!(window.puback(two).unwrap_err(), NotInFlight);
        assert_eq!(window.pubcomp(two).unwrap_err(), NotInFlight);
        assert_eq!(window.len(), 2);
    }
}
