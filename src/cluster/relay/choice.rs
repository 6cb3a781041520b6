//! Which lane is right for one broker: what is known of its links.

use super::options::RelayOptions;
use crate::cluster::frame::Cursors;
use crate::cluster::lane::LaneCounts;
use crate::ports::clock::Tick;

/// What is known of the links to a broker and from it.
#[derive(Debug)]
pub(super) struct Facts {
    /// The version of the link protocol that both speak. Without one, neither has anything to tell the
    /// other by any way.
    wire: Option<u16>,
    is_up: bool,
    /// It is another cluster's, as far as its link says.
    is_mistrusted: bool,
    /// Since when that is so.
    since: Tick,
    /// When it last said by its own link that it is there.
    heard_at: Tick,
    gone: Cursors,
    /// When something was last received by the link, or there was nothing to receive.
    moved_at: Tick,
}

impl Facts {
    /// Of a broker that has just been met: links take a moment.
    pub(super) fn new(now: Tick, wire: Option<u16>) -> Self {
        let gone = Cursors::default();
        let (is_up, is_mistrusted) = (false, false);
        Self { wire, is_up, is_mistrusted, since: now, heard_at: now, gone, moved_at: now }
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up
    }

    pub(super) fn note_link(&mut self, now: Tick, is_up: bool) {
        (self.is_up, self.since, self.moved_at) = (is_up, now, now);
        self.is_mistrusted &= !is_up;
    }

    /// Whoever knows another secret would read by the relay what the link keeps from it.
    pub(super) fn mistrust(&mut self) {
        self.is_mistrusted = true;
    }

    /// The link carries again: what it did not do before says nothing.
    pub(super) fn note_return(&mut self, now: Tick) {
        self.moved_at = now;
    }

    pub(super) fn note_heard(&mut self, at: Tick) {
        self.heard_at = self.heard_at.max(at);
    }

    pub(super) fn note_progress(&mut self, now: Tick, lane: &LaneCounts) {
        if lane.gone != self.gone || lane.gone == lane.offered {
            (self.gone, self.moved_at) = (lane.gone, now);
        }
    }

    /// Whether frames are to go through the tree of znodes; `is_relayed` is what they do now.
    pub(super) fn wants_relay(&self, now: Tick, options: &RelayOptions, is_relayed: bool) -> bool {
        if self.wire.is_none() {
            return false;
        }
        if options.is_always {
            return true;
        }
        if self.is_mistrusted {
            return false;
        }
        let stood = now.saturating_since(self.since);
        match (is_relayed, self.is_up) {
            (true, true) => stood < options.return_millis(),
            (true, false) => true,
            (false, true) => now.saturating_since(self.moved_at) >= options.silence_millis(),
            (false, false) => stood >= options.grace_millis(),
        }
    }

    /// Whether what it relays is to be read: nothing comes by its link.
    pub(super) fn wants_reading(&self, now: Tick, options: &RelayOptions) -> bool {
        let is_silent = now.saturating_since(self.heard_at) >= options.silence_millis();
        self.wire.is_some() && (options.is_always || is_silent && !self.is_mistrusted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::identity::BootId;

    const WIRE: Option<u16> = Some(1);
    const OPTIONS: fn() -> RelayOptions = || RelayOptions {
        name: Arc::from("a"),
        boot_id: BootId(1),
        session_timeout_millis: 6_000,
        message_bytes_max: 1,
        is_always: false,
    };

    fn at(millis: u64) -> Tick {
        Tick::from_millis(millis)
    }

    #[test]
    fn a_link_that_is_down_for_a_little_while_or_silent_for_longer_is_given_up() {
        let options = OPTIONS();
        let mut facts = Facts::new(at(0), WIRE);
        assert!(!facts.wants_relay(at(999), &options, false), "it takes a moment");
        assert!(facts.wants_relay(at(1_000), &options, false));
        facts.note_link(at(1_500), true);
        let offered = Cursors { control: 3, data: 0 };
        let lane = LaneCounts { offered, ..LaneCounts::default() };
        facts.note_progress(at(2_000), &lane);
        assert!(!facts.wants_relay(at(3_499), &options, false));
        assert!(facts.wants_relay(at(3_500), &options, false), "nothing gets through");
        facts.note_progress(at(3_500), &LaneCounts { gone: offered, ..lane });
        assert!(!facts.wants_relay(at(5_000), &options, false), "something did");
    }

    #[test]
    fn a_link_is_trusted_again_when_it_has_stood_a_while() {
        let options = OPTIONS();
        let mut facts = Facts::new(at(0), WIRE);
        assert!(facts.wants_relay(at(9_000), &options, true));
        facts.note_link(at(9_000), true);
        assert!(facts.wants_relay(at(9_999), &options, true));
        assert!(!facts.wants_relay(at(10_000), &options, true));
        let always = RelayOptions { is_always: true, ..options };
        assert!(facts.wants_relay(at(10_000), &always, true));
    }

    #[test]
    fn windows_are_read_of_who_is_silent_by_its_link() {
        let options = OPTIONS();
        let mut facts = Facts::new(at(0), WIRE);
        assert!(!facts.wants_reading(at(1_999), &options));
        assert!(facts.wants_reading(at(2_000), &options));
        facts.note_heard(at(1_000));
        assert!(!facts.wants_reading(at(2_999), &options));
    }

    #[test]
    fn nothing_goes_to_or_comes_from_whom_the_link_mistrusts() {
        let options = OPTIONS();
        let mut facts = Facts::new(at(0), WIRE);
        facts.mistrust();
        assert!(!facts.wants_relay(at(9_000), &options, false));
        assert!(!facts.wants_relay(at(9_000), &options, true));
        assert!(!facts.wants_reading(at(9_000), &options));
        // It was given the right secret.
        facts.note_link(at(9_000), true);
        facts.note_link(at(10_000), false);
        assert!(facts.wants_relay(at(11_000), &options, false));
        assert!(facts.wants_reading(at(11_000), &options));
    }
    /// It was relayed to in version 0, which nobody speaks.
    #[test]
    fn nothing_is_relayed_where_there_is_no_common_version() {
        let options = OPTIONS();
        let always = RelayOptions { is_always: true, ..OPTIONS() };
        let facts = Facts::new(at(0), None);
        for options in [&options, &always] {
            assert!(!facts.wants_relay(at(9_000), options, false));
            assert!(!facts.wants_relay(at(9_000), options, true));
            assert!(!facts.wants_reading(at(9_000), options));
            let understood = Facts::new(at(0), WIRE);
            assert!(understood.wants_relay(at(9_000), options, false));
            assert!(understood.wants_reading(at(9_000), options));
        }
    }
}
