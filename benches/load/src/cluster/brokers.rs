//! Brokers of one cluster: started together, ready together, ended together.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::{admin, ensemble::Ensemble, metrics::Metrics};
use crate::{
    brokers::{StartError, Wait},
    child::{Pinning, Started},
    clock,
    directory::Directory,
    error::LoadError,
    guardian::Guardian,
    stop::{Patience, Stop},
    target::{Dialect, Ends, Target},
    usage,
};

/// What brokers are started with.
#[derive(Clone, Debug)]
pub struct Ground<'a> {
    /// The program.
    pub program: PathBuf,
    /// Which core brokers and load have.
    pub pinning: Pinning,
    /// Where they meet.
    pub ensemble: &'a Ensemble,
    /// Whether the run is to stop.
    pub stop: &'a Stop,
}

/// Brokers `broker-1`, `broker-2` and so on that are one. Dropping it ends them.
#[derive(Debug)]
pub struct Cluster<'a> {
    ground: &'a Ground<'a>,
    root: String,
    extra: &'static [&'static str],
    brokers: Vec<Broker>,
}

/// One of them.
#[derive(Debug)]
pub struct Broker {
    started: Started,
    // Dropped behind the broker it watches over.
    _guardian: Guardian,
    directory: Directory,
    port: u16,
    admin_port: u16,
}

impl<'a> Cluster<'a> {
    /// Starts so many brokers, told `extra` besides, and waits until each knows the others.
    ///
    /// # Errors
    /// They do not come up in time.
    pub fn start(
        ground: &'a Ground<'a>,
        count: usize,
        extra: &'static [&'static str],
    ) -> Result<Self, StartError> {
        let root = ground.ensemble.fresh_root();
        let mut cluster = Self { ground, root, extra, brokers: Vec::new() };
        for _ in 0..count {
            cluster.spawn()?;
        }
        for at in 0..count {
            cluster.wait_until_ready(at)?;
        }
        cluster.wait_until_met(count)?;
        Ok(cluster)
    }

    /// Starts one more and waits until it is ready. Tells how long it took to be, in nanoseconds.
    ///
    /// # Errors
    /// It does not come up in time.
    pub fn join(&mut self) -> Result<u64, StartError> {
        let before = clock::now();
        self.spawn()?;
        let at = self.brokers.len() - 1;
        self.wait_until_ready(at)?;
        Ok(clock::now() - before)
    }

    /// Ends the one that came last, and waits until the others know.
    ///
    /// # Errors
    /// They do not hear of it.
    pub fn part(&mut self) -> Result<(), StartError> {
        self.brokers.pop();
        self.wait_until_met(self.brokers.len())
    }

    fn spawn(&mut self) -> Result<(), StartError> {
        let number = self.brokers.len() + 1;
        let directory = Directory::new(&format!("broker-{number}"))?;
        let data = directory.path().join("data");
        let mut command = vec![self.ground.program.display().to_string()];
        command.extend(arguments(&format!("broker-{number}"), &self.root, &data));
        command.extend(self.extra.iter().map(|&text| text.to_owned()));
        let log = File::create(directory.path().join(LOG))?;
        let started = Started::new(&command, self.ground.pinning, log)?;
        let guardian = Guardian::over(started.pid(), directory.path())?;
        let broker = Broker { started, _guardian: guardian, directory, port: 0, admin_port: 0 };
        self.brokers.push(broker);
        Ok(())
    }

    /// Waits until the broker has told its ports and takes clients.
    fn wait_until_ready(&mut self, at: usize) -> Result<(), StartError> {
        let stop = self.ground.stop;
        let Some(broker) = self.brokers.get_mut(at) else { return Ok(()) };
        broker.wait(stop, |broker| {
            if broker.admin_port == 0 {
                broker.read_ports();
            }
            matches!(admin::get(broker.admin_port, "/readyz"), Ok((200, _)))
        })
    }

    /// Waits until each broker knows of `count`, itself included.
    fn wait_until_met(&mut self, count: usize) -> Result<(), StartError> {
        let stop = self.ground.stop;
        for broker in &mut self.brokers {
            broker.wait(stop, |broker| {
                broker.members().is_some_and(|members| members.len() + 1 == count)
            })?;
        }
        Ok(())
    }

    /// The load's view of two of them, for a row that may take `time`: `from` has the publishers and
    /// `to` the subscribers.
    #[must_use]
    pub fn ends(&self, from: usize, to: usize, time: Duration) -> Ends {
        Ends { publishers: self.target(from, time), receivers: self.target(to, time) }
    }

    /// The load's view of one of them.
    #[must_use]
    pub fn target(&self, at: usize, time: Duration) -> Target {
        let port = self.brokers.get(at).map_or(0, |broker| broker.port);
        let patience = Patience::new(self.ground.stop, time);
        Target { port, port_v5: port, dialect: Dialect::Mqtt, patience }
    }

    /// All processes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.brokers.iter().map(|broker| broker.started.pid()).collect()
    }

    /// One of them.
    #[must_use]
    pub fn broker(&self, at: usize) -> Option<&Broker> {
        self.brokers.get(at)
    }

    /// The ensemble they meet at.
    #[must_use]
    pub fn ensemble(&self) -> &Ensemble {
        self.ground.ensemble
    }
}

