//! Wills of other brokers' clients, and what is due of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::broker::wills::{KeptWill, will_bytes};
use crate::cluster::identity::BootId;
use crate::ports::clock::Tick;

/// Whose will it is: the broker, and its number there.
pub(super) type Key = (BootId, u64);

/// All that are kept, bounded by their bytes.
#[derive(Default)]
pub(super) struct KeptForOthers {
    wills: BTreeMap<Key, Other>,
    /// Those of the dead, in the order of their times.
    due: BTreeSet<(Tick, Key)>,
    /// Those with a delay, by their clients: only they care who returns.
    delayed: BTreeMap<Arc<str>, BTreeSet<Key>>,
    bytes: u64,
}

struct Other {
    client_id: Arc<str>,
    delay_secs: u32,
    will: Arc<KeptWill>,
    /// When it is published; nothing while its broker lives.
    due_at: Option<Tick>,
    /// Whether its client is back: then it is never published [MQTT-3.1.3-9].
    is_back: bool,
}

impl KeptForOthers {
    pub(super) fn keep(
        &mut self,
        key: Key,
        client_id: Arc<str>,
        delay_secs: u32,
        will: Arc<KeptWill>,
    ) {
        self.remove(key);
        self.bytes += bytes_of(&will);
        if delay_secs > 0 {
            self.delayed.entry(Arc::clone(&client_id)).or_default().insert(key);
        }
        let other = Other { client_id, delay_secs, will, due_at: None, is_back: false };
        self.wills.insert(key, other);
    }

    /// Its broker has published it, or it was withdrawn.
    pub(super) fn forget(&mut self, from: BootId, number: u64) {
        self.remove((from, number));
    }

    /// A broker tells all that is to be kept again: what it does not tell is gone.
    pub(super) fn forget_all(&mut self, from: BootId) {
        let of_it = (from, 0)..=(from, u64::MAX);
        let keys: Vec<Key> = self.wills.range(of_it).map(|(key, _)| *key).collect();
        for key in keys {
            self.remove(key);
        }
    }

    /// A broker is dead: its clients' wills are due after their delays.
    pub(super) fn bury(&mut self, dead: BootId, now: Tick) {
        let of_dead = (dead, 0)..=(dead, u64::MAX);
        let keys: Vec<Key> = self.wills.range(of_dead).map(|(key, _)| *key).collect();
        for key in keys {
            let Some(other) = self.wills.get_mut(&key) else { continue };
            if other.is_back {
                self.remove(key);
                continue;
            }
            let at = now.plus_secs(other.delay_secs);
            other.due_at = Some(at);
            self.due.insert((at, key));
        }
    }

    /// A client connects to the broker `at`, or to this one. If it wants its Session back it is back
    /// before its will was due; if it begins another, the former one has ended, and with it the delay.
    pub(super) fn note_return(&mut self, at: Option<BootId>, client_id: &str, wants_session: bool) {
        let Some(keys) = self.delayed.get(client_id).cloned() else { return };
        for key in keys.into_iter().filter(|(owner, _)| Some(*owner) != at) {
            let Some(other) = self.wills.get_mut(&key) else { continue };
            match other.due_at {
                Some(_) if wants_session => {
                    self.remove(key);
                }
                Some(due_at) => {
                    other.due_at = Some(Tick::ZERO);
                    self.due.remove(&(due_at, key));
                    self.due.insert((Tick::ZERO, key));
                }
                None if wants_session => other.is_back = true,
                None => other.delay_secs = 0,
            }
        }
    }

    pub(super) fn take_due(&mut self, now: Tick, max: usize) -> Vec<Arc<KeptWill>> {
        let is_due = |place: &&(Tick, Key)| place.0 <= now;
        let keys: Vec<Key> =
            self.due.iter().take_while(is_due).take(max).map(|(_, key)| *key).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    /// How many there are, those that are due included, and their bytes.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.wills.len(), self.bytes)
    }

    fn remove(&mut self, key: Key) -> Option<Arc<KeptWill>> {
        let other = self.wills.remove(&key)?;
        self.bytes -= bytes_of(&other.will);
        if let Some(at) = other.due_at {
            self.due.remove(&(at, key));
        }
        if let Some(keys) = self.delayed.get_mut(&other.client_id) {
            keys.remove(&key);
            if keys.is_empty() {
                self.delayed.remove(&other.client_id);
            }
        }
        Some(other.will)
    }
}

fn bytes_of(will: &KeptWill) -> u64 {
    will_bytes(will) as u64
}
