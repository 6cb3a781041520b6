//! Three ZooKeeper servers of Debian's package, on free ports of the loopback interface.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::admin;
use crate::{
    brokers::{free_port, last_words},
    child::{Pinning, Started},
    clock,
    directory::Directory,
    guardian::Guardian,
    stop::Stop,
};

/// Why there is no ensemble.
#[derive(Debug, thiserror::Error)]
pub enum EnsembleError {
    /// It is not installed.
    #[error(
        "there is no {JAR}: install libzookeeper-java and a Java runtime, or name the classes of a release in ZOOKEEPER_HOME"
    )]
    Absent,
    /// The system refused a file, a port or the start.
    #[error("cannot start ZooKeeper: {0}")]
    Io(#[from] io::Error),
    /// It did not come up.
    #[error("ZooKeeper does not serve: {0}")]
    Silent(String),
    /// A server does not say how far it is.
    #[error("a ZooKeeper server does not say how many writes there were")]
    NoZxid,
    /// A server does not say how large the tree is.
    #[error("a ZooKeeper server does not say how many znodes there are")]
    NoZnodes,
    /// The run is to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Running servers. Dropping it ends them and removes what they wrote.
#[derive(Debug)]
pub struct Ensemble {
    servers: Vec<Server>,
    next_root: AtomicU32,
}

#[derive(Debug)]
struct Server {
    port: u16,
    started: Started,
    // Dropped behind the server it watches over.
    _guardian: Guardian,
    directory: Directory,
}

impl Ensemble {
    /// Starts three servers and waits until a quorum of them serves.
    ///
    /// # Errors
    /// ZooKeeper is not installed or does not come up.
    pub fn start(stop: &Stop) -> Result<Self, EnsembleError> {
        let classes = classes().ok_or(EnsembleError::Absent)?;
        let mut last = String::new();
        // A port that was free a moment ago may be taken now; then a server ends at once.
        for _ in 0..ATTEMPTS {
            let mut ensemble = Self::spawn(&classes)?;
            match ensemble.wait(stop)? {
                None => return Ok(ensemble),
                Some(words) => last = words,
            }
        }
        Err(EnsembleError::Silent(last))
    }

    fn spawn(classes: &str) -> Result<Self, EnsembleError> {
        let ports = free_ports(3 * SERVERS)?;
        let (clients, others) = ports.split_at(SERVERS);
        let mut quorum = String::new();
        for (id, pair) in (1..).zip(others.chunks(2)) {
            if let [peers, election] = pair {
                let _ = writeln!(quorum, "server.{id}=127.0.0.1:{peers}:{election}");
            }
        }
        let mut servers = Vec::new();
        for (id, &port) in (1..).zip(clients) {
            servers.push(Server::spawn(id, port, classes, &quorum)?);
        }
        Ok(Self { servers, next_root: AtomicU32::new(0) })
    }

    /// Waits until all serve; or what one has said that does not.
    fn wait(&mut self, stop: &Stop) -> Result<Option<String>, EnsembleError> {
        let until = clock::now() + 1_000_000_000 * START_MAX.as_secs();
        for server in &mut self.servers {
            while server.zxid().is_none() {
                if stop.is_raised() {
                    return Err(EnsembleError::Interrupted);
                }
                if !server.started.is_running() || clock::now() > until {
                    return Ok(Some(server.last_words()));
                }
                clock::pause(START_CHECK);
            }
        }
        Ok(None)
    }

    /// The connect string, with a path below which no cluster has lived.
    #[must_use]
    pub fn fresh_root(&self) -> String {
        let number = self.next_root.fetch_add(1, Ordering::Relaxed);
        let servers: Vec<_> =
            self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("{}/bench/{number}", servers.join(","))
    }

    /// The transaction that was committed last: every write is one, and so are the beginning and the
    /// end of a session. Nothing else is.
    ///
    /// # Errors
    /// No server says.
    pub fn zxid(&self) -> Result<u64, EnsembleError> {
        self.servers.iter().filter_map(Server::zxid).max().ok_or(EnsembleError::NoZxid)
    }

    /// How many znodes there are, of whichever cluster.
    ///
    /// # Errors
    /// No server says.
    pub fn znodes(&self) -> Result<u64, EnsembleError> {
        self.servers.iter().filter_map(Server::znodes).max().ok_or(EnsembleError::NoZnodes)
    }
}

impl Server {
    fn spawn(id: u32, port: u16, classes: &str, quorum: &str) -> Result<Self, EnsembleError> {
        let directory = Directory::new(&format!("zookeeper-{id}"))?;
        let path = directory.path().display();
        fs::write(directory.path().join("myid"), id.to_string())?;
        let configuration = directory.path().join("zoo.cfg");
        let text = format!("dataDir={path}\nclientPort={port}\n{SETTINGS}{quorum}");
        fs::write(&configuration, text)?;
        let mut command: Vec<String> = JAVA.map(str::to_owned).to_vec();
        command.extend([classes.to_owned(), MAIN.to_owned(), configuration.display().to_string()]);
        let log = File::create(directory.path().join(LOG))?;
        let started = Started::new(&command, Pinning::Free, log)?;
        let guardian = Guardian::over(started.pid(), directory.path())?;
        Ok(Self { port, started, _guardian: guardian, directory })
    }

    /// How far it is; nothing while it does not serve.
    fn zxid(&self) -> Option<u64> {
        zxid_in(&admin::four_letters(self.port, "srvr").ok()?)
    }

    fn znodes(&self) -> Option<u64> {
        znodes_in(&admin::four_letters(self.port, "mntr").ok()?)
    }

    fn last_words(&self) -> String {
        last_words(&self.directory.path().join(LOG))
    }
}

/// The transaction that an answer to `srvr` names.
fn zxid_in(answer: &str) -> Option<u64> {
    let hex = answer.lines().find_map(|line| line.strip_prefix("Zxid: 0x"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// The size of the tree that an answer to `mntr` names.
fn znodes_in(answer: &str) -> Option<u64> {
    let count = answer.lines().find_map(|line| line.strip_prefix("zk_znode_count"))?;
    count.trim().parse().ok()
}

/// Where the classes are: a release's, or Debian's.
fn classes() -> Option<String> {
    if let Some(home) = std::env::var_os("ZOOKEEPER_HOME") {
        return Some(format!("{}/lib/*", Path::new(&home).display()));
    }
    Path::new(JAR).exists().then(|| format!("{JAR}:/usr/share/java/slf4j-simple.jar"))
}

/// Ports that nobody uses at the moment, each another.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = free_port()?;
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    Ok(ports)
}

const JAR: &str = "/usr/share/java/zookeeper.jar";
const MAIN: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
const JAVA: [&str; 6] = [
    "java",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-cp",
];
const SETTINGS: &str = "\
clientPortAddress=127.0.0.1
tickTime=500
initLimit=20
syncLimit=20
extendedTypesEnabled=true
admin.enableServer=false
maxClientCnxns=0
4lw.commands.whitelist=srvr,mntr,ruok
";
const LOG: &str = "output.log";
const SERVERS: usize = 3;
const ATTEMPTS: u32 = 5;
const START_MAX: Duration = Duration::from_secs(60);
const START_CHECK: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_how_far_it_is_or_that_it_does_not_serve() {
        assert_eq!(
            zxid_in("Outstanding: 0\nZxid: 0x10000002a\nMode: leader\n"),
            Some(0x1_0000_002a)
        );
        assert_eq!(zxid_in("This ZooKeeper instance is not currently serving requests\n"), None);
    }
    #[test]
    fn a_server_says_how_large_its_tree_is() {
        let answer = "zk_watch_count\t7\nzk_znode_count\t1234\nzk_ephemerals_count\t3\n";
        assert_eq!(znodes_in(answer), Some(1_234));
        assert_eq!(znodes_in("This ZooKeeper instance is not currently serving requests\n"), None);
    }
}
