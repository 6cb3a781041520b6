//! How far a broker is with its cluster.

/// What others may expect of this broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::node) enum Phase {
    /// It takes no clients yet.
    Joining,
    /// It serves.
    Joined,
    /// It cannot be part of the cluster; why.
    Failed(String),
}

impl Phase {
    /// Whether clients are welcome.
    pub(in crate::node) fn takes_clients(&self) -> bool {
        matches!(self, Self::Joined)
    }
}
