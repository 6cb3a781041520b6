//! A relay in front of a PostgreSQL that knows where its clients' messages end: after the one that is
//! asked for, something happens to one of the two, and nothing goes to the server any more.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Serves until it is dropped.
pub(super) struct Relay {
    pub(super) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: u16,
    /// Messages upon which the server acts, so far.
    count: AtomicU64,
    /// The one behind which something happens.
    at: u64,
    happens: Box<dyn Fn() + Send + Sync>,
    is_over: AtomicBool,
}

impl Relay {
    /// One to the server on this port. `happens` is called when it has the message of this number.
    pub(super) fn start(server: u16, at: u64, happens: impl Fn() + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (count, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let happens = Box::new(happens);
        let shared = Arc::new(Shared { server, count, at, happens, is_over });
        let for_all = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_all.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&for_all);
                thread::spawn(move || shared.serve(&stream));
            }
        });
        Self { port, shared }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // So that it looks.
        let _gone = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    /// Both ways, until one of them ends: then both do.
    fn serve(&self, client: &TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.server)) else { return };
        for stream in [client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ended = io::copy(&mut &server, &mut &*client);
                let _gone = client.shutdown(Shutdown::Both);
            });
            let _ended = self.forward(client, &server);
            let _gone = server.shutdown(Shutdown::Both);
        });
    }

    fn forward(&self, mut client: &TcpStream, mut server: &TcpStream) -> io::Result<()> {
        let mut has_begun = false;
        loop {
            let (kind, message) = next(&mut client, has_begun)?;
            // The first ones have no kind; a question for encryption is followed by another one.
            has_begun |= kind.is_none() && message.get(4..8) != Some(&ENCRYPTION);
            server.write_all(&message)?;
            if !matches!(kind, Some(b'Q' | b'S')) {
                continue;
            }
            if self.count.fetch_add(1, Ordering::Relaxed) + 1 == self.at {
                (self.happens)();
                return Ok(());
            }
        }
    }
}

/// A message and what it is.
fn next(stream: &mut impl Read, has_kind: bool) -> io::Result<(Option<u8>, Vec<u8>)> {
    let mut message = vec![0; if has_kind { 5 } else { 4 }];
    stream.read_exact(&mut message)?;
    let kind = has_kind.then(|| message[0]);
    let length = message[message.len() - 4..].try_into().map(u32::from_be_bytes).unwrap();
    let head = message.len();
    message.resize(head + usize::try_from(length).unwrap() - 4, 0);
    stream.read_exact(&mut message[head..])?;
    Ok((kind, message))
}

/// What a client says that wants to speak TLS.
const ENCRYPTION: [u8; 4] = 80_877_103_u32.to_be_bytes();
