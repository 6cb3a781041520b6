use std::fmt::Write as _;

use bytes::Bytes;
use expect_test::{Expect, expect};

use super::Tree;
use crate::ports::coordination::{
    Change, CoordinationError, CoordinationEvent, CreateMode, Reply, Request, Stat,
};

/// Plays a story, a line per request, and compares what comes of each.
///
/// A line is `SESSION VERB PATH [VERSION|TTL]`; what is watched by whom is told beneath it.
fn check(tree: &mut Tree, story: &str, expected: &Expect) {
    let mut trace = String::new();
    for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
        trace.push_str(line);
        trace.push('\n');
        let outcome = play(tree, line);
        writeln!(trace, "    {outcome}").unwrap();
        for session in 1..=tree.last_session {
            while let Some(CoordinationEvent::Changed { path, kind }) = tree.next_change(session) {
                writeln!(trace, "    {session} sees {path} {kind:?}").unwrap();
            }
        }
    }
    expected.assert_eq(&trace);
}

fn play(tree: &mut Tree, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["open"] => format!("session {}", tree.open_session()),
        ["lead"] => {
            tree.change_leader();
            "ok".to_owned()
        }
        ["end", session] => {
            tree.expire(session.parse().unwrap());
            "ok".to_owned()
        }
        ["outlived", millis] => format!("{:?}", tree.outlived(millis.parse().unwrap())),
        ["collect", path] => tree.collect(vec![path.to_owned()]).to_string(),
        [session, "all", ..] => {
            let changes = line.split_once(" all ").unwrap().1.split(", ").map(change).collect();
            answer(tree, session, Request::All(changes))
        }
        [session, "get", path] => answer(tree, session, Request::Get(path.to_owned())),
        [session, "list", path] => answer(tree, session, Request::List(path.to_owned())),
        [session, "watch", path] => answer(tree, session, Request::Watch(path.to_owned())),
        [session, ..] => {
            let rest = line.split_once(' ').unwrap().1;
            answer(tree, session, Request::Change(change(rest)))
        }
        [] => unreachable!(),
    }
}

fn change(words: &str) -> Change {
    let words: Vec<&str> = words.split(' ').collect();
    let path = words[1].to_owned();
    let number = words.get(2).map(|word| word.parse::<i32>().unwrap());
    let data = Bytes::from_static(b"data");
    let mode = match words[0] {
        "create" => CreateMode::Persistent,
        "ttl" => {
            CreateMode::PersistentWithTtl { ttl_millis: number.unwrap().unsigned_abs().into() }
        }
        "ephemeral" => CreateMode::Ephemeral,
        "sequential" => CreateMode::EphemeralSequential,
        "set" => return Change::Set { path, data, version: number },
        "delete" => return Change::Delete { path, version: number },
        "check" => return Change::Check { path, version: number.unwrap() },
        other => panic!("no such verb: {other}"),
    };
    Change::Create { path, data, mode }
}

fn answer(tree: &mut Tree, session: &str, request: Request) -> String {
    // The clock shows the number of the transaction, so that the trace shows who looked at it.
    let millis = 1_000 + (tree.zxid() & 0xff);
    match tree.apply(session.parse().unwrap(), request, millis) {
        Ok(Reply::Created { path, stat }) => format!("{path} {}", written(stat)),
        Ok(Reply::Changed(stat) | Reply::Data { stat, .. }) => written(stat),
        Ok(Reply::Done) => "done".to_owned(),
        Ok(Reply::Children(names)) => names.join(" "),
        Err(error @ CoordinationError::Part { .. }) => error.to_string(),
        Err(error) => format!("{error:?}"),
    }
}

fn written(stat: Stat) -> String {
    let zxid = |zxid: i64| format!("{}.{}", zxid >> 32, zxid & 0xffff_ffff);
    format!(
        "c{} m{} at {} v{} owner {}",
        zxid(stat.czxid),
        zxid(stat.mzxid),
        stat.mtime_millis,
        stat.version,
        stat.ephemeral_owner
    )
}

