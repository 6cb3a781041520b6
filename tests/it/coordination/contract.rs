//! What every tree of znodes does, whoever keeps it: a table of cases.
//!
//! Whatever stands in for ZooKeeper in the simulation is run through the same table.

use bytes::Bytes;
use mqttzoo::ports::coordination::{
    Change, ChangeKind, CoordinationError, CreateMode, Reply, Request, Stat,
};

/// A tree as one client sees it.
pub(crate) trait Tree {
    /// Asks, and waits for the answer.
    fn ask(&mut self, request: Request) -> Result<Reply, CoordinationError>;

    /// Waits for the next change of what is watched.
    fn next_change(&mut self) -> (String, ChangeKind);
}

/// Runs a tree through all cases, each below a znode of its own.
pub(crate) fn check(tree: &mut dyn Tree) {
    for (name, case) in CASES {
        eprintln!("{name}");
        let parent = format!("/{name}");
        create(tree, &parent, "", CreateMode::Persistent);
        case(tree, &parent);
    }
}

type Case = fn(&mut dyn Tree, &str);

const CASES: [(&str, Case); 15] = [
    ("what_was_created_is_read_back", what_was_created_is_read_back),
    ("a_znode_is_created_once", a_znode_is_created_once),
    ("a_parent_comes_first", a_parent_comes_first),
    ("a_set_makes_another_version", a_set_makes_another_version),
    ("a_delete_looks_at_version_and_children", a_delete_looks_at_version_and_children),
    ("a_check_changes_nothing", a_check_changes_nothing),
    ("transactions_are_ordered", transactions_are_ordered),
    ("all_are_made", all_are_made),
    ("or_none_are_made", or_none_are_made),
    ("sequential_names_grow", sequential_names_grow),
    ("ephemerals_have_an_owner", ephemerals_have_an_owner),
    ("a_znode_may_have_a_ttl", a_znode_may_have_a_ttl),
    ("paths_are_well_formed", paths_are_well_formed),
    ("large_data_are_kept", large_data_are_kept),
    ("a_watch_tells_of_everything_below", a_watch_tells_of_everything_below),
];

fn what_was_created_is_read_back(tree: &mut dyn Tree, parent: &str) {
    let path = format!("{parent}/x");
    let created = create(tree, &path, "content", CreateMode::Persistent);
    assert_eq!((created.version, created.ephemeral_owner), (0, 0));
    assert_eq!(created.czxid, created.mzxid);
    assert!(created.mtime_millis > 0);
    assert_eq!(get(tree, &path), ("content".into(), created));
    assert_eq!(list(tree, parent), ["x"]);
    assert_eq!(tree.ask(Request::Get(format!("{parent}/y"))), Err(CoordinationError::NoNode));
    assert_eq!(tree.ask(Request::List(format!("{parent}/y"))), Err(CoordinationError::NoNode));
}

fn a_znode_is_created_once(tree: &mut dyn Tree, parent: &str) {
    let path = format!("{parent}/x");
    create(tree, &path, "first", CreateMode::Persistent);
    for mode in [CreateMode::Persistent, CreateMode::Ephemeral] {
        let again = tree.ask(Request::Change(creation(&path, "second", mode)));
        assert_eq!(again, Err(CoordinationError::NodeExists));
    }
    assert_eq!(get(tree, &path).0, "first");
}

fn a_parent_comes_first(tree: &mut dyn Tree, parent: &str) {
    let orphan = creation(&format!("{parent}/x/y"), "", CreateMode::Persistent);
    assert_eq!(tree.ask(Request::Change(orphan)), Err(CoordinationError::NoNode));
}

