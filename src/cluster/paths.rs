//! Where things stand in the tree of znodes, below the chroot of the cluster.

/// A znode for each live broker, by name.
pub const BROKERS: &str = "/brokers";

/// Whoever wants to lead, in the order they came.
pub const LEADER: &str = "/leader";

/// Who coordinates which slot, and who is dead.
pub const SLOTS: &str = "/slots";

/// Topics in use, and their latest values.
pub const TOPICS: &str = "/topics";

/// What the time of the cluster is, and a heartbeat for each broker.
pub const CLOCK: &str = "/clock";

/// Who may keep how much in the tree.
pub const BANK: &str = "/bank";

/// Frames between brokers that have no link.
pub const RELAY: &str = "/relay";

/// All of them, in the order in which they are made.
pub const FIXED: [&str; 7] = [BROKERS, LEADER, SLOTS, TOPICS, CLOCK, BANK, RELAY];

/// The znode of `name` below `parent`.
#[must_use]
pub fn below(parent: &str, name: &str) -> String {
    format!("{parent}/{name}")
}

/// The name of a child of `parent`, from its path; nothing for a path elsewhere, or further down.
#[must_use]
pub fn child_of<'a>(parent: &str, path: &'a str) -> Option<&'a str> {
    let name = path.strip_prefix(parent)?.strip_prefix('/')?;
    (!name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_one_name_more() {
        assert_eq!(child_of(BROKERS, &below(BROKERS, "b1")), Some("b1"));
        assert_eq!(child_of(BROKERS, BROKERS), None);
        assert_eq!(child_of(BROKERS, "/brokersX/b1"), None);
        assert_eq!(child_of(BROKERS, "/brokers/b1/more"), None);
    }
}
