//! `mqttzoo`: an MQTT 3.1.1 and 5.0 broker whose nodes coordinate through Apache ZooKeeper.

pub mod config;
pub mod node;