fn a_set_makes_another_version(tree: &mut dyn Tree, parent: &str) {
    let path = format!("{parent}/x");
    let created = create(tree, &path, "0", CreateMode::Persistent);
    let first = set(tree, &path, "1", Some(0)).unwrap();
    assert_eq!((first.version, first.czxid), (1, created.czxid));
    assert!(first.mzxid > created.mzxid);
    assert_eq!(set(tree, &path, "late", Some(0)), Err(CoordinationError::BadVersion));
    assert_eq!(set(tree, &path, "2", None).unwrap().version, 2);
    let (data, stat) = get(tree, &path);
    assert_eq!((data, stat.version), ("2".into(), 2));
    let missing = set(tree, &format!("{parent}/y"), "", None);
    assert_eq!(missing, Err(CoordinationError::NoNode));
}

fn a_delete_looks_at_version_and_children(tree: &mut dyn Tree, parent: &str) {
    let (path, child) = (format!("{parent}/x"), format!("{parent}/x/y"));
    create(tree, &path, "", CreateMode::Persistent);
    create(tree, &child, "", CreateMode::Persistent);
    let mut delete = |path: &str, version| {
        tree.ask(Request::Change(Change::Delete { path: path.into(), version }))
    };
    assert_eq!(delete(&path, None), Err(CoordinationError::NotEmpty));
    assert_eq!(delete(&child, Some(1)), Err(CoordinationError::BadVersion));
    assert_eq!(delete(&child, Some(0)), Ok(Reply::Done));
    assert_eq!(delete(&child, Some(0)), Err(CoordinationError::NoNode));
    assert_eq!(delete(&path, None), Ok(Reply::Done));
    assert!(list(tree, parent).is_empty());
}

fn a_check_changes_nothing(tree: &mut dyn Tree, parent: &str) {
    let path = format!("{parent}/x");
    let created = create(tree, &path, "", CreateMode::Persistent);
    let mut check = |path: &str, version| {
        tree.ask(Request::Change(Change::Check { path: path.into(), version }))
    };
    assert_eq!(check(&path, 0), Ok(Reply::Done));
    assert_eq!(check(&path, 1), Err(CoordinationError::BadVersion));
    assert_eq!(check(&format!("{path}y"), 0), Err(CoordinationError::NoNode));
    assert_eq!(get(tree, &path).1, created);
}

fn transactions_are_ordered(tree: &mut dyn Tree, parent: &str) {
    let first = create(tree, &format!("{parent}/x"), "", CreateMode::Persistent);
    let second = create(tree, &format!("{parent}/y"), "", CreateMode::Persistent);
    let third = set(tree, &format!("{parent}/x"), "", None).unwrap();
    assert!(first.mzxid < second.mzxid && second.mzxid < third.mzxid);
    assert!(first.mtime_millis <= third.mtime_millis);
}

fn all_are_made(tree: &mut dyn Tree, parent: &str) {
    let (old, new) = (format!("{parent}/old"), format!("{parent}/new"));
    create(tree, &old, "", CreateMode::Persistent);
    let changes = vec![
        Change::Check { path: old.clone(), version: 0 },
        creation(&new, "0", CreateMode::Persistent),
        // A part sees what those before it did.
        Change::Set { path: new.clone(), data: "1".into(), version: Some(0) },
        Change::Delete { path: old, version: Some(0) },
    ];
    assert_eq!(tree.ask(Request::All(changes)), Ok(Reply::Done));
    let (data, stat) = get(tree, &new);
    assert_eq!((data, stat.version), ("1".into(), 1));
    assert_eq!(list(tree, parent), ["new"]);
    assert_eq!(tree.ask(Request::All(Vec::new())), Ok(Reply::Done));
}

