//! The lock and the atomic of the mailbox: those of the model checker when it checks.

#[cfg(not(mqttzoo_loom))]
pub(super) use parking_lot::Mutex;
#[cfg(not(mqttzoo_loom))]
pub(super) use std::sync::atomic::AtomicU64;

#[cfg(mqttzoo_loom)]
pub(super) use loom::sync::atomic::AtomicU64;

/// The model checker's mutex with the interface of the other one.
#[cfg(mqttzoo_loom)]
#[derive(Debug)]
pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(mqttzoo_loom)]
impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().expect("nobody panics while it holds the lock")
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().expect("nobody panics while it holds the lock")
    }
}
