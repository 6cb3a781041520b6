//! The byte copier, which is built beside the runner.

use std::{io, path::Path};

use super::{Launch, Ports};

/// Its start.
pub(super) fn launch(ports: Ports) -> io::Result<Launch> {
    let program = std::env::current_exe()?.with_file_name("floor");
    // Shown as people would type it.
    let program = match std::env::current_dir() {
        Ok(dir) => program.strip_prefix(dir).map(Path::to_owned).unwrap_or(program),
        Err(_) => program,
    };
    let command = vec![program.display().to_string(), ports.plain.to_string()];
    Ok(Launch { command, config: None, ports })
}
