//! How an account comes to a lease, or finds the one it has.

use super::super::content::{decode_lease, encode_free, encode_lease};
use super::super::desk::Desk;
use super::super::funds::Funds;
use super::super::readings::BankReadings;
use super::{Account, Lease, Step, read_free};
use crate::cluster::paths::BANK;
use crate::ports::Tick;
use crate::ports::coordination::{Change, CoordinationError, Reply, Request, Stat};

use CoordinationError::NoNode;

impl Account {
    pub(super) fn handle_looked(
        &mut self,
        now: Tick,
        outcome: &Result<Reply, CoordinationError>,
        desk: &mut Desk,
    ) {
        match outcome {
            Ok(Reply::Data { data, stat }) => self.handle_found(now, data, *stat, desk),
            Err(NoNode) => {
                self.lease = None;
                self.is_unsure = false;
                if self.used == Funds::ZERO {
                    // We hold nothing, so that a lease of nothing moves nothing.
                    let open = Request::Change(self.created(Funds::ZERO));
                    self.step = Step::Opening(desk.submit(open), Funds::ZERO);
                } else {
                    self.step = Step::Restoring(desk.submit(Request::Get(BANK.into())));
                }
            }
            Ok(_) | Err(_) => self.try_again(now),
        }
    }

    fn handle_found(&mut self, now: Tick, data: &[u8], stat: Stat, desk: &mut Desk) {
        let Some((boot_id, funds)) = decode_lease(data) else { return self.try_again(now) };
        let delete = Change::Delete { path: self.path.clone(), version: Some(stat.version) };
        let is_of_this_session = Some(stat.ephemeral_owner) == self.session;
        if boot_id != self.options.boot_id {
            if !is_of_this_session {
                // That of our last process: it ends with its session.
                return self.try_again(now);
            }
            // That of our last life, which this session outlives. What was paid for by it is an
            // orphan from now on, and the leader counts again.
            let replace = Request::All(vec![delete, self.created(Funds::ZERO)]);
            self.step = Step::Opening(desk.submit(replace), Funds::ZERO);
            return;
        }
        let data = encode_lease(boot_id, funds);
        if is_of_this_session {
            let version = Some(stat.version);
            let set = Change::Set { path: self.path.clone(), data, version };
            self.step = Step::Confirming(desk.submit(Request::Change(set)), funds);
            return;
        }
        // It is from a session that the ensemble has not ended yet: the same lease in its place
        // moves nothing.
        let replace = Request::All(vec![delete, self.created(funds)]);
        self.step = Step::Opening(desk.submit(replace), funds);
    }

    pub(super) fn handle_confirmed(
        &mut self,
        now: Tick,
        funds: Funds,
        outcome: &Result<Reply, CoordinationError>,
    ) {
        let Ok(Reply::Changed(stat)) = outcome else { return self.try_again(now) };
        self.open(now, Lease { funds, version: stat.version });
    }

    pub(super) fn handle_restoring(
        &mut self,
        now: Tick,
        outcome: &Result<Reply, CoordinationError>,
        readings: &mut BankReadings,
    ) {
        let Some((free, version)) = read_free(outcome) else { return self.try_again(now) };
        readings.free = Some(free);
        self.step = Step::Tallying(None, free, version);
    }

    /// Makes a lease of what we hold. While there was none, that stood in the books as that of a
    /// payer who is gone, so the sum stays. The free budget is written as it was, at the version
    /// that was read before the tally: had the leader given away what vanished meanwhile, this
    /// fails; and if it counts right now, that fails.
    pub(super) fn restore(&mut self, free: Funds, version: i32, held: Funds, desk: &mut Desk) {
        let keep =
            Change::Set { path: BANK.into(), data: encode_free(free), version: Some(version) };
        let restore = Request::All(vec![keep, self.created(held)]);
        self.step = Step::Opening(desk.submit(restore), held);
    }

    pub(super) fn handle_opened(
        &mut self,
        now: Tick,
        funds: Funds,
        outcome: &Result<Reply, CoordinationError>,
    ) {
        match outcome {
            Ok(_) => self.open(now, Lease { funds, version: 0 }),
            Err(_) => self.try_again(now),
        }
    }
}
