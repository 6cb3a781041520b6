//! Who has the port we want, as far as the system tells: it names our own user's programs only,
//! unless we are root.

use std::fs;
use std::path::Path;

/// The program that listens on TCP `port`, like `mosquitto (process 4711)`.
#[must_use]
pub fn owner_of(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.iter().filter_map(|path| fs::read_to_string(path).ok());
    let inodes: Vec<_> = tables.flat_map(|table| listening_inodes(&table, port)).collect();
    if inodes.is_empty() {
        return None;
    }
    let sockets: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        has_one_of(&entry.path(), &sockets).then(|| program(&entry.path(), id))
    })
}

/// The inodes of sockets that listen on `port` in a table like `/proc/net/tcp`.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    let suffix = format!(":{port:04X}");
    let inode = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        (local.ends_with(&suffix) && state == LISTEN).then(|| inode.parse().ok()).flatten()
    };
    table.lines().filter_map(inode).collect()
}

fn has_one_of(process: &Path, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets
        .into_iter()
        .any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

fn program(process: &Path, id: u32) -> String {
    if id == std::process::id() {
        return OURSELVES.to_owned();
    }
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    match name.trim() {
        "" => format!("process {id}"),
        name => format!("{name} (process {id})"),
    }
}

const LISTEN: &str = "0A";
const OURSELVES: &str = "another listener of this broker";

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn our_own_listener_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(owner_of(port).as_deref(), Some(OURSELVES));
    }

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n\
            0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 17 1\n\
            1: 0100007F:075B 0100007F:C350 01 00000000:00000000 00:00000000 00000000 0 0 18 1\n\
            2: 0100007F:075C 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 19 1\n";
        assert_eq!(listening_inodes(table, 1883), [17]);
    }
}
