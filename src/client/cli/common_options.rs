//! Options that both programs have, with the letters of the Mosquitto clients.

use std::{
    ffi::OsString,
    net::{IpAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use clap::{ArgAction, Args, ValueEnum};
use clap_complete::Shell;

use super::property::{PropertyOption, parse_user_property};
use crate::{
    client::tls::TlsVersion,
    mqtt::{ProtocolVersion, QoS, UserProperty},
};

/// Options that both programs have.
#[derive(Clone, Debug, Args)]
pub(super) struct CommonOptions {
    #[command(flatten)]
    pub(super) connect: ConnectOptions,
    #[command(flatten)]
    pub(super) tls: TlsFlags,
    #[command(flatten)]
    pub(super) will: WillOptions,
    #[command(flatten)]
    pub(super) behaviour: BehaviourOptions,
    #[command(flatten)]
    pub(super) unsupported: UnsupportedOptions,
}

/// How to reach the server, and as whom.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct ConnectOptions {
    /// Host to connect to; every address it resolves to is tried [default: localhost]
    #[arg(short = 'h', long, value_name = "HOST")]
    pub(super) host: Option<String>,
    /// Port [default: 1883, with TLS 8883, with --ws 8083, with both 8084]
    #[arg(short, long, value_name = "PORT")]
    pub(super) port: Option<u16>,
    #[arg(short = 'L', long, value_name = "URL", conflicts_with = "unix", help = URL_HELP)]
    pub(super) url: Option<String>,
    /// Connect to a Unix domain socket
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port"])]
    pub(super) unix: Option<PathBuf>,
    /// Speak MQTT inside a WebSocket
    #[arg(long)]
    pub(super) ws: bool,
    /// Client Identifier [default: the server chooses one]
    #[arg(short, long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// Client Identifier made of this prefix and the process id
    #[arg(short = 'I', long, value_name = "PREFIX", conflicts_with = "id")]
    pub(super) id_prefix: Option<String>,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub(super) username: Option<String>,
    /// Password
    #[arg(short = 'P', long, value_name = "PASSWORD", conflicts_with = "password_file")]
    pub(super) pw: Option<OsString>,
    /// Read the password from the first line of a file
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// MQTT version: 5, 311 or 31, also as 3.1.1, mqttv5 [default: 5, or 3.1.1 if the server has no 5]
    #[arg(short = 'V', long, value_name = "VERSION", value_parser = parse_version)]
    pub(super) protocol_version: Option<ProtocolVersion>,
    /// Keep Alive in seconds, 5 or more
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u16).range(5..))]
    pub(super) keepalive: u16,
    /// Continue the session of this Client Identifier (needs -i), and never let it expire unless -x
    #[arg(short = 'c', long)]
    pub(super) disable_clean_session: bool,
    /// Seconds that the session outlives the connection; -1 means for ever (MQTT 5)
    #[arg(short = 'x', long, value_name = "SECONDS", value_parser = parse_session_expiry)]
    pub(super) session_expiry_interval: Option<u32>,
    /// Local address to connect from
    #[arg(short = 'A', long, value_name = "ADDRESS", value_parser = parse_bind)]
    pub(super) bind: Option<IpAddr>,
    /// Turn Nagle's algorithm off: it always is, since packets are written in batches
    #[arg(long)]
    nodelay: bool,
    #[arg(long, value_name = "URL", conflicts_with = "unix", help = PROXY_HELP)]
    pub(super) proxy: Option<String>,
    /// Keep trying when the first connection fails
    #[arg(long)]
    pub(super) retry: bool,
    /// End when the connection is lost
    #[arg(long)]
    pub(super) no_reconnect: bool,
}

