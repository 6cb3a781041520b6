//! One clock for all brokers, by which messages expire.
//!
//! The ensemble stamps every write. A broker's heartbeat, which it makes anyway for its lease, is a
//! reading of that clock: it showed the stamp somewhere between sending and answer. What is added to
//! it stands in `/clock`, per reign of a leader of the ensemble, and is set by the leading broker, so
//! that the clock of the cluster does not jump when a server leads whose own clock is an hour ahead.
//! It is drawn slowly towards the median of the brokers' own clocks. What is further away than half a
//! second is not followed, and raises the alarm.

mod readings;
mod skew;
mod steering;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use readings::{Estimate, JUMP_MILLIS, Readings};
use skew::SkewTable;
pub use steering::Leading;
use steering::Survey;

use crate::cluster::membership::output::Heartbeat;
use crate::cluster::paths::CLOCK;
use crate::cluster::tickets::TicketSource;
use crate::ports::clock::Tick;
use crate::ports::coordination::{CoordinationError, Reply, Request, Ticket};

/// The clock of the cluster, as this broker knows it.
#[derive(Debug)]
pub struct ClusterClock {
    /// How often the leader asks all brokers what their own clocks show.
    survey_every_millis: u64,
    tickets: TicketSource,
    /// What is not answered yet, and since when.
    pending: BTreeMap<Ticket, (Asked, Tick)>,
    outputs: VecDeque<Output>,
    readings: Readings,
    table: Option<KnownTable>,
    held: Option<Estimate>,
    /// How many readings in a row were too far away, and where the first of them was.
    jumped: u32,
    jumped_from: i64,
    /// What the own clock is ahead of that of the cluster.
    own_ahead_millis: i64,
    /// What the median of all own clocks is ahead, as the leader knows it.
    brokers_ahead_millis: Option<i64>,
    leading: Option<Leading>,
    survey: Survey,
    alarm: Option<ClockAlarm>,
}

#[derive(Debug)]
struct KnownTable {
    table: SkewTable,
    /// Of the znode.
    version: i32,
}

/// Something to do, or to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Hand this to the tree of znodes.
    Submit(Ticket, Request),
    /// Something is wrong with a clock, or is right again.
    Alarm(Option<ClockAlarm>),
}

/// Which clock is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClockAlarm {
    /// That of the ensemble has jumped.
    Ensemble,
    /// Those of most brokers do not agree with that of the cluster.
    Brokers,
    /// That of this node.
    Own,
}

/// Why something was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Asked {
    Table,
    Names,
    /// What the broker of that name shows.
    Wall(String),
    Write,
}

impl ClusterClock {
    /// A clock that shows nothing before its first reading. `survey_every_millis` is the session
    /// timeout.
    #[must_use]
    pub fn new(survey_every_millis: u64, tickets: TicketSource) -> Self {
        Self {
            survey_every_millis,
            tickets,
            pending: BTreeMap::new(),
            outputs: VecDeque::new(),
            readings: Readings::default(),
            table: None,
            held: None,
            jumped: 0,
            jumped_from: 0,
            own_ahead_millis: 0,
            brokers_ahead_millis: None,
            leading: None,
            survey: Survey::default(),
            alarm: None,
        }
    }

    /// The session timeout is another one from now on.
    pub fn set_survey_every(&mut self, millis: u64) {
        self.survey_every_millis = millis;
    }

    /// Takes a reading. `wall_millis` is what the clock of this node shows now, that is at the moment
    /// of the answer; `leading` is what [`super::membership::Membership::leading`] says.
    ///
    /// Nothing else drives this clock: as long as heartbeats are committed it has all it needs.
    pub fn handle_heartbeat(
        &mut self,
        heartbeat: &Heartbeat,
        wall_millis: u64,
        leading: Option<Leading>,
    ) {
        let now = heartbeat.answered;
        // Answers that have not come by now were those of another connection.
        let patience_millis = self.survey_every_millis;
        self.pending.retain(|_, (_, since)| now.saturating_since(*since) < patience_millis);
        self.leading = leading;
        self.readings.push(heartbeat);
        self.count_jump();
        self.follow(now);
        if let Some(held) = self.held {
            let wall_millis = i64::try_from(wall_millis).unwrap_or(i64::MAX);
            self.own_ahead_millis = wall_millis.saturating_sub(held.millis_at(now));
        }
        self.ask(now, Asked::Table, Request::Get(CLOCK.to_owned()));
        self.go_on_leading(now);
        self.judge();
    }

