//! What may exist in the tree of one cluster: said by the configuration.

use crate::broker::peers::topic_registry::RegistryTerms;
use crate::cluster::bank::Funds;
use crate::cluster::topics::Lifetimes;
use crate::config::Config;

pub(super) fn terms_of(config: &Config) -> RegistryTerms {
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let budget = Funds {
        topics: wide(config.cluster.bank_topics_max.get()),
        znode_bytes: wide(config.cluster.bank_bytes_max.0),
        relay_bytes: RELAY_BYTES,
    };
    RegistryTerms { budget, lifetimes: Lifetimes::USUAL }
}

const RELAY_BYTES: u64 = 64 * 1_024 * 1_024;
