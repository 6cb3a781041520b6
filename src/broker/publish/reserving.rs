//! All or nothing: room is set aside in every queue that may refuse, and at one member of every group,
//! before anybody has the message.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::broker::peers::forward::{PeerShares, share_with_group};
use crate::broker::publish::leaves_out;
use crate::broker::publish::offering::{delivery, manner, wanted};
use crate::broker::routes::{Fanout, FanoutGroup, FanoutTarget, Member, PeerTarget};
use crate::broker::turn::Turn;
use crate::mqtt::QoS;
use crate::ports::message::Message;
use crate::session::mailbox::{Commit, Credit, Room};

/// A mailbox with room set aside: nothing but success can follow.
pub(super) struct Reserved<'a> {
    target: &'a FanoutTarget,
    qos: QoS,
    /// Of which no member would have been sent it at once.
    waits_in: Option<&'a FanoutGroup>,
}

/// One reservation for each target of a publish that may refuse.
pub(super) type Reservations<'a> = SmallVec<[Reserved<'a>; 4]>;

/// The member of a Shared Subscription that gets a message.
enum Chosen<'a> {
    Here(Reserved<'a>),
    There(&'a PeerTarget),
}

/// A queue that may refuse has no room.
pub(super) struct Full;

impl Turn<'_> {
    /// Sets room aside in every mailbox that may refuse, and chooses a member of every group.
    pub(super) fn reserve<'a>(
        &mut self,
        message: &Message,
        fanout: &'a Fanout,
        reservations: &mut Reservations<'a>,
        shares: &mut PeerShares,
    ) -> Result<(), Full> {
        self.reserve_targets(message, &fanout.targets, reservations)?;
        let bytes = message.charged_bytes();
        for group in &fanout.groups {
            match self.choose_anywhere(group, message, bytes) {
                Some(Chosen::Here(chosen)) => reservations.push(chosen),
                Some(Chosen::There(target)) => {
                    share_with_group(shares, target, group.filter(), message.qos);
                }
                None if message.qos > QoS::AtMostOnce && group.has_qos() => {
                    if !leaves_out(message) {
                        return Err(Full);
                    }
                    self.leave_out();
                }
                None => self.shard.counters.deliveries_dropped.increment(),
            }
        }
        Ok(())
    }

    pub(super) fn reserve_targets<'a>(
        &mut self,
        message: &Message,
        targets: &'a [FanoutTarget],
        reservations: &mut Reservations<'a>,
    ) -> Result<(), Full> {
        let bytes = message.charged_bytes();
        for target in targets {
            let Some((target, qos)) = wanted(target, message) else { continue };
            if qos == QoS::AtMostOnce {
                continue;
            }
            match target.mailbox.reserve_if_rejecting(bytes, self.now) {
                Room::Reserved => reservations.push(Reserved { target, qos, waits_in: None }),
                // It is offered what it has no room for, and that is then left out.
                Room::Full if leaves_out(message) => {}
                Room::Full => return Err(Full),
                Room::NotNeeded => {}
            }
        }
        Ok(())
    }

    /// A member that would be sent the message at once: here, or at a broker that has one; else one
    /// that has room, or much to do; else one that is away.
    fn choose_anywhere<'a>(
        &self,
        group: &'a FanoutGroup,
        message: &Message,
        bytes: usize,
    ) -> Option<Chosen<'a>> {
        let choose = |member: &'a Member, waits: bool| match member {
            Member::Local(target) => {
                let group = waits.then_some(group);
                self.take_place(target, group, message, bytes).map(Chosen::Here)
            }
            Member::Remote(target) => Some(Chosen::There(target)),
        };
        let first_of = |is_fit: fn(&Member) -> bool| {
            let mut fit = group.everyone().filter(|member| is_fit(member));
            fit.find_map(|member| choose(member, true))
        };
        group
            .ready(message.qos)
            .find_map(|member| choose(member, false))
            .or_else(|| first_of(Member::has_credit))
            .or_else(|| first_of(Member::is_attended))
            .or_else(|| match message.qos {
                QoS::AtMostOnce => None,
                QoS::AtLeastOnce | QoS::ExactlyOnce => first_of(Member::is_open),
            })
    }

    /// A member of this broker that would be sent the message at once, else one that has room or is
    /// there, if any is.
    pub(super) fn choose_here<'a>(
        &self,
        group: &'a FanoutGroup,
        message: &Message,
        bytes: usize,
    ) -> Option<Reserved<'a>> {
        let local = |member: &'a Member| match member {
            Member::Local(target) => Some(target),
            Member::Remote(_) => None,
        };
        let first_of = |is_fit: fn(&FanoutTarget) -> bool| {
            let mut fit = group.in_turn().filter_map(local).filter(|target| is_fit(target));
            fit.find_map(|target| self.take_place(target, Some(group), message, bytes))
        };
        let mut ready = group.ready(message.qos).filter_map(local);
        ready
            .find_map(|target| self.take_place(target, None, message, bytes))
            .or_else(|| first_of(|target| target.mailbox.credit() != Credit::Short))
            .or_else(|| first_of(|target| target.mailbox.is_attended()))
            .or_else(|| first_of(|_| true))
    }

    /// Sets room aside for the message at one member; it will wait there, if that is one of a group.
    fn take_place<'a>(
        &self,
        target: &'a FanoutTarget,
        waits_in: Option<&'a FanoutGroup>,
        message: &Message,
        bytes: usize,
    ) -> Option<Reserved<'a>> {
        let qos = message.qos.min(target.qos);
        let is_taken = match qos {
            QoS::AtMostOnce => target.mailbox.is_attended(),
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                target.mailbox.reserve(bytes, self.now) == Room::Reserved
            }
        };
        is_taken.then_some(Reserved { target, qos, waits_in })
    }

    /// Hands the message out. `true` when anybody here wanted it.
    pub(super) fn commit(
        &mut self,
        message: &Arc<Message>,
        fanout: &Fanout,
        reservations: &Reservations<'_>,
    ) -> bool {
        self.commit_all(message, &fanout.targets, reservations)
    }

    pub(super) fn commit_all(
        &mut self,
        message: &Arc<Message>,
        targets: &[FanoutTarget],
        reservations: &Reservations<'_>,
    ) -> bool {
        let mut detached = None;
        let mut matched = false;
        let mut reserved = reservations.iter().peekable();
        for target in targets {
            let Some((target, qos)) = wanted(target, message) else { continue };
            matched = true;
            // Reservations stand in the order of the targets.
            if reserved.next_if(|reserved| std::ptr::eq(reserved.target, target)).is_some() {
                self.commit_to(target, message, qos, &mut detached);
            } else {
                // Its policy is not to refuse, and it takes what it can; or it is left out.
                if !self.offer(target, message, qos, &mut detached) {
                    self.leave_out();
                }
            }
        }
        for Reserved { target, qos, waits_in } in reserved {
            matched = true;
            if *qos == QoS::AtMostOnce {
                let offered = delivery(target, Arc::clone(message), *qos);
                if !self.offer_at_most_once(target, offered, &mut detached) {
                    let refused = delivery(target, Arc::clone(message), *qos);
                    self.pass_on(&refused, target.mailbox.key());
                }
                continue;
            }
            self.commit_to(target, message, *qos, &mut detached);
            if let Some(group) = waits_in {
                // Somebody may have become able to take it since the look.
                self.call_members(group.group());
            }
        }
        matched
    }

    /// Hands the message to one target that has set room aside.
    fn commit_to(
        &mut self,
        target: &FanoutTarget,
        message: &Arc<Message>,
        qos: QoS,
        detached: &mut Option<Arc<Message>>,
    ) {
        match target.mailbox.commit(delivery(target, Arc::clone(message), qos), self.now, detached)
        {
            Commit::Queued(wake) => self.shard.wake_later(wake),
            Commit::Stored(place) => {
                self.keep_at(place, &target.mailbox, message, manner(target, message, qos));
            }
            Commit::Closed(delivery) => self.pass_on(&delivery, target.mailbox.key()),
        }
    }
}

