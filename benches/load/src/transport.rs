//! Opening an idle session through each way in.
//!
//! Nothing is sent after CONNACK, so what TLS keeps on the load's side is dropped at once.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, Stream,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{
    brokers::Transport,
    error::LoadError,
    floor::Side,
    frames::{CONNACK, Version},
    target::{Opening, Target, dial, hello, read_packet},
    wire::{self, Start},
};

/// A way in, ready to be used many times.
#[derive(Debug)]
pub enum Door {
    /// TCP.
    Plain,
    /// TLS, with what a client needs for it.
    Tls(u16, Arc<ClientConfig>),
    /// WebSocket.
    WebSocket(u16),
}

impl Door {
    /// The door at `extra`, or the plain one.
    ///
    /// # Errors
    /// TLS cannot be configured.
    pub fn new(extra: Option<(Transport, u16)>) -> Result<Self, LoadError> {
        Ok(match extra {
            None | Some((Transport::Plain, _)) => Self::Plain,
            Some((Transport::WebSocket, port)) => Self::WebSocket(port),
            Some((Transport::Tls, port)) => Self::Tls(port, Arc::new(tls_config()?)),
        })
    }

    /// Opens a session and leaves it.
    ///
    /// # Errors
    /// The broker refuses or is silent.
    pub fn open(&self, target: &Target, client_id: &str) -> Result<TcpStream, LoadError> {
        target.patience.check("opening connections")?;
        match self {
            Self::Plain => {
                let opening = Opening {
                    version: Version::V311,
                    client_id,
                    start: Start::Clean,
                    hello: hello(Side::Subscriber, 0, 0),
                };
                Ok(target.open(&opening)?.into_stream())
            }
            Self::Tls(port, config) => open_tls(*port, config, client_id),
            Self::WebSocket(port) => open_websocket(*port, client_id),
        }
    }
}

fn open_tls(
    port: u16,
    config: &Arc<ClientConfig>,
    client_id: &str,
) -> Result<TcpStream, LoadError> {
    let mut socket = dial(port)?;
    let name = ServerName::try_from("localhost").expect("a constant, valid name");
    let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(tls_error)?;
    let mut stream = Stream::new(&mut connection, &mut socket);
    let packet = wire::connect(Version::V311, client_id, Start::Clean);
    stream.write_all(&packet).map_err(LoadError::io("connecting by TLS"))?;
    expect_consent(&mut stream, "connecting by TLS")?;
    Ok(socket)
}

fn open_websocket(port: u16, client_id: &str) -> Result<TcpStream, LoadError> {
    const DOING: &str = "connecting by WebSocket";
    let mut stream = dial(port)?;
    stream.write_all(UPGRADE.as_bytes()).map_err(LoadError::io(DOING))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(LoadError::io(DOING))?;
        head.extend_from_slice(&byte);
        if head.len() > HEAD_MAX {
            return Err(LoadError::Refused("WebSocket with a long answer".to_owned()));
        }
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(LoadError::Refused("WebSocket".to_owned()));
    }
    let packet = wire::connect(Version::V311, client_id, Start::Clean);
    let len = u8::try_from(packet.len()).expect("a CONNECT of the bench is short");
    // A binary frame under the mask zero, which leaves the bytes as they are.
    let mut frame = vec![0x82, 0x80 | len, 0, 0, 0, 0];
    frame.extend_from_slice(&packet);
    stream.write_all(&frame).map_err(LoadError::io(DOING))?;
    let mut header = [0; 2];
    stream.read_exact(&mut header).map_err(LoadError::io(DOING))?;
    expect_consent(&mut stream, DOING)?;
    Ok(stream)
}

fn expect_consent(stream: &mut impl Read, doing: &'static str) -> Result<(), LoadError> {
    let mut body = Vec::new();
    let first = read_packet(stream, &mut body, doing)?;
    if first == CONNACK && body.get(1) == Some(&0) {
        return Ok(());
    }
    Err(LoadError::Refused("CONNECT".to_owned()))
}

fn tls_config() -> Result<ClientConfig, LoadError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(tls_error)?;
    let verifier = Arc::new(AnyCertificate(provider));
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn tls_error(error: rustls::Error) -> LoadError {
    LoadError::Io { doing: "preparing TLS", source: std::io::Error::other(error) }
}

/// Takes any certificate: the broker is our own child, and what is measured is its memory.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const HEAD_MAX: usize = 4096;
const UPGRADE: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
