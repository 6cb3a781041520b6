//! `$SYS/broker/bank`: what may exist in the tree of znodes, and what does.

use crate::cluster::bank::{BankReadings, Funds};

/// Names below the root, and what is published there.
pub(super) fn values(bank: &BankReadings) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for (name, funds) in [
        ("free", bank.free),
        ("lease", Some(bank.lease)),
        ("used", Some(bank.used)),
        ("over_budget", Some(bank.over_budget)),
    ] {
        let Some(funds) = funds else { continue };
        let Funds { topics, znode_bytes, relay_bytes } = funds;
        for (currency, amount) in
            [("topics", topics), ("znode_bytes", znode_bytes), ("relay_bytes", relay_bytes)]
        {
            values.push((format!("bank/{name}/{currency}"), amount.to_string()));
        }
    }
    for (name, count) in [
        ("refused", bank.refusals),
        ("topped_up", bank.top_ups),
        ("refunded", bank.refunds),
        ("evicted", bank.evictions),
        ("audits", bank.audits),
        ("corrections", bank.corrections),
    ] {
        values.push((format!("bank/{name}"), count.to_string()));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::sys_topics::{SysReading, SysTopics};
    use crate::ports::message::Message;

    #[test]
    fn a_broker_of_a_cluster_shows_its_bank_and_one_alone_has_none() {
        let free = Funds { topics: 7, znode_bytes: 70, relay_bytes: 700 };
        let bank = BankReadings { free: Some(free), refusals: 3, ..BankReadings::default() };
        let shown = |bank| {
            let reading = SysReading { bank, ..SysReading::default() };
            let round = SysTopics::new("x").round(reading);
            let of_bank = round.into_iter().filter(|one| one.topic.as_str().contains("/bank/"));
            of_bank.map(|one| (one.topic.to_string(), one.payload)).collect::<Vec<_>>()
        };
        let of_cluster = shown(Some(bank));
        for (name, value) in [("free/znode_bytes", "70"), ("used/topics", "0"), ("refused", "3")] {
            let expected = (format!("$SYS/broker/bank/{name}"), value.into());
            assert!(of_cluster.contains(&expected), "{name} in {of_cluster:?}");
        }
        let unread = shown(Some(BankReadings::default()));
        let is_free = |(name, _): &(String, _)| name.contains("/free/");
        assert!(!unread.is_empty() && !unread.iter().any(is_free), "0 would read as exhausted");
        assert_eq!(shown(None), []);
    }
    /// A broker tells of itself before it has read the bank. The three topics of what is free came later
    /// and pushed the others on by three: each stood under the name of another from then on.
    #[test]
    fn what_is_free_comes_later_and_nothing_changes_its_name() {
        let mut topics = SysTopics::new("x");
        let mut round = |free| {
            let lease = Funds { topics: 10, znode_bytes: 100, relay_bytes: 1_000 };
            let bank = BankReadings { free, lease, refusals: 3, ..BankReadings::default() };
            let reading = SysReading { bank: Some(bank), ..SysReading::default() };
            let payload = |one: Message| (one.topic.to_string(), one.payload);
            topics.round(reading).into_iter().map(payload).collect::<Vec<_>>()
        };
        assert!(round(None).contains(&("$SYS/broker/bank/lease/topics".to_owned(), "10".into())));
        let free = Funds { topics: 7, znode_bytes: 70, relay_bytes: 700 };
        let named = [("topics", "7"), ("znode_bytes", "70"), ("relay_bytes", "700")];
        let expected = named
            .map(|(currency, amount)| (format!("$SYS/broker/bank/free/{currency}"), amount.into()));
        assert_eq!(round(Some(free)), expected);
    }
}
