//! A receiver with a persistent Session, and its account over several connections.

use std::{
    io::Read,
    net::TcpStream,
    thread::{self, JoinHandle},
    time::Duration,
};

use super::publisher::TOPIC;
use crate::{
    burst::{BUFFER_LEN, Burst},
    error::LoadError,
    floor::Side,
    frames::{PUBACK, Version},
    number::{count, index},
    stamp::Stamp,
    target::{Opening, Session, Target, hello},
    wire::{self, Start},
};

/// What has arrived of one publisher's messages: at Quality of Service 1 some more than once.
#[derive(Clone, Debug, Default)]
pub struct Account {
    seen: Vec<bool>,
    next: u64,
    /// Messages that came first behind a later one.
    pub inversions: u64,
}

impl Account {
    fn note(&mut self, sequence: u64) {
        let at = index(sequence);
        if at >= self.seen.len() {
            self.seen.resize(at + 1, false);
        }
        let Some(seen) = self.seen.get_mut(at) else { return };
        if !std::mem::replace(seen, true) {
            self.inversions += u64::from(sequence < self.next);
            self.next = self.next.max(sequence + 1);
        }
    }

    /// Messages of the first `acknowledged` ones that have not arrived.
    #[must_use]
    pub fn lost(&self, acknowledged: u64) -> u64 {
        let seen = self.seen.iter().take(index(acknowledged)).filter(|&&seen| seen).count();
        acknowledged - count(seen)
    }

    /// Reads and acknowledges until `acknowledged` messages are here, or nothing comes any more.
    ///
    /// # Errors
    /// The connection has ended, or does not carry MQTT.
    pub fn read(&mut self, stream: &mut TcpStream, acknowledged: u64) -> Result<(), LoadError> {
        let mut buffer = vec![0; BUFFER_LEN];
        let mut reader = Burst::new(stream, &mut buffer, DOING);
        // Above all, those that were sent before come again: they are read to their end.
        while self.next < acknowledged || self.lost(acknowledged) > 0 {
            let read = reader.read(|frame, out| {
                let publish = frame.is_publish().then(|| frame.publish(Version::V311)).flatten();
                let Some(publish) = publish else { return };
                if publish.qos > 0 {
                    wire::ack(out, PUBACK, publish.id);
                }
                if let Some(stamp) = Stamp::read(publish.payload) {
                    self.note(stamp.sequence);
                }
            });
            match read {
                Err(LoadError::OutOfTime(_)) => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }
}

/// A receiver that is connected, on a thread of its own.
#[derive(Debug)]
pub struct Awake(JoinHandle<Account>);

impl Awake {
    /// Receives from now on until the connection ends.
    #[must_use]
    pub fn start(session: Session) -> Self {
        let mut stream = session.into_stream();
        Self(thread::spawn(move || {
            let mut account = Account::default();
            // It ends with the broker.
            let _ = account.read(&mut stream, u64::MAX);
            account
        }))
    }

    /// What has arrived.
    #[must_use]
    pub fn join(self) -> Account {
        self.0.join().unwrap_or_default()
    }
}

/// Opens a connection.
///
/// # Errors
/// The broker refuses, or is silent.
pub fn open(target: &Target, client_id: &str, start: Start) -> Result<Session, LoadError> {
    let hello = hello(Side::Subscriber, 0, 0);
    target.open(&Opening { version: Version::V311, client_id, start, hello })
}

/// Opens the persistent Session of this name, subscribed to [`TOPIC`].
///
/// # Errors
/// The broker refuses, or is silent.
pub fn subscribe(target: &Target, client_id: &str) -> Result<Session, LoadError> {
    let mut session = open(target, client_id, Start::Persistent)?;
    session.subscribe(&[TOPIC.to_owned()], 1)?;
    Ok(session)
}

/// Leaves, and waits until the broker has closed its side: the Session is away from then on.
///
/// # Errors
/// The connection is gone.
pub fn leave(mut session: Session) -> Result<(), LoadError> {
    session.send(&wire::disconnect(), "disconnecting")?;
    let mut stream = session.into_stream();
    let mut rest = [0; 64];
    while matches!(stream.read(&mut rest), Ok(1..)) {}
    Ok(())
}

/// Returns and reads what is there of `acknowledged` messages.
///
/// # Errors
/// The broker refuses, or the connection ends.
pub fn fetch(
    target: &Target,
    client_id: &str,
    acknowledged: u64,
    account: &mut Account,
) -> Result<(), LoadError> {
    let mut stream = open(target, client_id, Start::Persistent)?.into_stream();
    stream.set_read_timeout(Some(SILENCE)).map_err(LoadError::io(DOING))?;
    account.read(&mut stream, acknowledged)
}

const DOING: &str = "receiving from a broker that stores";
/// When nothing has come for so long nothing more will.
const SILENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_neither_lost_nor_out_of_order() {
        let mut account = Account::default();
        for sequence in [0, 1, 2, 1, 2, 3] {
            account.note(sequence);
        }
        assert_eq!((account.lost(4), account.lost(6), account.inversions), (0, 2, 0));
        account.note(5);
        account.note(4);
        assert_eq!((account.lost(6), account.inversions), (0, 1));
    }
}