/// Gives back what was set aside.
pub(super) fn release(reservations: &Reservations<'_>, message: &Message) {
    for Reserved { target, qos, .. } in reservations {
        if *qos > QoS::AtMostOnce {
            target.mailbox.unreserve(message.charged_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::broker::options::BrokerOptions;
    use crate::broker::shard::Shard;
    use crate::broker::stories::{Stage, payloads, subscribe};
    use crate::mqtt::{ProtocolVersion, TopicName};
    use crate::session::outbox::Outbox;

    /// The Session of the member that was chosen ended on another shard before the message was in
    /// its mailbox. The publisher was told that it had been taken, and nobody ever got it.
    #[test]
    fn what_a_member_was_chosen_for_when_its_session_ended_goes_to_another() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            check_that_another_gets_it(qos);
        }
    }

    #[track_caller]
    fn check_that_another_gets_it(qos: QoS) {
        let mut stage = Stage::new(BrokerOptions::default());
        let mut members = ["one", "two"].map(|id| stage.connect(id, ProtocolVersion::V5, 0).0);
        for member in &mut members {
            stage.send(member, &subscribe("$share/g/t", QoS::AtLeastOnce));
        }
        let message = Arc::new(Message { qos, ..message("t") });
        let mut outbox = Outbox::new();
        let Stage { broker, shard, now } = &mut stage;
        let turn = &mut Turn { broker, shard, now: *now, outbox: &mut outbox };
        let fanout = turn.fanout(&message.topic).unwrap();
        let mut reservations = Reservations::new();
        assert!(turn.reserve(&message, &fanout, &mut reservations, &mut PeerShares::new()).is_ok());
        let chosen = Arc::clone(reservations[0].target.mailbox.client_id());

        let [one, two] = members;
        let (mut ending, mut other) = if &*chosen == "one" { (one, two) } else { (two, one) };
        let (mut elsewhere, mut its_outbox) = (Shard::new(broker), Outbox::new());
        let its_turn =
            &mut Turn { broker, shard: &mut elsewhere, now: *now, outbox: &mut its_outbox };
        ending.connection.handle_lost(its_turn, "cut");

        assert!(turn.commit(&message, &fanout, &reservations));
        assert_eq!(payloads(&stage.poll(&mut other)), ["x"]);
    }

    /// One of several queues refused a publish again and again. Each time a member of a group that was
    /// away looked as if its client had acknowledged something, and what waited there stayed.
    #[test]
    fn room_that_was_set_aside_in_vain_is_given_back_and_is_no_progress() {
        let mut stage = Stage::new(BrokerOptions::default());
        let (mut member, _connack) = stage.connect("member", ProtocolVersion::V5, 600);
        stage.send(&mut member, &subscribe("$share/g/t", QoS::AtLeastOnce));
        stage.lose(member);
        let message = Arc::new(message("t"));
        let mut outbox = Outbox::new();
        let Stage { broker, shard, now } = &mut stage;
        let turn = &mut Turn { broker, shard, now: *now, outbox: &mut outbox };
        let fanout = turn.fanout(&message.topic).unwrap();
        let mut reserve = || {
            let mut reservations = Reservations::new();
            let reserved =
                turn.reserve(&message, &fanout, &mut reservations, &mut PeerShares::new());
            assert!(reserved.is_ok() && reservations.len() == 1);
            reservations
        };
        let (taken, refused) = (reserve(), reserve());
        let mailbox = Arc::clone(&taken[0].target.mailbox);
        assert!(turn.commit(&message, &fanout, &taken));
        release(&refused, &message);
        assert_eq!((mailbox.counts().messages, mailbox.look().surplus), (1, 1));
    }

    fn message(topic: &str) -> Message {
        let topic = TopicName::parse(topic.into()).unwrap();
        Message { qos: QoS::AtLeastOnce, ..Message::of_broker(topic, Bytes::from_static(b"x")) }
    }
}
