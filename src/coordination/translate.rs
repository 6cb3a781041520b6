//! Between the words of the port and those of the client.

use std::time::Duration;

use zookeeper_client as zk;

use crate::ports::coordination::{
    Change, ChangeKind, CoordinationError, CreateMode, Request, Stat,
};

/// How a znode is created, by whom it may be used.
pub(super) fn create_options(
    mode: CreateMode,
    acls: zk::Acls<'static>,
) -> zk::CreateOptions<'static> {
    match mode {
        CreateMode::Persistent => zk::CreateMode::Persistent.with_acls(acls),
        CreateMode::PersistentWithTtl { ttl_millis } => {
            zk::CreateMode::Persistent.with_acls(acls).with_ttl(Duration::from_millis(ttl_millis))
        }
        CreateMode::Ephemeral => zk::CreateMode::Ephemeral.with_acls(acls),
        CreateMode::EphemeralSequential => zk::CreateMode::EphemeralSequential.with_acls(acls),
    }
}

pub(super) fn stat(stat: &zk::Stat) -> Stat {
    Stat {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        ctime_millis: stat.ctime,
        mtime_millis: stat.mtime,
        version: stat.version,
        // The server marks a TTL node by its high bits; such a node has no owner.
        ephemeral_owner: if is_ttl(stat.ephemeral_owner) { 0 } else { stat.ephemeral_owner },
    }
}

/// What a watched znode is told to have become; nothing for the news of sessions.
pub(super) fn change_kind(event: zk::EventType) -> Option<ChangeKind> {
    match event {
        zk::EventType::NodeCreated => Some(ChangeKind::Created),
        zk::EventType::NodeDataChanged => Some(ChangeKind::DataChanged),
        zk::EventType::NodeDeleted => Some(ChangeKind::Deleted),
        zk::EventType::NodeChildrenChanged | zk::EventType::Session => None,
    }
}

/// The error of one request. Whatever leaves open whether the change was made is a lost connection.
pub(super) fn error(error: &zk::Error) -> CoordinationError {
    match error {
        zk::Error::NoNode => CoordinationError::NoNode,
        zk::Error::NodeExists => CoordinationError::NodeExists,
        zk::Error::BadVersion => CoordinationError::BadVersion,
        zk::Error::NotEmpty => CoordinationError::NotEmpty,
        zk::Error::NoAuth | zk::Error::InvalidAcl => CoordinationError::NoAuth,
        // The last two end a session for good as well.
        zk::Error::SessionExpired
        | zk::Error::SessionMoved
        | zk::Error::ClientClosed
        | zk::Error::AuthFailed => CoordinationError::SessionExpired,
        // The client hands the error of the socket on as it is, or in words of its own.
        zk::Error::ConnectionLoss
        | zk::Error::Timeout
        | zk::Error::UnexpectedError(_)
        | zk::Error::UnmarshalError { .. }
        | zk::Error::Custom(_)
        | zk::Error::UnexpectedErrorCode(SERVER_LOST_ITS_LEADER | SERVER_TIMED_OUT) => {
            CoordinationError::ConnectionLost
        }
        // It has said what is wrong with the request, and so has changed nothing.
        zk::Error::NoHosts
        | zk::Error::BadArguments(_)
        | zk::Error::NoChildrenForEphemerals
        | zk::Error::NotReadOnly
        | zk::Error::NoWatcher
        | zk::Error::QuotaExceeded
        | zk::Error::Throttled
        | zk::Error::MarshallingError
        | zk::Error::Unimplemented
        | zk::Error::ReconfigDisabled
        | zk::Error::UnexpectedErrorCode(_)
        | zk::Error::RuntimeInconsistent
        | _ => CoordinationError::Other(error.to_string()),
    }
}

/// The error of a request for `changes`: TTL nodes are told from other things a server lacks.
pub(super) fn error_of_change(error_told: &zk::Error, change: &Change) -> CoordinationError {
    if *error_told == zk::Error::Unimplemented && wants_ttl(change) {
        return CoordinationError::NoTtl;
    }
    error(error_told)
}

fn wants_ttl(change: &Change) -> bool {
    matches!(change, Change::Create { mode: CreateMode::PersistentWithTtl { .. }, .. })
}

/// How many bytes a request has, but for a few more a part.
pub(super) fn size(request: &Request) -> usize {
    match request {
        Request::Change(change) => size_of_change(change),
        Request::All(changes) => changes.iter().map(size_of_change).sum(),
        Request::Get(path) | Request::List(path) | Request::Watch(path) => path.len(),
    }
}

fn size_of_change(change: &Change) -> usize {
    match change {
        Change::Create { path, data, .. } | Change::Set { path, data, .. } => {
            path.len() + data.len() + OVERHEAD
        }
        Change::Check { path, .. } | Change::Delete { path, .. } => path.len() + OVERHEAD,
    }
}

/// Headers, lengths, versions and the access list of a part.
const OVERHEAD: usize = 64;

fn is_ttl(ephemeral_owner: i64) -> bool {
    let mark = ephemeral_owner.cast_unsigned() >> 56;
    mark == 0xFF
}

const SERVER_LOST_ITS_LEADER: i32 = -4;
const SERVER_TIMED_OUT: i32 = -7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_the_outcome_open_is_a_lost_connection() {
        let open = [
            zk::Error::ConnectionLoss,
            zk::Error::UnexpectedError("no answer".to_owned()),
            zk::Error::UnexpectedErrorCode(-4),
        ];
        for told in open {
            assert_eq!(error(&told), CoordinationError::ConnectionLost, "{told}");
        }
        let told = error(&zk::Error::QuotaExceeded);
        assert_eq!(told, CoordinationError::Other("exceed path quota".to_owned()));
    }

    #[test]
    fn what_is_not_implemented_is_a_missing_ttl_only_where_one_was_asked_for() {
        let create = |mode| Change::Create { path: "/x".to_owned(), data: "".into(), mode };
        let with_ttl = create(CreateMode::PersistentWithTtl { ttl_millis: 1 });
        let told = zk::Error::Unimplemented;
        assert_eq!(error_of_change(&told, &with_ttl), CoordinationError::NoTtl);
        let without = error_of_change(&told, &create(CreateMode::Persistent));
        assert!(matches!(without, CoordinationError::Other(_)));
    }

    #[test]
    fn a_ttl_node_has_no_owner() {
        assert!(is_ttl(-72_057_594_037_927_436));
        assert!(!is_ttl(0x0100_2a3b_4c5d_0001));
        assert!(!is_ttl(0));
    }
}
