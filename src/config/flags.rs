//! The command line.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Command, ValueHint, builder::PossibleValuesParser,
    error::ErrorKind, parser::ValueSource,
};

use super::{
    Config, ConfigError, Origin,
    draft::Setting,
    option::{OptionRow, Section},
    value::{EMPTY, Shape},
};

/// What the command line asks for.
pub(super) enum Flags {
    /// A text to print: help or version.
    Show(String),
    /// Work on a password file.
    Passwd(Passwd),
    /// Start, or show the configuration.
    Start {
        /// The configuration file.
        config_file: Option<String>,
        /// Options.
        settings: Vec<Setting>,
        /// What to print instead of starting.
        print: Option<Print>,
    },
}

/// What to print instead of starting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Print {
    /// The configuration in force.
    Config,
    /// The document of all options.
    Docs,
}

/// Sets or removes the password of one user: `mqtt_broker passwd FILE USER`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Passwd {
    /// The password file. It is made if it does not exist.
    pub file: PathBuf,
    /// The user.
    pub user: String,
    /// Whether the user is removed.
    pub is_deletion: bool,
}

/// Reads the command line; `args` opens with the name of the program.
pub(super) fn read(args: &[OsString]) -> Result<Flags, ConfigError> {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if asks_for_text(error.kind()) => {
            return Ok(Flags::Show(error.render().to_string()));
        }
        Err(error) => return Err(ConfigError::Usage(in_one_line(&error))),
    };
    if let Some(("passwd", passwd)) = matches.subcommand() {
        return Ok(Flags::Passwd(Passwd {
            file: PathBuf::from(text(passwd, "FILE").unwrap_or_default()),
            user: text(passwd, "USER").unwrap_or_default(),
            is_deletion: passwd.get_flag("delete"),
        }));
    }
    let settings = Config::default()
        .sections()
        .iter()
        .flat_map(|group| group.options())
        .filter_map(|row| setting(&matches, &row))
        .collect();
    let print = match (matches.get_flag(PRINT_CONFIG), matches.get_flag(PRINT_DOCS)) {
        (_, true) => Some(Print::Docs),
        (true, false) => Some(Print::Config),
        (false, false) => None,
    };
    Ok(Flags::Start { config_file: text(&matches, CONFIG), settings, print })
}

/// The parser of the command line, for help texts and shell completion too.
pub(super) fn command() -> Command {
    let mut command = Command::new("mqtt_broker")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An MQTT 3.1.1 and 5.0 broker.")
        .after_help(EXAMPLES)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .subcommand(passwd_command())
        .arg(
            Arg::new(CONFIG)
                .long(CONFIG)
                .value_name("FILE")
                .value_hint(ValueHint::FilePath)
                .help("The configuration file (TOML) [env: MQTTZOO_CONFIG]"),
        )
        .arg(
            Arg::new(PRINT_CONFIG)
                .long(PRINT_CONFIG)
                .action(ArgAction::SetTrue)
                .help("Prints the configuration in force as TOML, and ends"),
        )
        .arg(Arg::new(PRINT_DOCS).long(PRINT_DOCS).action(ArgAction::SetTrue).hide(true));
    for group in Config::default().sections() {
        for row in group.options() {
            command = command.arg(argument(group, &row));
        }
    }
    command
}

fn passwd_command() -> Command {
    Command::new("passwd")
        .about("Sets the password of a user in a password file")
        .long_about(
            "Sets the password of a user in a password file, which is made if it does not exist. \
             The password is asked for twice on a terminal, and is otherwise the first line of \
             standard input.",
        )
        .arg(Arg::new("FILE").required(true).help("The password file"))
        .arg(Arg::new("USER").required(true).help("The user name"))
        .arg(
            Arg::new("delete")
                .short('D')
                .long("delete")
                .action(ArgAction::SetTrue)
                .help("Removes the user instead"),
        )
}

fn argument(group: &dyn Section, row: &OptionRow) -> Arg {
    let text = row.text();
    let default = match row.value.as_deref() {
        None | Some(EMPTY) => String::new(),
        Some(toml) => {
            format!(" [default: {}]", toml.trim_matches(['[', ']']).replace('"', ""))
        }
    };
    let short = format!("{}{default}", first_sentence(&text));
    let long = format!("{text}{default} [env: {}]", row.variable());
    let argument = Arg::new(row.key)
        .long(row.flag())
        .value_name(row.form)
        .help(short)
        .long_help(long)
        .help_heading(group.heading())
        .hide_short_help(group.table().is_some());
    match row.shape {
        Shape::One => argument.action(ArgAction::Set),
        Shape::Many => argument.action(ArgAction::Append).value_delimiter(','),
        Shape::Switch => argument
            .action(ArgAction::Set)
            .num_args(0..=1)
            .default_missing_value("true")
            .value_parser(PossibleValuesParser::new(["true", "false"]))
            .hide_possible_values(true),
    }
}

fn setting(matches: &ArgMatches, row: &OptionRow) -> Option<Setting> {
    if matches.value_source(row.key) != Some(ValueSource::CommandLine) {
        return None;
    }
    let texts = matches.get_many::<String>(row.key)?.cloned().collect();
    Some(Setting { key: row.key.to_owned(), texts, origin: Origin::Flag(row.flag()) })
}

fn text(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).cloned()
}

fn asks_for_text(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// The message of the parser without its usage block: what is wrong and what may have been meant.
fn in_one_line(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let lines: Vec<&str> = rendered
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .map(|line| line.trim_start_matches("error: "))
        .collect();
    lines.join("; ")
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}

const CONFIG: &str = "config";
const PRINT_CONFIG: &str = "print-config";
const PRINT_DOCS: &str = "print-config-docs";

const EXAMPLES: &str = "\
Examples:
  mqtt_broker                                        MQTT on port 1883, this machine only
  mqtt_broker --host 0.0.0.0 --allow-anonymous       open to everybody who reaches this machine
  mqtt_broker passwd users alice                     sets the password of alice in the file users
  mqtt_broker --host :: --password-file users        open to those who know a password
  mqtt_broker --tls-port 8883 --cert c.pem --key k.pem --port off
                                                     TLS, and nothing else
  mqtt_broker --config broker.toml --print-config    what a configuration comes to

Every flag is a key of the configuration file (--tls-port is tls_port; those under Limits stand in
[limits]) and an environment variable (MQTTZOO_TLS_PORT). Flags win over the environment, the
environment wins over the file. -h lists the common flags, --help all of them in full.";
