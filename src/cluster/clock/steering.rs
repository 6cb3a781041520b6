//! What the leading broker does for the clock: it measures each reign of the ensemble, and draws the
//! clock slowly towards the median of the brokers' own clocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::readings::{JUMP_MILLIS, Reading};
use super::skew::{SkewTable, start_of_reign};
use super::{Asked, ClusterClock};
use crate::cluster::paths::{CLOCK, below};
use crate::cluster::shown_time::ShownTime;
use crate::cluster::slots::MEMBERS_MAX;
use crate::ports::clock::Tick;
use crate::ports::coordination::{Change, Request, Stat};

/// What a leading broker goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct Leading {
    /// The part that its writes begin with.
    pub check: Change,
    /// The names of all brokers that are not declared dead, its own among them.
    pub members: Vec<Arc<str>>,
}

/// What all brokers' own clocks show.
#[derive(Debug, Default)]
pub(super) struct Survey {
    begun: Option<Tick>,
    walls: BTreeMap<String, Wall>,
}

/// One of them, when the ensemble stamped it.
#[derive(Clone, Copy, Debug)]
struct Wall {
    shown_millis: i64,
    /// What the broker took the time of the cluster to be, if it knew it.
    held_millis: Option<i64>,
    mtime_millis: i64,
    zxid: i64,
}

impl Survey {
    pub(super) fn stop(&mut self) {
        self.begun = None;
        self.walls.clear();
    }

    /// The heartbeat of a broker was read.
    pub(super) fn note(&mut self, name: String, data: &[u8], stat: Stat) {
        let Some(shown) = ShownTime::decode(data) else { return };
        let Ok(shown_millis) = i64::try_from(shown.wall_millis) else { return };
        let held_millis = shown.cluster_millis.and_then(|millis| i64::try_from(millis).ok());
        let (mtime_millis, zxid) = (stat.mtime_millis, stat.mzxid);
        self.walls.insert(name, Wall { shown_millis, held_millis, mtime_millis, zxid });
    }

    /// What the median of the own clocks is ahead of the ensemble, where it adds what `skew_at` says.
    /// A clock that was stamped in a reign without a skew does not count.
    fn median_ahead(&self, skew_at: impl Fn(i64) -> Option<i64>) -> Option<i64> {
        let mut ahead: Vec<i64> = self
            .walls
            .values()
            .filter_map(|wall| {
                let cluster_millis = wall.mtime_millis.saturating_add(skew_at(wall.zxid)?);
                Some(wall.shown_millis.saturating_sub(cluster_millis))
            })
            .collect();
        median(&mut ahead)
    }

    /// What those who know the time of the cluster add to what the ensemble shows in the reign that
    /// began at `from`; `members` are all who may know it.
    fn known_skew(&self, from: i64, members: &[Arc<str>]) -> KnownSkew {
        let is_of_reign = |wall: &Wall| start_of_reign(wall.zxid) == from;
        let of_reign = self.walls.values().filter(|wall| is_of_reign(wall));
        let skews = of_reign.filter_map(Wall::skew_millis);
        if let Some(skew_millis) = median(&mut skews.collect::<Vec<_>>()) {
            return KnownSkew::Known(skew_millis);
        }
        let has_said = |name: &Arc<str>| self.walls.get(&**name).is_some_and(is_of_reign);
        if members.iter().all(has_said) { KnownSkew::ByNobody } else { KnownSkew::NotYet }
    }
}

/// What others know of a reign that nobody has measured.
enum KnownSkew {
    Known(i64),
    /// There is no heartbeat of this reign of one who may know: it comes, or that one is declared dead.
    NotYet,
    ByNobody,
}

impl Wall {
    fn skew_millis(&self) -> Option<i64> {
        Some(self.held_millis?.saturating_sub(self.mtime_millis))
    }
}

fn median(values: &mut [i64]) -> Option<i64> {
    values.sort_unstable();
    let high = *values.get(values.len() / 2)?;
    let low = *values.get(values.len().saturating_sub(1) / 2)?;
    Some(low.midpoint(high))
}

impl ClusterClock {
    /// Asks for the own clocks of all brokers, if this broker leads and it is time.
    pub(super) fn go_on_leading(&mut self, now: Tick) {
        if self.leading.is_none() {
            self.survey.stop();
            self.brokers_ahead_millis = None;
            return;
        }
        let every_millis = self.survey_every_millis;
        let is_due =
            self.survey.begun.is_none_or(|begun| now.saturating_since(begun) >= every_millis);
        let is_under_way = self.is_asked(&Asked::Names) || self.asks_walls();
        if (is_due || self.is_in_doubt()) && !is_under_way {
            self.survey.stop();
            self.survey.begun = Some(now);
            self.ask(now, Asked::Names, Request::List(CLOCK.to_owned()));
        }
    }

