//! A tree of znodes in memory, with the semantics of ZooKeeper's.
//!
//! It serves a broker that is alone, and the simulation, which has to be able to do to its brokers
//! what an ensemble does: end their sessions, change its leader (and with it the clock that stamps
//! changes), lose what watches had to say, and collect a znode that was refreshed a moment ago. A
//! copy of the tree is a follower that is cut off.
//!
//! What a session sees is in order: take [`Tree::next_change`] until there is none before handing on
//! the answer of [`Tree::apply`].

mod nodes;
mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use nodes::{Effect, Made, Moment, Nodes};
use session::Session;

use crate::ports::coordination::{
    Change, CoordinationError, CoordinationEvent, CreateMode, Reply, Request,
};

/// The tree, and the sessions that look at it. It has no lock and no clock of its own.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Nodes,
    sessions: BTreeMap<i64, Session>,
    last_session: i64,
    /// The number of the leader's reign in the upper half, that of the change in the lower.
    zxid: i64,
    has_ttl: bool,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// An empty tree, in the first reign.
    #[must_use]
    pub fn new() -> Self {
        Self {
            nodes: Nodes::default(),
            sessions: BTreeMap::new(),
            last_session: 0,
            zxid: 1 << REIGN_SHIFT,
            has_ttl: true,
        }
    }

    /// One whose servers were not configured for znodes with a time to live.
    #[must_use]
    pub fn without_ttl() -> Self {
        Self { has_ttl: false, ..Self::new() }
    }

    /// A new session, without watches. The caller ends it when nobody has been heard for too long.
    pub fn open_session(&mut self) -> i64 {
        self.last_session += 1;
        self.sessions.insert(self.last_session, Session::default());
        self.last_session
    }

    /// Ends a session, and everything ephemeral with it.
    pub fn expire(&mut self, session: i64) {
        let Some(ended) = self.sessions.remove(&session) else { return };
        let at = self.next_moment(session, 0);
        for path in ended.ephemerals {
            let change = Change::Delete { path, version: None };
            let made =
                self.nodes.make(change, at).expect("an ephemeral znode ends when it is told");
            self.tell(made.effect);
        }
    }

    /// Whether a session stands.
    #[must_use]
    pub fn is_open(&self, session: i64) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Another server leads from now on: the caller's clock may jump.
    pub fn change_leader(&mut self) {
        self.zxid = ((self.zxid >> REIGN_SHIFT) + 1) << REIGN_SHIFT;
    }

    /// Answers a request at once. `millis` is the time since 1970 on the clock of the server that
    /// leads.
    ///
    /// # Errors
    ///
    /// What an ensemble answers, except that a connection to it can be lost.
    pub fn apply(
        &mut self,
        session: i64,
        request: Request,
        millis: i64,
    ) -> Result<Reply, CoordinationError> {
        let watcher = self.sessions.get_mut(&session).ok_or(CoordinationError::SessionExpired)?;
        match request {
            Request::Change(change) => self.change(change, session, millis),
            Request::All(changes) => self.change_all(changes, session, millis),
            Request::Get(path) => {
                let node = self.nodes.find(&path)?;
                Ok(Reply::Data { data: node.data.clone(), stat: node.stat })
            }
            Request::List(path) => {
                let names = self.nodes.find(&path)?.children.keys();
                Ok(Reply::Children(names.map(ToString::to_string).collect()))
            }
            Request::Watch(path) => {
                watcher.watch(path)?;
                Ok(Reply::Done)
            }
        }
    }

    /// The oldest change that the watches of a session have to tell.
    pub fn next_change(&mut self, session: i64) -> Option<CoordinationEvent> {
        self.sessions.get_mut(&session)?.next_change()
    }

    /// What happens when a session moves to another server: what its watches had to tell goes
    /// unsaid. Returns how much that was.
    pub fn lose_changes(&mut self, session: i64) -> usize {
        self.sessions.get_mut(&session).map_or(0, Session::lose_changes)
    }

    /// Changes that went unsaid because nobody took them: the session must look for itself.
    #[must_use]
    pub fn changes_lost(&self, session: i64) -> u64 {
        self.sessions.get(&session).map_or(0, Session::changes_lost)
    }

    /// The znodes that have outlived their time to live, as many as are collected at once.
    #[must_use]
    pub fn outlived(&self, millis: i64) -> Vec<String> {
        self.nodes.outlived(millis, COLLECTED_AT_ONCE)
    }

    /// Ends znodes that were found to have outlived their time, and returns how many that were. As in
    /// ZooKeeper nobody looks again whether one has been refreshed since: only a child saves it.
    pub fn collect(&mut self, paths: Vec<String>) -> usize {
        let mut collected = 0;
        for path in paths {
            if self.nodes.find(&path).map_or(true, |node| node.ttl_millis.is_none()) {
                continue;
            }
            let at = self.next_moment(0, 0);
            if let Ok(made) = self.nodes.make(Change::Delete { path, version: None }, at) {
                self.tell(made.effect);
                collected += 1;
            }
        }
        collected
    }

    /// The last transaction.
    #[must_use]
    pub fn zxid(&self) -> i64 {
        self.zxid
    }

    /// How many znodes there are, the root not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.count()
    }

    /// Whether there is only the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn change(
        &mut self,
        change: Change,
        session: i64,
        millis: i64,
    ) -> Result<Reply, CoordinationError> {
        let at = self.next_moment(session, millis);
        let made = self.make(change, at)?;
        self.tell(made.effect);
        Ok(made.reply)
    }

    fn change_all(
        &mut self,
        changes: Vec<Change>,
        session: i64,
        millis: i64,
    ) -> Result<Reply, CoordinationError> {
        let at = self.next_moment(session, millis);
        let mut done: Vec<Made> = Vec::with_capacity(changes.len());
        for (part, change) in changes.into_iter().enumerate() {
            match self.make(change, at) {
                Ok(made) => done.push(made),
                Err(error) => {
                    while let Some(made) = done.pop() {
                        self.nodes.take_back(made);
                    }
                    return Err(CoordinationError::Part { part, error: Box::new(error) });
                }
            }
        }
        for made in done {
            self.tell(made.effect);
        }
        Ok(Reply::Done)
    }

    fn make(&mut self, change: Change, at: Moment) -> Result<Made, CoordinationError> {
        let wants_ttl =
            matches!(change, Change::Create { mode: CreateMode::PersistentWithTtl { .. }, .. });
        if wants_ttl && !self.has_ttl {
            return Err(CoordinationError::NoTtl);
        }
        self.nodes.make(change, at)
    }

    fn next_moment(&mut self, session: i64, millis: i64) -> Moment {
        self.zxid += 1;
        Moment { zxid: self.zxid, millis, session }
    }

    /// Tells whoever watches, and notes what belongs to whom.
    fn tell(&mut self, effect: Option<Effect>) {
        let Some(effect) = effect else { return };
        if let Some(owner) = self.sessions.get_mut(&effect.owner) {
            owner.note_own(&effect);
        }
        for session in self.sessions.values_mut() {
            session.tell(&effect);
        }
    }
}

/// A zxid has the number of the leader's reign in its upper half.
const REIGN_SHIFT: u32 = 32;

/// ZooKeeper's default: no more than this a minute.
const COLLECTED_AT_ONCE: usize = 10_000;
