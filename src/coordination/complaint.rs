//! A misfortune that lasts is told at once, and then once a minute.

use crate::ports::clock::Tick;

/// When something that goes on was last told.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    told: Option<Tick>,
}

impl Complaint {
    /// Whether it is time to tell it; then it counts as told.
    pub(super) fn is_due(&mut self, now: Tick) -> bool {
        let is_due = self.told.is_none_or(|told| now >= told.plus_secs(AGAIN_SECS));
        if is_due {
            self.told = Some(now);
        }
        is_due
    }

    /// It is over: what comes next is new.
    pub(super) fn end(&mut self) {
        self.told = None;
    }
}

const AGAIN_SECS: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_told_once_a_minute_and_anew_after_its_end() {
        let mut complaint = Complaint::default();
        let start = Tick::ZERO;
        assert!(complaint.is_due(start));
        assert!(!complaint.is_due(start.plus_secs(59)));
        assert!(complaint.is_due(start.plus_secs(60)));
        assert!(!complaint.is_due(start.plus_secs(61)));
        complaint.end();
        assert!(complaint.is_due(start.plus_secs(62)));
    }
}
