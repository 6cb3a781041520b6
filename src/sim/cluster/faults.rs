//! What goes wrong in a run: drawn from the seed.

use crate::sim::chance::Chance;

/// How a run is.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) brokers: usize,
    pub(super) clients: usize,
    /// Between two faults, on average; nothing goes wrong when none.
    pub(super) fault_millis: Option<u64>,
    /// Which faults there are: some runs have few kinds, but many of them.
    pub(super) kinds: Vec<Fault>,
    pub(super) link_latency_millis: u64,
    pub(super) link_jitter_millis: u64,
    pub(super) tree_latency_millis: u64,
    /// Bytes under way on a link.
    pub(super) link_window: usize,
    pub(super) data_bytes_max: usize,
    pub(super) control_bytes_max: usize,
    /// The wall clocks of the brokers differ by this at most.
    pub(super) skew_millis: u64,
    pub(super) database_latency_millis: u64,
}

/// One kind of fault.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Fault {
    /// The connection of a link breaks.
    LinkBreaks,
    /// Two brokers cannot reach each other for a while.
    LinkCut,
    /// A broker loses its connection to the ensemble and has it again soon.
    TreeBreaks,
    /// A broker cannot reach the ensemble for a while, perhaps until its session has ended.
    TreeCut,
    /// The follower that a broker talks to is cut off and answers reads from what it knew.
    TreeStale,
    /// What the ensemble says reaches a broker late.
    TreeSlow,
    /// Another server leads, with a clock of its own.
    TreeLeads,
    /// No server can be reached.
    TreeOutage,
    /// The ensemble collects znodes of topics that were refreshed after it had looked for those that have
    /// outlived their time.
    TreeCollects,
    /// A process is killed.
    Crash,
    /// A process is stopped, perhaps until its session has ended.
    Pause,
    /// The database does not answer for a while.
    DatabaseDown,
    /// What the database says comes late.
    DatabaseSlow,
    /// The answer to a COMMIT is lost now and then.
    DatabaseInDoubt,
}

const ALL: [Fault; 10] = [
    Fault::LinkBreaks,
    Fault::LinkCut,
    Fault::TreeBreaks,
    Fault::TreeCut,
    Fault::TreeStale,
    Fault::TreeSlow,
    Fault::TreeLeads,
    Fault::TreeOutage,
    Fault::Crash,
    Fault::Pause,
];

/// Those of brokers that have a database.
const STORED: [Fault; 8] = [
    Fault::Crash,
    Fault::Crash,
    Fault::Pause,
    Fault::LinkBreaks,
    Fault::TreeCut,
    Fault::DatabaseDown,
    Fault::DatabaseSlow,
    Fault::DatabaseInDoubt,
];

impl Plan {
    /// The ensemble keeps topics as well: it may collect them, and it more often does not.
    pub(super) fn add_topics(&mut self) {
        self.kinds.push(Fault::TreeCollects);
    }

    /// The plan of brokers that have a database.
    pub(super) fn draw_stored(chance: &mut Chance) -> Self {
        let plan = Self::draw(chance);
        let kinds = if chance.one_in(3) {
            vec![Fault::Crash]
        } else {
            STORED.into_iter().chain(plan.kinds).collect()
        };
        let brokers = plan.brokers.max(3);
        let database_latency_millis = chance.pick(&[0, 2, 10, 60]);
        let fault_millis = plan.fault_millis.map(|millis| millis.max(1_000));
        Self { brokers, fault_millis, kinds, database_latency_millis, ..plan }
    }

    pub(super) fn draw(chance: &mut Chance) -> Self {
        let is_calm = chance.one_in(10);
        let kinds = if chance.one_in(2) {
            ALL.to_vec()
        } else {
            (0..chance.between(1, 3)).map(|_| chance.pick(&ALL)).collect()
        };
        let is_small = chance.one_in(4);
        Self {
            brokers: chance.pick(&[2, 2, 3, 3, 4, 5]),
            clients: usize::try_from(chance.between(4, 12)).unwrap_or(4),
            fault_millis: (!is_calm).then(|| chance.pick(&[300, 1_000, 3_000])),
            kinds,
            link_latency_millis: chance.pick(&[0, 1, 5, 40]),
            link_jitter_millis: chance.pick(&[0, 2, 30, 200]),
            tree_latency_millis: chance.pick(&[1, 3, 20, 100]),
            link_window: chance.pick(&[300, 2_000, 1 << 20]),
            data_bytes_max: if is_small && !is_calm { 2_000 } else { 1 << 24 },
            control_bytes_max: 1 << 26,
            skew_millis: chance.pick(&[0, 0, 1_000, 3_600_000]),
            database_latency_millis: 0,
        }
    }
}
