//! Command lines as the Mosquitto clients read them, put into the form that the parser expects.
//!
//! Two habits of theirs need this: a value is whatever follows its option, also when it looks like
//! an option itself (`-m -5`, `-x -1`), and `-D` takes three values or, for a User Property, four.
//! Everything is decided by the definition of the command, so there is no second list of options.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// Separates the values of one `-D`: a control character that no property name or topic contains.
pub(super) const SEPARATOR: char = '\u{1f}';

/// Rewrites `-x value` as `--long=value`.
pub(super) fn normalise(
    command: &Command,
    args: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut normal: Vec<OsString> = args.next().into_iter().collect();
    while let Some(token) = args.next() {
        match find(command, &token) {
            Some(Found { flags, option, attached: None }) => {
                normal.extend(flags);
                let count = if option == PROPERTY { 3 } else { 1 };
                let values = take_values(&mut args, count);
                normal.push(joined(&option, values));
            }
            Some(Found { flags, option, attached: Some(value) }) if option != PROPERTY => {
                normal.extend(flags);
                normal.push(joined(&option, Some(value)));
            }
            Some(_) | None => normal.push(token),
        }
    }
    normal
}

struct Found {
    /// Letters without a value before the option, as in `-rm`.
    flags: Option<OsString>,
    /// The long name of an option that takes a value.
    option: String,
    /// A value in the same token.
    attached: Option<OsString>,
}

fn find(command: &Command, token: &OsStr) -> Option<Found> {
    let text = token.to_str()?;
    if let Some(long) = text.strip_prefix("--") {
        let arg = command.get_arguments().find(|arg| is_named(arg, long))?;
        return takes_value(arg).then(|| long_name(arg)).flatten().map(|option| Found {
            flags: None,
            option,
            attached: None,
        });
    }
    let letters = text.strip_prefix('-')?;
    for (at, letter) in letters.char_indices() {
        let arg = command.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
        if !takes_value(arg) {
            continue;
        }
        let (flags, rest) = letters.split_at(at);
        let value = rest.strip_prefix(letter).unwrap_or_default();
        return Some(Found {
            flags: (!flags.is_empty()).then(|| format!("-{flags}").into()),
            option: long_name(arg)?,
            attached: (!value.is_empty()).then(|| value.into()),
        });
    }
    None
}

fn is_named(arg: &Arg, long: &str) -> bool {
    arg.get_long() == Some(long)
        || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

fn long_name(arg: &Arg) -> Option<String> {
    arg.get_long().map(str::to_owned)
}

fn take_values(args: &mut impl Iterator<Item = OsString>, count: usize) -> Vec<OsString> {
    let mut values: Vec<_> = args.take(count).collect();
    if values.get(1).is_some_and(|name| name == "user-property") {
        values.extend(args.next());
    }
    values
}

/// `--option=values`, or `--option` alone, which the parser then refuses in its own words.
fn joined(option: &str, values: impl IntoIterator<Item = OsString>) -> OsString {
    let mut token = OsString::from(format!("--{option}"));
    for (index, value) in values.into_iter().enumerate() {
        token.push(if index == 0 { "=".to_owned() } else { SEPARATOR.to_string() });
        token.push(value);
    }
    token
}

/// The long name of `-D`.
const PROPERTY: &str = "property";

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    fn check(args: &[&str], expected: &[&str]) {
        let command = Command::new("x")
            .arg(Arg::new("m").short('m').long("message"))
            .arg(Arg::new("r").short('r').long("retain").action(ArgAction::SetTrue))
            .arg(Arg::new("d").short('D').long("property"));
        let args = ["x"].into_iter().chain(args.iter().copied()).map(OsString::from);
        let normal = normalise(&command, args);
        assert_eq!(normal[1..], expected.iter().map(OsString::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_value_may_look_like_an_option() {
        check(&["-m", "-r", "-r"], &["--message=-r", "-r"]);
        check(&["--message", "--retain"], &["--message=--retain"]);
        check(&["-m", "=5"], &["--message==5"]);
        check(&["-m", ""], &["--message="]);
    }

    #[test]
    fn letters_can_be_joined() {
        check(&["-rm", "a"], &["-r", "--message=a"]);
        check(&["-ma"], &["--message=a"]);
    }

    #[test]
    fn a_property_has_three_values_and_a_user_property_four() {
        let property = ["-D", "publish", "content-type", "text", "-r"];
        check(&property, &["--property=publish\u{1f}content-type\u{1f}text", "-r"]);
        let user_property = ["--property", "publish", "user-property", "a", "b", "-r"];
        check(&user_property, &["--property=publish\u{1f}user-property\u{1f}a\u{1f}b", "-r"]);
    }

    #[test]
    fn a_missing_value_is_left_for_the_parser_to_refuse() {
        check(&["-m"], &["--message"]);
    }

    #[test]
    fn what_is_unknown_stays_as_it_is() {
        check(&["-z", "a", "--no"], &["-z", "a", "--no"]);
    }
}
