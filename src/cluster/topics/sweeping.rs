//! Looks through the table in turns, for what time has made due: refreshing, fading, sweeping.

use std::sync::Arc;

use super::known::Flags;
use super::{Topics, TopicsOutput};
use crate::mqtt::TopicName;
use crate::ports::Tick;

/// Which part is next, and when.
#[derive(Default)]
pub(super) struct Sweep {
    next_part: u8,
    pub(super) due: Tick,
}

impl Topics {
    pub(super) fn sweep_due(&mut self, now: Tick) {
        if !self.is_connected || self.sweep.due > now {
            return;
        }
        self.sweep.due = now.plus_millis(TURN_MILLIS);
        for _ in 0..PARTS_A_TURN {
            self.sweep_part(now, self.sweep.next_part);
            self.sweep.next_part = self.sweep.next_part.wrapping_add(1);
        }
    }

    fn sweep_part(&mut self, now: Tick, part: u8) {
        let Some(context) = self.context(now) else { return };
        let topics = self.table.iter_part(part);
        let mut due: Vec<(Arc<str>, bool)> = topics
            .filter(|(_, known)| context.needs_attention(known))
            .map(|(name, known)| (Arc::clone(name), context.is_fading(known)))
            .collect();
        due.sort_unstable();
        for (name, is_fading) in due {
            if is_fading {
                self.fade(&name);
            } else {
                self.attend(now, &name);
            }
        }
    }

    fn fade(&mut self, topic: &str) {
        if let Some(known) = self.table.get_mut(topic) {
            known.flags.set(Flags::FADING);
        }
        if let Ok(topic) = TopicName::try_from(topic) {
            self.outputs.push_back(TopicsOutput::Fading(topic));
        }
    }
}

const TURN_MILLIS: u64 = 1_000;
/// The whole table is looked through in about half a minute: a small part of the shortest life.
const PARTS_A_TURN: usize = 8;
