//! Where the ensemble is.

use std::fmt;
use std::str::FromStr;

/// The servers of an ensemble and the znode below which everything of ours lies, as ZooKeeper's own
/// programs write it: `host:2181,host:2181/chroot`.
///
/// Host names are resolved with each connection, so that one that does not resolve yet may later.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Servers {
    hosts: String,
    chroot: Option<String>,
}

/// Why a list of servers is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ServersError {
    /// A host without a name.
    #[error("there is a server without a host name in `{0}`: write host:2181,host:2181/chroot")]
    NoHost(String),
    /// A port that is none.
    #[error("`{0}` is no port of a server")]
    Port(String),
    /// A path that is none.
    #[error("`{0}` is no path of a znode: write /name or /name/name, with single slashes")]
    Chroot(String),
}

impl Servers {
    /// The servers, without the path.
    pub(super) fn hosts(&self) -> &str {
        &self.hosts
    }

    /// The same servers, and everything below `path` unless they were given with a path.
    ///
    /// # Panics
    ///
    /// `path` is none.
    #[must_use]
    pub fn or_below(self, path: &str) -> Self {
        let default = || parse_chroot(path).expect("the default path of a cluster is one");
        Self { chroot: self.chroot.or_else(default), hosts: self.hosts }
    }

    /// The path below which everything lies, unless that is the root.
    pub(super) fn chroot(&self) -> Option<&str> {
        self.chroot.as_deref()
    }
}

impl FromStr for Servers {
    type Err = ServersError;

    fn from_str(text: &str) -> Result<Self, ServersError> {
        let (hosts, chroot) = match text.find('/') {
            Some(slash) => text.split_at(slash),
            None => (text, ""),
        };
        let hosts: Vec<_> = hosts.split(',').map(str::trim).collect();
        hosts.iter().try_for_each(|host| check_host(host, text))?;
        Ok(Self { hosts: hosts.join(","), chroot: parse_chroot(chroot)? })
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.hosts, self.chroot().unwrap_or_default())
    }
}

fn check_host(server: &str, text: &str) -> Result<(), ServersError> {
    // An IPv6 address stands in brackets when a port follows.
    let end_of_host = server.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match server.get(end_of_host..).and_then(|rest| rest.rfind(':')) {
        Some(colon) => (server.get(..end_of_host + colon), server.get(end_of_host + colon + 1..)),
        None => (Some(server), None),
    };
    if host.is_none_or(|host| host.is_empty() || host == "[]") {
        return Err(ServersError::NoHost(text.to_owned()));
    }
    match port {
        Some(port) if !matches!(port.parse::<u16>(), Ok(1..)) => {
            Err(ServersError::Port(server.to_owned()))
        }
        _ => Ok(()),
    }
}

fn parse_chroot(path: &str) -> Result<Option<String>, ServersError> {
    let given = path;
    let path = path.trim_end_matches('/');
    let Some(names) = path.strip_prefix('/') else { return Ok(None) };
    let is_name = |name: &str| {
        !matches!(name, "" | "." | "..") && !name.chars().any(|c| c.is_control() || c == ',')
    };
    if names.split('/').all(is_name) {
        return Ok(Some(path.to_owned()));
    }
    Err(ServersError::Chroot(given.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, hosts: &str, chroot: Option<&str>) {
        let servers: Servers = text.parse().unwrap();
        assert_eq!((servers.hosts(), servers.chroot()), (hosts, chroot));
    }

    #[test]
    fn hosts_ports_and_a_chroot_are_told_apart() {
        check("zoo", "zoo", None);
        check("a:2181, b:2182", "a:2181,b:2182", None);
        check("a:2181,b/", "a:2181,b", None);
        check("a,b:2181/mqttzoo/one", "a,b:2181", Some("/mqttzoo/one"));
        check("[::1]:2181/x/", "[::1]:2181", Some("/x"));
        check("[::1]", "[::1]", None);
        check("a//", "a", None);
        check("a/x//", "a", Some("/x"));
        assert_eq!("a,b:1/c".parse::<Servers>().unwrap().to_string(), "a,b:1/c");
    }

    /// `host:2181/` was the root, where `host:2181` was `/mqttzoo`: of two brokers of which one was
    /// given a slash too many each was a cluster of its own.
    #[test]
    fn a_slash_at_the_end_means_nothing() {
        for (text, path) in
            [("a", "/mqttzoo"), ("a/", "/mqttzoo"), ("a//", "/mqttzoo"), ("a/x/", "/x")]
        {
            let servers = text.parse::<Servers>().unwrap().or_below("/mqttzoo");
            assert_eq!(servers.chroot(), Some(path), "{text}");
        }
    }

    #[test]
    fn what_is_no_list_of_servers_is_refused() {
        for text in ["", ",", "a,", ":2181", "/x", "[]:1"] {
            assert!(matches!(text.parse::<Servers>(), Err(ServersError::NoHost(_))), "{text}");
        }
        for text in ["a:", "a:0", "a:70000", "a:x", "[::1]:x"] {
            assert!(matches!(text.parse::<Servers>(), Err(ServersError::Port(_))), "{text}");
        }
        for text in ["a//x", "a/x//y", "a///x/", "a/./x", "a/..", "a/x,b:1"] {
            assert!(matches!(text.parse::<Servers>(), Err(ServersError::Chroot(_))), "{text}");
        }
    }
}
