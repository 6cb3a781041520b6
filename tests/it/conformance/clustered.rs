//! The suite against brokers of a cluster.
//!
//! A broker without `--zookeeper` runs nothing of the cluster (docs/design/0011), so there are two ways
//! through most verbs. These scripts see no difference between them.

use parking_lot::Mutex;

use super::{Target, all, runner};
use crate::cluster::{ClusterUnderTest, Plan};

/// Plays every script against the first broker, which may not skip any.
#[track_caller]
fn judge(cluster: &ClusterUnderTest) {
    let broker = cluster.broker(1);
    let target = Target { ws_port: broker.ports().ws.first().copied(), ..broker.target() };
    let failed = Mutex::new(Vec::new());
    runner::play_all(&target, &all(), THREADS, |script, outcome| {
        if let Err(verdict) = outcome {
            failed.lock().push((script.name(), verdict));
        }
    });
    assert!(failed.lock().is_empty(), "these did not pass: {:#?}", failed.lock());
}

/// Alone in its cluster, and then beside two that have to learn of all that its clients want. What it
/// answers is what a broker that is alone answers, statement by statement.
#[test]
fn a_broker_of_a_cluster_behaves_as_one_that_is_alone() {
    let arguments = ["--ws-port", "0"].map(str::to_owned).to_vec();
    let plan = Plan { brokers: 1, timeout_secs: 12, arguments, ..Plan::default() };
    let Some(mut cluster) = ClusterUnderTest::start_as(plan) else { return };
    judge(&cluster);
    cluster.add(2);
    judge(&cluster);
}

/// Most of the time scripts wait for what time alone brings about.
const THREADS: usize = 16;
