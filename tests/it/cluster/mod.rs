//! Several brokers that are one: real processes, a real ensemble, real sockets, and a checker that
//! knows every message that was acknowledged and every one that came.

mod checker;
mod load;
mod proxy;
mod under_test;

mod broker_faults;
mod ensemble_faults;
mod handover;
mod links;
mod messages;
mod options;
mod partitions;
mod programs;
mod relay;
mod retained;
mod shared;
mod start_errors;
mod wills;

pub(crate) use under_test::{ClusterUnderTest, Plan, cluster_arguments};
