//! The network between the brokers and the ensemble, as a thing that can fail: a relay in front of
//! each link port, and for each broker one in front of each server.
//!
//! A broker announces an address of the loopback network that is the relay's, and listens on the
//! same port of 127.0.0.1. Who has dialled is read from the tables of the kernel, so that the relay
//! knows nothing of what is spoken, and one pair can be cut while all others stand.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::{Condvar, Mutex};

use crate::harness::free_port;

/// How a pair of brokers is cut off from each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cut {
    /// What stands is closed, what is dialled is closed at once.
    Closed,
    /// Nothing is closed, and nothing arrives until the cut is healed.
    Silent,
}

/// All servers of the ensemble, where a broker has a number.
pub(crate) const ENSEMBLE: usize = 0;

/// The relays of one cluster.
pub(crate) struct Network {
    shared: Arc<Shared>,
    relays: Vec<SocketAddr>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A cut was healed, or all is over.
    has_changed: Condvar,
    is_over: AtomicBool,
}

#[derive(Default)]
struct State {
    /// The processes of the brokers, to tell who dials.
    pids: BTreeMap<usize, u32>,
    cuts: BTreeMap<Pair, Cut>,
    streams: Vec<(Pair, TcpStream)>,
}

/// Two brokers, or a broker and the ensemble, the lower number first.
type Pair = (usize, usize);

fn pair(one: usize, other: usize) -> Pair {
    (one.min(other), one.max(other))
}

impl Network {
    /// A network without brokers.
    pub(crate) fn new() -> Self {
        Self { shared: Arc::default(), relays: Vec::new() }
    }

    /// Puts a relay in front of a broker; the arguments that make the broker stand behind it.
    pub(crate) fn link_arguments(&mut self, broker: usize) -> Vec<String> {
        let (listener, address) = bind(broker);
        let behind = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
        self.serve(listener, address, move |shared, stream| {
            if let Some(dialler) = shared.dialler(&stream) {
                shared.relay(pair(dialler, broker), &stream, behind);
            }
        });
        let host = address.ip().to_string();
        let port = address.port().to_string();
        ["--link-host", &host, "--link-bind", "127.0.0.1", "--link-port", &port]
            .map(str::to_owned)
            .to_vec()
    }

    /// Puts relays between a broker and the servers of `list`; the list that it is to be given.
    pub(crate) fn way_to_ensemble(&mut self, broker: usize, list: &str) -> String {
        let (servers, path) = list.split_once('/').expect("every cluster has a chroot");
        let relayed = servers.split(',').map(|server| {
            let behind: SocketAddr = server.parse().expect("servers are listed by address");
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
            let address = listener.local_addr().expect("it is bound");
            self.serve(listener, address, move |shared, stream| {
                shared.relay(pair(ENSEMBLE, broker), &stream, behind);
            });
            address.to_string()
        });
        format!("{}/{path}", relayed.collect::<Vec<_>>().join(","))
    }

    fn serve(
        &mut self,
        listener: TcpListener,
        address: SocketAddr,
        accept: impl Fn(&Arc<Shared>, TcpStream) + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.is_over.load(Ordering::Relaxed) {
                    return;
                }
                accept(&shared, stream);
            }
        });
        self.relays.push(address);
    }

    /// A broker has this process now.
    pub(crate) fn note_pid(&self, broker: usize, pid: u32) {
        self.shared.state.lock().pids.insert(broker, pid);
    }

    /// Cuts two brokers, or a broker and the [`ENSEMBLE`], off from each other.
    pub(crate) fn cut(&self, one: usize, other: usize, cut: Cut) {
        let pair = pair(one, other);
        let mut state = self.shared.state.lock();
        state.cuts.insert(pair, cut);
        if cut == Cut::Closed {
            state.streams.retain(|(of, stream)| {
                if *of == pair {
                    let _gone = stream.shutdown(Shutdown::Both);
                }
                *of != pair
            });
        }
    }

    /// Lets them reach each other again.
    pub(crate) fn heal(&self, one: usize, other: usize) {
        self.shared.state.lock().cuts.remove(&pair(one, other));
        self.shared.has_changed.notify_all();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let mut state = self.shared.state.lock();
        state.cuts.clear();
        for (_, stream) in state.streams.drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.has_changed.notify_all();
        for address in &self.relays {
            let _woken = TcpStream::connect(address);
        }
    }
}

