//! Many Sessions that move at once: what each costs does not depend on how many there are.
//!
//! *A broker was taken out of service, and a hundred thousand clients came back on another one.* Each
//! order to give a Session up was looked for among all that were on their way, and all of them were
//! looked at whenever anything happened to one.

use super::moves::session_present;
use super::*;

/// So many Sessions move from one broker to another at once: how often one was looked at.
fn looks(count: usize, seed: u64) -> u64 {
    let mut cluster = Cluster::seeded(2, seed);
    let ids: Vec<String> = (0..count).map(|number| format!("client-{number}")).collect();
    for id in &ids {
        let line = open(&mut cluster, 0, id, 600);
        subscribed(&mut cluster, line, id, QoS::AtLeastOnce);
        cluster.lose(line);
    }
    let before = cluster.ownership(0).looks + cluster.ownership(1).looks;
    let lines: Vec<LineId> = ids.iter().map(|id| cluster.connect(1, &connect(id, 600))).collect();
    cluster.pump();
    for line in lines {
        assert!(session_present(&cluster.received(line)));
    }
    let counts = cluster.ownership(0);
    assert_eq!((counts.held, counts.exports), (0, 0));
    assert_eq!(cluster.ownership(1).imports, 0);
    cluster.ownership(0).looks + cluster.ownership(1).looks - before
}

#[test]
fn a_session_of_a_crowd_is_looked_at_as_often_as_one_of_a_few() {
    for seed in 0..3 {
        let few = looks(50, seed);
        let many = looks(400, seed);
        assert!(many <= 400 * LOOKS_MAX, "seed {seed}: {many} looks for 400, {few} for 50");
        assert!(few <= 50 * LOOKS_MAX, "seed {seed}: {few} looks for 50");
    }
}

/// For one Session, by both brokers together: the order, what is sent, what is asked for, the mark.
const LOOKS_MAX: u64 = 24;
