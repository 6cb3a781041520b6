//! The ledger: every normative statement of both standards and what holds it.
//!
//! `statements.txt` has the identifiers, `v4:` for MQTT 3.1.1 and `v5:` for MQTT 5.0; `ledger.tsv`
//! has for each one whom it binds, the tests that hold it or why there is none, and what it says in
//! our words. A test holds a statement when it is compiled and its doc comment cites it in square
//! brackets. The check compares all three, in both directions.

mod sources;

use std::collections::{BTreeMap, BTreeSet};

use self::sources::citations_by_test;

/// Statements without a server-side test, when the reason is not that they bind the client only.
const UNHELD_MAX: usize = 25;
/// Statements one test may hold; a test for more would not say which one broke.
const HELD_MAX: usize = 5;

const CLIENT_ONLY: &str = "binds the client only";
const NOT_USED: &str = "an option we do not use";
const NOT_OBSERVABLE: &str = "not observable";

/// A line of the ledger.
struct Row<'a> {
    id: &'a str,
    binds: &'a str,
    /// Why no test of the server holds it, where that is so.
    reason: Option<&'a str>,
    tests: Vec<&'a str>,
    summary: &'a str,
}

/// Reads the table below its heading.
fn parse(table: &str) -> Vec<Row<'_>> {
    table.lines().skip(1).map(parse_row).collect()
}

fn parse_row(line: &str) -> Row<'_> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [id, binds, held_by, summary] = columns[..] else {
        panic!("not four columns: {line}");
    };
    let reasons = [CLIENT_ONLY, NOT_USED, NOT_OBSERVABLE];
    let reason = reasons.into_iter().find(|reason| held_by.starts_with(reason));
    let tests = held_by.strip_prefix(reason.unwrap_or_default()).unwrap_or_default();
    let tests = tests.trim_start_matches(": ").split(", ").filter(|test| !test.is_empty());
    Row { id, binds, reason, tests: tests.collect(), summary }
}

/// Everything wrong with the ledger, given the statements there are and what the tests cite.
fn faults(
    rows: &[Row<'_>],
    statements: &[&str],
    tests: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let ids: Vec<&str> = rows.iter().map(|row| row.id).collect();
    if ids != statements {
        let (ids, wanted) = (BTreeSet::from_iter(&ids), BTreeSet::from_iter(statements));
        let differing: Vec<_> = ids.symmetric_difference(&wanted).collect();
        faults.push(format!("rows and statements differ in {differing:?} or in their order"));
    }
    let unheld = rows.iter().filter(|row| matches!(row.reason, Some(NOT_USED | NOT_OBSERVABLE)));
    let unheld = unheld.count();
    if unheld > UNHELD_MAX {
        faults.push(format!("{unheld} statements are not used or not observable"));
    }
    faults.extend(rows.iter().flat_map(|row| faults_of_row(row, tests)));
    faults.extend(faults_of_tests(rows, tests));
    faults
}

fn faults_of_row(row: &Row<'_>, tests: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: &str| faults.push(format!("{}: {what}", row.id));
    if !["server", "client", "both"].contains(&row.binds) {
        fault(&format!("binds `{}`", row.binds));
    }
    if row.summary.is_empty() {
        fault("has no summary");
    }
    match row.reason {
        None if row.tests.is_empty() => fault("is held by no test and has no reason"),
        Some(NOT_USED | NOT_OBSERVABLE) if !row.tests.is_empty() => fault("has reason and tests"),
        Some(CLIENT_ONLY) if !row.tests.iter().any(|test| test.starts_with("client::")) => {
            fault("binds the client only, and no test of our client holds it");
        }
        _ => {}
    }
    if (row.reason == Some(CLIENT_ONLY)) != (row.binds == "client") && row.reason != Some(NOT_USED)
    {
        fault("its reason and whom it binds contradict");
    }
    for test in &row.tests {
        match tests.get(*test) {
            None => fault(&format!("there is no test {test}")),
            Some(cited) if !cited.iter().any(|id| id == row.id) => {
                fault(&format!("{test} does not cite it"));
            }
            Some(_) => {}
        }
    }
    faults
}

/// Citations that are not entered, and tests that hold too much.
fn faults_of_tests(rows: &[Row<'_>], tests: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut faults = Vec::new();
    let entered: BTreeSet<(&str, &str)> =
        rows.iter().flat_map(|row| row.tests.iter().map(|test| (*test, row.id))).collect();
    for (test, cited) in tests {
        if cited.len() > HELD_MAX {
            faults.push(format!("{test} holds more than {HELD_MAX} statements"));
        }
        let missing = cited.iter().filter(|id| !entered.contains(&(test.as_str(), id.as_str())));
        faults.extend(missing.map(|id| format!("{test} cites {id}, which does not name it")));
    }
    faults
}

#[test]
fn ledger_is_complete() {
    let statements: Vec<&str> = include_str!("statements.txt").lines().collect();
    let of_version = |version: &str| statements.iter().filter(|id| id.starts_with(version)).count();
    assert_eq!((of_version("v4:"), of_version("v5:"), statements.len()), (140, 251, 391));
    let rows = parse(include_str!("ledger.tsv"));
    let faults = faults(&rows, &statements, &citations_by_test());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Each kind of fault, planted in a ledger that is otherwise sound, is found.
#[test]
fn planted_faults_are_found() {
    let sound = "id\tbinds\theld by\tsummary\n\
                 v4:MQTT-1.0-1\tserver\ta::b\tone\n\
                 v5:MQTT-1.0-2\tclient\tbinds the client only: client::c\ttwo\n\
                 v5:MQTT-1.0-3\tboth\tan option we do not use\tthree";
    assert_eq!(planted(sound, ""), Vec::<String>::new());
    for (from, to, found) in [
        ("v5:MQTT-1.0-3", "v5:MQTT-1.0-4", "rows and statements differ"),
        ("a::b", "a::c", "there is no test a::c"),
        ("a::b", "", "held by no test"),
        ("a::b", "client::c", "does not cite it"),
        (": client::c", "", "no test of our client"),
        ("client\t", "server\t", "contradict"),
        ("\tone", "\t", "no summary"),
        ("both", "nobody", "binds `nobody`"),
        ("use\t", "use: a::b\t", "has reason and tests"),
    ] {
        let faults = planted(&sound.replacen(from, to, 1), "");
        assert!(faults.iter().any(|fault| fault.contains(found)), "{from} > {to}: {faults:?}");
    }
    let faults = planted(sound, "v5:MQTT-1.0-3");
    assert!(faults.iter().any(|fault| fault.contains("does not name it")), "{faults:?}");
    let faults = planted(sound, "v4:1 v4:2 v4:3 v4:4 v4:5");
    assert!(faults.iter().any(|fault| fault.contains("holds more than 5")), "{faults:?}");
}

fn planted(table: &str, cited_besides: &str) -> Vec<String> {
    let statements = ["v4:MQTT-1.0-1", "v5:MQTT-1.0-2", "v5:MQTT-1.0-3"];
    let first = ["v4:MQTT-1.0-1"].into_iter().chain(cited_besides.split_whitespace());
    let tests = BTreeMap::from([
        ("a::b".to_owned(), first.map(str::to_owned).collect()),
        ("client::c".to_owned(), vec!["v5:MQTT-1.0-2".to_owned()]),
    ]);
    faults(&parse(table), &statements, &tests)
}
