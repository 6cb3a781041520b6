//! A broker that is up: its process, its ports, its directory.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use super::{Broker, CERTIFICATE, KEY, Launch, Transport, Wait};
use crate::{
    child::{Pinning, Started},
    directory::Directory,
    stop::{Patience, Stop},
    target::Target,
};

/// Why a broker is not up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system refused a file, a port or the start.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// The certificate for its TLS listener could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// It ended before it listened.
    #[error("ended before it listened: {0}")]
    Ended(String),
    /// It did not listen in time.
    #[error("did not listen in time: {0}")]
    Silent(String),
    /// The run is to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A broker that is up. Dropping it ends it and removes its directory.
#[derive(Debug)]
pub struct Running {
    started: Started,
    launch: Launch,
    broker: Broker,
    stop: Stop,
    // Declared last: removed once the program has ended.
    dir: Directory,
}

impl Running {
    /// Starts `broker` and waits until it listens.
    ///
    /// # Errors
    /// It does not come up in time.
    pub fn start(
        broker: &Broker,
        transport: Transport,
        pinning: Pinning,
        stop: &Stop,
    ) -> Result<Self, StartError> {
        let dir = Directory::new(broker.name())?;
        if transport == Transport::Tls {
            let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
            fs::write(dir.path().join(CERTIFICATE), signed.cert.pem())?;
            fs::write(dir.path().join(KEY), signed.signing_key.serialize_pem())?;
        }
        let launch = broker.launch(dir.path(), transport)?;
        if let Some((path, text)) = &launch.config {
            fs::write(path, text)?;
        }
        let log = File::create(dir.path().join(LOG))?;
        let started = Started::new(&launch.command, pinning, log)?;
        let broker = broker.clone();
        let mut running = Self { started, launch, broker, stop: stop.clone(), dir };
        running.wait()?;
        Ok(running)
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.started.pid()
    }

    /// How it was started.
    #[must_use]
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// The load's view of it, for a row that may take `time`.
    #[must_use]
    pub fn target(&self, time: Duration) -> Target {
        Target {
            port: self.launch.ports.plain,
            port_v5: self.launch.ports.v5,
            dialect: self.broker.dialect(),
            patience: Patience::new(&self.stop, time),
        }
    }

    fn wait(&mut self) -> Result<(), StartError> {
        let ports = self.launch.ports;
        let extra = ports.extra.map_or(ports.plain, |(_, port)| port);
        for port in [ports.plain, ports.v5, extra] {
            self.wait_for(port)?;
        }
        Ok(())
    }

    fn wait_for(&mut self, port: u16) -> Result<(), StartError> {
        let wait = Wait::new(&self.stop, START_MAX);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            wait.again(&mut self.started, &self.dir.path().join(LOG))?;
        }
        Ok(())
    }
}

/// A loopback port nobody uses at the moment.
///
/// # Errors
/// There is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

const LOG: &str = "output.log";
const START_MAX: Duration = Duration::from_secs(10);