/// Encryption. Any of --cafile, --capath, --cert, --tls-use-os-certs, port 8883 and -L mqtts:// turns
/// it on, too.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "TLS")]
pub(super) struct TlsFlags {
    /// Encrypt; without --cafile and --capath, the system's certificates are trusted
    #[arg(long)]
    pub(super) tls: bool,
    /// Certificates to trust, a PEM file
    #[arg(long, value_name = "FILE")]
    pub(super) cafile: Option<PathBuf>,
    /// Certificates to trust, a directory of PEM files
    #[arg(long, value_name = "DIR")]
    pub(super) capath: Option<PathBuf>,
    /// This client's certificate, a PEM file
    #[arg(long, value_name = "FILE")]
    pub(super) cert: Option<PathBuf>,
    /// This client's private key, a PEM file
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    /// Application protocol to offer
    #[arg(long, value_name = "PROTOCOL", action = ArgAction::Append)]
    pub(super) tls_alpn: Vec<String>,
    /// The only version to speak: tlsv1.2 or tlsv1.3
    #[arg(long, value_name = "VERSION", value_parser = parse_tls_version)]
    pub(super) tls_version: Option<TlsVersion>,
    /// Trust the system's certificates
    #[arg(long)]
    pub(super) tls_use_os_certs: bool,
    /// Name to ask for and to verify, instead of the host's
    #[arg(long, value_name = "NAME")]
    pub(super) sni: Option<String>,
    /// Accept a certificate of another host; its chain is still verified
    #[arg(long)]
    pub(super) insecure: bool,
}

/// What the server publishes when this client vanishes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Will")]
#[expect(clippy::struct_field_names, reason = "clap takes the names of the options from them")]
pub(super) struct WillOptions {
    /// Topic of the Will
    #[arg(long, value_name = "TOPIC")]
    pub(super) will_topic: Option<String>,
    /// Payload of the Will
    #[arg(long, value_name = "PAYLOAD", requires = "will_topic")]
    pub(super) will_payload: Option<OsString>,
    /// QoS of the Will
    #[arg(long, value_name = "QOS", requires = "will_topic", value_parser = parse_qos)]
    pub(super) will_qos: Option<QoS>,
    /// Retain the Will
    #[arg(long, requires = "will_topic")]
    pub(super) will_retain: bool,
    /// Seconds that the server waits before it publishes the Will (MQTT 5)
    #[arg(long, value_name = "SECONDS", requires = "will_topic")]
    pub(super) will_delay: Option<u32>,
}

/// What to talk about, and how to behave meanwhile.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common")]
pub(super) struct BehaviourOptions {
    /// Topic; may be repeated [default: /Testing]
    #[arg(short, long, value_name = "TOPIC", action = ArgAction::Append)]
    pub(super) topic: Vec<String>,
    /// Quality of Service: 0, 1 or 2
    #[arg(short, long, value_name = "QOS", default_value = "0", value_parser = parse_qos)]
    pub(super) qos: QoS,
    /// End after this many seconds with exit code 5
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = parse_secs)]
    pub(super) timeout: Option<Duration>,
    /// User Property (MQTT 5); may be repeated
    #[arg(short = 'Y', long, value_name = "KEY=VALUE", action = ArgAction::Append,
          value_parser = parse_user_property)]
    pub(super) user_property: Vec<UserProperty>,
    /// Property of a packet (MQTT 5): COMMAND IDENTIFIER VALUE, user-property takes two values
    #[arg(short = 'D', long, value_name = "COMMAND IDENTIFIER VALUE", action = ArgAction::Append)]
    pub(super) property: Vec<PropertyOption>,
    /// Show every packet on stderr
    #[arg(short, long)]
    pub(super) debug: bool,
    /// Print no errors
    #[arg(long)]
    pub(super) quiet: bool,
    /// Colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(super) color: Color,
    /// Print figures at the end, on stderr
    #[arg(long, value_name = "FORMAT")]
    pub(super) stats: Option<StatsFormat>,
    /// Print a completion script and end
    #[arg(long, value_name = "SHELL", exclusive = true)]
    pub(super) generate_completion: Option<Shell>,
    /// Print help
    #[arg(long, action = ArgAction::HelpShort)]
    help: Option<bool>,
    /// Print the version of this program
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to print figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StatsFormat {
    /// One JSON object in one line.
    Json,
}

