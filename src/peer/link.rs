//! What is known of one peer that we dial.

use crate::cluster::identity::BootId;
use crate::cluster::lane::Lane;
use crate::peer::error::{LinkError, chain};
use crate::peer::links::Ground;
use crate::peer::status::LinkStatus;
use crate::ports::clock::Tick;
use crate::runtime::Shutdown;
use crate::runtime::line_limit::LineLimit;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// One peer that we dial, until it is closed.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) boot_id: BootId,
    pub(super) lane: Arc<Lane>,
    /// Said when the peer is gone for good.
    pub(super) closed: Shutdown,
    /// Rung when nothing gets through although the link stands.
    pub(super) redial: Notify,
    state: Mutex<State>,
    failure_lines: LineLimit,
    connect_lines: LineLimit,
}

#[derive(Debug)]
struct State {
    /// It may move: what is here is where it is dialled next.
    address: String,
    connected_since: Option<Tick>,
    round_trip: Option<Duration>,
    last_error: Option<String>,
    connects: u64,
}

/// A link that stands. Dropped when it no longer does.
#[derive(Debug)]
pub(super) struct StandingLink<'a> {
    link: &'a Link,
    ground: &'a Ground,
}

impl Link {
    pub(super) fn new(name: &str, boot_id: BootId, address: &str, lane: Arc<Lane>) -> Self {
        let state = State {
            address: address.to_owned(),
            connected_since: None,
            round_trip: None,
            last_error: None,
            connects: 0,
        };
        Self {
            name: name.to_owned(),
            boot_id,
            lane,
            closed: Shutdown::new(),
            redial: Notify::new(),
            state: Mutex::new(state),
            failure_lines: LineLimit::per_minute(1),
            connect_lines: LineLimit::per_minute(1),
        }
    }

    pub(super) fn address(&self) -> String {
        self.state.lock().address.clone()
    }

    pub(super) fn set_address(&self, address: &str) {
        address.clone_into(&mut self.state.lock().address);
    }

    /// The link stands from now on, until what is returned is dropped.
    pub(super) fn stand<'a>(&'a self, ground: &'a Ground) -> StandingLink<'a> {
        let now = ground.clock.now();
        let mut state = self.state.lock();
        state.connected_since = Some(now);
        state.connects += 1;
        let address = state.address.clone();
        drop(state);
        if let Some(unsaid) = self.connect_lines.allow(now) {
            tracing::info!(peer = %self.name, %address, unsaid, "the link to a peer stands");
        }
        ground.receiver.link_changed(self.boot_id, true);
        StandingLink { link: self, ground }
    }

    pub(super) fn measured(&self, round_trip: Duration) {
        self.state.lock().round_trip = Some(round_trip);
    }

    pub(super) fn failed(&self, error: &LinkError, now: Tick) {
        let is_early = error.is_early();
        let error = chain(error);
        let address = self.address();
        if is_early {
            tracing::debug!(peer = %self.name, %address, "no link to a peer yet: {error}");
        } else if let Some(unsaid) = self.failure_lines.allow(now) {
            tracing::warn!(
                peer = %self.name, %address, unsaid,
                "no link to a peer: {error}; it is dialled again"
            );
        }
        self.state.lock().last_error = Some(error);
    }

    /// What there is to see, without what the peer's own link to us tells.
    pub(super) fn status(&self) -> LinkStatus {
        let lane = self.lane.counts();
        let state = self.state.lock();
        LinkStatus {
            name: self.name.clone(),
            boot_id: self.boot_id,
            address: state.address.clone(),
            connected_since: state.connected_since,
            accepted: None,
            round_trip: state.round_trip,
            last_error: state.last_error.clone(),
            connects: state.connects,
            lane,
        }
    }
}

impl Drop for StandingLink<'_> {
    fn drop(&mut self) {
        self.link.state.lock().connected_since = None;
        self.ground.receiver.link_changed(self.link.boot_id, false);
    }
}
