//! What the state machines and the adapters agree on: plain values and traits, no I/O.

pub mod clock;
