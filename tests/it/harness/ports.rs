//! Ports that nobody else is given, for servers that bind some of them later.

use std::net::TcpListener;
use std::ops::Range;

/// A block of ports of the loopback interface, ours as long as this lives.
///
/// The kernel gives none of them to who asks for any port, and connects from none. Other tests take
/// them from here too: whoever listens on the first one has the block.
pub(crate) struct Ports {
    claim: TcpListener,
}

impl Ports {
    /// A block in which nobody listens.
    pub(crate) fn claim() -> Self {
        let blocks = BLOCKS.len() / usize::from(SIZE);
        // Processes that start together look in different places first.
        let start = usize::try_from(std::process::id()).unwrap_or_default();
        let at = |offset| (start + offset) % blocks;
        let first =
            |block: usize| BLOCKS.start + u16::try_from(block).expect("blocks are ports") * SIZE;
        let claimed = (0..blocks).map(at).map(first).find_map(claim_at);
        Self { claim: claimed.expect("a block of ports is free") }
    }

    /// One of them; there are as many as an ensemble of three servers needs.
    pub(crate) fn port(&self, number: usize) -> u16 {
        let number = u16::try_from(number).expect("a block is small");
        assert!(number < SIZE - 1, "a block has {SIZE} ports, and the first one is the claim");
        self.claim.local_addr().expect("it is bound").port() + 1 + number
    }
}

fn claim_at(first: u16) -> Option<TcpListener> {
    let bind = |port| TcpListener::bind(("127.0.0.1", port)).ok();
    let claim = bind(first)?;
    (first + 1..first + SIZE).all(|port| bind(port).is_some()).then_some(claim)
}

/// Below what Linux gives to who asks for any port.
const BLOCKS: Range<u16> = 20_000..32_000;
const SIZE: u16 = 16;

/// A server of ZooKeeper binds the port for its followers when it comes to lead. Ports that were free
/// when the ensemble was started were anybody's until then: when the leader was killed, the next one
/// could not listen, was elected again, could not listen, and so on, and no client had a session for
/// as long as another test had that port.
#[test]
fn what_is_claimed_is_given_to_nobody_else() {
    let (one, other) = (Ports::claim(), Ports::claim());
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let given: Vec<u16> = range.split_whitespace().map(|port| port.parse().unwrap()).collect();
    for number in 0..9 {
        let (mine, yours) = (one.port(number), other.port(number));
        assert!(!(given[0]..=given[1]).contains(&mine), "{mine} is one of {given:?}");
        assert_ne!(mine / SIZE, yours / SIZE);
        // It is free, and stays so until it is bound.
        TcpListener::bind(("127.0.0.1", mine)).unwrap();
    }
}
