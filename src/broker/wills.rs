//! The wills the broker keeps, and the bound on all of them together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::broker::peers::wills::EndedWills;
use crate::mqtt::Will;
use crate::ports::message::{detached_properties, properties_bytes};

/// The bytes of all wills.
#[derive(Debug)]
pub struct WillBudget {
    used: AtomicU64,
    bytes_max: u64,
}

/// A will that is kept: it counts until it is dropped.
#[derive(Debug)]
pub struct KeptWill {
    will: Will,
    bytes: u64,
    budget: Arc<WillBudget>,
    /// Its number, and who is told when it is gone.
    end: OnceLock<(u64, Arc<EndedWills>)>,
}

impl WillBudget {
    /// Room for `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { used: AtomicU64::new(0), bytes_max }
    }

    /// Keeps a copy of `will`; `None` when there is no room.
    #[must_use]
    pub fn keep(self: &Arc<Self>, will: &Will) -> Option<Arc<KeptWill>> {
        let bytes = will_bytes(will) as u64;
        if self.used.fetch_add(bytes, Ordering::Relaxed) + bytes > self.bytes_max {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        let will = Will {
            topic: will.topic.detached(),
            payload: Bytes::copy_from_slice(&will.payload),
            properties: detached_properties(will.properties.as_ref()),
            ..will.clone()
        };
        Some(Arc::new(KeptWill { will, bytes, budget: Arc::clone(self), end: OnceLock::new() }))
    }

    /// Keeps a will that an earlier process has accepted, whatever room there is: there are no more
    /// of them than it had room for.
    pub(crate) fn keep_again(self: &Arc<Self>, will: Will) -> Arc<KeptWill> {
        let bytes = will_bytes(&will) as u64;
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Arc::new(KeptWill { will, bytes, budget: Arc::clone(self), end: OnceLock::new() })
    }

    /// Bytes that are kept now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl KeptWill {
    /// Whoever keeps it for us elsewhere is told when it is gone: after it was published.
    pub(crate) fn tell_end(&self, number: u64, to: Arc<EndedWills>) {
        let _only_once = self.end.set((number, to));
    }
}

/// Bytes of a will: topic, payload and properties.
#[must_use]
pub fn will_bytes(will: &Will) -> usize {
    let properties = will.properties.as_deref().map_or(0, properties_bytes);
    will.topic.as_str().len() + will.payload.len() + properties
}

impl std::ops::Deref for KeptWill {
    type Target = Will;

    fn deref(&self) -> &Will {
        &self.will
    }
}

impl Drop for KeptWill {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some((number, ended)) = self.end.get() {
            ended.push(*number);
        }
    }
}
