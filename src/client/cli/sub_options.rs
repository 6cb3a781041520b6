//! The command line of `mqtt_sub`.

use std::num::NonZeroU64;

use clap::{ArgAction, Parser, ValueEnum};

use super::common_options::CommonOptions;

/// Subscribe to topics of an MQTT server and print what arrives.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "mqtt_sub",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true,
    after_help = EXAMPLES
)]
pub(super) struct SubOptions {
    #[command(flatten)]
    pub(super) choice: ChoiceOptions,
    #[command(flatten)]
    pub(super) print: PrintOptions,
    #[command(flatten)]
    pub(super) common: CommonOptions,
}

/// Which messages.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Messages")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct ChoiceOptions {
    /// End after this many messages
    #[arg(short = 'C', long, value_name = "COUNT")]
    pub(super) count: Option<NonZeroU64>,
    /// End once the server has answered the subscriptions
    #[arg(short = 'E', long)]
    pub(super) exit_after_suback: bool,
    /// Drop messages whose topic matches; may be repeated
    #[arg(short = 'T', long, value_name = "FILTER", action = ArgAction::Append)]
    pub(super) filter_out: Vec<String>,
    /// Unsubscribe from a topic filter; may be repeated
    #[arg(short = 'U', long, value_name = "FILTER", action = ArgAction::Append)]
    pub(super) unsubscribe: Vec<String>,
    /// Drop retained messages
    #[arg(short = 'R', long)]
    pub(super) no_retained: bool,
    /// Print retained messages, end at the first other one
    #[arg(long)]
    pub(super) retained_only: bool,
    /// Delete the retained messages that arrive
    #[arg(long)]
    pub(super) remove_retained: bool,
    /// Ask the server to leave the retain flag as the publisher set it (MQTT 5)
    #[arg(long)]
    pub(super) retain_as_published: bool,
    /// Share the subscriptions with the other members of this group
    #[arg(long, value_name = "GROUP")]
    pub(super) share: Option<String>,
    /// Print this percentage of the messages, chosen at random
    #[arg(long, value_name = "PERCENT")]
    pub(super) random_filter: Option<f64>,
}

/// How to print them.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Output")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct PrintOptions {
    /// Print the topic before the payload
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Print by this template: %t topic, %p payload, %q QoS, %j JSON, @Y-@m-@d time, \n ...
    #[arg(short = 'F', long = "output-format", value_name = "TEMPLATE", conflicts_with = "format")]
    pub(super) template: Option<String>,
    /// How to print payloads
    #[arg(long, value_name = "FORMAT", default_value = "plain")]
    pub(super) format: Format,
    /// Print JSON over several lines
    #[arg(long)]
    pub(super) pretty: bool,
    /// Print no end of line after a message
    #[arg(short = 'N', long)]
    pub(super) no_eol: bool,
    /// Keep one line for each topic and show its latest message there (on a terminal)
    #[arg(short, long, conflicts_with_all = ["template", "message_rate"])]
    pub(super) watch: bool,
    /// Print how many messages arrived, once a second, instead of the messages
    #[arg(long)]
    pub(super) message_rate: bool,
}

/// How to print payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// The bytes, and an end of line.
    Plain,
    /// One object a line: ts topic qos retain dup mid len payload props.
    Json,
    /// Hexadecimal.
    Hex,
    /// Base64.
    Base64,
    /// The bytes and nothing else.
    Raw,
}

const EXAMPLES: &str = "\
Examples:
  mqtt_sub -t weather                       print payloads until ctrl-c
  mqtt_sub -t 'sensors/#' -v                with their topics
  mqtt_sub -t '#' -F '%I %t %p'             by a template
  mqtt_sub -t jobs -q 1 --share workers -C 10 --format json
  mqtt_sub -t '#' --remove-retained --retained-only -W 5

Known from the Mosquitto clients, and refused with a reason:
  --psk, --psk-identity, --ciphers, --keyform, --tls-engine, --tls-engine-kpass-sha1, -S

Exit codes:
  0 ok, 1 usage, 2 file, 3 connect, TLS or protocol, 4 connection lost, 5 timeout, 7 subscribe refused,
  128-162 CONNECT refused, by its reason code";