    /// Whether the table does not explain what the ensemble shows.
    fn is_in_doubt(&self) -> bool {
        let is_measured = self.readings.latest().is_some_and(|r| self.skew_at(r.zxid).is_some());
        self.table.is_some() && (!is_measured || self.jumped >= JUMPS_BELIEVED)
    }

    pub(super) fn ask_walls(&mut self, now: Tick, names: &[String]) {
        self.survey.walls.clear();
        for name in names.iter().take(MEMBERS_MAX) {
            self.ask(now, Asked::Wall(name.clone()), Request::Get(below(CLOCK, name)));
        }
    }

    /// All clocks are known: writes what is to be added from now on, if that is something else.
    pub(super) fn steer(&mut self, now: Tick) {
        let (Some(known), Some(latest)) = (&self.table, self.readings.latest()) else { return };
        let table = match known.table.skew_at(latest.zxid) {
            None => self.measure_reign(&known.table, latest),
            Some(skew_millis) if self.jumped >= JUMPS_BELIEVED => {
                self.measure_jump(now, latest, skew_millis)
            }
            Some(_) => self.slew(),
        };
        let version = Some(self.table.as_ref().expect("it was there a moment ago").version);
        let check = self.leading.as_ref().map(|leading| leading.check.clone());
        let (Some(table), Some(check)) = (table, check) else { return };
        let set = Change::Set { path: CLOCK.to_owned(), data: table.encode(), version };
        self.ask(now, Asked::Write, Request::All(vec![check, set]));
    }

    /// Another server leads. The clock goes on from where it is, which others may know and this broker
    /// not; where nobody knows it, it begins where most brokers' own clocks are.
    fn measure_reign(&self, table: &SkewTable, latest: Reading) -> Option<SkewTable> {
        let from = start_of_reign(latest.zxid);
        if let Some(held) = self.held {
            let skew_millis = held.millis_at(latest.at).saturating_sub(latest.mtime_millis);
            return Some(table.with(from, skew_millis));
        }
        let own_clocks =
            || self.survey.median_ahead(|zxid| (start_of_reign(zxid) == from).then_some(0));
        let members = &self.leading.as_ref()?.members;
        let skew_millis = match self.survey.known_skew(from, members) {
            KnownSkew::Known(skew_millis) => skew_millis,
            KnownSkew::NotYet => return None,
            KnownSkew::ByNobody => own_clocks()?,
        };
        Some(table.with(from, skew_millis))
    }

    /// The ensemble shows something else than this broker has held since. If most brokers' own clocks
    /// agree with it, it is our ticks that stood still.
    fn measure_jump(&mut self, now: Tick, latest: Reading, skew_millis: i64) -> Option<SkewTable> {
        let ahead_millis = self.survey.median_ahead(|zxid| self.skew_at(zxid))?;
        if ahead_millis.unsigned_abs() <= JUMP_MILLIS {
            self.give_way();
            self.follow(now);
            return None;
        }
        let shown = latest.estimate(skew_millis).millis_at(latest.at);
        let jump_millis = shown.saturating_sub(self.held?.millis_at(latest.at));
        let table = &self.table.as_ref()?.table;
        Some(table.with(self.jumped_from, skew_millis.saturating_sub(jump_millis)))
    }

    fn slew(&mut self) -> Option<SkewTable> {
        let ahead_millis = self.survey.median_ahead(|zxid| self.skew_at(zxid));
        self.brokers_ahead_millis = ahead_millis;
        let ahead_millis = ahead_millis?;
        let is_near = ahead_millis.unsigned_abs() <= JUMP_MILLIS;
        let is_worth_it = ahead_millis.unsigned_abs() > NEAR_ENOUGH_MILLIS;
        if !is_near || !is_worth_it {
            return None;
        }
        let most = i64::try_from(self.survey_every_millis / SLEW_DIVISOR).unwrap_or(i64::MAX);
        let by_millis = ahead_millis.clamp(-most, most);
        Some(self.table.as_ref()?.table.slewed(by_millis))
    }
}

/// One reading may be wrong.
const JUMPS_BELIEVED: u32 = 3;

/// A second a minute.
const SLEW_DIVISOR: u64 = 60;

/// Own clocks that are kept by NTP differ by about this.
const NEAR_ENOUGH_MILLIS: u64 = 20;
