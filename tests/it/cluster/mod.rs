//! Several brokers that are one: real processes, a real ensemble, real sockets, and a checker that
//! knows every message that was acknowledged and every one that came, and judges by the rules of the
//! simulation.

mod checker;
mod late;
mod load;
mod on_all;
mod one_by_one;
mod proxy;
mod under_test;
mod wanderers;
mod watcher;

mod any_order;
mod bank;
mod broker_faults;
mod clock;
mod ensemble_faults;
mod guarded_ensemble;
mod guarded_links;
mod handover;
mod latest;
mod leaving;
mod links;
mod messages;
mod options;
mod partitions;
mod programs;
mod reach;
mod registered;
mod relay;
mod relisting;
mod repeats;
mod report;
mod retained;
mod retained_apart;
mod scaling;
mod shared;
mod slow_readers;
mod start_errors;
mod starting;
mod stored;
mod stored_users;
mod storm;
mod versions;
mod wills;
mod wiped;

pub(crate) use under_test::{ClusterUnderTest, Plan, cluster_arguments};
