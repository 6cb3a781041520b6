//! Why a server could not be reached, in one sentence that says what, where and what to do.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "these enums are not ours and grow: what is not named here speaks for itself"
)]

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

/// Why the way to the server could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The host name means nothing to the resolver.
    #[error("unknown host {host}: {source} (say the server with -h HOST)")]
    UnknownHost {
        /// The name that was asked for.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// No address answered.
    #[error("{}", describe_connect(to, source))]
    Connect {
        /// The address, the last one of several.
        to: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The local address of `-A` cannot be used.
    #[error("cannot connect from {from}: {source} (-A names an address of this machine)")]
    Bind {
        /// The local address.
        from: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A step took too long.
    #[error("no answer from {to} in time (is it the right port? does the server speak TLS?)")]
    Timeout {
        /// The address.
        to: String,
    },
    /// The TLS handshake failed.
    #[error("TLS with {to} failed: {}", describe_tls(source))]
    Tls {
        /// The address.
        to: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The name to verify is no host name.
    #[error("{name} cannot be verified as the name of a server (say --sni NAME)")]
    ServerName {
        /// The name.
        name: String,
    },
    /// The WebSocket upgrade failed.
    #[error("{to} did not accept a WebSocket: {reason} (without --ws for plain MQTT)")]
    WebSocket {
        /// The address.
        to: String,
        /// What the server answered instead.
        reason: String,
    },
    /// The proxy refused.
    #[error("the proxy {proxy} {reason}")]
    Proxy {
        /// The address of the proxy.
        proxy: String,
        /// What it said.
        reason: String,
    },
}

fn describe_connect(to: &str, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("connection refused by {to}: nothing listens there (say -h HOST and -p PORT)")
        }
        io::ErrorKind::NotFound => format!("no socket at {to}: is the server running?"),
        _ => format!("cannot connect to {to}: {source}"),
    }
}

/// Names what ended an open stream; TLS alerts that come after the handshake get their advice.
pub(in crate::client) fn describe_stream_error(error: &io::Error) -> String {
    if rustls_error(error).is_some() {
        return describe_tls(error);
    }
    error.to_string()
}

fn describe_tls(error: &io::Error) -> String {
    let Some(cause) = rustls_error(error) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                "the server hung up: is this its TLS port?".to_owned()
            }
            _ => error.to_string(),
        };
    };
    match cause {
        rustls::Error::InvalidCertificate(reason) => describe_certificate(reason),
        rustls::Error::InvalidMessage(_) => {
            "the server did not answer in TLS: is this its TLS port?".to_owned()
        }
        rustls::Error::AlertReceived(alert) => describe_alert(*alert),
        other => other.to_string(),
    }
}

fn describe_certificate(reason: &CertificateError) -> String {
    match reason {
        CertificateError::UnknownIssuer => {
            "unknown issuer of the server's certificate (say --cafile FILE, --capath DIR or \
             --tls-use-os-certs)"
                .to_owned()
        }
        CertificateError::NotValidForName => {
            "the server's certificate is for another name (say --sni NAME, or --insecure)"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } => format!(
            "the server's certificate is for {} (say --sni NAME, or --insecure)",
            presented.join(", ")
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired".to_owned()
        }
        other => format!("the server's certificate is not acceptable: {other}"),
    }
}

fn describe_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
            "the server wants a client certificate (say --cert FILE and --key FILE)".to_owned()
        }
        AlertDescription::UnknownCA | AlertDescription::BadCertificate => {
            "the server does not accept this client's certificate (--cert, --key)".to_owned()
        }
        AlertDescription::ProtocolVersion => {
            "the server speaks another TLS version (see --tls-version)".to_owned()
        }
        AlertDescription::NoApplicationProtocol => {
            "the server knows none of the offered protocols (see --tls-alpn)".to_owned()
        }
        other => format!("the server sent the alert {other:?}"),
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    let mut source: Option<&(dyn Error + 'static)> = error.get_ref().map(|it| it as _);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        source = error.source();
    }
    None
}
