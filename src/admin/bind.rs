//! Opening the socket. Every failure is one line: what, where, what to do.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::runtime::port_owner::owner_of;

/// An administration port that is open. Clients may connect already; [`Self::serve`] answers them.
#[derive(Debug)]
pub struct BoundAdmin {
    pub(super) socket: Socket,
    address: SocketAddr,
}

/// Why the port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminBindError {
    /// Another program has the port.
    #[error(
        "--admin-port {} is taken on {} by {}: stop it, or choose another port",
        address.port(), address.ip(), owner.as_deref().unwrap_or("another program")
    )]
    PortTaken {
        /// The address and port.
        address: SocketAddr,
        /// Its program, if the system tells.
        owner: Option<String>,
    },
    /// The system does not let us.
    #[error(
        "--admin-port {}: no permission to listen on {address}: choose a port from 1024 on",
        address.port()
    )]
    Permission {
        /// The address and port.
        address: SocketAddr,
    },
    /// The address is not one of this machine.
    #[error(
        "--admin-host {}: not an address of this machine: choose one that `ip address` shows, or \
         0.0.0.0 for all", .address.ip()
    )]
    NotOurAddress {
        /// The address and port.
        address: SocketAddr,
    },
    /// Something else.
    #[error("--admin-port {}: cannot listen on {address}", address.port())]
    Other {
        /// The address and port.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Opens the administration port; 0 is any free one.
///
/// # Errors
/// It cannot be had.
pub fn bind(host: IpAddr, port: u16) -> Result<BoundAdmin, AdminBindError> {
    let address = SocketAddr::new(host, port);
    let (socket, address) = open(address).map_err(|error| bind_error(address, error))?;
    Ok(BoundAdmin { socket, address })
}

impl BoundAdmin {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Accepted sockets inherit the options.
fn open(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    // Who does not read its answer is let go.
    socket.set_tcp_user_timeout(Some(UNREAD_MAX))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

fn bind_error(address: SocketAddr, source: io::Error) -> AdminBindError {
    match Errno::from_io_error(&source) {
        Some(Errno::ADDRINUSE) => {
            AdminBindError::PortTaken { address, owner: owner_of(address.port()) }
        }
        Some(Errno::ACCESS | Errno::PERM) => AdminBindError::Permission { address },
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => AdminBindError::NotOurAddress { address },
        _ => AdminBindError::Other { address, source },
    }
}

const BACKLOG: i32 = 128;
const UNREAD_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_who_has_it() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let line = bind([127, 0, 0, 1].into(), port).unwrap_err().to_string();
        let begin = format!("--admin-port {port} is taken on 127.0.0.1 by ");
        assert!(line.starts_with(&begin) && line.contains("of this broker"), "{line}");
    }

    #[test]
    fn an_address_of_another_machine_is_said() {
        let line = bind([192, 0, 2, 1].into(), 0).unwrap_err().to_string();
        assert!(line.starts_with("--admin-host 192.0.2.1: not an address"), "{line}");
    }
}
