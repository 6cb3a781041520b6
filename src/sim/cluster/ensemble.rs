//! The tree of znodes, and each broker's way there.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::cluster::paths::{SLOTS, below};
use crate::cluster::slots::SlotMap;
use crate::cluster::znodes::Tree;
use crate::ports::coordination::{
    Change, CoordinationError, CoordinationEvent, Reply, Request, Ticket,
};

/// T: after so long without a word a session ends.
pub(super) const SESSION_MILLIS: u64 = 3_000;

/// The servers, as one.
pub(super) struct Ensemble {
    pub(super) tree: Tree,
    /// What the clock of the leading server is ahead of true time.
    pub(super) ahead_millis: i64,
    pub(super) is_up: bool,
    pub(super) ways: Vec<Way>,
    /// Sessions of processes that are gone, and when they were last heard.
    ghosts: Vec<(i64, u64)>,
    /// The session of whoever looks from outside.
    observer: i64,
}

/// The way of one broker to the ensemble.
#[derive(Default)]
pub(super) struct Way {
    pub(super) session: i64,
    /// The session before that, as long as the broker has not heard of the new one.
    former: Option<i64>,
    pub(super) is_connected: bool,
    /// Counts connections: what belongs to an older one is lost.
    pub(super) number: u64,
    /// Until then no connection is made.
    pub(super) blocked_until: u64,
    /// Until then everything takes this much longer.
    pub(super) slow: (u64, u64),
    /// The server is cut off, and this is what it knows.
    pub(super) stale: Option<Box<Tree>>,
    last_heard: u64,
    outstanding: VecDeque<(Ticket, Option<Request>, u64)>,
    pub(super) request_at: u64,
    pub(super) event_at: u64,
    /// When the last committed heartbeat was handed over.
    pub(super) committed: Option<u64>,
}

impl Ensemble {
    pub(super) fn new(brokers: usize) -> Self {
        let mut tree = Tree::new();
        let observer = tree.open_session();
        Self {
            tree,
            ahead_millis: 0,
            is_up: true,
            ways: (0..brokers).map(|_| Way::default()).collect(),
            ghosts: Vec::new(),
            observer,
        }
    }

    pub(super) fn way(&mut self, node: usize) -> &mut Way {
        self.ways.get_mut(node).expect("brokers are numbered")
    }

    /// The process is gone: its session goes on for a while, and a new one has none.
    pub(super) fn abandon(&mut self, node: usize, now: u64, is_paused: bool) {
        let way = self.way(node);
        let heard = if way.is_connected && !is_paused { now } else { way.last_heard };
        let ghost = (way.session, heard);
        let number = way.number + 1;
        *way = Way { number, blocked_until: way.blocked_until, ..Way::default() };
        if ghost.0 != 0 {
            self.ghosts.push(ghost);
        }
    }

    /// A request has been handed over.
    pub(super) fn submit(&mut self, node: usize, ticket: Ticket, request: Request, now: u64) {
        self.way(node).outstanding.push_back((ticket, Some(request), now));
    }

    /// The oldest request that has not come to a server comes there. Returns its answer, if the server
    /// can give one.
    pub(super) fn apply(&mut self, node: usize, now: u64) -> Option<CoordinationEvent> {
        let millis = wall(now) + self.ahead_millis;
        let way = self.ways.get_mut(node).expect("brokers are numbered");
        let place = way.outstanding.iter_mut().find(|one| one.1.is_some())?;
        let (ticket, sent) = (place.0, place.2);
        let request = place.1.take()?;
        let session = way.session;
        if let Some(stale) = &mut way.stale {
            let is_read = matches!(request, Request::Get(_) | Request::List(_) | Request::Watch(_));
            if !is_read {
                return None;
            }
            if matches!(request, Request::Watch(_)) {
                let _both = self.tree.apply(session, request.clone(), millis);
            }
            let outcome = stale.apply(session, request, millis);
            return Some(CoordinationEvent::Answered { ticket, outcome });
        }
        let is_beat = is_beat(node, &request);
        let outcome = self.tree.apply(session, request, millis);
        if is_beat && outcome.is_ok() {
            way.committed = way.committed.max(Some(sent));
        }
        Some(CoordinationEvent::Answered { ticket, outcome })
    }

    /// An answer has come to who asked.
    pub(super) fn answered(&mut self, node: usize, ticket: Ticket) {
        self.way(node).outstanding.retain(|one| one.0 != ticket);
    }

    /// A broker has heard that its session is new.
    pub(super) fn greeted(&mut self, node: usize) {
        self.way(node).former = None;
    }

    /// The connection breaks. Requests under way are made or not; nobody is told.
    pub(super) fn disconnect(
        &mut self,
        node: usize,
        now: u64,
        are_applied: bool,
        is_heard: bool,
    ) -> Vec<CoordinationEvent> {
        if !self.way(node).is_connected {
            return Vec::new();
        }
        while are_applied && self.apply(node, now).is_some() {}
        let way = self.way(node);
        way.is_connected = false;
        way.stale = None;
        way.number += 1;
        if is_heard {
            way.last_heard = now;
        }
        let lost = |one: (Ticket, Option<Request>, u64)| CoordinationEvent::Answered {
            ticket: one.0,
            outcome: Err(CoordinationError::ConnectionLost),
        };
        let mut events: Vec<_> = way.outstanding.drain(..).map(lost).collect();
        events.push(CoordinationEvent::Disconnected);
        let session = way.session;
        if let Some(former) = way.former.take() {
            // Its client asks for the one it knows: the new one is nobody's.
            way.session = former;
            self.ghosts.push((session, now));
        }
        self.tree.lose_changes(session);
        events
    }

