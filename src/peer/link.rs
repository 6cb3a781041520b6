//! What is known of one peer that we dial.

use crate::cluster::identity::BootId;
use crate::cluster::lane::Lane;
use crate::peer::error::{LinkError, chain};
use crate::peer::links::Ground;
use crate::peer::status::LinkStatus;
use crate::peer::trouble::{Cause, Trouble};
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
    lines: LineLimit,
}

#[derive(Debug)]
struct State {
    /// It may move: what is here is where it is dialled next.
    address: String,
    connected_since: Option<Tick>,
    round_trip: Option<Duration>,
    last_error: Option<String>,
    trouble: Trouble,
    connects: u64,
    failures: u64,
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
            trouble: Trouble::default(),
            connects: 0,
            failures: 0,
        };
        Self {
            name: name.to_owned(),
            boot_id,
            lane,
            closed: Shutdown::new(),
            redial: Notify::new(),
            state: Mutex::new(state),
            lines: LineLimit::per_minute(LINES_PER_MINUTE),
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
        let (address, connects) = (state.address.clone(), state.connects);
        let down_millis = state.trouble.end(now);
        drop(state);
        let peer = &self.name;
        match down_millis {
            Some(down_millis) => {
                tracing::info!(%peer, %address, down_millis, "the link to a peer stands again");
            }
            None if connects == 1 => tracing::info!(%peer, %address, "the link to a peer stands"),
            None => tracing::debug!(%peer, %address, "the link to a peer stands after a moment"),
        }
        ground.receiver.link_changed(self.boot_id, true);
        StandingLink { link: self, ground }
    }

    pub(super) fn measured(&self, round_trip: Duration) {
        self.state.lock().round_trip = Some(round_trip);
    }

    pub(super) fn failed(&self, error: &LinkError, now: Tick) {
        let cause = Cause::of(error);
        let error = chain(error);
        let mut state = self.state.lock();
        state.failures += 1;
        let is_news = state.trouble.is_news(cause, now);
        // A link that comes and goes all the time is not a line each time.
        let line = if is_news { self.lines.allow(now) } else { None };
        if line.is_some() {
            state.trouble.note_said(cause);
        }
        let address = state.address.clone();
        state.last_error = Some(error.clone());
        drop(state);
        let peer = &self.name;
        if let Some(unsaid) = line {
            let advice = cause.advice();
            tracing::warn!(%peer, %address, unsaid, "no link to a peer: {error}; {advice}");
        } else {
            tracing::debug!(%peer, %address, "no link to a peer: {error}");
        }
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
            is_troubled: state.trouble.is_said(),
            connects: state.connects,
            failures: state.failures,
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

/// Of trouble that begins or turns into another.
const LINES_PER_MINUTE: u32 = 4;
