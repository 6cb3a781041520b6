//! Acknowledgement times, kept in a few kilobytes however many there are.

use std::time::Duration;

/// A histogram whose buckets grow with the value: 16 for each power of two, so a percentile is at
/// most about 6 % too high.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
}

impl Latencies {
    /// An empty histogram.
    pub(super) fn new() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0 }
    }

    /// Counts one value.
    pub(super) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(index(micros)) {
            *bucket += 1;
            self.count += 1;
        }
    }

    /// The value that `per_cent` of the values do not exceed, in microseconds.
    pub(super) fn percentile_micros(&self, per_cent: u64) -> Option<u64> {
        let rank = (self.count * per_cent).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket;
            if seen >= rank {
                return Some(upper_bound(index));
            }
        }
        None
    }
}

/// Values below 16 have a bucket each; above, the four bits after the first one choose.
fn index(micros: u64) -> usize {
    let shift = (u64::BITS - micros.leading_zeros()).saturating_sub(SUB_BITS + 1);
    let sub = micros >> shift;
    usize::try_from(u64::from(shift) * SUB + sub).unwrap_or(usize::MAX)
}

fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * SUB {
        return index;
    }
    let shift = index / SUB - 1;
    let sub = index - shift * SUB;
    ((sub + 1) << shift).wrapping_sub(1)
}

const SUB_BITS: u32 = 4;
const SUB: u64 = 1 << SUB_BITS;
const BUCKETS: usize = 61 * 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_close_and_never_too_low() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentile_micros(50), None);
        for micros in 1..=10_000 {
            latencies.record(Duration::from_micros(micros));
        }
        for (per_cent, exact) in [(1, 100), (50, 5_000), (99, 9_900), (100, 10_000)] {
            let found = latencies.percentile_micros(per_cent).unwrap();
            assert!(found >= exact && found <= exact + exact / 15, "{per_cent}: {found}");
        }
    }

    #[test]
    fn every_value_has_a_bucket_that_bounds_it() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) + (1 << shift >> 1), u64::MAX >> shift] {
                let index = index(value);
                assert!(index < BUCKETS, "{value}");
                assert!(upper_bound(index) >= value, "{value}");
            }
        }
    }
}
