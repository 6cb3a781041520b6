//! Where one script plays: the server under test, the version spoken, and names of its own.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::client::Reason;
use super::{Client, Connect, Event, Outcome, Publish, Script, Version, differs, ensure, kind};

/// A server under test.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The port that speaks MQTT over WebSocket, where there is one.
    pub(crate) ws_port: Option<u16>,
    /// How long a script waits for what must happen.
    pub(crate) patience: Duration,
}

impl Target {
    /// A server on this machine, with the usual patience.
    #[cfg(test)]
    pub(crate) fn local(port: u16) -> Self {
        Self { host: "127.0.0.1".into(), port, ws_port: None, patience: Duration::from_secs(5) }
    }

    /// Plays one script against it.
    pub(crate) fn play(&self, script: &Script) -> Outcome {
        (script.run)(&Stage::new(self.clone(), script.version))
    }
}

/// What a script is given.
pub(crate) struct Stage {
    pub(crate) target: Target,
    pub(crate) version: Version,
    /// Part of every topic and Client Identifier, so that scripts do not meet.
    pub(crate) unique: String,
}

impl Stage {
    /// A stage whose names nobody else uses.
    pub(crate) fn new(target: Target, version: Version) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{:x}n{number:x}", std::process::id());
        Self { target, version, unique }
    }

    /// Whether it speaks MQTT 5.0.
    pub(crate) fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// A topic of this script.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("conformance/{}/{name}", self.unique)
    }

    /// A Client Identifier of this script: letters and digits, at most 23 [v4:MQTT-3.1.3-5].
    pub(crate) fn client_id(&self, name: &str) -> String {
        format!("{name}{}", self.unique)
    }

    /// A CONNECT of this script.
    pub(crate) fn connect(&self, name: &str) -> Connect {
        Connect::new(self.version, self.client_id(name))
    }

    /// A message.
    pub(crate) fn message(&self, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Publish {
        Publish::new(self.version, topic, payload)
    }

    /// Lets time pass: for what a server does by its clock and nothing else can bring about.
    pub(crate) fn pass(&self, time: Duration) -> Outcome {
        // A connection is kept at hand, so that a server that does not answer is found out first.
        let mut client = self.client("clock")?;
        std::thread::sleep(time);
        client.ping()
    }

    /// A connection on which nothing has been said.
    pub(crate) fn open(&self) -> Outcome<Client> {
        let stream = self.target.socket(self.target.port)?;
        Ok(Client::new(stream, self.version, self.target.patience))
    }

    /// A clean client, connected.
    pub(crate) fn client(&self, name: &str) -> Outcome<Client> {
        self.enter(&self.connect(name))
    }

    /// A client connected with this CONNECT.
    pub(crate) fn enter(&self, connect: &Connect) -> Outcome<Client> {
        let mut client = self.open()?;
        client.send(&connect.bytes());
        client.connack = client.expect(kind::CONNACK)?.reason()?;
        let code = client.connack.code;
        ensure!(code == 0, "CONNECT was refused with {code:#04x}");
        Ok(client)
    }

    /// Sends a CONNECT that does not conform: 3.1.1 closes without CONNACK, 5.0 may say one of these
    /// Reason Codes first.
    pub(crate) fn refuses(&self, connect: &[u8], codes: &[u8]) -> Outcome<Option<Reason>> {
        let mut client = self.open()?;
        client.send(connect);
        match client.event()? {
            Event::Closed => Ok(None),
            Event::Packet(packet) if self.is_v5() && packet.kind() == kind::CONNACK => {
                let reason = packet.reason()?;
                ensure!(
                    codes.contains(&reason.code),
                    "CONNACK carries {:#04x}, not one of {codes:02x?}",
                    reason.code
                );
                ensure!(!reason.session_present, "a refusing CONNACK says Session Present");
                client.closed()?;
                Ok(Some(reason))
            }
            Event::Packet(packet) => differs(format!("expected close, got {}", packet.shown())),
        }
    }

    /// Sends bytes as a connected client that the server must answer by closing.
    pub(crate) fn rejects(&self, bytes: &[u8], codes: &[u8]) -> Outcome<Option<Reason>> {
        let mut client = self.client("bad")?;
        client.send(bytes);
        client.refused(codes)
    }
}

impl Target {
    /// A socket to one of its ports.
    pub(crate) fn socket(&self, port: u16) -> Outcome<TcpStream> {
        let addresses = match (self.host.as_str(), port).to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(error) => return differs(format!("cannot resolve {}: {error}", self.host)),
        };
        let mut last = String::from("no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, self.patience) {
                Ok(stream) => {
                    stream.set_nodelay(true).expect("a TCP socket takes TCP_NODELAY");
                    stream
                        .set_write_timeout(Some(self.patience))
                        .expect("a time-out above zero is valid");
                    return Ok(stream);
                }
                Err(error) => last = error.to_string(),
            }
        }
        differs(format!("cannot connect to {}:{port}: {last}", self.host))
    }
}
