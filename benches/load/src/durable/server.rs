//! A broker that stores, and that can be killed and started again on what it wrote.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    time::Duration,
};

use super::{Ground, receiver};
use crate::{
    brokers::{StartError, Wait, free_port},
    child::Started,
    directory::Directory,
    error::LoadError,
    guardian::Guardian,
    stop::Patience,
    target::{Dialect, Target},
    usage,
    wire::Start,
};

/// Which broker, and where it stores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// This project's, in its data directory.
    Sqlite,
    /// This project's, in PostgreSQL.
    Postgres,
    /// Mosquitto, which writes a snapshot now and then.
    Mosquitto,
}

/// The broker. Dropping it ends it and removes what it wrote.
#[derive(Debug)]
pub struct Server<'a> {
    ground: &'a Ground<'a>,
    kind: Kind,
    command: Vec<String>,
    port: u16,
    started: Option<(Started, Guardian)>,
    directory: Directory,
}

impl Kind {
    /// What tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
            Self::Mosquitto => "Mosquitto",
        }
    }

    /// Whether what it needs is there.
    #[must_use]
    pub fn is_installed(self, ground: &Ground) -> bool {
        match self {
            Self::Sqlite => true,
            Self::Postgres => ground.postgres.is_some(),
            Self::Mosquitto => ground.mosquitto.exists(),
        }
    }

    /// Whether it promises that nothing acknowledged is lost when it is killed.
    #[must_use]
    pub fn promises(self) -> bool {
        self != Self::Mosquitto
    }
}

impl<'a> Server<'a> {
    /// Starts it, told `extra` besides, and waits until it lets clients in.
    ///
    /// # Errors
    /// It does not come up in time.
    pub fn start(ground: &'a Ground<'a>, kind: Kind, extra: &[&str]) -> Result<Self, StartError> {
        let directory = Directory::new(kind.name())?;
        let port = free_port()?;
        let mut command = match kind {
            Kind::Mosquitto => mosquitto(ground, directory.path(), port)?,
            Kind::Sqlite => ours(&ground.ours, directory.path(), port),
            Kind::Postgres => {
                let absent = || StartError::Ended("PostgreSQL 15 is not installed".to_owned());
                let postgres = ground.postgres.as_ref().ok_or_else(absent)?;
                let database = ["--db".to_owned(), postgres.fresh_database()?];
                [ours(&ground.ours, directory.path(), port), database.to_vec()].concat()
            }
        };
        command.extend(extra.iter().map(|&text| text.to_owned()));
        let mut server = Self { ground, kind, command, port, started: None, directory };
        server.start_again()?;
        Ok(server)
    }

    /// Starts it on what it wrote, and waits until it lets a client in: one that listens may still be
    /// reading what it wrote.
    ///
    /// # Errors
    /// It does not come up in time.
    pub fn start_again(&mut self) -> Result<(), StartError> {
        let log = File::create(self.directory.path().join(LOG))?;
        let started = Started::new(&self.command, self.ground.pinning, log)?;
        let guardian = Guardian::over(started.pid(), self.directory.path())?;
        self.started = Some((started, guardian));
        self.wait()?;
        let is_in = receiver::open(&self.target(START_MAX), "load-probe", Start::Clean);
        is_in.map(drop).map_err(|error| StartError::Silent(error.to_string()))
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some((mut started, guardian)) = self.started.take() {
            started.kill();
            drop(guardian);
        }
    }

    /// The load's view of it, for a row that may take `time`.
    #[must_use]
    pub fn target(&self, time: Duration) -> Target {
        let patience = Patience::new(self.ground.stop, time);
        Target { port: self.port, port_v5: self.port, dialect: Dialect::Mqtt, patience }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.started.as_ref().map_or(0, |(started, _)| started.pid())
    }

    /// The processes of its database server, if it has one.
    #[must_use]
    pub fn database_pids(&self) -> Vec<u32> {
        let has_one = self.kind == Kind::Postgres;
        let postgres = self.ground.postgres.as_ref().filter(|_| has_one);
        postgres.map(super::postgres::Postgres::pids).unwrap_or_default()
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// It is gone.
    pub fn resident(&self) -> Result<u64, LoadError> {
        usage::resident(self.pid()).map_err(LoadError::io("reading a broker's memory"))
    }

    fn wait(&mut self) -> Result<(), StartError> {
        let wait = Wait::new(self.ground.stop, START_MAX);
        let Some((started, _)) = &mut self.started else { return Ok(()) };
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            wait.again(started, &self.directory.path().join(LOG))?;
        }
        Ok(())
    }
}

/// How this project's broker is started, without what is this machine's alone.
#[must_use]
pub fn command(program: &Path) -> String {
    let name = program.file_name().unwrap_or(program.as_os_str());
    ours(Path::new(name), Path::new("DIR"), 0).join(" ") + " [--db DATABASE]"
}

fn ours(program: &Path, directory: &Path, port: u16) -> Vec<String> {
    let [port, directory] = [port.to_string(), directory.join("data").display().to_string()];
    [program.display().to_string()]
        .into_iter()
        .chain(["--threads", "1", "--port", &port, "--data-dir", &directory].map(str::to_owned))
        .chain(QUEUES.map(str::to_owned))
        .collect()
}

fn mosquitto(ground: &Ground, directory: &Path, port: u16) -> Result<Vec<String>, StartError> {
    let path = directory.join("mosquitto.conf");
    let at = directory.display();
    let text = format!("listener {port} 127.0.0.1\npersistence_location {at}/\n{MOSQUITTO}");
    fs::write(&path, text)?;
    let words = [ground.mosquitto.as_path(), Path::new("-c"), &path];
    Ok(words.map(|word| word.display().to_string()).to_vec())
}

/// A receiver that is away for seconds at full speed needs more than the default.
const QUEUES: [&str; 4] = ["--queue-messages-max", "5000000", "--queue-bytes-max", "4GiB"];
const MOSQUITTO: &str = "\
user root
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
max_inflight_messages 0
persistence true
log_dest none
";
const LOG: &str = "output.log";
const START_MAX: Duration = Duration::from_secs(60);
