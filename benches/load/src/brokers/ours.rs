//! This project's broker, on its defaults but for the store: Mosquitto runs without persistence, too.

use std::path::Path;

use super::{Launch, Ports, Transport, certificate};

/// Its start.
pub(super) fn launch(program: &Path, threads: u32, dir: &Path, ports: Ports) -> Launch {
    let mut command = vec![program.display().to_string()];
    let mut flag = |name: &str, value: String| command.extend([name.to_owned(), value]);
    flag("--threads", threads.to_string());
    flag("--port", ports.plain.to_string());
    flag("--data-dir", dir.join("store").display().to_string());
    match ports.extra {
        None | Some((Transport::Plain, _)) => {}
        Some((Transport::Tls, port)) => {
            let (certificate, key) = certificate(dir);
            flag("--tls-port", port.to_string());
            flag("--cert", certificate);
            flag("--key", key);
        }
        Some((Transport::WebSocket, port)) => flag("--ws-port", port.to_string()),
    }
    command.push("--no-database".to_owned());
    Launch { command, config: None, ports }
}
