//! Many brokers, one broker: what they tell each other, and the rules by which they agree.
//!
//! State machines without I/O. Time, replies of the tree of znodes and frames of peers come in;
//! requests and frames to send come out. The rules are those of the cluster protocol; each module
//! says which.

pub mod bank;
pub mod clock;
pub mod frame;
pub mod hash;
pub mod identity;
pub mod jitter;
pub mod member_record;
pub mod membership;
pub mod paths;
pub mod slots;
pub mod tickets;
pub mod topics;
pub mod version;
pub mod znodes;
