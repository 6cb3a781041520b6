//! Who gets a message: the subscription index, shared groups, cached routes, retained messages.
//!
//! Synchronous and without I/O. Seeds and times are inputs, and no result depends on the order of
//! a hash table. Nothing here knows what a Session or a mailbox is: the index is generic over the
//! handle of a subscriber, the retained store over the handle of a message.

pub mod index;
pub mod retained;
pub mod route;
pub mod route_cache;
pub mod shared;

mod filter_tree;
mod level_name;
mod level_order;
mod retained_cursor;
mod retained_entry;
mod slab;
mod subscribers;

pub use index::{Index, IndexMemory, Subscribed};
pub(crate) use level_order::OrderedTopic;
pub use retained::{Put, RetainedLimits, RetainedStore};
pub use retained_cursor::RetainedCursor;
pub use retained_entry::{Full, Kept, Layer, Layers};
pub use route::{Route, Subscriber, SubscriberKey, Target};
pub use route_cache::{RouteCache, RouteCacheCounters, RouteCacheLimits};
pub use shared::{GroupId, InTurn, SharedGroup};