impl Shared {
    /// Carries what comes on `outside` to who listens `behind`, and back.
    fn relay(self: &Arc<Self>, pair: Pair, outside: &TcpStream, behind: SocketAddr) {
        let Ok(inside) = TcpStream::connect(behind) else { return };
        let mut state = self.state.lock();
        if state.cuts.get(&pair) == Some(&Cut::Closed) {
            return;
        }
        for stream in [outside, &inside] {
            let _as_it_is = stream.set_nodelay(true);
            state.streams.push((pair, stream.try_clone().expect("a socket can be shared")));
        }
        drop(state);
        let ways = [(outside, &inside), (&inside, outside)].map(|(from, to)| {
            [from, to].map(|stream| stream.try_clone().expect("a socket can be shared"))
        });
        for [from, to] in ways {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.carry(pair, from, to));
        }
    }

    fn carry(&self, pair: Pair, mut from: TcpStream, mut to: TcpStream) {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut chunk).unwrap_or(0);
            self.wait_while_silent(pair);
            if count == 0 || to.write_all(&chunk[..count]).is_err() {
                let _gone = to.shutdown(Shutdown::Write);
                return;
            }
        }
    }

    fn wait_while_silent(&self, pair: Pair) {
        let mut state = self.state.lock();
        while state.cuts.get(&pair) == Some(&Cut::Silent) {
            self.has_changed.wait(&mut state);
        }
    }

    /// Which broker has the other end of an accepted connection.
    fn dialler(&self, stream: &TcpStream) -> Option<usize> {
        let ends = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
        let inode = inode_of(ends.0, ends.1)?;
        let pids = self.state.lock().pids.clone();
        pids.into_iter().find(|(_, pid)| has_socket(*pid, &inode)).map(|(broker, _)| broker)
    }
}

/// An address that only this broker of this cluster has, and whose port is free on 127.0.0.1 too.
fn bind(broker: usize) -> (TcpListener, SocketAddr) {
    let last = u8::try_from(broker + 1).expect("there are few brokers");
    for _ in 0..100 {
        let address = SocketAddr::from(([127, 0, 0, last], free_port()));
        if let Ok(listener) = TcpListener::bind(address) {
            return (listener, address);
        }
    }
    panic!("no port is free on two addresses of the loopback network");
}

/// The inode of the socket with these ends, as `/proc/net/tcp` has it.
fn inode_of(local: SocketAddr, remote: SocketAddr) -> Option<String> {
    let ends = format!("{} {} ", in_hex(local)?, in_hex(remote)?);
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let line = table.lines().find(|line| line.contains(&ends))?;
    line.split_whitespace().nth(9).map(ToOwned::to_owned)
}

fn in_hex(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    // The address stands there as the machine keeps it in memory.
    let ip = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
}

fn has_socket(pid: u32, inode: &str) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| target.as_os_str() == wanted.as_str())
}

mod tests {
    use std::time::Duration;

    use super::*;

    /// A broker that says back what it hears; both brokers are this process.
    fn two_brokers() -> (Network, TcpStream) {
        let mut network = Network::new();
        network.note_pid(1, std::process::id());
        let arguments = network.link_arguments(2);
        let port: u16 = arguments[5].parse().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut chunk = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut chunk) {
                    stream.write_all(&chunk[..count]).unwrap();
                }
            }
        });
        let stream = dial(&network);
        (network, stream)
    }

    fn dial(network: &Network) -> TcpStream {
        let stream = TcpStream::connect(network.relays[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn echoes(stream: &mut TcpStream) -> bool {
        let mut answer = [0; 4];
        stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok()
    }

    #[test]
    fn a_closed_pair_is_closed_until_it_is_healed() {
        let (network, mut stream) = two_brokers();
        assert!(echoes(&mut stream));
        network.cut(2, 1, Cut::Closed);
        assert!(!echoes(&mut stream));
        assert!(!echoes(&mut dial(&network)));
        network.heal(1, 2);
        assert!(echoes(&mut dial(&network)));
    }

    #[test]
    fn a_silent_pair_hears_everything_when_it_is_healed() {
        let (network, mut stream) = two_brokers();
        assert!(echoes(&mut stream));
        network.cut(1, 2, Cut::Silent);
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(!echoes(&mut stream));
        network.heal(1, 2);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ping");
    }
}
