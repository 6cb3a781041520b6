//! Mosquitto with nodelay, without queue limits and without persistence.
//!
//! Its limit of 20 messages in flight goes, too: a publisher at Quality of Service 2 whose window
//! is larger is disconnected for it.

use std::{fmt::Write as _, path::Path};

use super::{Launch, Ports, Transport, certificate};

/// Its start.
pub(super) fn launch(program: &Path, dir: &Path, ports: Ports) -> Launch {
    let mut text = format!("listener {} 127.0.0.1\n", ports.plain);
    match ports.extra {
        None | Some((Transport::Plain, _)) => {}
        Some((Transport::Tls, port)) => {
            let (certificate, key) = certificate(dir);
            let _ =
                writeln!(text, "listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}");
        }
        Some((Transport::WebSocket, port)) => {
            let _ = writeln!(text, "listener {port} 127.0.0.1\nprotocol websockets");
        }
    }
    text += OPTIONS;
    let path = dir.join("mosquitto.conf");
    let command = vec![program.display().to_string(), "-c".to_owned(), path.display().to_string()];
    Launch { command, config: Some((path, text)), ports }
}

const OPTIONS: &str = "\
user root
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
max_inflight_messages 0
persistence false
log_dest none
";
