//! A simulated link: the frames of one lane on their way to one life of a broker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Wake, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::cluster::identity::BootId;
use crate::cluster::lane::Lane;

/// Links that have something to send.
pub(super) type ReadyLinks = Mutex<VecDeque<usize>>;

/// The way of one life of a broker to one life of another.
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) from_boot: BootId,
    pub(super) to: usize,
    pub(super) to_boot: BootId,
    pub(super) lane: Arc<Lane>,
    pub(super) waker: Waker,
    /// Counts connections.
    pub(super) number: u64,
    pub(super) is_up: bool,
    pub(super) is_closed: bool,
    /// Bytes under way, and not said to be received.
    pub(super) under_way: VecDeque<usize>,
    pub(super) batch_at: u64,
    pub(super) answer_at: u64,
    /// What is under way by a former connection still arrives until then.
    pub(super) late: Option<(u64, u64)>,
    /// Batches there were.
    pub(super) batches: u64,
}

struct Ring {
    number: usize,
    ready: Arc<ReadyLinks>,
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.ready.lock().push_back(self.number);
    }
}

impl Link {
    pub(super) fn new(
        number: usize,
        ready: &Arc<ReadyLinks>,
        (from, from_boot): (usize, BootId),
        (to, to_boot): (usize, BootId),
        lane: Arc<Lane>,
    ) -> Self {
        let waker = Waker::from(Arc::new(Ring { number, ready: Arc::clone(ready) }));
        Self {
            from,
            from_boot,
            to,
            to_boot,
            lane,
            waker,
            number: 0,
            is_up: false,
            is_closed: false,
            under_way: VecDeque::new(),
            batch_at: 0,
            answer_at: 0,
            late: None,
            batches: 0,
        }
    }

    /// The connection is gone; what is under way still arrives until `late_until`.
    pub(super) fn break_off(&mut self, late_until: u64) {
        self.late = Some((self.number, late_until));
        self.number += 1;
        self.is_up = false;
        self.under_way.clear();
    }

    /// Whether what was sent by this connection arrives.
    pub(super) fn takes(&self, number: u64, now: u64) -> bool {
        let is_late = self.late.is_some_and(|(old, until)| old == number && now <= until);
        (self.is_up && self.number == number) || is_late
    }

    pub(super) fn bytes_under_way(&self) -> usize {
        self.under_way.iter().sum()
    }
}

/// The same batch, as if its sequence numbers had begun one later.
pub(super) fn shifted(batch: &Bytes) -> Bytes {
    let mut bytes = batch.to_vec();
    let seq = bytes.get_mut(5..13).expect("a batch has a header");
    let number = u64::from_be_bytes((&*seq).try_into().expect("eight bytes"));
    seq.copy_from_slice(&(number + 1).to_be_bytes());
    Bytes::from(bytes)
}
