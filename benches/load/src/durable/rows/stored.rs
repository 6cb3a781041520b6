//! As many messages as fit to one persistent Session, and what is left of them after a kill.

use std::time::Duration;

use crate::{
    cases::findings::Case,
    check::Faults,
    clock,
    durable::{
        Ground,
        publisher::Publisher,
        receiver::{self, Account, Awake},
        server::{Kind, Server},
    },
    measure::{Failure, Reading, SETUP_MAX, Spent, Timing},
    number::{float, ratio},
};

/// With a receiver that is connected, then with one that is away.
pub(super) fn run(ground: &Ground, kind: Kind, timing: Timing) -> Result<Vec<Case>, Failure> {
    [AWAKE, AWAY].into_iter().map(|name| case(ground, kind, name, timing)).collect()
}

fn case(ground: &Ground, kind: Kind, name: &'static str, timing: Timing) -> Result<Case, Failure> {
    let mut server = Server::start(ground, kind, &[])?;
    let target = server.target(SETUP_MAX + timing.warm + timing.steady);
    let session = receiver::subscribe(&target, RECEIVER)?;
    let awake = if name == AWAKE {
        Some(Awake::start(session))
    } else {
        receiver::leave(session)?;
        None
    };
    let publisher = Publisher::start(&target)?;
    let stretch = Stretch::measure(&server, &publisher, timing)?;
    server.kill();
    let acknowledged = publisher.join()?;
    let mut account = awake.map(Awake::join).unwrap_or_default();
    server.start_again()?;
    receiver::fetch(&target, RECEIVER, acknowledged, &mut account)?;
    judge(kind, &account, acknowledged)?;
    let case = stretch.case(name);
    Ok(case.with("acknowledged", float(acknowledged), 0).with(
        "lost",
        float(account.lost(acknowledged)),
        0,
    ))
}

/// What a broker promises is no figure: it holds, or the row fails.
fn judge(kind: Kind, account: &Account, acknowledged: u64) -> Result<(), Failure> {
    let (lost, inversions) = (account.lost(acknowledged), account.inversions);
    let faults = Faults { lost, inversions, ..Faults::default() };
    if kind.promises() && !faults.is_clean() {
        return Err(Failure::Faults(faults));
    }
    if acknowledged == 0 { Err(Failure::Nothing) } else { Ok(()) }
}

/// What was acknowledged in a while, and what it cost.
struct Stretch {
    acknowledged: u64,
    broker: Spent,
    database: Spent,
}

impl Stretch {
    fn measure(server: &Server, publisher: &Publisher, timing: Timing) -> Result<Self, Failure> {
        clock::pause(timing.warm);
        let (pid, database) = ([server.pid()], server.database_pids());
        let first = publisher.acknowledged();
        let before = (Reading::of(&pid)?, Reading::of_workers(&database));
        clock::pause(timing.steady.max(LONG_ENOUGH));
        let after = (Reading::of(&pid)?, Reading::of_workers(&database));
        let acknowledged = publisher.acknowledged() - first;
        let spent = |before: &Reading, after: &Reading| {
            let mut spent = Spent::default();
            spent.add(before, after);
            spent
        };
        let (broker, database) = (spent(&before.0, &after.0), spent(&before.1, &after.1));
        Ok(Self { acknowledged, broker, database })
    }

    fn case(&self, name: &'static str) -> Case {
        let each = |spent: Spent| ratio(spent.broker, self.acknowledged) / 1e3;
        let case = Case::new(name)
            .with(RATE, ratio(self.acknowledged, self.broker.time) * 1e9, 0)
            .with("us broker", each(self.broker), 2);
        if self.database.broker == 0 {
            return case;
        }
        case.with("us PostgreSQL", each(self.database), 2)
    }
}

/// The receiver is connected.
pub(super) const AWAKE: &str = "awake";
/// The receiver is away.
const AWAY: &str = "away";
/// The figure of the bar.
pub(super) const RATE: &str = "acknowledged/s";
const RECEIVER: &str = "load-receiver";
/// Some checkpoints of the store are to be in it.
const LONG_ENOUGH: Duration = Duration::from_secs(1);
