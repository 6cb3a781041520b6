//! How large a lease should be.

use super::funds::Funds;

/// An account, as far as the size of its lease depends on it.
pub(super) struct Books {
    pub(super) lease: Funds,
    pub(super) used: Funds,
    /// A wish that was refused for want of room.
    pub(super) wanted: Funds,
    /// One that was granted since: room that waits for whoever wished for it.
    pub(super) granted: Funds,
    /// What is asked for at once.
    pub(super) chunk: Funds,
    /// What there is to ask for.
    pub(super) free: Funds,
}

/// Between a quarter of a chunk and four of them are room, in a currency that is used at all; more if
/// that much was wished for and has just come.
pub(super) fn lease_after(books: &Books) -> Funds {
    let of = |amount: fn(&Funds) -> u64| {
        let Books { lease, used, wanted, granted, chunk, free } = books;
        one_after(&Currency {
            lease: amount(lease),
            used: amount(used),
            wanted: amount(wanted),
            granted: amount(granted),
            chunk: amount(chunk),
            free: amount(free),
        })
    };
    Funds {
        topics: of(|funds| funds.topics),
        znode_bytes: of(|funds| funds.znode_bytes),
        relay_bytes: of(|funds| funds.relay_bytes),
    }
}

/// The same of one currency.
struct Currency {
    lease: u64,
    used: u64,
    wanted: u64,
    granted: u64,
    chunk: u64,
    free: u64,
}

fn one_after(books: &Currency) -> u64 {
    let Currency { lease, used, wanted, granted, chunk, free } = *books;
    let room = lease.saturating_sub(used);
    let low = if used > 0 { chunk / 4 } else { 0 };
    if room < wanted.max(low) {
        let target = used.saturating_add(chunk.max(wanted));
        return lease + target.saturating_sub(lease).min(free);
    }
    let high = chunk.saturating_mul(4);
    if room > high.max(granted) { used + granted.max(high / 2) } else { lease }
}

/// More than any budget, and small enough to be added to.
pub(super) const UNLIMITED: Funds = Funds { topics: MANY, znode_bytes: MANY, relay_bytes: MANY };
const MANY: u64 = u64::MAX / 4;

#[cfg(test)]
mod tests {
    use super::{Currency, one_after};

    #[test]
    fn a_lease_grows_when_room_is_short_and_shrinks_when_there_is_much() {
        let rows = [
            // lease, used, wanted, granted, free -> lease
            ([0, 0, 0, 0, 900], 0, "nothing is asked for what nobody uses"),
            ([0, 0, 1, 0, 900], 100, "a wish gets a chunk"),
            ([0, 0, 300, 0, 900], 300, "a large wish gets what it takes"),
            ([0, 0, 300, 0, 200], 200, "there is not more than is free"),
            ([100, 76, 0, 0, 900], 176, "low room is filled up ahead of need"),
            ([100, 75, 0, 0, 900], 100, "a quarter of a chunk is enough"),
            ([50, 80, 0, 0, 900], 180, "what exists beyond the lease is covered first"),
            ([500, 100, 0, 0, 0], 500, "four chunks may stay"),
            ([501, 100, 0, 0, 0], 300, "more than four go back, but for two"),
            ([700, 100, 0, 600, 0], 700, "what was granted waits for whoever wished for it"),
            ([701, 100, 0, 600, 0], 700, "what is more than that goes back"),
            ([701, 100, 0, 150, 0], 300, "a small wish changes nothing"),
        ];
        for ([lease, used, wanted, granted, free], after, why) in rows {
            let books = Currency { lease, used, wanted, granted, chunk: 100, free };
            assert_eq!(one_after(&books), after, "{why}");
        }
    }
}
