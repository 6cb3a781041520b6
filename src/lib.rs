//! `mqttzoo`: an MQTT 3.1.1 and 5.0 broker whose nodes coordinate through Apache ZooKeeper.

pub mod activity;
pub mod admin;
pub mod auth;
pub mod broker;
pub mod client;
pub mod cluster;
pub mod config;
pub mod coordination;
pub mod gateway;
pub mod metrics;
pub mod mqtt;
pub mod net;
pub mod node;
pub mod peer;
pub mod ports;
pub mod routing;
pub mod runtime;
pub mod session;
pub mod sim;
pub mod store;
