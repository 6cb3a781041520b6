//! Schemas of every released version, with what that version wrote: it is read as it was meant, and goes
//! on being written to. A version that is older than the schema, as one that is still in the cluster,
//! writes what it always wrote.

use std::sync::Arc;

use mqttzoo::ports::auth::SessionUser;
use mqttzoo::ports::message::MessageId;
use mqttzoo::ports::store::{
    CursorRecord, IncomingRecord, Operation, OwnerId, PacketState, QueueEnds, QueuedState, Reply,
    Store, StoredMessage, StoredWill,
};
use mqttzoo::runtime::Background;
use rusqlite::Connection;

use super::client::Client;
use super::contract::{postgres, sqlite};
use super::words::{
    acknowledge, all_retained, enqueue, message, message_of, packet, pointer, queue, retained,
    session, subscription, take,
};
use crate::harness::{Postgres, fresh_dir};

/// What was released, in its words: a step is never changed (`store::migrations` holds that).
const STEPS: [&str; 4] = [
    include_str!("../../../src/store/migrations/0001_sessions_and_messages.sql"),
    include_str!("../../../src/store/migrations/0002_no_foreign_keys.sql"),
    include_str!("../../../src/store/migrations/0003_users_of_sessions.sql"),
    include_str!("../../../src/store/migrations/0004_how_far_queues_were_sent.sql"),
];
const NEWEST: usize = STEPS.len();

/// The words in which the databases differ, and how they write bytes.
struct Dialect {
    words: [(&'static str, &'static str); 4],
    bytes: fn(&str) -> String,
}

const SQLITE: Dialect = Dialect {
    words: [
        ("{bytes}", "BLOB"),
        ("{key}", "INTEGER NOT NULL PRIMARY KEY"),
        ("{clustered}", "WITHOUT ROWID"),
        ("{postgres}", "-- "),
    ],
    bytes: |hex| format!("x'{hex}'"),
};
const POSTGRES: Dialect = Dialect {
    words: [
        ("{bytes}", "BYTEA"),
        ("{key}", "BIGINT NOT NULL PRIMARY KEY"),
        ("{clustered}", ""),
        ("{postgres}", ""),
    ],
    bytes: |hex| format!("'\\x{hex}'"),
};

impl Dialect {
    /// A schema of this many steps, and what a broker of the version `wrote` left in it.
    fn script(&self, steps: usize, wrote: usize) -> String {
        let mut script = String::from(
            "CREATE TABLE migration (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL);\n",
        );
        let note = "\nINSERT INTO migration VALUES (?, 'released');\n";
        for (number, step) in (1..).zip(&STEPS[..steps]) {
            let step = self
                .words
                .iter()
                .fold((*step).to_owned(), |step, (word, meant)| step.replace(word, meant));
            script += &step;
            script += &note.replace('?', &number.to_string());
        }
        script + &self.rows(wrote)
    }

    fn rows(&self, wrote: usize) -> String {
        let bytes = self.bytes;
        let owner = bytes(&format!("{:032x}", 1));
        let epoch = bytes(&format!("{:016x}{:016x}{:016x}", 0, 1_u64 << 63 | 1, 1));
        let version = bytes(&format!("{:016x}{:032x}", 1, 1));
        let text = |text: &str| bytes(&text.bytes().map(hex).collect::<String>());
        // What a later version writes besides.
        let (mut columns, mut values) = (String::new(), String::new());
        if wrote >= 3 {
            columns += ", user_name";
            values = [", ", &text("=alice")].concat();
        }
        if wrote >= 4 {
            columns += ", sent_below, sent_epoch";
            values += &[", 2, ", &epoch].concat();
        }
        format!(
            "INSERT INTO broker (owner, number, since) VALUES ({owner}, 1, 1);
            UPDATE cluster SET numbers = 1;
            INSERT INTO session (uid, client_key, slot, owner, epoch, expiry_interval{columns})
                VALUES (1, {client}, 7, {owner}, {epoch}, 4294967295{values});
            INSERT INTO ended_session (uid) VALUES (9);
            INSERT INTO subscription VALUES (1, {filter}, NULL, 38, 268435455);
            INSERT INTO message VALUES (1, -2, 1, NULL, 'a/b', NULL, {one}),
                (5, -6, 1, NULL, 'a/b', NULL, {five}), (6, -7, 1, NULL, 'a/b', NULL, {six});
            INSERT INTO pointer VALUES (1, 1, 1, 1, 0, NULL, NULL, NULL),
                (1, 2, NULL, 2, 1, NULL, NULL, NULL), (9, 1, 6, 1, 0, NULL, NULL, NULL);
            INSERT INTO incoming VALUES (1, 65535, 5, 5, 0);
            INSERT INTO will VALUES (1, 5, NULL, 7, -8, 1, NULL, 'a/b', NULL, {seven});
            INSERT INTO retained VALUES ({topic}, {version}, NULL, 3, -4, 1, NULL, 'r', NULL, {three});
            INSERT INTO receive_cursor VALUES ({owner}, {origin}, 0, 9);",
            client = text("c"),
            filter = text("a/#"),
            topic = text("r"),
            origin = bytes(&format!("{:032x}", 5)),
            one = text("payload 1"),
            three = text("payload 3"),
            five = text("payload 5"),
            six = text("payload 6"),
            seven = text("payload 7"),
        )
    }
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}")
}

