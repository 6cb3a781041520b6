//! Who does what next, until nobody has anything to do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::packets::decode;
use super::{Cluster, Flag, Line, LineId, News, Node, boot_id, peers};
use crate::broker::connection::{Connection, Progress};
use crate::broker::peers::Peers;
use crate::broker::peers::receive::BatchError;
use crate::broker::turn::Turn;
use crate::cluster::frame::StreamKind;
use crate::cluster::lane::Taken;
use crate::cluster::wire::{Batch, BatchHeader, FRAME_BYTES_MAX};
use crate::session::outbox::Outbox;

#[derive(Clone, Copy)]
enum Step {
    Hear(usize),
    Poll(usize),
    HearStore(usize),
    Adopt(usize),
    Take(usize, usize),
    Deliver(usize, usize, usize),
    Advance(usize),
}

impl Cluster {
    /// Time passes, and whoever waits for it has a turn.
    pub(crate) fn elapse(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        for line in 0..self.lines.len() {
            if self.nodes[self.lines[line].node].is_alive {
                self.turn(LineId(line), |connection, turn, _| {
                    // As the driver does: reading comes first.
                    let _excused = connection.may_read(turn);
                    connection.handle_timeout(turn);
                });
            }
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_alive {
                self.nodes[node].store.iter().for_each(Flag::wake_by_ref);
                while self.at(node, |turn, _| turn.expire()) {}
            }
        }
    }

    /// Lets everybody do what is to be done, until nothing is.
    pub(crate) fn pump(&mut self) {
        for _ in 0..STEPS_MAX {
            if !self.step() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Lets somebody do something. `false` when there is nothing to do.
    pub(crate) fn step(&mut self) -> bool {
        let steps = self.steps();
        if steps.is_empty() {
            return false;
        }
        let choice = self.chance.as_mut().map_or(0, |chance| chance.below(steps.len()));
        match steps[choice] {
            Step::Hear(node) => self.hear(node),
            Step::Poll(node) => {
                let waker = self.lower(node, |it| &it.task);
                self.at(node, |turn, peers| {
                    turn.poll_exports(peers, &waker);
                    turn.poll_wills(peers, &waker);
                });
            }
            Step::HearStore(node) => {
                let waker = self.lower(node, |it| &it.store[0]);
                self.at(node, |turn, _| {
                    let _owes = turn.poll_store(&waker);
                });
            }
            Step::Adopt(node) => {
                let waker = self.lower(node, |it| &it.store[1]);
                self.at(node, |turn, peers| turn.poll_adoptions(peers, &waker));
            }
            Step::Take(from, to) => self.take(from, to),
            Step::Deliver(from, to, stream) => self.deliver(from, to, stream),
            Step::Advance(line) => self.turn(LineId(line), |_, _, _| {}),
        }
        true
    }

    fn lower(&self, node: usize, flag: fn(&Node) -> &Arc<Flag>) -> Waker {
        let flag = flag(&self.nodes[node]);
        flag.lower();
        Waker::from(Arc::clone(flag))
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            if self.nodes[line.node].is_alive && line.flag.is_raised() {
                steps.push(Step::Advance(number));
            }
        }
        for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_alive) {
            if !node.news.is_empty() {
                steps.push(Step::Hear(number));
            }
            if node.task.is_raised() {
                steps.push(Step::Poll(number));
            }
            if node.broker.durable().is_none() {
                continue;
            }
            for (flag, step) in
                node.store.iter().zip([Step::HearStore(number), Step::Adopt(number)])
            {
                if flag.is_raised() {
                    steps.push(step);
                }
            }
        }
        for ((from, to), link) in self.links.iter().filter(|(_, link)| !link.is_cut) {
            if link.flag.is_raised() {
                steps.push(Step::Take(*from, *to));
            }
            for stream in 0..2 {
                if !link.batches[stream].is_empty() {
                    steps.push(Step::Deliver(*from, *to, stream));
                }
            }
        }
        steps
    }

    fn hear(&mut self, node: usize) {
        let Some(news) = self.nodes[node].news.pop_front() else { return };
        self.at(node, |turn, peers| match news {
            News::Dead(boot_id) => turn.remove_peer(peers, boot_id),
            News::Slots(map) => turn.set_slots(peers, map),
        });
    }

    fn take(&mut self, from: usize, to: usize) {
        let link = self.links.get_mut(&(from, to)).unwrap();
        link.flag.lower();
        let waker = Waker::from(Arc::clone(&link.flag));
        let mut taken = VecDeque::new();
        let mut last = Taken::Batches;
        while last == Taken::Batches {
            last = link.lane.take(1, &waker, &mut taken);
        }
        if last == Taken::Restart {
            return self.redial(from, to);
        }
        for bytes in taken {
            let kind = BatchHeader::peek(&bytes, FRAME_BYTES_MAX).unwrap().unwrap().kind;
            link.batches[usize::from(kind == StreamKind::Data)].push_back(bytes);
        }
    }

    fn deliver(&mut self, from: usize, to: usize, stream: usize) {
        let link = self.links.get_mut(&(from, to)).unwrap();
        let Some(bytes) = link.batches[stream].pop_front() else { return };
        let (lane, is_hushed) = (Arc::clone(&link.lane), link.is_hushed);
        let header = BatchHeader::peek(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
        let batch = Batch::new(header, bytes).unwrap();
        let received = self.at(to, |turn, peers| {
            // Whoever has heard that it is dead takes nothing of it any more.
            let peer = peers.find(boot_id(from))?;
            match turn.receive_batch(peers, &peer, &batch) {
                Err(BatchError::Over) => None,
                taken => Some(taken.map(|()| peer.inbound().lock().received()).unwrap()),
            }
        });
        if let Some(received) = received.filter(|_| !is_hushed) {
            lane.received(received).unwrap();
        }
    }

    /// A broker has a turn.
    pub(crate) fn at<R>(
        &mut self,
        node: usize,
        work: impl FnOnce(&mut Turn<'_>, &Peers) -> R,
    ) -> R {
        let mut outbox = Outbox::new();
        let Node { broker, shard, .. } = &mut self.nodes[node];
        let turn = &mut Turn { broker, shard, now: self.now, outbox: &mut outbox };
        let result = work(turn, peers(broker));
        shard.end_turn(self.now);
        result
    }

    pub(super) fn turn(
        &mut self,
        line: LineId,
        work: impl FnOnce(&mut Connection, &mut Turn<'_>, &Waker),
    ) {
        let Line { node, connection, version, flag, inbox } = &mut self.lines[line.0];
        let Node { broker, shard, is_alive, .. } = &mut self.nodes[*node];
        assert!(*is_alive, "its broker is dead");
        let mut outbox = Outbox::new();
        let turn = &mut Turn { broker, shard, now: self.now, outbox: &mut outbox };
        let waker = Waker::from(Arc::clone(flag));
        flag.lower();
        work(connection, turn, &waker);
        if connection.advance(turn, 1_000, usize::MAX, &waker) == Progress::More {
            flag.wake_by_ref();
        }
        shard.end_turn(self.now);
        inbox.extend(decode(*version, &outbox));
    }
}

/// More than any story takes.
const STEPS_MAX: usize = 1_000_000;
