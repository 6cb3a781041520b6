//! What goes over links, and what their receivers say of it.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::cluster::frame::Cursors;
use crate::cluster::lane::Taken;
use crate::cluster::wire::{Batch, BatchHeader, FRAME_BYTES_MAX};
use crate::sim::cluster::link::shifted;
use crate::sim::cluster::verdict::{Checker, Complaint, Plant, complaint};
use crate::sim::cluster::world::World;
use crate::sim::cluster::world::happening::Happening;

impl World {
    /// Sends what there is.
    pub(super) fn pump(&mut self, link: usize) -> Result<(), Complaint> {
        let from = self.link(link).from;
        if self.node(from).is_paused {
            self.node(from).stash.push_back(Happening::Pump { link });
            return Ok(());
        }
        loop {
            let window = self.plan.link_window;
            let is_shifted = self.plant == Plant::SequenceBeforeDrop;
            let found = self.link(link);
            if !found.is_up || found.is_closed || found.bytes_under_way() >= window {
                return Ok(());
            }
            let mut batches = VecDeque::new();
            let max = window.min(64 * 1_024);
            match found.lane.take(max, &found.waker.clone(), &mut batches) {
                Taken::Batches => {}
                Taken::Nothing => return Ok(()),
                Taken::Restart => {
                    found.break_off(0);
                    self.tell_link(link, false);
                    self.count("control streams cut");
                    self.redial(link);
                    return Ok(());
                }
                Taken::Closed => {
                    found.is_closed = true;
                    return Ok(());
                }
            }
            let has_dropped = found.lane.counts().dropped > 0;
            for batch in batches {
                let is_data = batch.get(4) == Some(&1) || batch.get(4) == Some(&b'D');
                let batch =
                    if is_shifted && has_dropped && is_data { shifted(&batch) } else { batch };
                self.send_batch(link, batch);
            }
        }
    }

    fn send_batch(&mut self, link: usize, bytes: Bytes) {
        let at = self.now + self.link_delay();
        let is_lost = self.plant == Plant::AcceptGap && self.chance.one_in(20);
        let found = self.link(link);
        found.batches += 1;
        found.under_way.push_back(bytes.len());
        found.batch_at = found.batch_at.max(at);
        let (at, number) = (found.batch_at, found.number);
        if !is_lost {
            self.at(at, Happening::Batch { link, number, bytes });
        }
    }

    pub(super) fn arrive_batch(&mut self, link: usize, number: u64, bytes: Bytes) {
        let now = self.now;
        let found = self.link(link);
        let (to, from_boot) = (found.to, found.from_boot);
        if !found.takes(number, now) {
            return;
        }
        let is_present = found.number == number;
        let to_boot = found.to_boot;
        let Some(process) = self.process(to) else { return };
        if process.boot_id != to_boot && self.plant != Plant::WrongLife {
            return self.break_link(link, 0);
        }
        let len = bytes.len();
        let header = BatchHeader::peek(&bytes, FRAME_BYTES_MAX);
        let header = header.expect("a lane writes batches").expect("whole ones");
        let batch = Batch::new(header, bytes).expect("a lane writes whole batches");
        let Some(process) = self.process(to) else { return };
        let received = process.receive(now, from_boot, &batch);
        self.arm(to);
        self.note(len as u64);
        if !is_present {
            return self.count("late batches");
        }
        match received {
            Ok(cursors) => {
                let at = now + self.link_delay();
                let found = self.link(link);
                found.answer_at = found.answer_at.max(at);
                let at = found.answer_at;
                self.at(at, Happening::Received { link, number, cursors });
            }
            Err(error) => {
                self.say(format_args!("link {link}: {error}"));
                self.count("links closed by receivers");
                self.break_link(link, 0);
            }
        }
    }

    pub(super) fn arrive_received(
        &mut self,
        link: usize,
        number: u64,
        cursors: Cursors,
    ) -> Result<(), Complaint> {
        let found = self.link(link);
        if found.number != number || !found.is_up || found.is_closed {
            return Ok(());
        }
        found.under_way.pop_front();
        if let Err(error) = found.lane.received(cursors) {
            return complaint(Checker::Protocol, format!("link {link}: {error}"));
        }
        self.pump(link)
    }
}