/// Every schema with every version that may have written to it.
fn every(mut check: impl FnMut(usize, usize)) {
    for steps in 1..=NEWEST {
        for wrote in 1..=steps {
            check(steps, wrote);
        }
    }
}

#[test]
fn files_of_every_released_version_are_taken_over_with_all_that_is_in_them() {
    let parent = fresh_dir("store-released");
    every(|steps, wrote| {
        let directory = parent.join(format!("{steps}-{wrote}"));
        std::fs::create_dir_all(&directory).unwrap();
        let old = Connection::open(directory.join("store.sqlite")).unwrap();
        old.execute_batch(&SQLITE.script(steps, wrote)).unwrap();
        drop(old);
        // Twice: there is nothing to be done the second time.
        drop(sqlite(&directory));
        take_over(&sqlite(&directory), wrote);
        let new = Connection::open(directory.join("store.sqlite")).unwrap();
        let count = |sql| new.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let newest = i64::try_from(NEWEST).unwrap();
        assert_eq!(count("SELECT max(version) FROM migration"), newest);
        assert_eq!(count("SELECT count(*) FROM message"), 0, "no body is left behind");
    });
    std::fs::remove_dir_all(parent).unwrap();
}

#[test]
fn databases_of_every_released_version_are_taken_over_with_all_that_is_in_them() {
    let Some(server) = Postgres::shared() else { return };
    let background = Background::start(1).unwrap();
    every(|steps, wrote| {
        let database = server.fresh_database();
        let name = database.rsplit_once("dbname=").unwrap().1;
        let schema =
            "CREATE SCHEMA mqttzoo; SET search_path TO mqttzoo; SET client_min_messages TO error;";
        server.query(name, &format!("{schema}\n{}", POSTGRES.script(steps, wrote)));
        take_over(&postgres(&database, &background), wrote);
        let newest = server.query(name, "SELECT max(version) FROM mqttzoo.migration");
        assert_eq!(newest, NEWEST.to_string());
        assert_eq!(server.query(name, "SELECT count(*) FROM mqttzoo.message"), "0");
    });
}

/// The next broker takes what the former one left, reads it, and is done with it.
fn take_over(store: &dyn Store, wrote: usize) {
    let mut broker = Client::new(store, 2);
    assert_eq!(broker.register(None).number, 2, "numbers go on");
    let found = take(&mut broker, "c", 2).expect("it was stored");
    assert_eq!((found.session, &*found.client_id), (session(1, 2), "c"));
    assert_eq!(found.subscriptions, [subscription("a/#")]);
    let user = match wrote {
        1 | 2 => SessionUser::Unknown,
        _ => SessionUser::Known(Some("alice".into())),
    };
    assert_eq!(found.user, user);
    // Who did not say how far it sent may have sent all there is.
    assert_eq!(found.sent_below, Some(if wrote < 4 { 3 } else { 2 }));
    let (packet_id, id) = (packet(65_535), MessageId(5));
    let incoming = IncomingRecord { packet_id, message: id, state: PacketState::Routing };
    assert_eq!(found.incoming, [incoming]);
    let will = StoredWill { message: plain(7), delay_interval_secs: 5, fires_at_millis: None };
    assert_eq!(found.will.as_deref(), Some(&will));
    assert_eq!(found.queue, Some(QueueEnds { first: 1, last: 2, count: 2 }));
    let waiting = queue(&mut broker, 1);
    assert_eq!(waiting[0].message, Some(message(1)));
    assert_eq!(waiting.iter().map(|it| it.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(waiting[1].state, QueuedState::Released);
    assert_eq!(all_retained(&mut broker), [retained("r", 1, Some(message(3)))]);
    let listed = broker.ask(Operation::ListCursors { receiver: OwnerId(1) });
    let cursor = CursorRecord { origin: OwnerId(5), stream: 0, sequence: 9 };
    assert_eq!(listed, Reply::Cursors(vec![cursor]));

    let ours = session(1, 2);
    broker.must([enqueue(&message_of(8, "new"), vec![pointer(ours, 3)])]);
    broker.must([acknowledge(ours, 1, 1), acknowledge(ours, 2, 2), acknowledge(ours, 3, 8)]);
    broker.must([Operation::RemoveIncoming { session: ours, packet_id, message: id }]);
    broker.must([Operation::EndSession(ours)]);
    collect(&mut broker);
    assert_eq!(take(&mut broker, "c", 3), None);
}

/// A message as a will has it.
fn plain(id: u64) -> StoredMessage {
    Arc::unwrap_or_clone(message(id))
}

/// Until nothing is left of what is over.
fn collect(broker: &mut Client) {
    loop {
        if !super::contract::collect(broker, 100).has_more {
            return;
        }
    }
}
