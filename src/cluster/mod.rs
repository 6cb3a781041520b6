//! Many brokers, one broker: what they tell each other, and the rules by which they agree.
//!
//! State machines without I/O. Time, replies of the tree of znodes and frames of peers come in;
//! requests and frames to send come out. The rules are those of the cluster protocol; each module
//! says which.

pub mod bank;
pub mod clock;
pub mod coordinator;
pub mod frame;
pub mod hash;
pub mod identity;
pub mod inbound;
pub mod interest;
pub mod jitter;
pub mod lane;
#[cfg(all(test, mqttzoo_loom))]
mod loom_models;
pub mod member_record;
pub mod membership;
pub mod paths;
pub mod relay;
pub mod shown_time;
pub mod slot_record;
pub mod slots;
mod sync;
pub mod tickets;
pub mod topics;
pub mod version;
pub mod wire;
pub mod znodes;
