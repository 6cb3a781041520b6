//! Every option that the Mosquitto clients name in their help exists here, or is refused by name.

use std::collections::BTreeSet;

use super::{PUB, SUB, run};

#[test]
fn every_option_of_theirs_is_ours_or_named_as_unsupported() {
    for (theirs, ours) in [("mosquitto_pub", PUB), ("mosquitto_sub", SUB)] {
        if !is_installed(theirs) {
            continue;
        }
        let options = options_of(&run(theirs, &["--help"]).text());
        assert!(options.len() > 30, "the help of {theirs} is read wrongly: {options:?}");
        let own = options_of(&run(ours, &["--help"]).text());
        for option in options.difference(&own) {
            let ran = run(ours, &["-p", "1", option, "value"]);
            let says = format!("{option} is not supported: ");
            assert!(
                ran.code() == 1 && ran.stderr.contains(&says),
                "{ours} neither has nor names {option}: {}",
                ran.stderr
            );
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        }
    }
}

#[test]
fn help_and_version_are_data_and_a_mistake_is_one_line() {
    for program in [PUB, SUB] {
        let help = run(program, &["--help"]);
        assert_eq!((help.code(), help.stderr.as_str()), (0, ""));
        assert!(help.text().contains("Examples:"));
        let version = run(program, &["--version"]);
        assert_eq!(version.code(), 0);
        assert!(version.text().ends_with(concat!(env!("CARGO_PKG_VERSION"), "\n")));
        let mistake = run(program, &["--hosst", "x"]);
        assert_eq!((mistake.code(), mistake.text().as_str()), (1, ""));
        assert_eq!(mistake.stderr.lines().count(), 1, "{}", mistake.stderr);
        assert!(mistake.stderr.contains("--host"), "{}", mistake.stderr);
    }
}

#[test]
fn completions_are_generated_for_every_shell() {
    for program in [PUB, SUB] {
        for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
            let script = run(program, &["--generate-completion", shell]);
            assert_eq!(script.code(), 0, "{}", script.stderr);
            assert!(script.text().contains("will-topic"), "{shell}");
        }
    }
}

/// Options that a help text names: words that begin with a dash.
fn options_of(help: &str) -> BTreeSet<String> {
    let is_end = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '-');
    let words = help.split_whitespace().map(|word| word.trim_start_matches(['[', '{', '|']));
    let options = words.filter(|word| word.starts_with('-')).filter_map(|word| {
        let option = word.split(is_end).next()?;
        let name = option.trim_start_matches('-');
        let is_short = option.len() == 2 && !name.is_empty();
        let is_long = option.starts_with("--") && name.starts_with(|it: char| it.is_alphabetic());
        let is_option = is_long || is_short && name.starts_with(|it: char| it.is_alphabetic());
        is_option.then(|| option.to_owned())
    });
    options.collect()
}

/// Whether a program is there; where there is none, CI fails and a person's machine gets a line.
pub(super) fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|path| path.join(program).is_file());
    assert!(found || std::env::var_os("CI").is_none(), "CI needs {program}");
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}