fn or_none_are_made(tree: &mut dyn Tree, parent: &str) {
    let (path, new) = (format!("{parent}/x"), format!("{parent}/new"));
    let before = create(tree, &path, "before", CreateMode::Persistent);
    let set = |version| Change::Set { path: path.clone(), data: "after".into(), version };
    let table = [
        (set(Some(0)), CoordinationError::BadVersion),
        (Change::Check { path: path.clone(), version: 7 }, CoordinationError::BadVersion),
        (Change::Check { path: format!("{path}y"), version: 0 }, CoordinationError::NoNode),
        (creation(&path, "", CreateMode::Persistent), CoordinationError::NodeExists),
        (creation(&format!("{path}y/z"), "", CreateMode::Persistent), CoordinationError::NoNode),
        (Change::Delete { path: parent.to_owned(), version: None }, CoordinationError::NotEmpty),
    ];
    // The part before has made it version 1.
    for (wrong, expected) in table {
        let good = creation(&new, "", CreateMode::Persistent);
        let changes = vec![good, set(Some(0)), wrong, set(None)];
        let outcome = tree.ask(Request::All(changes));
        assert_eq!(outcome, Err(CoordinationError::Part { part: 2, error: Box::new(expected) }));
    }
    assert_eq!(get(tree, &path), ("before".into(), before));
    assert_eq!(list(tree, parent), ["x"]);
    let first = tree.ask(Request::All(vec![set(Some(9))]));
    let error = Box::new(CoordinationError::BadVersion);
    assert_eq!(first, Err(CoordinationError::Part { part: 0, error }));
}

fn sequential_names_grow(tree: &mut dyn Tree, parent: &str) {
    let mut names = Vec::new();
    for _ in 0..3 {
        let change = creation(&format!("{parent}/l-"), "", CreateMode::EphemeralSequential);
        match tree.ask(Request::Change(change)) {
            Ok(Reply::Created { path, stat }) => {
                assert_ne!(stat.ephemeral_owner, 0);
                names.push(path);
            }
            other => panic!("{other:?}"),
        }
    }
    let expected = ["0000000000", "0000000001", "0000000002"];
    assert_eq!(names, expected.map(|number| format!("{parent}/l-{number}")));
    // A number is not given again.
    let path = names.pop().unwrap();
    tree.ask(Request::Change(Change::Delete { path, version: None })).unwrap();
    let change = creation(&format!("{parent}/l-"), "", CreateMode::EphemeralSequential);
    assert_eq!(tree.ask(Request::All(vec![change])), Ok(Reply::Done));
    assert_eq!(list(tree, parent), ["l-0000000000", "l-0000000001", "l-0000000003"]);
}

fn ephemerals_have_an_owner(tree: &mut dyn Tree, parent: &str) {
    let path = format!("{parent}/x");
    let one = create(tree, &path, "", CreateMode::Ephemeral).ephemeral_owner;
    let other = create(tree, &format!("{parent}/y"), "", CreateMode::Ephemeral).ephemeral_owner;
    assert_ne!(one, 0);
    assert_eq!(one, other);
    assert_eq!(get(tree, &path).1.ephemeral_owner, one);
    assert_eq!(set(tree, &path, "", None).unwrap().ephemeral_owner, one);
    let child =
        tree.ask(Request::Change(creation(&format!("{path}/z"), "", CreateMode::Persistent)));
    assert!(matches!(child, Err(CoordinationError::Other(_))), "{child:?}");
}

fn a_znode_may_have_a_ttl(tree: &mut dyn Tree, parent: &str) {
    let path = format!("{parent}/x");
    let an_hour = CreateMode::PersistentWithTtl { ttl_millis: 3_600_000 };
    let stat = create(tree, &path, "value", an_hour);
    assert_eq!((stat.version, stat.ephemeral_owner), (0, 0));
    assert_eq!(get(tree, &path), ("value".into(), stat));
    assert_eq!(set(tree, &path, "next", Some(0)).unwrap().version, 1);
    let in_all = creation(&format!("{parent}/y"), "", an_hour);
    assert_eq!(tree.ask(Request::All(vec![in_all])), Ok(Reply::Done));
    assert_eq!(list(tree, parent), ["x", "y"]);
}

fn paths_are_well_formed(tree: &mut dyn Tree, parent: &str) {
    for wrong in
        ["", "x", &format!("{parent}//x"), &format!("{parent}/x/"), &format!("{parent}/\u{1}")]
    {
        let outcome = tree.ask(Request::Get(wrong.to_owned()));
        assert!(matches!(outcome, Err(CoordinationError::Other(_))), "{wrong:?}: {outcome:?}");
        let part = creation(wrong, "", CreateMode::Persistent);
        let outcome = tree.ask(Request::All(vec![part]));
        assert!(matches!(outcome, Err(CoordinationError::Part { part: 0, .. })), "{wrong:?}");
    }
    let unusual = format!("{parent}/a%2Fb +#$");
    create(tree, &unusual, "", CreateMode::Persistent);
    assert_eq!(list(tree, parent), ["a%2Fb +#$"]);
}

