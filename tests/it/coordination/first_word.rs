//! A server that is lost when it has said its first word.

use std::io::{Read, Write, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use mqttzoo::ports::coordination::CoordinationEvent;

use super::client::Client;
use crate::harness::{Ensemble, Ttl};

/// The way to a real server. A second connection on it ends behind the first packet of the server, and
/// there is no third one.
struct ShortWay {
    address: SocketAddr,
    first: Receiver<TcpStream>,
}

impl ShortWay {
    fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, first) = sync_channel(1);
        thread::spawn(move || {
            let (mut client, mut from_server) = meet(&listener, &server);
            sender.send(client.try_clone().unwrap()).unwrap();
            let _cut = copy(&mut from_server, &mut client);
            let (mut client, mut from_server) = meet(&listener, &server);
            drop(listener);
            client.write_all(&packet(&mut from_server)).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        Self { address, first }
    }

    /// Ends the first connection.
    fn cut(&self) {
        self.first.recv().unwrap().shutdown(Shutdown::Both).unwrap();
    }
}

/// A client and its server; what the client says is passed on, until it has nothing more to say.
fn meet(listener: &TcpListener, server: &str) -> (TcpStream, TcpStream) {
    let (client, _) = listener.accept().unwrap();
    let server = TcpStream::connect(server).unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ended = copy(&mut from, &mut to);
        let _ended = to.shutdown(Shutdown::Both);
    });
    (client, server)
}

/// A length, and as many bytes.
fn packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut packet = vec![0; 4 + usize::try_from(u32::from_be_bytes(length)).unwrap()];
    packet[..4].copy_from_slice(&length);
    stream.read_exact(&mut packet[4..]).unwrap();
    packet
}

/// The client of a server that took the session and died before it answered anything said that it was
/// connected, and nothing else until it ended the session itself, long after the ensemble. Who had
/// watches or asked for something noticed; who did not was connected, as far as it knew.
#[test]
fn a_server_that_is_lost_after_its_first_word_is_missed() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let way = ShortWay::to(ensemble.server(0));
    let mut client = Client::connect_for(&way.address.to_string(), Duration::from_secs(6));
    way.cut();
    assert_eq!(client.next_event(), CoordinationEvent::Disconnected);
    assert_eq!(client.next_event(), CoordinationEvent::Expired);
}