    /// A connection is made, with the old session if there still is one.
    pub(super) fn connect(&mut self, node: usize, now: u64) -> Vec<CoordinationEvent> {
        let former = self.way(node).session;
        let is_new = !self.tree.is_open(former);
        let session = if is_new { self.tree.open_session() } else { former };
        self.tree.lose_changes(session);
        let way = self.way(node);
        way.former = is_new.then_some(former);
        way.session = session;
        way.is_connected = true;
        way.last_heard = now;
        way.number += 1;
        let mut events = Vec::new();
        if is_new && former != 0 {
            events.push(CoordinationEvent::Expired);
        }
        events.push(CoordinationEvent::Connected { session, is_new });
        events
    }

    /// Ends the sessions that were not heard for too long; `is_paused` tells of each broker.
    pub(super) fn end_sessions(&mut self, now: u64, is_paused: impl Fn(usize) -> bool) {
        let is_up = self.is_up;
        let mut ended = Vec::new();
        for (node, way) in self.ways.iter_mut().enumerate() {
            let is_heard = way.is_connected && way.stale.is_none() && !is_paused(node);
            if is_heard || !is_up {
                way.last_heard = now;
            } else if way.session != 0 && way.last_heard + SESSION_MILLIS <= now {
                ended.push(way.session);
            }
        }
        for ghost in &mut self.ghosts {
            if !is_up {
                ghost.1 = now;
            }
        }
        let ends = |ghost: &mut (i64, u64)| ghost.1 + SESSION_MILLIS <= now;
        ended.extend(self.ghosts.extract_if(.., ends).map(|ghost| ghost.0));
        for session in ended {
            self.tree.expire(session);
        }
    }

    /// What watches have to tell a broker.
    pub(super) fn next_change(&mut self, node: usize) -> Option<CoordinationEvent> {
        let way = self.ways.get_mut(node)?;
        loop {
            let change = self.tree.next_change(way.session)?;
            if way.is_connected && way.stale.is_none() {
                return Some(change);
            }
        }
    }

    /// The slot map as it is, unless it is the one that was written then.
    pub(super) fn slots_since(&mut self, zxid: i64) -> Option<SlotMap> {
        let found = self.look(Request::Get(SLOTS.to_owned()));
        let Ok(Reply::Data { data, stat }) = found else { return None };
        if stat.mzxid == zxid { None } else { SlotMap::decode(stat.mzxid, data).ok() }
    }

    /// What somebody sees who looks from outside.
    pub(super) fn look(&mut self, request: Request) -> Result<Reply, CoordinationError> {
        self.tree.apply(self.observer, request, 0)
    }

    /// What stands below a path, by name.
    pub(super) fn children(&mut self, path: &str) -> Vec<String> {
        let found = self.look(Request::List(path.to_owned()));
        if let Ok(Reply::Children(names)) = found { names } else { Vec::new() }
    }

    /// What stands at a path.
    pub(super) fn data(&mut self, path: &str) -> Option<Bytes> {
        let found = self.look(Request::Get(path.to_owned()));
        if let Ok(Reply::Data { data, .. }) = found { Some(data) } else { None }
    }
}

fn is_beat(node: usize, request: &Request) -> bool {
    let own = below("/clock", &name(node));
    matches!(
        request,
        Request::Change(Change::Set { path, .. } | Change::Create { path, .. }) if *path == own
    )
}

/// What a broker is called.
pub(super) fn name(node: usize) -> String {
    format!("b{node}")
}

/// True time, in milliseconds since 1970.
pub(super) fn wall(now: u64) -> i64 {
    1_700_000_000_000 + i64::try_from(now).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(events: &[CoordinationEvent]) -> Option<(i64, bool)> {
        events.iter().find_map(|event| {
            let CoordinationEvent::Connected { session, is_new } = *event else { return None };
            Some((session, is_new))
        })
    }

    /// A broker was given a new session and the connection broke before it heard so. The next one went
    /// on with that session as if it were known: without a watch in it, and with a lease that had ended
    /// with the former session. Whoever does not know the number of a session cannot ask for it.
    #[test]
    fn a_session_that_its_broker_never_heard_of_is_nobodys() {
        let mut ensemble = Ensemble::new(1);
        let (unheard, _) = connected(&ensemble.connect(0, 0)).unwrap();
        ensemble.disconnect(0, 1, false, true);
        let (session, is_new) = connected(&ensemble.connect(0, 2)).unwrap();
        assert!(is_new && session != unheard, "{session} is new: {is_new}");
        ensemble.greeted(0);
        ensemble.disconnect(0, 3, false, true);
        assert_eq!(
            connected(&ensemble.connect(0, 4)),
            Some((session, false)),
            "one it has heard of"
        );
        ensemble.end_sessions(2 + SESSION_MILLIS, |_| false);
        assert!(!ensemble.tree.is_open(unheard) && ensemble.tree.is_open(session));
    }
}