fn large_data_are_kept(tree: &mut dyn Tree, parent: &str) {
    let path = format!("{parent}/x");
    let large = "z".repeat(128 * 1024);
    create(tree, &path, &large, CreateMode::Persistent);
    assert_eq!(get(tree, &path).0, large);
}

fn a_watch_tells_of_everything_below(tree: &mut dyn Tree, parent: &str) {
    // It may stand before the znode does.
    let (top, below) = (format!("{parent}/top"), format!("{parent}/top/below"));
    assert_eq!(tree.ask(Request::Watch(top.clone())), Ok(Reply::Done));
    create(tree, &format!("{parent}/beside"), "", CreateMode::Persistent);
    create(tree, &top, "", CreateMode::Persistent);
    create(tree, &below, "", CreateMode::Persistent);
    set(tree, &below, "1", None).unwrap();
    set(tree, &top, "1", None).unwrap();
    let both = vec![
        Change::Delete { path: below.clone(), version: None },
        Change::Delete { path: top.clone(), version: None },
    ];
    tree.ask(Request::All(both)).unwrap();
    let expected = [
        (&top, ChangeKind::Created),
        (&below, ChangeKind::Created),
        (&below, ChangeKind::DataChanged),
        (&top, ChangeKind::DataChanged),
        (&below, ChangeKind::Deleted),
        (&top, ChangeKind::Deleted),
    ];
    for (path, kind) in expected {
        assert_eq!(tree.next_change(), (path.clone(), kind));
    }
    // Asked for twice, it tells once.
    assert_eq!(tree.ask(Request::Watch(top.clone())), Ok(Reply::Done));
    create(tree, &top, "", CreateMode::Persistent);
    set(tree, &top, "", None).unwrap();
    assert_eq!(tree.next_change(), (top.clone(), ChangeKind::Created));
    assert_eq!(tree.next_change(), (top, ChangeKind::DataChanged));
}

pub(crate) fn creation(path: &str, data: &str, mode: CreateMode) -> Change {
    Change::Create { path: path.to_owned(), data: Bytes::copy_from_slice(data.as_bytes()), mode }
}

#[track_caller]
pub(crate) fn create(tree: &mut dyn Tree, path: &str, data: &str, mode: CreateMode) -> Stat {
    match tree.ask(Request::Change(creation(path, data, mode))) {
        Ok(Reply::Created { path: created, stat }) => {
            assert_eq!(created, path);
            stat
        }
        other => panic!("{path}: {other:?}"),
    }
}

pub(crate) fn set(
    tree: &mut dyn Tree,
    path: &str,
    data: &str,
    version: Option<i32>,
) -> Result<Stat, CoordinationError> {
    let data = Bytes::copy_from_slice(data.as_bytes());
    let reply = tree.ask(Request::Change(Change::Set { path: path.to_owned(), data, version }))?;
    let Reply::Changed(stat) = reply else { panic!("{path}: {reply:?}") };
    Ok(stat)
}

#[track_caller]
pub(crate) fn get(tree: &mut dyn Tree, path: &str) -> (Bytes, Stat) {
    match tree.ask(Request::Get(path.to_owned())) {
        Ok(Reply::Data { data, stat }) => (data, stat),
        other => panic!("{path}: {other:?}"),
    }
}

/// The names of the children, sorted.
#[track_caller]
pub(crate) fn list(tree: &mut dyn Tree, path: &str) -> Vec<String> {
    match tree.ask(Request::List(path.to_owned())) {
        Ok(Reply::Children(mut names)) => {
            names.sort();
            names
        }
        other => panic!("{path}: {other:?}"),
    }
}
