//! The lock of the lane: that of the model checker when it checks.

#[cfg(not(mqttzoo_loom))]
pub(super) use parking_lot::Mutex;

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
}