/// Options of the Mosquitto clients that are known here, but not supported.
#[derive(Clone, Debug, Args)]
pub(super) struct UnsupportedOptions {
    #[arg(long, hide = true)]
    psk: Option<String>,
    #[arg(long, hide = true)]
    psk_identity: Option<String>,
    #[arg(long, hide = true)]
    ciphers: Option<String>,
    #[arg(long, hide = true)]
    keyform: Option<String>,
    #[arg(long, hide = true)]
    tls_engine: Option<String>,
    #[arg(long, hide = true)]
    tls_engine_kpass_sha1: Option<String>,
    #[arg(short = 'S', long, hide = true)]
    srv: bool,
}

impl UnsupportedOptions {
    /// Names the first one that was given, and why it is not supported.
    pub(super) fn complaint(&self) -> Option<String> {
        let psk = "pre-shared keys are not part of this TLS library; use --cert and --key";
        let engine = "keys are read from PEM files; there are no engines in this TLS library";
        let given = [
            (self.psk.is_some(), "--psk", psk),
            (self.psk_identity.is_some(), "--psk-identity", psk),
            (
                self.ciphers.is_some(),
                "--ciphers",
                "every cipher suite of this TLS library is a good one; see --tls-version",
            ),
            (self.keyform.as_deref().is_some_and(|form| form != "pem"), "--keyform", engine),
            (self.tls_engine.is_some(), "--tls-engine", engine),
            (self.tls_engine_kpass_sha1.is_some(), "--tls-engine-kpass-sha1", engine),
            (self.srv, "-S", "SRV records are not looked up; say -h HOST and -p PORT"),
        ];
        let (_, name, why) = given.iter().find(|(is_given, ..)| *is_given)?;
        Some(format!("{name} is not supported: {why}"))
    }
}

fn parse_version(text: &str) -> Result<ProtocolVersion, String> {
    match text.to_ascii_lowercase().trim_start_matches("mqttv") {
        "5" | "5.0" => Ok(ProtocolVersion::V5),
        "311" | "3.1.1" => Ok(ProtocolVersion::V311),
        "31" | "3.1" => Ok(ProtocolVersion::V31),
        _ => Err("it is 5, 311 or 31".to_owned()),
    }
}

fn parse_session_expiry(text: &str) -> Result<u32, String> {
    match text {
        "-1" | "\u{221e}" => Ok(u32::MAX),
        _ => text.parse().map_err(|_| "it is 0 to 4294967295, -1 or \u{221e}".to_owned()),
    }
}

/// An address of this machine, or a name for one.
fn parse_bind(text: &str) -> Result<IpAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let addresses = (text, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.map(|address| address.ip()).next().ok_or_else(|| "it has no address".to_owned())
}

fn parse_tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "tlsv1.3" => Ok(TlsVersion::Tls13),
        "tlsv1.2" => Ok(TlsVersion::Tls12),
        "tlsv1.1" | "tlsv1" => {
            Err("it is broken and not supported; tlsv1.2 and tlsv1.3".to_owned())
        }
        _ => Err("it is tlsv1.2 or tlsv1.3".to_owned()),
    }
}

/// 0, 1 or 2.
pub(super) fn parse_qos(text: &str) -> Result<QoS, String> {
    let bits = text.parse().ok();
    bits.and_then(QoS::from_bits).ok_or_else(|| "it is 0, 1 or 2".to_owned())
}

/// Seconds, with a fraction if need be.
pub(super) fn parse_secs(text: &str) -> Result<Duration, String> {
    let secs: f64 = text.parse().map_err(|_| "it is a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(secs).map_err(|_| "it is a number of seconds".to_owned())
}

const URL_HELP: &str = "User, password, host, port and topic at once: \
    mqtt(s)://[user[:password]@]host[:port]/topic, or ws(s)://";
const PROXY_HELP: &str = "SOCKS5 proxy: socks5h://[username[:password]@]host[:port]";
