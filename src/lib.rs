//! `mqttzoo`: an MQTT 3.1.1 and 5.0 broker whose nodes coordinate through Apache ZooKeeper.

pub mod net;
pub mod ports;
pub mod runtime;
