//! The brokers under comparison: where they are, how they are started.

mod floor;
mod mosquitto;
mod ours;
mod rumqttd;
mod running;
mod wait;

use std::path::{Path, PathBuf};

pub use running::{Running, StartError, free_port};
pub use wait::{Wait, last_words};

use crate::target::Dialect;

/// A broker the bench can start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Broker {
    /// The byte copier.
    Floor,
    /// This project's broker.
    Ours {
        /// Its program.
        program: PathBuf,
        /// How many shards it runs.
        threads: u32,
    },
    /// Mosquitto.
    Mosquitto {
        /// Its program.
        program: PathBuf,
    },
    /// rumqttd.
    Rumqttd {
        /// Its program.
        program: PathBuf,
    },
    /// Any other, started by a command line in which `{port}` stands for the port.
    Named {
        /// What the tables call it.
        name: String,
        /// The command line.
        command: String,
    },
}

/// A way in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// TCP.
    Plain,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    WebSocket,
}

/// The loopback ports a broker is to listen on.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// TCP, MQTT 3.1.1.
    pub plain: u16,
    /// TCP, MQTT 5.0; the same as `plain` for all but rumqttd.
    pub v5: u16,
    /// A further way in and its port.
    pub extra: Option<(Transport, u16)>,
}

/// How a broker is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// A configuration file to be written before.
    pub config: Option<(PathBuf, String)>,
    /// Where it will listen.
    pub ports: Ports,
}

impl Broker {
    /// What tables call it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Floor => "floor",
            Self::Ours { threads: 1, .. } => "mqttzoo",
            Self::Ours { .. } => "mqttzoo-2",
            Self::Mosquitto { .. } => "mosquitto",
            Self::Rumqttd { .. } => "rumqttd",
            Self::Named { name, .. } => name,
        }
    }

    /// What is spoken with it.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Floor => Dialect::Floor,
            Self::Ours { .. }
            | Self::Mosquitto { .. }
            | Self::Rumqttd { .. }
            | Self::Named { .. } => Dialect::Mqtt,
        }
    }

    /// The program, where its absence can be told before the start.
    #[must_use]
    pub fn program(&self) -> Option<&Path> {
        match self {
            Self::Floor | Self::Named { .. } => None,
            Self::Ours { program, .. }
            | Self::Mosquitto { program }
            | Self::Rumqttd { program } => Some(program),
        }
    }

    /// Whether the bench knows how to open this way in.
    #[must_use]
    pub fn offers(&self, transport: Transport) -> bool {
        match self {
            Self::Floor => false,
            Self::Ours { .. } => true,
            Self::Mosquitto { .. } => transport != Transport::WebSocket,
            Self::Rumqttd { .. } | Self::Named { .. } => transport == Transport::Plain,
        }
    }

    /// How to start it with its files in `dir` and a way in besides plain TCP.
    ///
    /// # Errors
    /// No port is free.
    pub fn launch(&self, dir: &Path, transport: Transport) -> std::io::Result<Launch> {
        let plain = free_port()?;
        let extra = match transport {
            Transport::Plain => None,
            Transport::Tls | Transport::WebSocket => Some((transport, free_port()?)),
        };
        let ports = Ports { plain, v5: plain, extra };
        Ok(match self {
            Self::Floor => floor::launch(ports)?,
            Self::Ours { program, threads } => ours::launch(program, *threads, dir, ports),
            Self::Mosquitto { program } => mosquitto::launch(program, dir, ports),
            Self::Rumqttd { program } => {
                rumqttd::launch(program, dir, Ports { v5: free_port()?, ..ports })
            }
            Self::Named { command, .. } => {
                let command = command.replace("{port}", &plain.to_string());
                let command = command.split_whitespace().map(str::to_owned).collect();
                Launch { command, config: None, ports }
            }
        })
    }
}

/// The certificate in a broker's directory, written for every start.
fn certificate(dir: &Path) -> (String, String) {
    (dir.join(CERTIFICATE).display().to_string(), dir.join(KEY).display().to_string())
}

const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";
