//! Whether a broker whose znode is gone has taken it away itself.
//!
//! Only what a log says of it depends on that: a rolling restart is no row of deaths.

use std::collections::BTreeMap;

use crate::broker::peers::peer::Heard;
use crate::cluster::identity::BootId;
use crate::ports::clock::Tick;

/// Who has said that it is about to leave, and has not.
#[derive(Debug, Default)]
pub(super) struct Goodbyes {
    told_at: BTreeMap<BootId, Tick>,
}

impl Goodbyes {
    /// A broker is draining.
    pub(super) fn note(&mut self, boot_id: BootId, now: Tick) {
        self.told_at.insert(boot_id, now);
    }

    pub(super) fn forget(&mut self, boot_id: BootId) {
        self.told_at.remove(&boot_id);
    }

    /// Whether a broker that was last `heard` so may be leaving of its own: a moment ago it was there
    /// and its writes were committed, or it was draining. One that ended otherwise, or was cut off,
    /// has been silent or without the ensemble for nearly as long as a session lasts.
    pub(super) fn may_be_from(
        &self,
        boot_id: BootId,
        heard: Heard,
        now: Tick,
        session_timeout_millis: u64,
    ) -> bool {
        let told_at = self.told_at.get(&boot_id).copied();
        let may_go = heard.has_lease || told_at.is_some();
        // That it drains may be all that it ever said: pings are some time apart.
        let spoke_at = told_at.map_or(heard.at, |told_at| told_at.max(heard.at));
        may_go && now.saturating_since(spoke_at) < session_timeout_millis / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 10_000;
    const PEER: BootId = BootId(7);

    fn may_be_leaving(goodbyes: &Goodbyes, heard: Heard, now: u64) -> bool {
        goodbyes.may_be_from(PEER, heard, Tick::from_millis(now), T)
    }

    fn heard(at: u64, has_lease: bool) -> Heard {
        Heard { at: Tick::from_millis(at), has_lease, cluster_millis: 0 }
    }

    #[test]
    fn whoever_wrote_a_moment_ago_may_be_leaving() {
        let goodbyes = Goodbyes::default();
        assert!(may_be_leaving(&goodbyes, heard(20_000, true), 24_999));
        assert!(!may_be_leaving(&goodbyes, heard(20_000, true), 25_000), "it was silent for long");
        assert!(!may_be_leaving(&goodbyes, heard(20_000, false), 20_001), "it had no lease");
    }

    /// It was said of one that drained before its first ping that it had been declared dead, when this
    /// broker was not that young itself.
    #[test]
    fn whoever_drains_is_heard_by_that() {
        let mut goodbyes = Goodbyes::default();
        goodbyes.note(PEER, Tick::from_millis(20_000));
        assert!(may_be_leaving(&goodbyes, Heard::default(), 21_000));
        assert!(
            may_be_leaving(&goodbyes, heard(23_000, false), 27_000),
            "it pings while it drains"
        );
        assert!(!may_be_leaving(&goodbyes, heard(23_000, false), 28_000));
        goodbyes.forget(PEER);
        assert!(!may_be_leaving(&goodbyes, Heard::default(), 21_000));
    }
}
