//! The own znode: how a broker gets its name, keeps it over sessions, shows its state, and leaves.
//!
//! The znode is made in one change with a check of the slot map in which this life is not dead. That
//! change also counts itself in `/brokers`, so that a leader that is about to declare somebody dead
//! fails when somebody came back.

use bytes::Bytes;

use super::desk::Asked;
use super::output::Output;
use super::roster::Depth;
use super::{Ending, Membership, Outcome};
use crate::cluster::identity::{Member, MemberState};
use crate::cluster::member_record;
use crate::cluster::paths::{BROKERS, SLOTS, below};
use crate::cluster::slots::Brokers;
use crate::ports::clock::Tick;
use crate::ports::coordination::{
    Change, ChangeKind, CoordinationError, CreateMode, Reply, Request, Stat,
};

/// How far the own znode is.
#[derive(Debug, Default)]
pub(super) struct Registration {
    step: Step,
    /// Who was last found to have our name.
    holder: Option<Member>,
    /// Whether it has been said that we are there.
    pub(super) is_announced: bool,
    /// Whether the znode was ever asked for: it may be there, whatever was answered.
    was_asked: bool,
    /// The change that made the znode, in this session.
    pub(super) made: Option<i64>,
    /// Whether what the znode holds is to be written anew.
    pub(super) is_record_old: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Step {
    /// It is not there, as far as we know.
    #[default]
    Out,
    /// It was asked for, or who has the name.
    Asking,
    /// Another broker has the name.
    Waiting,
    /// It is ours, in this session.
    In { version: i32, written: MemberState },
}

impl Registration {
    /// The session is another one.
    pub(super) fn lose(&mut self) {
        (self.step, self.made) = (Step::Out, None);
    }

    /// An answer may not come.
    pub(super) fn interrupt(&mut self) {
        if self.step == Step::Asking {
            self.step = Step::Out;
        }
    }

    /// Who has our name.
    pub(super) fn holder(&self) -> Option<&Member> {
        self.holder.as_ref().filter(|_| self.step == Step::Waiting)
    }

    /// Whether nobody can have seen the znode.
    pub(super) fn was_never_asked(&self) -> bool {
        !self.was_asked
    }

    pub(super) fn is_in(&self) -> bool {
        matches!(self.step, Step::In { .. })
    }
}

impl Membership {
    fn own_path(&self) -> String {
        below(BROKERS, &self.own.name)
    }

    fn own_record(&self) -> Bytes {
        member_record::encode(&self.own, self.door.seal(&self.own.name, self.own.boot_id))
    }

    /// The slot map has been read.
    pub(super) fn go_on_registering(&mut self, now: Tick) {
        match self.registration.step {
            Step::Out if self.door.is_passed() => self.register(None),
            Step::Out => self.knock(),
            Step::Waiting => self.look_who_has_the_name(),
            Step::Asking => {}
            Step::In { .. } if self.roster.is_listing() => {}
            Step::In { .. } => self.settle_in(now),
        }
    }

    /// Asks for the znode. `replaced` is the version of one of an own session that has not ended yet.
    fn register(&mut self, replaced: Option<i32>) {
        let Some(slots) = &self.slots else { return };
        if self.ending != Ending::No {
            return;
        }
        let path = self.own_path();
        let delete = |version| Change::Delete { path: path.clone(), version: Some(version) };
        let mut changes = vec![
            Change::Check { path: SLOTS.to_owned(), version: slots.stat.version },
            Change::Set { path: BROKERS.to_owned(), data: Bytes::new(), version: None },
        ];
        changes.extend(replaced.map(delete));
        let data = self.own_record();
        changes.push(Change::Create { path, data, mode: CreateMode::Ephemeral });
        self.registration.step = Step::Asking;
        self.registration.was_asked = true;
        self.desk.ask(Asked::Register(self.own.state), Request::All(changes));
    }

    pub(super) fn handle_registered(&mut self, now: Tick, state: MemberState, outcome: &Outcome) {
        let error = match outcome {
            Ok(_) => {
                self.registration.step = Step::In { version: 0, written: state };
                self.settle_in(now);
                return;
            }
            Err(CoordinationError::Part { part, error }) => (*part, &**error),
            Err(error) => (usize::MAX, error),
        };
        self.registration.step = Step::Out;
        match error {
            (PART_CHECK, CoordinationError::BadVersion) => self.desk.read(Asked::Slots),
            // There is one, or the old one has changed or gone meanwhile.
            (
                PART_ZNODE..=PART_ZNODE_AFTER_DELETE,
                CoordinationError::NodeExists
                | CoordinationError::BadVersion
                | CoordinationError::NoNode,
            ) => self.look_who_has_the_name(),
            (_, error) => {
                self.fixed_made.clear();
                self.fail(now, "cannot make the znode of this broker", error);
            }
        }
    }

    fn look_who_has_the_name(&mut self) {
        self.registration.step = Step::Asking;
        if !self.desk.is_asked(&Asked::Holder) {
            self.desk.ask(Asked::Holder, Request::Get(self.own_path()));
        }
    }

