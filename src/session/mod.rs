//! The Session: one client's side of the protocol as a state machine without I/O.
//!
//! A [`session::Session`] has exactly one owner and is moved, never shared: from a connection to the
//! registry when the client leaves, and to the next connection when it returns. What publishers
//! share with it is its [`mailbox::Mailbox`], the queue of what waits for this client.

pub mod agreement;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod folded;
pub mod handover;
pub mod in_flight;
pub mod mailbox;
pub mod outbox;
#[expect(clippy::module_inception, reason = "the Session is what the layer is named after")]
pub mod session;
pub mod topic_alias;

#[cfg(all(test, mqttzoo_loom))]
mod loom_models;
mod sync;
