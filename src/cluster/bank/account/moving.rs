//! How funds move between the free budget and a lease.

use super::super::content::{encode_free, encode_lease};
use super::super::desk::Desk;
use super::super::funds::Funds;
use super::super::readings::BankReadings;
use super::super::sizing::UNLIMITED;
use super::{Account, EXHAUSTED_MILLIS, GRANT_MILLIS, Lease, RETRY_MILLIS, Step, read_free};
use crate::cluster::paths::BANK;
use crate::ports::Tick;
use crate::ports::coordination::{Change, CoordinationError, Reply, Request};

use CoordinationError::ConnectionLost;

impl Account {
    pub(super) fn handle_free(
        &mut self,
        now: Tick,
        outcome: &Result<Reply, CoordinationError>,
        desk: &mut Desk,
        readings: &mut BankReadings,
    ) {
        if is_uncounted(outcome) {
            // What there is will be known soon: wishes are put off and not refused.
            self.is_exhausted = false;
            return self.await_count(now);
        }
        let Some((free, version)) = read_free(outcome) else { return self.try_again(now) };
        let Some(before) = self.lease else { return self.try_again(now) };
        readings.free = Some(free);
        self.has_read_free = true;
        let after = self.lease_after(before.funds, free);
        self.is_exhausted = self.lease_after(after, UNLIMITED) != after;
        if after == before.funds {
            self.wanted = Funds::ZERO;
            self.due = Some(now.plus_millis(EXHAUSTED_MILLIS + self.jitter.below(RETRY_MILLIS)));
            return;
        }
        let grown = after.saturating_minus(before.funds);
        let shrunk = before.funds.saturating_minus(after);
        let free = encode_free(free.saturating_minus(grown).plus(shrunk));
        let lease = encode_lease(self.options.boot_id, after);
        let multi = Request::All(vec![
            Change::Set { path: BANK.into(), data: free, version: Some(version) },
            Change::Set { path: self.path.clone(), data: lease, version: Some(before.version) },
        ]);
        self.lease = Some(Lease { funds: before.funds.min(after), ..before });
        self.step = Step::Moving(desk.submit(multi), before, after);
    }

    pub(super) fn handle_moved(
        &mut self,
        now: Tick,
        (before, after): (Lease, Funds),
        outcome: &Result<Reply, CoordinationError>,
        readings: &mut BankReadings,
    ) {
        match outcome {
            Ok(_) => {
                let version = before.version + 1;
                self.open(now, Lease { funds: after, version });
                self.granted = std::mem::take(&mut self.wanted);
                self.granted_until = now.plus_millis(GRANT_MILLIS);
                readings.top_ups += u64::from(!before.funds.covers(after));
                readings.refunds += u64::from(!after.covers(before.funds));
            }
            Err(ConnectionLost) => self.try_again(now),
            Err(_) => {
                // Nothing was changed: somebody else was faster, or the lease is gone.
                self.lease = Some(before);
                self.is_unsure |= !matches!(outcome, Err(error) if is_race(error));
                self.pause(now);
            }
        }
    }
}

/// Whether no leader has counted what may exist since the bank's znode was made.
fn is_uncounted(outcome: &Result<Reply, CoordinationError>) -> bool {
    matches!(outcome, Ok(Reply::Data { data, .. }) if data.is_empty())
}

/// Whether a multi failed because the free budget had another version than was read.
fn is_race(error: &CoordinationError) -> bool {
    let part_of_bank = 0;
    matches!(error, CoordinationError::Part { part, error }
        if *part == part_of_bank && **error == CoordinationError::BadVersion)
}
