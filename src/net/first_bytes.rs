//! A client at the wrong port is told apart by its first bytes, so that the log says what to do.

/// What a client seems to speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Speech {
    /// A CONNECT packet.
    Mqtt,
    /// A TLS handshake record.
    Tls,
    /// An HTTP request.
    Http,
    /// A PROXY protocol header, either version.
    Proxy,
    /// Something else, or too few bytes to say.
    Other,
}

impl Speech {
    /// Recognises the first bytes of a connection; a handful is enough.
    pub(super) fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x16, 0x03, ..] => Self::Tls,
            [0x10, ..] => Self::Mqtt,
            _ if bytes.starts_with(b"PROXY ") || bytes.starts_with(PROXY_V2_PREFIX) => Self::Proxy,
            _ if HTTP_METHODS.iter().any(|method| bytes.starts_with(method)) => Self::Http,
            _ => Self::Other,
        }
    }
}

/// What a client whose first bytes are no CONNECT packet does wrong, in one line for the log.
///
/// For connections of plain listeners; listeners with handshakes diagnose by themselves.
#[must_use]
pub fn diagnose_first_bytes(bytes: &[u8]) -> Option<&'static str> {
    match Speech::of(bytes) {
        Speech::Tls => Some(
            "the client speaks TLS to a listener without TLS: \
             connect it to the TLS port, or turn TLS off in the client",
        ),
        Speech::Http => Some(
            "the client speaks HTTP to an MQTT listener: WebSocket clients belong to the \
             WebSocket port, metrics and health checks to the admin port",
        ),
        Speech::Proxy => Some(
            "the client sends a PROXY protocol header to a listener that does not expect one: \
             set proxy_protocol on the listener, or turn it off in the proxy",
        ),
        Speech::Mqtt | Speech::Other => None,
    }
}

const PROXY_V2_PREFIX: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

const HTTP_METHODS: [&[u8]; 9] = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"PRI ",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_mistakes_are_recognised() {
        let diagnosis = |bytes: &[u8]| diagnose_first_bytes(bytes).unwrap_or("nothing");
        assert!(diagnosis(&[0x16, 0x03, 0x01, 0x02, 0x00]).contains("speaks TLS"));
        assert!(diagnosis(b"GET / HTTP/1.1\r\n").contains("speaks HTTP"));
        assert!(diagnosis(b"POST /x").contains("speaks HTTP"));
        assert!(diagnosis(b"PROXY TCP4 1.2.3.4").contains("PROXY protocol"));
        assert!(diagnosis(PROXY_V2_PREFIX).contains("PROXY protocol"));
    }

    #[test]
    fn what_is_mqtt_or_unknown_is_left_to_the_decoder() {
        for bytes in [&b"\x10\x0c\x00\x04MQTT"[..], b"", b"\x16", b"hello", b"GE"] {
            assert_eq!(diagnose_first_bytes(bytes), None);
        }
    }
}
