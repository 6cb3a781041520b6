//! Bytes on their way between a client and its connection.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Happening, Line, PROBE, World};
use crate::ports::clock::Tick;
use crate::sim::client::Books;
use crate::sim::endpoint::Endpoint;
use crate::sim::failure::Complaint;
use crate::sim::pipe::Pipe;
use crate::sim::sessions::Asked;

impl World {
    /// Opens a connection for `client`, which sends its CONNECT.
    pub(super) fn connect(&mut self, client: usize, clean_start: bool) -> usize {
        let number = self.open_line(client);
        let (now, profile) = (self.now, self.client(client).profile.clone());
        self.sessions.note_asked(Asked {
            client,
            clean_start,
            will_delay_secs: profile.will.map(|will| will.delay_secs),
        });
        self.client(client).connect(number, clean_start, now);
        self.flush(client);
        if profile.keep_alive_secs > 0 {
            self.schedule_ping(number);
        }
        number
    }

    pub(super) fn open_line(&mut self, client: usize) -> usize {
        let number = self.connections.len();
        let link = self.client(client).profile.link;
        let now = Tick::from_millis(self.now);
        self.connections.push(Line {
            client,
            endpoint: Endpoint::new(number, &self.ready, &self.options, now),
            up: Pipe::new(usize::MAX),
            down: Pipe::new(link.capacity),
            link,
            unread: VecDeque::new(),
            keep_alive_secs: 0,
        });
        number
    }

    pub(super) fn schedule_ping(&mut self, connection: usize) {
        let client = self.line(connection).client;
        let secs = self.client(client).profile.keep_alive_secs;
        self.at(self.now + u64::from(secs) * 750, Happening::Ping { connection });
    }

    /// Sends what `client` has written.
    pub(super) fn flush(&mut self, client: usize) {
        let out = self.client(client).out.split().freeze();
        if let Some(connection) = self.client(client).connection {
            self.send_up(connection, out);
        }
    }

    pub(super) fn send_up(&mut self, connection: usize, bytes: Bytes) {
        for piece in self.pieces(bytes) {
            let delay = self.delay(connection);
            let wished = self.now + delay;
            let at = self.line(connection).up.arrival(wished);
            self.at(at, Happening::Up { connection, bytes: piece });
        }
    }

    pub(super) fn send_down(&mut self, connection: usize, bytes: Bytes) {
        let now = self.now;
        if bytes.is_empty() {
            return;
        }
        self.line(connection).down.note_written(bytes.len());
        for piece in self.pieces(bytes) {
            let wished = now + self.delay(connection);
            let at = self.line(connection).down.arrival(wished);
            self.at(at, Happening::Down { connection, bytes: piece });
        }
    }

    fn delay(&mut self, connection: usize) -> u64 {
        let link = self.line(connection).link;
        link.latency_millis + self.chance.below(link.jitter_millis + 1)
    }

    /// Cuts bytes at arbitrary places.
    fn pieces(&mut self, mut bytes: Bytes) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        while bytes.len() > 1 && pieces.len() < 3 && self.chance.one_in(4) {
            let len = 1 + self.chance.place(bytes.len() - 1);
            pieces.push(bytes.split_to(len));
        }
        if !bytes.is_empty() {
            pieces.push(bytes);
        }
        pieces
    }

    pub(super) fn arrive_down(&mut self, connection: usize, bytes: Bytes) -> Result<(), Complaint> {
        let client = self.line(connection).client;
        let is_current = self.client(client).connection == Some(connection);
        let is_reading = self.client(client).is_reading;
        let line = self.line(connection);
        if line.down.is_cut {
            return Ok(());
        }
        if is_current && !is_reading {
            line.unread.push_back(bytes);
            return Ok(());
        }
        line.down.note_taken(bytes.len());
        line.endpoint.drained();
        if is_current { self.client_reads(connection, &bytes) } else { Ok(()) }
    }

    pub(super) fn client_reads(
        &mut self,
        connection: usize,
        bytes: &[u8],
    ) -> Result<(), Complaint> {
        let Self { connections, clients, ledger, sessions, plant, now, .. } = self;
        let line = connections.get_mut(connection).expect("connections are numbered");
        let client = clients.get_mut(line.client).expect("clients are numbered");
        let mut books = Books {
            ledger,
            sessions,
            plant: *plant,
            now: *now,
            written_at: 0,
            is_probe: line.client == PROBE,
        };
        client.read(bytes, &mut books, |len| line.down.understood(len))?;
        let client = line.client;
        self.flush(client);
        Ok(())
    }
}
