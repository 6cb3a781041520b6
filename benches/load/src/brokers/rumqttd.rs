//! rumqttd, with its example configuration's router and room for the row's connections.

use std::{fmt::Write as _, path::Path};

use super::{Launch, Ports};

/// Its start.
pub(super) fn launch(program: &Path, dir: &Path, ports: Ports) -> Launch {
    let mut text = ROUTER.to_owned();
    for (version, port) in [("v4", ports.plain), ("v5", ports.v5)] {
        let _ = writeln!(
            text,
            "[{version}.1]\nname = \"{version}\"\nlisten = \"127.0.0.1:{port}\"\n\
             next_connection_delay_ms = 0\n[{version}.1.connections]\n\
             connection_timeout_ms = 60000\nmax_payload_size = 1048576\n\
             max_inflight_count = 1000\ndynamic_filters = true",
        );
    }
    let path = dir.join("rumqttd.toml");
    let command = vec![program.display().to_string(), "-c".to_owned(), path.display().to_string()];
    Launch { command, config: Some((path, text)), ports }
}

const ROUTER: &str = "\
id = 0
[router]
id = 0
max_connections = 20000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
";