#[test]
fn versions_and_zxids_say_what_changed_when() {
    let story = "
        open
        1 create /a
        1 set /a 0
        1 set /a 0
        1 set /b
        lead
        1 set /a
        1 get /a
        1 delete /a 1
        1 create /a/b/c
        1 create /a/b
        1 delete /a
        1 list /
        1 create /a/
        1 create a
        1 delete /
    ";
    check(
        &mut Tree::new(),
        story,
        &expect![[r#"
        open
            session 1
        1 create /a
            /a c1.1 m1.1 at 1000 v0 owner 0
        1 set /a 0
            c1.1 m1.2 at 1001 v1 owner 0
        1 set /a 0
            BadVersion
        1 set /b
            NoNode
        lead
            ok
        1 set /a
            c1.1 m2.1 at 1000 v2 owner 0
        1 get /a
            c1.1 m2.1 at 1000 v2 owner 0
        1 delete /a 1
            BadVersion
        1 create /a/b/c
            NoNode
        1 create /a/b
            /a/b c2.4 m2.4 at 1003 v0 owner 0
        1 delete /a
            NotEmpty
        1 list /
            a
        1 create /a/
            Other("a znode needs a name")
        1 create a
            Other("a path begins with a slash")
        1 delete /
            NotEmpty
    "#]],
    );
}

#[test]
fn ephemeral_znodes_end_with_their_session_and_numbers_never_come_twice() {
    let story = "
        open
        open
        2 watch /leader
        1 create /leader
        1 sequential /leader/l-
        2 sequential /leader/l-
        1 ephemeral /leader/mine
        1 create /leader/mine/child
        1 delete /leader/mine
        end 1
        1 get /leader
        2 sequential /leader/l-
        2 list /leader
    ";
    check(
        &mut Tree::new(),
        story,
        &expect![[r#"
        open
            session 1
        open
            session 2
        2 watch /leader
            done
        1 create /leader
            /leader c1.1 m1.1 at 1000 v0 owner 0
            2 sees /leader Created
        1 sequential /leader/l-
            /leader/l-0000000000 c1.2 m1.2 at 1001 v0 owner 1
            2 sees /leader/l-0000000000 Created
        2 sequential /leader/l-
            /leader/l-0000000001 c1.3 m1.3 at 1002 v0 owner 2
            2 sees /leader/l-0000000001 Created
        1 ephemeral /leader/mine
            /leader/mine c1.4 m1.4 at 1003 v0 owner 1
            2 sees /leader/mine Created
        1 create /leader/mine/child
            Other("an ephemeral znode has no children")
        1 delete /leader/mine
            done
            2 sees /leader/mine Deleted
        end 1
            ok
            2 sees /leader/l-0000000000 Deleted
        1 get /leader
            SessionExpired
        2 sequential /leader/l-
            /leader/l-0000000005 c1.8 m1.8 at 1007 v0 owner 2
            2 sees /leader/l-0000000005 Created
        2 list /leader
            l-0000000001 l-0000000005
    "#]],
    );
}

#[test]
fn a_multi_is_made_whole_or_not_at_all() {
    let story = "
        open
        open
        2 watch /
        1 create /a
        1 create /b
        1 all check /a 0, set /a, delete /b, sequential /s, create /a
        1 list /
        1 get /a
        1 sequential /s
        1 all check /a 0, set /a 0, check /a 1, delete /b, sequential /s, ephemeral /b
        1 list /
        end 1
        2 all ephemeral /gone, delete /gone
        2 all delete /a 3
    ";
    check(
        &mut Tree::new(),
        story,
        &expect![[r"
        open
            session 1
        open
            session 2
        2 watch /
            done
        1 create /a
            /a c1.1 m1.1 at 1000 v0 owner 0
            2 sees /a Created
        1 create /b
            /b c1.2 m1.2 at 1001 v0 owner 0
            2 sees /b Created
        1 all check /a 0, set /a, delete /b, sequential /s, create /a
            part 4 of the change: there is such a znode already
        1 list /
            a b
        1 get /a
            c1.1 m1.1 at 1000 v0 owner 0
        1 sequential /s
            /s0000000002 c1.4 m1.4 at 1003 v0 owner 1
            2 sees /s0000000002 Created
        1 all check /a 0, set /a 0, check /a 1, delete /b, sequential /s, ephemeral /b
            done
            2 sees /a DataChanged
            2 sees /b Deleted
            2 sees /s0000000004 Created
            2 sees /b Created
        1 list /
            a b s0000000002 s0000000004
        end 1
            ok
            2 sees /b Deleted
            2 sees /s0000000002 Deleted
            2 sees /s0000000004 Deleted
        2 all ephemeral /gone, delete /gone
            done
            2 sees /gone Created
            2 sees /gone Deleted
        2 all delete /a 3
            part 0 of the change: the znode has changed
    "]],
    );
}

#[test]
fn a_watch_covers_what_is_below_it_and_nothing_beside_it() {
    let story = "
        open
        1 watch /brokers
        1 watch /brokers/a
        1 create /brokers
        1 create /brokersX
        1 create /brokers/a
        1 set /brokers/a
    ";
    check(
        &mut Tree::new(),
        story,
        &expect![[r"
        open
            session 1
        1 watch /brokers
            done
        1 watch /brokers/a
            done
        1 create /brokers
            /brokers c1.1 m1.1 at 1000 v0 owner 0
            1 sees /brokers Created
        1 create /brokersX
            /brokersX c1.2 m1.2 at 1001 v0 owner 0
        1 create /brokers/a
            /brokers/a c1.3 m1.3 at 1002 v0 owner 0
            1 sees /brokers/a Created
        1 set /brokers/a
            c1.3 m1.4 at 1003 v1 owner 0
            1 sees /brokers/a DataChanged
    "]],
    );
}

/// ZooKeeper's collector looks for candidates and then deletes them, and does not look again: a
/// value that was refreshed in between is lost, and whoever pays for it must notice.
#[test]
fn the_collector_takes_a_znode_that_was_refreshed_a_moment_ago() {
    let story = "
        open
        1 watch /t
        1 create /t
        1 ttl /t/a 5
        1 ttl /t/b 5
        1 create /t/b/child
        1 create /t/c
        outlived 1010
        outlived 1014
        1 set /t/a
        outlived 1009
        collect /t/a
        collect /t/b
        collect /t/c
    ";
    check(
        &mut Tree::new(),
        story,
        &expect![[r#"
        open
            session 1
        1 watch /t
            done
        1 create /t
            /t c1.1 m1.1 at 1000 v0 owner 0
            1 sees /t Created
        1 ttl /t/a 5
            /t/a c1.2 m1.2 at 1001 v0 owner 0
            1 sees /t/a Created
        1 ttl /t/b 5
            /t/b c1.3 m1.3 at 1002 v0 owner 0
            1 sees /t/b Created
        1 create /t/b/child
            /t/b/child c1.4 m1.4 at 1003 v0 owner 0
            1 sees /t/b/child Created
        1 create /t/c
            /t/c c1.5 m1.5 at 1004 v0 owner 0
            1 sees /t/c Created
        outlived 1010
            ["/t/a"]
        outlived 1014
            ["/t/a"]
        1 set /t/a
            c1.2 m1.6 at 1005 v1 owner 0
            1 sees /t/a DataChanged
        outlived 1009
            []
        collect /t/a
            1
            1 sees /t/a Deleted
        collect /t/b
            0
        collect /t/c
            0
    "#]],
    );
    check(
        &mut Tree::without_ttl(),
        "open\n1 ttl /a 5\n1 create /a",
        &expect![[r"
        open
            session 1
        1 ttl /a 5
            NoTtl
        1 create /a
            /a c1.2 m1.2 at 1001 v0 owner 0
    "]],
    );
}

#[test]
fn what_nobody_takes_is_bounded_and_counted() {
    let mut tree = Tree::new();
    let (watching, changing) = (tree.open_session(), tree.open_session());
    tree.apply(watching, Request::Watch("/".to_owned()), 0).unwrap();
    play(&mut tree, &format!("{changing} create /a"));
    for _ in 0..70_000 {
        play(&mut tree, &format!("{changing} set /a"));
    }
    assert_eq!(tree.changes_lost(watching), 70_001 - 65_536);
    assert_eq!(tree.lose_changes(watching), 65_536);
    assert_eq!(tree.next_change(watching), None);
}
