//! How long to wait before the ensemble is tried again.

use std::time::Duration;

/// The wait before the next attempt after this many failed in a row: it doubles from 200 ms to a
/// sixth of the session timeout, and by chance up to half of it is left out, so that many brokers do
/// not come at once.
///
/// No longer: as soon as one broker has the ensemble back, the others take themselves for cut off,
/// and have half of a session timeout to prove the contrary before their leases end.
pub(super) fn wait_after(failures: u32, session_timeout: Duration, chance: u32) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    let longest = doubled.min(session_timeout / 6).min(LONGEST);
    longest.mul_f64(1.0 - f64::from(chance) / f64::from(u32::MAX) / 2.0)
}

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_a_bound_and_chance_takes_up_to_half_of_it() {
        let timeout = Duration::from_secs(6);
        assert_eq!(wait_after(1, timeout, 0), Duration::from_millis(200));
        assert_eq!(wait_after(1, timeout, u32::MAX), Duration::from_millis(100));
        assert_eq!(wait_after(3, timeout, 0), Duration::from_millis(800));
        assert_eq!(wait_after(4, timeout, 0), Duration::from_secs(1));
        assert_eq!(wait_after(u32::MAX, timeout, u32::MAX), Duration::from_millis(500));
        assert_eq!(wait_after(u32::MAX, timeout * 100, 0), Duration::from_secs(5));
    }
}
