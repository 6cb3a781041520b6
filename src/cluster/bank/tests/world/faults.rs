//! What goes wrong: sessions that end, brokers that crash, leaders that are replaced.

use std::sync::Arc;

use bytes::Bytes;

use super::{LOCK, Plant, World};
use crate::cluster::bank::{Funds, decode_free};
use crate::cluster::paths::BANK;
use crate::ports::coordination::{Change, CoordinationEvent, Reply, Request};

impl World {
    pub(in super::super) fn elect(&mut self, leader: usize) {
        let session = self.brokers[leader].session;
        let change = Change::Set { path: LOCK.into(), data: Bytes::new(), version: None };
        let Ok(Reply::Changed(stat)) = self.tree.apply(session, Request::Change(change), 0) else {
            return;
        };
        // The one before is not told: it finds out when its next write fails.
        self.leader = leader;
        let check = Change::Check { path: LOCK.into(), version: stat.version };
        self.brokers[leader].bank.set_leading(self.now, Some(check));
    }

    /// The leader finds out that it is none.
    pub(in super::super) fn depose(&mut self) {
        self.brokers[self.leader].bank.set_leading(self.now, None);
    }

    pub(super) fn fault(&mut self, broker: usize) {
        match self.chance.below(8) {
            0 | 1 => self.serve(broker, true),
            6 => {
                // The broker gives its session up before the ensemble does.
                self.left.push(self.brokers[broker].session);
                self.renew(broker);
            }
            7 => self.end_one_left(),
            2 => {
                self.tree.expire(self.brokers[broker].session);
                self.gather_changes();
            }
            3 if !self.tree.is_open(self.brokers[broker].session) => self.renew(broker),
            3 | 4 => self.crash(broker),
            _ => self.elect(broker),
        }
        if self.plant == Plant::RefundByEach {
            return;
        }
        if !self.tree.is_open(self.brokers[self.leader].session) {
            let next = self.draw(self.brokers.len());
            self.elect(next);
        }
    }

    /// The process ends; another one of that name starts, perhaps before the ensemble has noticed.
    fn crash(&mut self, broker: usize) {
        let ended = self.brokers[broker].session;
        let lease = self.leases().get(&self.brokers[broker].boot_id).copied();
        let name = Arc::clone(&self.brokers[broker].name);
        let fresh = self.started(name);
        self.brokers[broker] = fresh;
        if self.chance.below(2) == 0 || self.plant == Plant::RefundByEach {
            self.tree.expire(ended);
        } else {
            self.left.push(ended);
        }
        if let (Plant::RefundByEach, Some(lease)) = (self.plant, lease) {
            self.refund_by_each(lease);
        }
        if broker == self.leader {
            let next = self.draw(self.brokers.len());
            self.elect(next);
        }
        self.gather_changes();
    }

    pub(super) fn end_one_left(&mut self) {
        let Some(session) = self.left.pop() else { return };
        self.tree.expire(session);
        self.gather_changes();
    }

    fn refund_by_each(&mut self, lease: Funds) {
        for broker in 0..self.brokers.len() {
            let free = decode_free(&self.data(BANK)).unwrap().plus(lease);
            let data = Bytes::from(format!("free/1 {free}"));
            let change = Change::Set { path: BANK.into(), data, version: None };
            let session = self.brokers[broker].session;
            let _ = self.tree.apply(session, Request::Change(change), 0);
        }
    }

    /// The session is over for good: the broker hears it and gets another.
    pub(super) fn renew(&mut self, broker: usize) {
        let session = self.tree.open_session();
        let nodes = self.nodes();
        let broker = &mut self.brokers[broker];
        broker.lose_requests();
        broker.events.push_back(CoordinationEvent::Expired);
        broker.events.push_back(CoordinationEvent::Connected { session, is_new: true });
        broker.session = session;
        broker.is_connected = true;
        broker.lagging = None;
        broker.list(&nodes);
    }
}
