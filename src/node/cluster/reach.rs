//! Whether the brokers reach each other by their links, as far as this one can tell.
//!
//! Whoever dials knows what went wrong, and says so. That nobody can dial *this* broker it sees by
//! its own links, which stand while none comes in: the others are there, and would have come.

use std::sync::Arc;

use super::task::ClusterTask;
use crate::peer::LinkStatus;
use crate::ports::clock::Tick;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Since when links from here stand and none comes in.
    unmet_since: Option<Tick>,
    is_unreached: bool,
    degraded: Option<Arc<str>>,
}

/// What has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ReachTurn {
    /// Nobody reaches this broker.
    Unreached,
    /// Somebody does again.
    Reached,
}

impl Reach {
    /// Takes note of the links; a broker that nobody has dialled for `patience_millis` is not
    /// reached.
    fn look(&mut self, now: Tick, links: &[LinkStatus], patience_millis: u64) -> Option<ReachTurn> {
        let is_met = links.iter().any(|link| link.accepted.is_some());
        let stands = links.iter().any(|link| link.connected_since.is_some());
        let was_unreached = self.is_unreached;
        if is_met || links.is_empty() {
            (self.unmet_since, self.is_unreached) = (None, false);
        } else if stands {
            let since = *self.unmet_since.get_or_insert(now);
            self.is_unreached |= now.saturating_since(since) >= patience_millis;
        } else {
            // Nobody is there, or it is this broker that reaches nobody.
            self.unmet_since = None;
        }
        self.degraded = self.in_words(links);
        match (was_unreached, self.is_unreached) {
            (false, true) => Some(ReachTurn::Unreached),
            (true, false) if is_met => Some(ReachTurn::Reached),
            (true | false, false) | (true, true) => None,
        }
    }

    fn in_words(&self, links: &[LinkStatus]) -> Option<Arc<str>> {
        let troubled: Vec<_> =
            links.iter().filter(|link| link.is_troubled).map(|link| &*link.name).collect();
        let unreached = self.is_unreached.then(|| "no other broker reaches this one".to_owned());
        let cut = (!troubled.is_empty()).then(|| format!("no link to {}", troubled.join(", ")));
        let all: Vec<_> = unreached.into_iter().chain(cut).collect();
        (!all.is_empty()).then(|| Arc::from(all.join("; ")))
    }

    /// What is missing, for whoever asks whether traffic is welcome.
    pub(super) fn degraded(&self) -> Option<Arc<str>> {
        self.degraded.clone()
    }
}

impl ClusterTask {
    /// Looks how the links are, and says what only this broker can see of them.
    pub(super) fn look_at_links(&mut self, now: Tick) {
        let links = self.links.status();
        let turn = self.reach.look(now, &links, self.options.session_timeout_millis);
        self.status.note_unreached(self.reach.is_unreached);
        let address = &self.options.link_address;
        match turn {
            Some(ReachTurn::Unreached) => tracing::warn!(
                %address,
                "no other broker reaches this one: its own links stand and none comes in; check its \
                 --link-advertise, --link-host, --link-bind and --link-port, and what lies between"
            ),
            Some(ReachTurn::Reached) => {
                tracing::info!(%address, "other brokers reach this one again");
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::identity::BootId;
    use crate::cluster::lane::LaneCounts;
    use std::net::SocketAddr;

    const T: u64 = 6_000;

    fn at(millis: u64) -> Tick {
        Tick::from_millis(millis)
    }

    /// A link that stands or not, and one from there or not.
    fn link(stands: bool, comes: bool) -> LinkStatus {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        LinkStatus {
            name: "b".to_owned(),
            boot_id: BootId(2),
            address: address.to_string(),
            connected_since: stands.then_some(at(0)),
            accepted: comes.then_some((address, at(0))),
            round_trip: None,
            last_error: None,
            is_troubled: !stands,
            connects: 1,
            failures: 0,
            lane: LaneCounts::default(),
        }
    }

    #[test]
    fn whose_links_stand_while_none_comes_in_is_not_reached() {
        let mut reach = Reach::default();
        let unmet = [link(true, false), link(false, false)];
        assert_eq!(reach.look(at(0), &unmet, T), None);
        assert_eq!(reach.look(at(T - 1), &unmet, T), None);
        assert_eq!(reach.look(at(T), &unmet, T), Some(ReachTurn::Unreached));
        assert_eq!(reach.look(at(2 * T), &unmet, T), None, "it is said once");
        let words = reach.degraded().unwrap();
        assert_eq!(&*words, "no other broker reaches this one; no link to b");
        assert_eq!(reach.look(at(3 * T), &[link(true, true)], T), Some(ReachTurn::Reached));
        assert_eq!(reach.degraded(), None);
    }

    #[test]
    fn whom_one_reaches_and_who_reaches_nobody_is_not_told_so() {
        let mut reach = Reach::default();
        for links in [&[link(true, false), link(true, true)][..], &[link(false, false)], &[]] {
            for millis in [0, T, 3 * T] {
                assert_eq!(reach.look(at(millis), links, T), None, "{links:?}");
            }
        }
    }

    #[test]
    fn the_wait_begins_anew_when_nobody_was_there_in_between() {
        let mut reach = Reach::default();
        let unmet = [link(true, false)];
        assert_eq!(reach.look(at(0), &unmet, T), None);
        assert_eq!(reach.look(at(T - 1), &[link(false, false)], T), None);
        assert_eq!(reach.look(at(T), &unmet, T), None);
        assert_eq!(reach.look(at(2 * T), &unmet, T), Some(ReachTurn::Unreached));
        assert_eq!(reach.look(at(2 * T), &[], T), None, "the last of the others has left");
        assert_eq!(reach.degraded(), None);
    }
}