    /// Takes the answer to a request of this clock.
    pub fn handle_answer(
        &mut self,
        now: Tick,
        ticket: Ticket,
        outcome: &Result<Reply, CoordinationError>,
    ) {
        let Some((asked, _)) = self.pending.remove(&ticket) else { return };
        match (asked, outcome) {
            (Asked::Table, Ok(Reply::Data { data, stat })) => {
                if let Some(table) = SkewTable::decode(data) {
                    self.table = Some(KnownTable { table, version: stat.version });
                    self.recount_jumps();
                    self.follow(now);
                }
            }
            (Asked::Names, Ok(Reply::Children(names))) => self.ask_walls(now, names),
            (Asked::Wall(name), outcome) => {
                if let Ok(Reply::Data { data, stat }) = outcome {
                    self.survey.note(name, data, *stat);
                }
                if !self.asks_walls() {
                    self.steer(now);
                }
            }
            (Asked::Write, Ok(_)) => self.ask(now, Asked::Table, Request::Get(CLOCK.to_owned())),
            // It is all asked again with one of the next heartbeats.
            (Asked::Table | Asked::Names | Asked::Write, _) => {}
        }
        self.judge();
    }

    /// The next thing to do or to know.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What the clock of the cluster shows, in milliseconds since 1970; nothing before the first
    /// reading.
    #[must_use]
    pub fn cluster_millis(&self, now: Tick) -> Option<u64> {
        u64::try_from(self.held?.millis_at(now)).ok()
    }

    /// What is to be added to a tick.
    #[must_use]
    pub fn offset_millis(&self) -> Option<i64> {
        self.held.map(|held| held.offset_millis)
    }

    /// How wrong this broker may be about the clock of the cluster.
    #[must_use]
    pub fn error_millis(&self, now: Tick) -> Option<u64> {
        self.held.map(|held| held.error_millis(now))
    }

    /// What the clock of this node is ahead of that of the cluster.
    #[must_use]
    pub fn own_ahead_millis(&self) -> i64 {
        self.own_ahead_millis
    }

    /// What is wrong, if anything is.
    #[must_use]
    pub fn alarm(&self) -> Option<ClockAlarm> {
        self.alarm
    }

    /// Counts the latest reading if it is too far away.
    fn count_jump(&mut self) {
        let (Some(latest), Some(held)) = (self.readings.latest(), self.held) else { return };
        let Some(skew_millis) = self.skew_at(latest.zxid) else {
            self.jumped = 0;
            return;
        };
        if !latest.estimate(skew_millis).is_jump_from(held) {
            self.jumped = 0;
            return;
        }
        if self.jumped == 0 {
            self.jumped_from = latest.zxid;
        }
        self.jumped += 1;
        if self.jumped >= PATIENCE && self.leading.is_none() {
            // The leader sees the same ensemble and does not mind: it is our ticks that stood still.
            self.give_way();
        }
    }

    /// Believes the readings since the jump, and nothing that was before.
    fn give_way(&mut self) {
        self.readings.forget_before(self.jumped_from);
        self.held = None;
        self.jumped = 0;
    }

    /// The table may explain what looked like a jump.
    fn recount_jumps(&mut self) {
        let (Some(latest), Some(held)) = (self.readings.latest(), self.held) else { return };
        let skew_millis = self.skew_at(latest.zxid);
        if skew_millis.is_none_or(|skew| !latest.estimate(skew).is_jump_from(held)) {
            self.jumped = 0;
        }
    }

    /// Holds the best that the readings say; in a reign that nobody has measured, what was.
    fn follow(&mut self, now: Tick) {
        let Some(known) = &self.table else { return };
        if let Some(best) = self.readings.best(now, &known.table, self.held) {
            self.held = Some(best);
        }
    }

    fn skew_at(&self, zxid: i64) -> Option<i64> {
        self.table.as_ref()?.table.skew_at(zxid)
    }

    /// Raises the alarm, or ends it.
    fn judge(&mut self) {
        let is_off = |ahead_millis: i64| ahead_millis.unsigned_abs() > JUMP_MILLIS;
        let alarm = if self.jumped > 0 {
            Some(ClockAlarm::Ensemble)
        } else if self.brokers_ahead_millis.is_some_and(is_off) {
            Some(ClockAlarm::Brokers)
        } else if self.held.is_some() && is_off(self.own_ahead_millis) {
            Some(ClockAlarm::Own)
        } else {
            None
        };
        if alarm != self.alarm {
            self.alarm = alarm;
            self.outputs.push_back(Output::Alarm(alarm));
        }
    }

    /// Asks, unless the same is asked already.
    fn ask(&mut self, now: Tick, asked: Asked, request: Request) {
        if self.is_asked(&asked) {
            return;
        }
        let ticket = self.tickets.draw();
        self.pending.insert(ticket, (asked, now));
        self.outputs.push_back(Output::Submit(ticket, request));
    }

    fn is_asked(&self, asked: &Asked) -> bool {
        self.pending.values().any(|(pending, _)| pending == asked)
    }

    fn asks_walls(&self) -> bool {
        self.pending.values().any(|(pending, _)| matches!(pending, Asked::Wall(_)))
    }
}

/// So many readings in a row that the leader has had time to see what this broker sees.
const PATIENCE: u32 = 16;
