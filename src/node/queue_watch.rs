//! Tells the operator that all queues together have reached their bound, and that they no longer do:
//! one line each, however often a queue was refused room.

use crate::broker::Broker;

/// What was seen of the refusals so far.
#[derive(Debug, Default)]
pub(super) struct QueueWatch {
    refusals: u64,
    /// Looks without a refusal since the bound was reached; `None` while it is not.
    quiet_looks: Option<u32>,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    Exceeded,
    HasRoom,
}

impl QueueWatch {
    /// Looks at the queues of `broker` and tells what has changed.
    pub(super) fn look(&mut self, broker: &Broker) {
        let Some(change) = self.note(broker.queue_budget_refusals()) else { return };
        let (queued_bytes, queues_bytes_max) = (broker.queued_bytes(), broker.queues_bytes_max());
        match change {
            Change::Exceeded => tracing::warn!(
                queued_bytes,
                queues_bytes_max,
                "all queues together have reached queues_bytes_max: what they refuse is dropped or \
                 answered with 0x97 (clients that do not read? see queues_exceeded_total)"
            ),
            Change::HasRoom => tracing::warn!(
                queued_bytes,
                queues_bytes_max,
                "all queues together have room again"
            ),
        }
    }

    fn note(&mut self, refusals: u64) -> Option<Change> {
        let is_refusing = refusals != self.refusals;
        self.refusals = refusals;
        let looks = match (&mut self.quiet_looks, is_refusing) {
            (None, false) => return None,
            (None, true) => {
                self.quiet_looks = Some(0);
                return Some(Change::Exceeded);
            }
            (Some(looks), true) => {
                *looks = 0;
                return None;
            }
            (Some(looks), false) => looks,
        };
        *looks += 1;
        if *looks < QUIET_LOOKS {
            return None;
        }
        self.quiet_looks = None;
        Some(Change::HasRoom)
    }
}

/// Looks, a second apart, after which there is room again.
const QUIET_LOOKS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_is_reached_again_and_again_is_told_once() {
        let mut watch = QueueWatch::default();
        assert_eq!(watch.note(0), None);
        assert_eq!(watch.note(5), Some(Change::Exceeded));
        for refusals in 6..100 {
            assert_eq!(watch.note(refusals), None);
            assert_eq!(watch.note(refusals), None);
        }
        for _ in 2..QUIET_LOOKS {
            assert_eq!(watch.note(99), None);
        }
        assert_eq!(watch.note(99), Some(Change::HasRoom));
        assert_eq!(watch.note(99), None);
        assert_eq!(watch.note(100), Some(Change::Exceeded));
    }
}
