//! The checker: what the tree says of free, lent and spent.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{BUDGET, NODES, World};
use crate::cluster::bank::{Funds, decode_free, decode_lease};
use crate::cluster::identity::BootId;
use crate::cluster::paths::BANK;
use crate::ports::coordination::{CoordinationError, Reply, Request};

impl World {
    /// Both promises, from the tree alone.
    pub(super) fn audit(&mut self) -> Result<(), String> {
        let (sum, books) = self.books();
        if !BUDGET.covers(sum) {
            return Err(format!("{sum} is more than the budget\n{books}"));
        }
        let leases = self.leases();
        for (payer, held) in self.held() {
            let lease = leases.get(&payer).copied().unwrap_or(held);
            if !lease.covers(held) {
                return Err(format!("{payer:?} has {held} under {lease}\n{books}"));
            }
        }
        Ok(())
    }

    pub(super) fn books(&mut self) -> (Funds, String) {
        let Ok(Reply::Data { data, .. }) = self.look(Request::Get(BANK.into())) else {
            return (Funds::ZERO, String::new());
        };
        let free = decode_free(&data).unwrap();
        let leases = self.leases();
        let orphans = self.held().into_iter().filter(|(payer, _)| !leases.contains_key(payer));
        let orphans = orphans.fold(Funds::ZERO, |sum, (_, cost)| sum.plus(cost));
        let lent = leases.values().fold(Funds::ZERO, |sum, &lease| sum.plus(lease));
        let books = format!("free {free}\nlent {lent}\norphans {orphans}");
        (free.plus(lent).plus(orphans), books)
    }

    pub(super) fn leases(&mut self) -> BTreeMap<BootId, Funds> {
        let Ok(Reply::Children(names)) = self.look(Request::List(BANK.into())) else {
            return BTreeMap::new();
        };
        let data = names.iter().map(|name| self.data(&format!("{BANK}/{name}")));
        data.map(|data| decode_lease(&data).unwrap()).collect()
    }

    pub(super) fn held(&mut self) -> BTreeMap<BootId, Funds> {
        let mut held = BTreeMap::new();
        for path in self.nodes() {
            let (payer, cost) = decode_node(&self.data(&path));
            let sum: &mut Funds = held.entry(payer).or_default();
            *sum = sum.plus(cost);
        }
        held
    }

    pub(super) fn nodes(&mut self) -> Vec<String> {
        let Ok(Reply::Children(names)) = self.look(Request::List(NODES.into())) else {
            return Vec::new();
        };
        names.iter().map(|name| format!("{NODES}/{name}")).collect()
    }

    pub(super) fn data(&mut self, path: &str) -> Bytes {
        match self.look(Request::Get(path.into())) {
            Ok(Reply::Data { data, .. }) => data,
            other => panic!("{path}: {other:?}"),
        }
    }

    /// As somebody who stands outside.
    pub(super) fn look(&mut self, request: Request) -> Result<Reply, CoordinationError> {
        self.tree.apply(self.observer, request, 0)
    }
}

pub(super) fn encode_node(payer: BootId, cost: Funds) -> Bytes {
    Bytes::from(format!("{payer} {cost}"))
}

pub(super) fn decode_node(data: &[u8]) -> (BootId, Funds) {
    let (payer, cost) = std::str::from_utf8(data).unwrap().split_once(' ').unwrap();
    (BootId::parse(payer).unwrap(), Funds::parse(cost).unwrap())
}
