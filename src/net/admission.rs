//! Who may come in: bounds on connections, on handshakes, and on single addresses.

use super::counters::{NetCounters, Refusal};
use super::options::{ConnectRate, ListenerLimits};
use crate::ports::clock::Tick;
use crate::runtime::shard::ShardPlace;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The connections all listeners of a broker may have together.
#[derive(Debug)]
pub struct ConnectionBudget {
    open: AtomicUsize,
    max: usize,
}

impl ConnectionBudget {
    /// A budget of `max` connections.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), max })
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn take(&self) -> bool {
        if self.open.fetch_add(1, Ordering::Relaxed) < self.max {
            return true;
        }
        self.give_back();
        false
    }

    fn give_back(&self) {
        let before = self.open.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "given back more than was taken");
    }
}

/// The bounds of one listener and what is taken of them.
#[derive(Debug)]
pub(super) struct Admission {
    total: Arc<ConnectionBudget>,
    listener: Arc<ConnectionBudget>,
    half_open: Arc<ConnectionBudget>,
    addresses: Option<Addresses>,
    counters: Arc<NetCounters>,
}

/// One connection's share of every bound, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    admission: Arc<Admission>,
    _place: ShardPlace,
    address: Option<AddressKey>,
    is_half_open: bool,
}

impl Admission {
    pub(super) fn new(
        limits: &ListenerLimits,
        total: Arc<ConnectionBudget>,
        counters: Arc<NetCounters>,
    ) -> Arc<Self> {
        Arc::new(Self {
            total,
            listener: ConnectionBudget::new(limits.connections_max),
            half_open: ConnectionBudget::new(limits.half_open_max),
            addresses: Addresses::new(limits),
            counters,
        })
    }

    /// Lets one more connection in; `place` is taken on the shard where it will live.
    pub(super) fn admit(self: &Arc<Self>, place: ShardPlace) -> Result<Seat, Refusal> {
        if !self.listener.take() {
            return Err(Refusal::ListenerConnections);
        }
        if !self.total.take() {
            self.listener.give_back();
            return Err(Refusal::Connections);
        }
        if !self.half_open.take() {
            self.total.give_back();
            self.listener.give_back();
            return Err(Refusal::HalfOpen);
        }
        self.counters.open.up();
        self.counters.half_open.up();
        Ok(Seat { admission: self.clone(), _place: place, address: None, is_half_open: true })
    }
}

impl Seat {
    /// Counts the connection against the bounds of its address, once that is known.
    pub(super) fn claim_address(&mut self, ip: IpAddr, now: Tick) -> Result<(), Refusal> {
        debug_assert!(self.address.is_none(), "an address is claimed once");
        let Some(addresses) = &self.admission.addresses else {
            return Ok(());
        };
        let key = AddressKey::of(ip);
        addresses.claim(key, now)?;
        self.address = Some(key);
        Ok(())
    }

    /// The connection has said CONNECT: it no longer counts as half open.
    pub(super) fn mark_established(&mut self) {
        if std::mem::take(&mut self.is_half_open) {
            self.admission.half_open.give_back();
            self.admission.counters.half_open.down();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.mark_established();
        if let (Some(addresses), Some(key)) = (&self.admission.addresses, self.address) {
            addresses.give_back(key);
        }
        self.admission.total.give_back();
        self.admission.listener.give_back();
        self.admission.counters.open.down();
    }
}

/// What counts as one address: an IPv4 address, or the /64 that one IPv6 customer has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum AddressKey {
    V4(Ipv4Addr),
    /// The first half.
    V6([u16; 4]),
}

impl AddressKey {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// The bounds of single addresses. An entry is kept while it limits: while a connection is open,
/// or its bucket is not full again.
#[derive(Debug)]
struct Addresses {
    connections_max: u32,
    rate: Option<ConnectRate>,
    entries: Mutex<HashMap<AddressKey, Entry>>,
}

#[derive(Debug)]
struct Entry {
    open: u32,
    /// Thousandths of a token, so that a millisecond of a slow rate is not lost in rounding.
    millitokens: u64,
    refilled: Tick,
}

impl Addresses {
    fn new(limits: &ListenerLimits) -> Option<Self> {
        if limits.connections_per_address_max.is_none() && limits.connect_rate_per_address.is_none()
        {
            return None;
        }
        Some(Self {
            connections_max: limits.connections_per_address_max.unwrap_or(u32::MAX),
            rate: limits.connect_rate_per_address,
            entries: Mutex::default(),
        })
    }

    fn claim(&self, key: AddressKey, now: Tick) -> Result<(), Refusal> {
        let mut entries = self.entries.lock();
        if entries.len() >= ADDRESSES_MAX && !entries.contains_key(&key) {
            entries.retain(|_, entry| !self.is_idle(entry, now));
            if entries.len() >= ADDRESSES_MAX {
                return Err(Refusal::Addresses);
            }
        }
        let full = self.rate.map_or(0, bucket_size);
        let entry =
            entries.entry(key).or_insert(Entry { open: 0, millitokens: full, refilled: now });
        if entry.open >= self.connections_max {
            return Err(Refusal::AddressConnections);
        }
        if let Some(rate) = self.rate {
            entry.refill(rate, now);
            let Some(rest) = entry.millitokens.checked_sub(MILLITOKENS) else {
                return Err(Refusal::AddressRate);
            };
            entry.millitokens = rest;
        }
        entry.open += 1;
        Ok(())
    }

