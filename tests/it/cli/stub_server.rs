//! A server that says exactly what a test wants it to say.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A server for one test: a script for every connection, in turn.
pub(super) struct StubServer {
    port: u16,
    thread: Option<JoinHandle<()>>,
}

/// One connection of a client.
pub(super) struct StubSession(TcpStream);

impl StubServer {
    /// Plays `script` for the first connection.
    pub(super) fn start(script: impl FnOnce(StubSession) + Send + 'static) -> Self {
        Self::start_all(vec![Box::new(script)])
    }

    /// Plays one script for each connection, in their order.
    pub(super) fn start_all(scripts: Vec<Box<dyn FnOnce(StubSession) + Send>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            for script in scripts {
                let stream = accept(&listener);
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                script(StubSession(stream));
            }
        });
        Self { port, thread: Some(thread) }
    }

    /// Where it listens.
    pub(super) fn port(&self) -> String {
        self.port.to_string()
    }

    /// Waits until all scripts are played; a failed one fails the test.
    pub(super) fn finish(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Waits for a client, but not for ever.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                return stream;
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(Instant::now() < deadline, "no client came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl StubSession {
    /// Reads one packet, which must have this first byte; the rest after the length is returned.
    pub(super) fn expect(&mut self, first_byte: u8) -> Vec<u8> {
        let (first, body) = self.read_packet();
        assert_eq!(first, first_byte, "{body:02x?}");
        body
    }

    /// Reads the CONNECT.
    pub(super) fn expect_connect(&mut self) -> Vec<u8> {
        self.expect(0x10)
    }

    /// Sends bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Reads until the client closes.
    pub(super) fn wait_for_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }

    fn read_packet(&mut self) -> (u8, Vec<u8>) {
        let first = self.read_byte();
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = self.read_byte();
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).unwrap();
        (first, body)
    }

    fn read_byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).unwrap();
        byte[0]
    }
}
