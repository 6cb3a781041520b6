//! The command line of `mqtt_pub`.

use std::{ffi::OsString, num::NonZeroU16, path::PathBuf, time::Duration};

use clap::Parser;

use super::common_options::{CommonOptions, parse_secs};

/// Publish messages to an MQTT server. Without a payload option every line of the standard input is a
/// message; on a terminal an empty line ends it.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "mqtt_pub",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true,
    after_help = EXAMPLES
)]
pub(super) struct PubOptions {
    #[command(flatten)]
    pub(super) payload: PayloadOptions,
    #[command(flatten)]
    pub(super) message: MessageOptions,
    #[command(flatten)]
    pub(super) common: CommonOptions,
}

/// What to send.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Payload")]
#[group(id = "source", multiple = false)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct PayloadOptions {
    /// The payload
    #[arg(short, long, value_name = "PAYLOAD")]
    pub(super) message: Option<OsString>,
    /// Send the content of a file
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Send the whole standard input as one message
    #[arg(short, long)]
    pub(super) stdin_file: bool,
    /// Send every line of the standard input as a message
    #[arg(short = 'l', long)]
    pub(super) stdin_line: bool,
    /// Send an empty message
    #[arg(short, long)]
    pub(super) null_message: bool,
    /// Every line of the standard input is a JSON object: topic, qos, retain, payload ...
    #[arg(long)]
    pub(super) json_lines: bool,
    /// Send a payload of this many bytes
    #[arg(long, value_name = "BYTES")]
    pub(super) size: Option<usize>,
}

/// How to send it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Message")]
pub(super) struct MessageOptions {
    /// Retain the message
    #[arg(short, long)]
    pub(super) retain: bool,
    /// Publish this many times (with -m, -f, -s, -n or --size)
    #[arg(long, value_name = "COUNT")]
    pub(super) repeat: Option<u64>,
    /// Seconds between repetitions
    #[arg(long, value_name = "SECONDS", value_parser = parse_secs)]
    pub(super) repeat_delay: Option<Duration>,
    /// Messages a second at most
    #[arg(long, value_name = "RATE", conflicts_with = "repeat_delay")]
    pub(super) rate: Option<f64>,
    /// Messages in flight at most; 0 means as many as the server takes
    #[arg(short = 'M', long, value_name = "COUNT", default_value = "20",
          value_parser = parse_inflight)]
    pub(super) max_inflight: NonZeroU16,
    /// Seconds after which the server forgets the message (MQTT 5)
    #[arg(long, value_name = "SECONDS")]
    pub(super) expiry: Option<u32>,
    /// Content Type (MQTT 5)
    #[arg(long, value_name = "TYPE")]
    pub(super) content_type: Option<String>,
    /// Response Topic (MQTT 5)
    #[arg(long, value_name = "TOPIC")]
    pub(super) response_topic: Option<String>,
    /// Correlation Data (MQTT 5)
    #[arg(long, value_name = "TEXT")]
    pub(super) correlation: Option<OsString>,
    /// Key that chooses the partition of a stream, sent as the User Property partition-key (MQTT 5)
    #[arg(long, value_name = "KEY")]
    pub(super) partition_key: Option<String>,
    /// Partition of a stream, sent as the User Property partition (MQTT 5)
    #[arg(long, value_name = "NUMBER", conflicts_with = "partition_key")]
    pub(super) partition: Option<u32>,
}

fn parse_inflight(text: &str) -> Result<NonZeroU16, String> {
    let count: u16 = text.parse().map_err(|_| "it is a number up to 65535".to_owned())?;
    Ok(NonZeroU16::new(count).unwrap_or(NonZeroU16::MAX))
}

const EXAMPLES: &str = "\
Examples:
  mqtt_pub -t weather                       ask for messages, line by line
  mqtt_pub -t weather -m sunny -q 1 -r      one message, acknowledged and retained
  sensors | mqtt_pub -t weather -q 1        one message a line
  mqtt_pub -t load --size 100 --repeat 100000 -q 1 -M 1000 --stats json
  mqtt_pub -L mqtts://user:secret@host/weather -m sunny

Known from the Mosquitto clients, and refused with a reason:
  --psk, --psk-identity, --ciphers, --keyform, --tls-engine, --tls-engine-kpass-sha1, -S

Exit codes:
  0 ok, 1 usage, 2 file, 3 connect, TLS or protocol, 4 connection lost, 5 timeout, 6 publish refused,
  128-162 CONNECT refused, by its reason code";
