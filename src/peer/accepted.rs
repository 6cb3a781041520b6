//! The links that peers have dialled to us: of one boot id, one at a time.
//!
//! A peer that dials again may do so before we know that its last connection is dead. The last
//! reader has ended before the next one begins, or two of them would hand on its batches in no
//! order.

use crate::cluster::identity::BootId;
use crate::ports::clock::Tick;
use crate::runtime::Shutdown;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct AcceptedLinks {
    links: Mutex<BTreeMap<BootId, Arc<Accepted>>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) address: SocketAddr,
    pub(super) since: Tick,
    /// It is to end.
    cut: Shutdown,
    /// It has ended.
    ended: Shutdown,
}

/// The right to read what a peer sends, once [`Self::take`] has returned.
#[derive(Debug)]
pub(super) struct ReadRight<'a> {
    all: &'a AcceptedLinks,
    boot_id: BootId,
    own: Arc<Accepted>,
    before: Option<Arc<Accepted>>,
}

impl AcceptedLinks {
    /// Announces the next reader of what `boot_id` sends, and cuts the present one. `None`: there
    /// are `links_max` peers already.
    pub(super) fn announce(
        &self,
        boot_id: BootId,
        address: SocketAddr,
        since: Tick,
        links_max: usize,
    ) -> Option<ReadRight<'_>> {
        let mut links = self.links.lock();
        if links.len() >= links_max && !links.contains_key(&boot_id) {
            return None;
        }
        let own =
            Arc::new(Accepted { address, since, cut: Shutdown::new(), ended: Shutdown::new() });
        let before = links.insert(boot_id, own.clone());
        drop(links);
        if let Some(before) = &before {
            before.cut.begin();
        }
        Some(ReadRight { all: self, boot_id, own, before })
    }

    /// Ends what is read from one peer.
    pub(super) fn cut(&self, boot_id: BootId) {
        if let Some(accepted) = self.links.lock().get(&boot_id) {
            accepted.cut.begin();
        }
    }

    /// Ends what is read from anybody.
    pub(super) fn cut_all(&self) {
        self.links.lock().values().for_each(|accepted| accepted.cut.begin());
    }

    pub(super) fn status(&self, boot_id: BootId) -> Option<(SocketAddr, Tick)> {
        self.links.lock().get(&boot_id).map(|accepted| (accepted.address, accepted.since))
    }

    pub(super) fn count(&self) -> usize {
        self.links.lock().len()
    }
}

impl ReadRight<'_> {
    /// Waits for the end of the reader before. `false`: a later one is there already.
    pub(super) async fn take(&mut self) -> bool {
        if let Some(before) = self.before.take() {
            // It has been cut, and does not wait for anything else.
            before.ended.begun().await;
        }
        !self.own.cut.is_begun()
    }

    /// Waits until a later reader is there, or the peer is gone for good.
    pub(super) async fn cut(&self) {
        self.own.cut.begun().await;
    }
}

impl Drop for ReadRight<'_> {
    fn drop(&mut self) {
        let mut links = self.all.links.lock();
        if links.get(&self.boot_id).is_some_and(|present| Arc::ptr_eq(present, &self.own)) {
            links.remove(&self.boot_id);
        }
        drop(links);
        self.own.ended.begin();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn the_next_reader_waits_for_the_end_of_the_last() {
        let all = AcceptedLinks::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let announce = |boot_id| all.announce(BootId(boot_id), address, Tick::ZERO, 2);
        let mut first = announce(1).unwrap();
        assert_eq!(first.take().now_or_never(), Some(true));
        let mut second = announce(1).unwrap();
        assert!(first.cut().now_or_never().is_some(), "the first is asked to end");
        assert_eq!(second.take().now_or_never(), None, "the first still reads");
        let mut third = announce(1).unwrap();
        drop(first);
        assert_eq!(second.take().now_or_never(), Some(false), "the third is there already");
        assert_eq!(third.take().now_or_never(), None, "the second has not ended");
        drop(second);
        assert_eq!(third.take().now_or_never(), Some(true));

        let _other = announce(2).unwrap();
        assert!(announce(3).is_none(), "there are two");
        assert!(announce(1).is_some(), "a peer that dials again is no third");
        assert_eq!(all.count(), 1, "it was dropped at once, and the one before is not listed");
    }
}