    fn give_back(&self, key: AddressKey) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(&key) else {
            debug_assert!(false, "an entry with a connection is kept");
            return;
        };
        entry.open -= 1;
        if entry.open == 0 && self.rate.is_none() {
            entries.remove(&key);
        }
    }

    fn is_idle(&self, entry: &mut Entry, now: Tick) -> bool {
        if entry.open > 0 {
            return false;
        }
        self.rate.is_none_or(|rate| {
            entry.refill(rate, now);
            entry.millitokens >= bucket_size(rate)
        })
    }
}

impl Entry {
    fn refill(&mut self, rate: ConnectRate, now: Tick) {
        let gained = now.saturating_since(self.refilled).saturating_mul(u64::from(rate.per_sec));
        self.millitokens = self.millitokens.saturating_add(gained).min(bucket_size(rate));
        self.refilled = now;
    }
}

fn bucket_size(rate: ConnectRate) -> u64 {
    u64::from(rate.burst.max(1)) * MILLITOKENS
}

const MILLITOKENS: u64 = 1_000;

/// About 100 MiB at the worst.
const ADDRESSES_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Shards;

    fn check(limits: &ListenerLimits, total: usize, steps: impl FnOnce(&dyn Fn() -> Outcome)) {
        let shards = Shards::start(1, 1).unwrap();
        let handles = shards.handles();
        let counters = Arc::new(NetCounters::default());
        let admission = Admission::new(limits, ConnectionBudget::new(total), counters.clone());
        steps(&|| admission.admit(handles.pick().take_place()));
        assert_eq!(handles.pick().connection_count(), 0);
        assert_eq!((counters.open.value(), counters.half_open.value()), (0, 0));
        assert_eq!(admission.total.open(), 0);
        shards.stop(std::time::Duration::from_secs(10));
    }

    type Outcome = Result<Seat, Refusal>;

    #[test]
    fn each_bound_refuses_and_gives_everything_back() {
        let few = ListenerLimits { connections_max: 2, ..ListenerLimits::default() };
        check(&few, 10, |admit| {
            let seats = [admit().unwrap(), admit().unwrap()];
            assert_eq!(admit().unwrap_err(), Refusal::ListenerConnections);
            drop(seats);
            admit().unwrap();
        });
        check(&few, 1, |admit| {
            let seat = admit().unwrap();
            assert_eq!(admit().unwrap_err(), Refusal::Connections);
            drop(seat);
            admit().unwrap();
        });
    }

    #[test]
    fn half_open_ends_with_connect_or_with_the_connection() {
        let limits = ListenerLimits { half_open_max: 1, ..ListenerLimits::default() };
        check(&limits, 10, |admit| {
            let mut first = admit().unwrap();
            assert_eq!(admit().unwrap_err(), Refusal::HalfOpen);
            first.mark_established();
            first.mark_established();
            drop(admit().unwrap());
            drop(admit().unwrap());
        });
    }

    #[test]
    fn an_address_has_its_own_bound_of_connections() {
        let limits =
            ListenerLimits { connections_per_address_max: Some(1), ..ListenerLimits::default() };
        let (one, other) = (ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        check(&limits, 10, |admit| {
            let claim = |ip| {
                let mut seat = admit()?;
                seat.claim_address(ip, Tick::ZERO).map(|()| seat)
            };
            let seat = claim(one).unwrap();
            let neighbour = claim(ip("2001:db8::ffff"));
            assert_eq!(neighbour.unwrap_err(), Refusal::AddressConnections, "the same /64");
            drop(claim(other).unwrap());
            drop(seat);
            drop(claim(one).unwrap());
        });
    }

    #[test]
    fn an_address_has_a_rate_and_a_burst() {
        let rate = ConnectRate { per_sec: 2, burst: 3 };
        let limits =
            ListenerLimits { connect_rate_per_address: Some(rate), ..ListenerLimits::default() };
        check(&limits, 10, |admit| {
            let claim = |ip, millis| {
                let mut seat = admit().unwrap();
                seat.claim_address(ip, Tick::from_millis(millis))
            };
            let address = ip("192.0.2.1");
            for _ in 0..3 {
                assert_eq!(claim(address, 0), Ok(()));
            }
            assert_eq!(claim(address, 499), Err(Refusal::AddressRate));
            assert_eq!(claim(ip("192.0.2.2"), 499), Ok(()));
            assert_eq!(claim(address, 500), Ok(()));
            assert_eq!(claim(address, 501), Err(Refusal::AddressRate));
        });
    }

    #[test]
    fn entries_that_limit_nothing_are_forgotten() {
        let rate = ConnectRate { per_sec: 1, burst: 1 };
        let limits =
            ListenerLimits { connect_rate_per_address: Some(rate), ..ListenerLimits::default() };
        let addresses = Addresses::new(&limits).unwrap();
        let key = AddressKey::of(ip("192.0.2.1"));
        addresses.claim(key, Tick::ZERO).unwrap();
        let mut entries = addresses.entries.lock();
        let entry = entries.get_mut(&key).unwrap();
        assert!(!addresses.is_idle(entry, Tick::ZERO.plus_secs(9)), "a connection is open");
        entry.open = 0;
        assert!(addresses.is_idle(entry, Tick::ZERO.plus_secs(9)), "the bucket is full again");
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
