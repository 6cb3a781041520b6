//! What `bin/bench` is made of.
//!
//! * The load: [`engine`] (the closed loop) on [`conn`], [`poll`], [`frames`], [`wire`]; [`stamp`]
//!   and [`check`] make loss, duplicates and order exact; [`target`] and [`transport`] open
//!   connections.
//! * The other end: [`brokers`] starts and ends them, [`floor`] is the byte copier, [`relay`]
//!   misbehaves for the self-test.
//! * The run: [`rows`] says what is measured, [`measure`] and [`usage`] measure, [`runner`]
//!   interleaves, [`table`] condenses, [`report`] prints.
//! * [`cluster`]: the same between brokers that are one, with an ensemble of ZooKeeper servers;
//!   [`durable`]: brokers that store, with a PostgreSQL of its own. [`cases`] is what the two have in
//!   common, [`guardian`] and [`directory`] clean up behind them.

pub mod brokers;
pub mod burst;
pub mod cases;
pub mod check;
pub mod child;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod conn;
pub mod directory;
pub mod durable;
pub mod engine;
pub mod error;
pub mod floor;
pub mod frames;
pub mod guardian;
pub mod holders;
pub mod measure;
pub mod number;
pub mod poll;
pub mod relay;
pub mod report;
pub mod rows;
pub mod runner;
pub mod self_test;
pub mod stamp;
pub mod stop;
pub mod table;
pub mod target;
pub mod transport;
pub mod two_shards;
pub mod usage;
pub mod wire;
