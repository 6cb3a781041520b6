//! How large a lease should be.

use super::funds::Funds;

/// An account, as far as the size of its lease depends on it.
pub(super) struct Books {
    pub(super) lease: Funds,
    pub(super) used: Funds,
    /// A wish that was refused for want of room.
    pub(super) wanted: Funds,
    /// What is asked for at once.
    pub(super) chunk: Funds,
    /// What there is to ask for.
    pub(super) free: Funds,
}

/// Between a quarter of a chunk and four of them are room, in a currency that is used at all.
pub(super) fn lease_after(books: &Books) -> Funds {
    let of = |amount: fn(&Funds) -> u64| {
        let Books { lease, used, wanted, chunk, free } = books;
        one_after(amount(lease), amount(used), amount(wanted), amount(chunk), amount(free))
    };
    Funds {
        topics: of(|funds| funds.topics),
        znode_bytes: of(|funds| funds.znode_bytes),
        relay_bytes: of(|funds| funds.relay_bytes),
    }
}

fn one_after(lease: u64, used: u64, wanted: u64, chunk: u64, free: u64) -> u64 {
    let room = lease.saturating_sub(used);
    let low = if used > 0 { chunk / 4 } else { 0 };
    if room < wanted.max(low) {
        let target = used.saturating_add(chunk.max(wanted));
        return lease + target.saturating_sub(lease).min(free);
    }
    let high = chunk.saturating_mul(4);
    if room > high { used + high / 2 } else { lease }
}

/// More than any budget, and small enough to be added to.
pub(super) const UNLIMITED: Funds = Funds { topics: MANY, znode_bytes: MANY, relay_bytes: MANY };
const MANY: u64 = u64::MAX / 4;

#[cfg(test)]
mod tests {
    use super::one_after;

    #[test]
    fn a_lease_grows_when_room_is_short_and_shrinks_when_there_is_much() {
        let rows = [
            // lease, used, wanted, chunk, free -> lease
            ([0, 0, 0, 100, 900], 0, "nothing is asked for what nobody uses"),
            ([0, 0, 1, 100, 900], 100, "a wish gets a chunk"),
            ([0, 0, 300, 100, 900], 300, "a large wish gets what it takes"),
            ([0, 0, 300, 100, 200], 200, "there is not more than is free"),
            ([100, 76, 0, 100, 900], 176, "low room is filled up ahead of need"),
            ([100, 75, 0, 100, 900], 100, "a quarter of a chunk is enough"),
            ([50, 80, 0, 100, 900], 180, "what exists beyond the lease is covered first"),
            ([500, 100, 0, 100, 0], 500, "four chunks may stay"),
            ([501, 100, 0, 100, 0], 300, "more than four go back, but for two"),
        ];
        for ([lease, used, wanted, chunk, free], after, why) in rows {
            assert_eq!(one_after(lease, used, wanted, chunk, free), after, "{why}");
        }
    }
}
