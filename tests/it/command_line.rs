//! `mqtt_broker` as it is typed: what it prints, and how it refuses to start.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::harness::fresh_dir;

/// Runs `mqtt_broker` to its end, with nothing of our own in its environment.
fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mqtt_broker"))
        .args(arguments)
        .env_clear()
        .env("HOME", std::env::temp_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without having read.
    let _unread = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What it says when it refuses: one line, and an exit code that is not zero.
fn refusal(arguments: &[&str], input: &str) -> String {
    let output = run(arguments, input);
    assert!(!output.status.success(), "{arguments:?} should be refused");
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().to_owned()
}

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments, "");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_version_and_configuration_go_to_standard_output() {
    assert!(printed(&["--help"]).contains("Examples:"));
    assert_eq!(printed(&["--version"]), format!("mqtt_broker {}\n", env!("CARGO_PKG_VERSION")));
    assert!(printed(&["--print-config", "--port", "1884"]).contains("port = 1884  # flag --port"));
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mqtt_broker"))
        .arg("--help")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let mistyped = refusal(&["--prot", "1"], "");
    assert!(mistyped.starts_with("mqtt_broker: ") && mistyped.contains("'--port'"), "{mistyped}");
    let open_to_all = refusal(&["--host", "0.0.0.0"], "");
    assert!(
        open_to_all.contains("--allow-anonymous") && open_to_all.contains("--password-file"),
        "both ways out are said: {open_to_all}"
    );
    let no_file = refusal(&["--config", "/nowhere/at/all"], "");
    assert!(no_file.contains("/nowhere/at/all") && no_file.contains("No such file"), "{no_file}");
}

#[test]
fn passwords_are_set_from_a_pipe_and_removed() {
    let directory = fresh_dir("passwd");
    let file = directory.join("users");
    let path = file.to_str().unwrap();
    for user in ["alice", "bob"] {
        let output = run(&["passwd", path, user], "wonder\n");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("alice:$argon2id$") && text.contains("\nbob:$argon2id$"), "{text}");
    assert!(!text.contains("wonder"));
    assert!(run(&["passwd", "-D", path, "alice"], "").status.success());
    assert!(!std::fs::read_to_string(&file).unwrap().contains("alice"));
    assert!(refusal(&["passwd", "-D", path, "alice"], "").contains("has no user alice"));
    assert!(refusal(&["passwd", path, "alice"], "\n").contains("the password is empty"));
    std::fs::remove_dir_all(directory).unwrap();
}