impl Broker {
    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// It is gone.
    pub fn resident(&self) -> Result<u64, LoadError> {
        usage::resident(self.started.pid()).map_err(LoadError::io("reading a broker's memory"))
    }

    /// What it counts.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self) -> Result<Metrics, LoadError> {
        let answer = admin::get(self.admin_port, "/metrics");
        let (_, text) = answer.map_err(LoadError::io("asking a broker for its metrics"))?;
        Ok(Metrics::new(text))
    }

    /// The distinct filters that the broker called `name` has told it.
    #[must_use]
    pub fn interest_of(&self, name: &str) -> Option<u64> {
        let members = self.members()?;
        let is_named = |member: &&Value| member.get("name").is_some_and(|it| it == name);
        members.iter().find(is_named)?.get("interest_filters")?.as_u64()
    }

    /// The other brokers it knows, as it describes them.
    fn members(&self) -> Option<Vec<Value>> {
        let (_, body) = admin::get(self.admin_port, "/cluster").ok()?;
        let cluster: Value = serde_json::from_str(&body).ok()?;
        cluster.get("members")?.as_array().cloned()
    }

    fn read_ports(&mut self) {
        let text = fs::read_to_string(self.directory.path().join("data/ports.json"));
        let ports: Value = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
        let port = |pointer| {
            let port = ports.pointer(pointer).and_then(Value::as_u64);
            port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0)
        };
        (self.port, self.admin_port) = (port("/tcp/0"), port("/admin"));
    }

    /// Waits until `is_so`, as long as it runs.
    fn wait(&mut self, stop: &Stop, is_so: impl Fn(&mut Self) -> bool) -> Result<(), StartError> {
        let wait = Wait::new(stop, START_MAX);
        while !is_so(self) {
            wait.again(&mut self.started, &self.directory.path().join(LOG))?;
        }
        Ok(())
    }
}

/// What a broker is told.
#[must_use]
pub fn arguments(name: &str, zookeeper: &str, data: &Path) -> Vec<String> {
    let data = data.display().to_string();
    ["--threads", "1", "--port", "0", "--admin-port", "0", "--link-port", "0"]
        .into_iter()
        .chain(["--name", name, "--zookeeper", zookeeper, "--data-dir", &data])
        .map(str::to_owned)
        .collect()
}

/// How each broker is started, without what is this machine's alone.
#[must_use]
pub fn command(program: &Path) -> String {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let arguments = arguments("broker-N", "SERVERS", Path::new("DIR"));
    [name].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}

const LOG: &str = "output.log";
const START_MAX: Duration = Duration::from_secs(120);
