//! What brokers say to each other, and whether it has come.

use std::task::Waker;

use bytes::BufMut;

use super::World;
use crate::cluster::lane::{Offered, OfferedControl};
use crate::cluster::wire::{PublishParts, encode_publish};
use crate::mqtt::QoS;

impl World {
    /// Offers a message whose arrival is promised.
    pub(in crate::cluster::relay::stories) fn offer(
        &mut self,
        from: usize,
        to: usize,
        qos: QoS,
        len: usize,
    ) {
        let number = self.offer_and_forget(from, to, qos, len);
        self.offered.entry((from, to)).or_default().push(number);
    }

    pub(in crate::cluster::relay::stories) fn offer_and_forget(
        &mut self,
        from: usize,
        to: usize,
        qos: QoS,
        len: usize,
    ) -> u64 {
        self.next += 1;
        let mut payload = self.next.to_be_bytes().to_vec();
        payload.resize(len.max(8), 0xAB);
        let parts = PublishParts {
            topic: "t",
            payload: &payload,
            properties: None,
            qos,
            retain: false,
            publisher: 1,
            expires_at_millis: None,
            version: None,
            is_for_subscribers: true,
            whom: crate::cluster::frame::Whom::Everybody,
            groups: &[],
            message_id: self.next,
        };
        let lane = &self.nodes[from].lanes[&to];
        match lane.offer_data(qos, |out| encode_publish(&parts, out)) {
            Offered::Queued { wake, .. } => wake.into_iter().for_each(Waker::wake),
            other @ (Offered::Dropped | Offered::Refused | Offered::Closed) => panic!("{other:?}"),
        }
        self.next
    }

    /// Says something in the control stream.
    pub(in crate::cluster::relay::stories) fn control(&mut self, from: usize, to: usize) {
        match self.nodes[from].lanes[&to].offer_control(|out| out.put_slice(&[1, 7])) {
            OfferedControl::Queued { wake, .. } => wake.into_iter().for_each(Waker::wake),
            other @ (OfferedControl::Broken(_) | OfferedControl::Closed) => panic!("{other:?}"),
        }
    }

    /// Says so much that the control stream is cut.
    pub(in crate::cluster::relay::stories) fn cut_control(&mut self, from: usize, to: usize) {
        let frame = [&[0x80, 0x80, 0x04][..], &vec![7; 65_536]].concat();
        loop {
            match self.nodes[from].lanes[&to].offer_control(|out| out.put_slice(&frame)) {
                OfferedControl::Queued { wake, .. } => wake.into_iter().for_each(Waker::wake),
                OfferedControl::Broken(wake) => return wake.into_iter().for_each(Waker::wake),
                OfferedControl::Closed => panic!("nobody closes it"),
            }
        }
    }

    pub(in crate::cluster::relay::stories) fn has_control(&self, from: usize, to: usize) -> bool {
        self.nodes[to].controls.get(&from).is_some_and(|count| *count > 0)
    }

    pub(in crate::cluster::relay::stories) fn has_lost_control(
        &self,
        from: usize,
        to: usize,
    ) -> bool {
        self.nodes[to].losses.get(&from).is_some_and(|count| *count > 0)
    }

    /// Frames of the data stream that have not arrived.
    pub(in crate::cluster::relay::stories) fn unreceived(&self, from: usize, to: usize) -> u64 {
        let offered = self.nodes[from].lanes[&to].counts().offered.data;
        offered - self.nodes[to].inbound[&from].received().data
    }

    pub(in crate::cluster::relay::stories) fn is_flushed_between(
        &self,
        from: usize,
        to: usize,
    ) -> bool {
        self.nodes[from].lanes[&to].is_flushed()
    }

    pub(in crate::cluster::relay::stories) fn is_flushed(&self) -> bool {
        self.pairs().iter().all(|(from, to)| self.is_flushed_between(*from, *to))
    }

    /// A message each way every ten milliseconds.
    pub(in crate::cluster::relay::stories) fn load(
        &mut self,
        one: usize,
        other: usize,
        millis: u64,
    ) {
        for _ in 0..millis / 10 {
            self.offer(one, other, QoS::AtLeastOnce, 100);
            self.offer(other, one, QoS::AtLeastOnce, 100);
            self.run_for(10);
        }
    }

    /// Everything that was promised has come, once and in order.
    #[track_caller]
    pub(in crate::cluster::relay::stories) fn check_all(&self) {
        for (from, to) in self.pairs() {
            let offered = self.offered.get(&(from, to)).cloned().unwrap_or_default();
            let got = self.nodes[to].got.get(&from).cloned().unwrap_or_default();
            let first = offered.iter().zip(&got).position(|(one, other)| one != other);
            assert_eq!((first, got.len()), (None, offered.len()), "from {from} to {to}");
        }
    }
}
