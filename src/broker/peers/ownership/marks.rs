//! Marks: whether everything has come that others had routed here before a moment.

use crate::cluster::identity::BootId;

/// The answers to one question, put to every peer.
#[derive(Debug)]
pub(super) struct MarkRound {
    /// How far each had come, once it has said so.
    marks: Vec<(BootId, Option<u64>)>,
}

impl MarkRound {
    /// Put to these.
    pub(super) fn new(asked: impl Iterator<Item = BootId>) -> Self {
        Self { marks: asked.map(|boot_id| (boot_id, None)).collect() }
    }

    /// One answers.
    pub(super) fn note(&mut self, from: BootId, data: u64) {
        if let Some((_, mark)) = self.marks.iter_mut().find(|(boot_id, _)| *boot_id == from) {
            *mark = Some(data);
        }
    }

    /// Whom it was put to, and their answers.
    pub(super) fn marks(&self) -> Vec<(BootId, Option<u64>)> {
        self.marks.clone()
    }
}
