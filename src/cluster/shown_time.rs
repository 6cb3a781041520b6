//! What the clocks of a broker showed when it sent a heartbeat: the content of `/clock/<name>`.

use bytes::Bytes;

/// Milliseconds since 1970, twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShownTime {
    /// On the clock of the node. The median of all brokers steers the clock of the cluster.
    pub wall_millis: u64,
    /// On the clock of the cluster, where the broker knew it: for a leader that does not.
    pub cluster_millis: Option<u64>,
}

impl ShownTime {
    /// The written form: one number, or two.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let Self { wall_millis, cluster_millis } = self;
        match cluster_millis {
            Some(cluster_millis) => format!("{wall_millis} {cluster_millis}").into(),
            None => wall_millis.to_string().into(),
        }
    }

    /// Reads the written form. `None` when it is not one.
    #[must_use]
    pub fn decode(data: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(data).ok()?;
        let Some((wall_millis, cluster_millis)) = text.split_once(' ') else {
            return Some(Self { wall_millis: text.parse().ok()?, cluster_millis: None });
        };
        let cluster_millis = Some(cluster_millis.parse().ok()?);
        Some(Self { wall_millis: wall_millis.parse().ok()?, cluster_millis })
    }
}

#[cfg(test)]
mod tests {
    use super::ShownTime;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for cluster_millis in [None, Some(0), Some(u64::MAX)] {
            let shown = ShownTime { wall_millis: 1_700_000_000_000, cluster_millis };
            assert_eq!(ShownTime::decode(&shown.encode()), Some(shown));
        }
        for spoilt in ["", " ", "1 ", " 1", "1 2 3", "-1", "x"] {
            assert_eq!(ShownTime::decode(spoilt.as_bytes()), None, "{spoilt}");
        }
    }
}
