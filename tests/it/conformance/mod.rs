//! The conformance suite: raw-byte scripts, one for each behaviour the two standards demand.
//!
//! A script opens sockets, sends bytes and says what must come back; it knows nothing of the broker
//! behind the port, so the same scripts judge ours (`cargo test --test it conformance::`), alone and as
//! one of a cluster, any other (`bin/conformance`), and a server that says nothing, against which each
//! one has to fail.
//! A script cites the statements it holds in its doc comment, `[v4:MQTT-3.3.1-2]` for MQTT 3.1.1 and
//! `[v5:MQTT-3.3.1-2]` for MQTT 5.0; `ledger.tsv` says for each statement which tests hold it.

pub(crate) mod bytes;
pub(crate) mod client;
pub(crate) mod runner;
pub(crate) mod stage;

mod acknowledgements;
mod auth;
mod basics;
mod connack;
mod connect;
mod disconnect;
mod expiry;
mod flow;
mod limits;
mod properties;
mod publish;
mod qos;
mod retain;
mod session;
mod shared;
mod strings;
mod subscribe;
mod topic_alias;
mod topics;
mod unsubscribe;
mod websocket;
mod will;

#[cfg(test)]
mod clustered;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod suite;

pub(crate) use bytes::{Connect, Publish, Will, ack, kind, packet, prop};
pub(crate) use client::{Client, Event, Packet};
pub(crate) use stage::{Stage, Target};

/// A version of the protocol, named by its level: 4 is MQTT 3.1.1, 5 is MQTT 5.0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    V4,
    V5,
}

/// Why a script did not pass.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The server did something else.
    Differs(String),
    /// The server lacks what the script needs, which the standard permits.
    Skipped(String),
}

/// What a script, or a step of one, comes to.
pub(crate) type Outcome<T = ()> = Result<T, Verdict>;

/// The Reason Codes with which a 5.0 server may answer what it cannot parse or accept.
pub(crate) const MALFORMED: &[u8] = &[0x80, 0x81, 0x82];

/// Ends a script: the server did something else.
pub(crate) fn differs<T>(what: impl Into<String>) -> Outcome<T> {
    Err(Verdict::Differs(what.into()))
}

/// Ends a script: the server lacks what it needs.
pub(crate) fn skipped<T>(what: impl Into<String>) -> Outcome<T> {
    Err(Verdict::Skipped(what.into()))
}

/// Ends a script with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return $crate::conformance::differs(format!($($message)+));
        }
    };
}
pub(crate) use ensure;

/// One script and where it is found.
pub(crate) struct Script {
    /// The module, as `module_path!` has it.
    module: &'static str,
    /// The name of the function.
    function: &'static str,
    /// The version it speaks.
    pub(crate) version: Version,
    /// The file it stands in.
    source: &'static str,
    /// The script.
    pub(crate) run: fn(&Stage) -> Outcome,
}

impl Script {
    /// The name, `publish::v5::dup_is_not_passed_on`: what `--filter` is compared with.
    pub(crate) fn name(&self) -> String {
        let module = self.module.rsplit("::").next().unwrap_or_default();
        let version = match self.version {
            Version::V4 => "v4",
            Version::V5 => "v5",
        };
        format!("{module}::{version}::{}", self.function)
    }

    /// The statements of its version that its doc comment cites.
    pub(crate) fn citations(&self) -> Vec<String> {
        let mine = match self.version {
            Version::V4 => "v4:",
            Version::V5 => "v5:",
        };
        let mut cited = citations(&doc_comment(self.source, self.function));
        cited.retain(|id| id.starts_with(mine));
        cited
    }
}

/// The `///` lines above `fn function(` in `source`.
pub(crate) fn doc_comment(source: &str, function: &str) -> String {
    let head = format!("fn {function}(");
    let Some(at) = source.find(&format!("\n{head}")) else { return String::new() };
    let mut lines: Vec<&str> =
        source[..at].lines().rev().take_while(|line| line.starts_with("///")).collect();
    lines.reverse();
    lines.join("\n")
}

/// The identifiers `v4:MQTT-...` and `v5:MQTT-...` in square brackets.
pub(crate) fn citations(text: &str) -> Vec<String> {
    let inside = text.split('[').skip(1).filter_map(|part| part.split(']').next());
    inside
        .filter(|id| id.starts_with("v4:MQTT-") || id.starts_with("v5:MQTT-"))
        .map(ToOwned::to_owned)
        .collect()
}

/// Enters functions as scripts, for both versions or for one, and makes a test of each.
macro_rules! scripts {
    (both: [$($both:ident),* $(,)?], v4: [$($v4:ident),* $(,)?], v5: [$($v5:ident),* $(,)?] $(,)?) => {
        /// The scripts of this file.
        pub(crate) const SCRIPTS: &[$crate::conformance::Script] = &[
            $($crate::conformance::scripts!(@entry V4 $both),)*
            $($crate::conformance::scripts!(@entry V4 $v4),)*
            $($crate::conformance::scripts!(@entry V5 $both),)*
            $($crate::conformance::scripts!(@entry V5 $v5),)*
        ];

        #[cfg(test)]
        mod v4 {
            $($crate::conformance::scripts!(@test V4 $both);)*
            $($crate::conformance::scripts!(@test V4 $v4);)*
        }

        #[cfg(test)]
        mod v5 {
            $($crate::conformance::scripts!(@test V5 $both);)*
            $($crate::conformance::scripts!(@test V5 $v5);)*
        }
    };
    (@entry $version:ident $name:ident) => {
        $crate::conformance::Script {
            module: module_path!(),
            function: stringify!($name),
            version: $crate::conformance::Version::$version,
            source: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", file!())),
            run: $name,
        }
    };
    (@test $version:ident $name:ident) => {
        #[test]
        fn $name() {
            $crate::conformance::suite::judge_ours(
                $crate::conformance::Version::$version,
                super::$name,
            );
        }
    };
}
pub(crate) use scripts;

/// Every script.
pub(crate) fn all() -> Vec<&'static Script> {
    let files = [
        basics::SCRIPTS,
        strings::SCRIPTS,
        connect::SCRIPTS,
        connack::SCRIPTS,
        publish::SCRIPTS,
        properties::SCRIPTS,
        topic_alias::SCRIPTS,
        acknowledgements::SCRIPTS,
        retain::SCRIPTS,
        subscribe::SCRIPTS,
        unsubscribe::SCRIPTS,
        disconnect::SCRIPTS,
        auth::SCRIPTS,
        session::SCRIPTS,
        will::SCRIPTS,
        qos::SCRIPTS,
        flow::SCRIPTS,
        limits::SCRIPTS,
        expiry::SCRIPTS,
        topics::SCRIPTS,
        shared::SCRIPTS,
        websocket::SCRIPTS,
    ];
    files.into_iter().flatten().collect()
}
