//! Every way to a server: names, sockets, TLS with all its mistakes, WebSocket, a proxy.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::{PUB, SUB, run};
use crate::harness::{Broker, fresh_dir};

/// Publishes a retained message and reads it back the same way.
#[track_caller]
fn check_round_trip(way: &[&str]) {
    let ran = run(PUB, &[way, &["-t", "way", "-m", "hello", "-q", "1", "-r"]].concat());
    assert_eq!(ran.code(), 0, "{way:?}: {}", ran.stderr);
    let ran = run(SUB, &[way, &["-t", "way", "-C", "1", "-q", "2"]].concat());
    assert_eq!((ran.code(), ran.text().as_str()), (0, "hello\n"), "{way:?}: {}", ran.stderr);
}

#[track_caller]
fn check_refused(way: &[&str], code: i32, says: &str) {
    let ran = run(PUB, &[way, &["-m", "x", "-q", "1"]].concat());
    assert_eq!(ran.code(), code, "{way:?}: {}", ran.stderr);
    assert!(ran.stderr.contains(says), "{way:?}: {says:?} is not in {:?}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[test]
fn names_addresses_urls_and_sockets() {
    let broker = Broker::start_with(|directory| {
        vec!["--unix".to_owned(), directory.join("socket").display().to_string()]
    });
    let port = broker.port().to_string();
    check_round_trip(&["-p", &port]);
    check_round_trip(&["-p", &port, "-h", "127.0.0.1", "-A", "127.0.0.1"]);
    check_round_trip(&["-L", &format!("mqtt://127.0.0.1:{port}")]);
    let socket = broker.directory().join("socket").display().to_string();
    check_round_trip(&["--unix", &socket]);
    check_refused(&["-p", &port, "-A", "192.0.2.1"], 3, "-A names an address of this machine");
}

#[test]
fn a_websocket_carries_packets_of_any_size() {
    let broker = Broker::start(&["--ws-port", "0"]);
    let port = broker.ports().ws[0].to_string();
    check_round_trip(&["--ws", "-p", &port]);
    check_round_trip(&["-L", &format!("ws://127.0.0.1:{port}/way")]);
    let big = ["--ws", "-p", &port, "-t", "big", "--size", "300000", "-r", "-q", "1"];
    assert_eq!(run(PUB, &big).code(), 0);
    let ran = run(SUB, &["--ws", "-p", &port, "-t", "big", "-C", "1", "-N"]);
    assert_eq!(ran.stdout.len(), 300_000);
    let plain = broker.port().to_string();
    check_refused(&["--ws", "-p", &plain], 3, "did not accept a WebSocket");
}

/// Certificates of one authority: for a server, another server's name, and a client.
struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    fn new() -> Self {
        let directory = fresh_dir("certificates");
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(directory.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for (name, host) in [("server", "localhost"), ("other", "other.example"), ("client", "me")]
        {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
            fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn broker(&self, name: &str, further: &[&str]) -> Broker {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        let tls = ["--tls-port", "0", "--wss-port", "0", "--cert", &cert, "--key", &key];
        Broker::start(&[&tls[..], further].concat())
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn tls_verifies_the_server_and_every_mistake_says_what_to_do() {
    let certificates = Certificates::new();
    let broker = certificates.broker("server", &[]);
    let (tls, wss) = (broker.ports().tls[0].to_string(), broker.ports().wss[0].to_string());
    let (ca, plain) = (certificates.path("ca.pem"), broker.port().to_string());
    let trusted = Path::new(&certificates.directory).join("trusted");
    fs::create_dir(&trusted).unwrap();
    fs::copy(&ca, trusted.join("ca.crt")).unwrap();

    check_round_trip(&["-p", &tls, "--cafile", &ca]);
    check_round_trip(&["-p", &tls, "--capath", &trusted.display().to_string()]);
    for version in ["tlsv1.2", "tlsv1.3"] {
        check_round_trip(&["-p", &tls, "--cafile", &ca, "--tls-version", version]);
    }
    check_round_trip(&["-p", &wss, "--cafile", &ca, "--ws"]);
    check_round_trip(&["-L", &format!("mqtts://localhost:{tls}"), "--cafile", &ca]);

    check_refused(&["-p", &tls, "--tls"], 3, "unknown issuer");
    check_refused(&["-p", &tls, "--tls", "--insecure"], 3, "say --cafile FILE");
    check_refused(&["-p", &plain, "--cafile", &ca], 3, "is this its TLS port?");
    check_refused(&["-p", &tls], 3, "say --");
    check_refused(&["-p", &tls, "--cafile", &ca, "--sni", "not a name"], 3, "say --sni NAME");
}

#[test]
fn insecure_drops_the_name_and_nothing_else() {
    let certificates = Certificates::new();
    let broker = certificates.broker("other", &[]);
    let (tls, ca) = (broker.ports().tls[0].to_string(), certificates.path("ca.pem"));
    check_refused(&["-p", &tls, "--cafile", &ca], 3, "certificate is for");
    check_refused(&["-p", &tls, "--cafile", &ca], 3, "other.example");
    check_round_trip(&["-p", &tls, "--cafile", &ca, "--sni", "other.example"]);
    check_round_trip(&["-p", &tls, "--cafile", &ca, "--insecure"]);
    check_refused(&["-p", &tls, "--tls", "--insecure"], 3, "unknown issuer");
}

#[test]
fn a_server_may_want_a_certificate_of_the_client() {
    let certificates = Certificates::new();
    let ca = certificates.path("ca.pem");
    let broker = certificates.broker("server", &["--cafile", &ca]);
    let tls = broker.ports().tls[0].to_string();
    let (cert, key) = (certificates.path("client.pem"), certificates.path("client.key"));
    check_refused(&["-p", &tls, "--cafile", &ca], 3, "say --cert FILE and --key FILE");
    check_round_trip(&["-p", &tls, "--cafile", &ca, "--cert", &cert, "--key", &key]);
}

#[test]
fn a_socks_proxy_is_told_the_name() {
    let broker = Broker::start(&[]);
    let port = broker.port();
    let proxy = start_proxy(port);
    let url = format!("socks5h://us%40er:pass@127.0.0.1:{proxy}");
    let port = port.to_string();
    let way = ["-h", "broker.invalid", "-p", &port, "--proxy", &url];
    let ran = run(PUB, &[&way[..], &["-t", "way", "-m", "hello", "-q", "1"]].concat());
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let wrong = format!("socks5h://127.0.0.1:{proxy}");
    check_refused(&["-p", &port, "--proxy", &wrong], 3, "wants another authentication");
}

/// A proxy for two clients: it wants the user `us@er`, and knows the way to `broker.invalid`.
fn start_proxy(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().take(2) {
            let mut client = client.unwrap();
            let mut greeting = [0; 3];
            client.read_exact(&mut greeting).unwrap();
            if greeting != [5, 1, 2] {
                client.write_all(&[5, 0xff]).unwrap();
                continue;
            }
            client.write_all(&[5, 2]).unwrap();
            let mut login = [0; 12];
            client.read_exact(&mut login).unwrap();
            assert_eq!(&login, b"\x01\x05us@er\x04pass");
            client.write_all(&[1, 0]).unwrap();
            let mut request = [0; 5 + 14 + 2];
            client.read_exact(&mut request).unwrap();
            assert_eq!(&request[..19], b"\x05\x01\x00\x03\x0ebroker.invalid");
            assert_eq!(request[19..], port.to_be_bytes());
            client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).unwrap();
            relay(client, TcpStream::connect(("127.0.0.1", port)).unwrap());
        }
    });
    own
}

fn relay(client: TcpStream, server: TcpStream) {
    let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let mut server = server;
    thread::spawn(move || {
        let _ended = std::io::copy(&mut up, &mut server);
        server.shutdown(std::net::Shutdown::Write)
    });
    let mut client = client;
    let _ended = std::io::copy(&mut down, &mut client);
}