    pub(super) fn handle_holder(&mut self, now: Tick, outcome: &Outcome) {
        let (data, stat) = match outcome {
            Ok(Reply::Data { data, stat }) => (data, *stat),
            Ok(_) => return,
            Err(CoordinationError::NoNode) => return self.register(None),
            Err(error) => return self.fail(now, "cannot read who has the name", error),
        };
        let is_of_this_session = Some(stat.ephemeral_owner) == self.session;
        match member_record::decode(&self.own.name, data) {
            // We were not told that it was made.
            Ok(member) if member.boot_id == self.own.boot_id && is_of_this_session => {
                let version = stat.version;
                self.registration.step = Step::In { version, written: member.state };
                self.settle_in(now);
            }
            // Our last session has not ended yet, or our last life has left it.
            Ok(member) if member.boot_id == self.own.boot_id || is_of_this_session => {
                self.register(Some(stat.version));
            }
            Ok(holder) => self.wait_for(holder),
            Err(error) => {
                self.registration.step = Step::Waiting;
                self.say_trouble(format!("the znode with the name of this broker: {error}"));
            }
        }
    }

    fn wait_for(&mut self, holder: Member) {
        self.registration.step = Step::Waiting;
        let is_known = |known: &Member| known.boot_id == holder.boot_id;
        if self.registration.holder.as_ref().is_some_and(is_known) {
            return;
        }
        self.say_trouble(format!(
            "the name {} is taken by {:?} at {}: waiting for its znode to end",
            holder.name, holder.boot_id, holder.link_address
        ));
        self.registration.holder = Some(holder.clone());
        self.desk.say(Output::NameTaken { holder });
    }

    /// The znode is there: now see who else is.
    fn settle_in(&mut self, now: Tick) {
        self.roster.list(Depth::Full, &mut self.desk);
        self.stand_in_line();
        self.lease.start(now);
        self.probe_ttl();
    }

    /// Wants to lead, once it is certain that this broker stays. The place of one that withdraws would
    /// outlive it, as its session does, and nobody leads behind it.
    pub(super) fn stand_in_line(&mut self) {
        if self.registration.is_announced {
            self.desk.read(Asked::Contenders);
        }
    }

    /// The own znode was read in passing.
    pub(super) fn check_own(&mut self, record: Option<(&Member, Stat)>) {
        let ours = record.filter(|(member, stat)| {
            member.boot_id == self.own.boot_id && Some(stat.ephemeral_owner) == self.session
        });
        self.registration.made = ours.map(|(_, stat)| stat.czxid);
        let is_ours = ours.is_some();
        if !is_ours && self.registration.is_in() {
            self.registration.step = Step::Out;
            self.roster.forget_list();
            self.desk.read(Asked::Slots);
        }
    }

    /// A watch told of the own znode.
    pub(super) fn handle_own_changed(&mut self, kind: ChangeKind) {
        match (self.registration.step, kind) {
            (Step::Waiting, _) => self.look_who_has_the_name(),
            (Step::In { .. }, ChangeKind::Deleted) => {
                self.desk.read(Asked::Member(self.own.name.to_string()));
            }
            (Step::In { .. } | Step::Out | Step::Asking, _) => {}
        }
    }

    /// Shows the own state to the others, if they see another one, or an old seal.
    pub(super) fn write_state(&mut self) {
        let Step::In { version, written } = self.registration.step else { return };
        let state = self.own.state;
        let is_asked = MEMBER_STATES.iter().any(|state| self.desk.is_asked(&Asked::State(*state)));
        let is_shown = written == state && !self.registration.is_record_old;
        if is_shown || is_asked {
            return;
        }
        self.registration.is_record_old = false;
        let data = self.own_record();
        let change = Change::Set { path: self.own_path(), data, version: Some(version) };
        self.desk.ask(Asked::State(state), Request::Change(change));
    }

    pub(super) fn handle_state_written(
        &mut self,
        now: Tick,
        state: MemberState,
        outcome: &Outcome,
    ) {
        match outcome {
            Ok(Reply::Changed(stat)) if self.registration.is_in() => {
                self.registration.step = Step::In { version: stat.version, written: state };
            }
            Ok(_) => {}
            Err(error) => {
                // It may have been written after all: look who has the name.
                self.registration.step = Step::Out;
                self.fail(now, "cannot show the state of this broker", error);
            }
        }
    }

    /// Declares itself dead and takes its znode away, in one change.
    pub(super) fn go_on_leaving(&mut self, now: Tick) {
        if !self.registration.is_in() {
            return self.end(Output::Left);
        }
        if self.desk.is_asked(&Asked::Leave) || self.desk.is_asked(&Asked::Slots) {
            return;
        }
        // Before the first heartbeat nobody can say when that is.
        let (Some(slots), Some(now_secs)) = (&self.slots, self.lease.ensemble_secs(now)) else {
            return;
        };
        let map = slots.ground(self.own.boot_id).with(&Brokers {
            dead: [self.own.boot_id].into(),
            now_secs,
            ..self.brokers()
        });
        let version = Some(slots.stat.version);
        let changes = vec![
            Change::Set { path: SLOTS.to_owned(), data: map.encode(), version },
            Change::Delete { path: self.own_path(), version: None },
        ];
        self.desk.ask(Asked::Leave, Request::All(changes));
    }

    pub(super) fn handle_left(&mut self, now: Tick, outcome: &Outcome) {
        match outcome {
            Ok(_) => self.end(Output::Left),
            Err(CoordinationError::Part { error, .. })
                if **error == CoordinationError::BadVersion =>
            {
                self.desk.read(Asked::Slots);
            }
            Err(CoordinationError::Part { error, .. }) if **error == CoordinationError::NoNode => {
                self.end(Output::Left);
            }
            Err(error) => self.fail(now, "cannot leave", error),
        }
    }
}

const PART_CHECK: usize = 0;
const PART_ZNODE: usize = 2;
const PART_ZNODE_AFTER_DELETE: usize = 3;

const MEMBER_STATES: [MemberState; 3] =
    [MemberState::Joining, MemberState::Up, MemberState::Draining];
