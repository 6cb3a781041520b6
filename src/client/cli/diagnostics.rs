//! What the programs say on stderr: one line that says what, where and what to do.

use std::io::{self, IsTerminal, Write};

use super::common_options::{BehaviourOptions, Color};
use crate::{client::driver::Direction, mqtt::Packet};

/// The voice of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Diagnostics {
    program: &'static str,
    is_quiet: bool,
    is_colored: bool,
}

impl Diagnostics {
    /// Speaks as the options want it.
    pub(super) fn new(program: &'static str, options: &BehaviourOptions) -> Self {
        let is_colored = match options.color {
            Color::Auto => io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            Color::Always => true,
            Color::Never => false,
        };
        Self { program, is_quiet: options.quiet, is_colored }
    }

    /// A voice for the time before the options are known.
    pub(super) fn plain(program: &'static str) -> Self {
        Self { program, is_quiet: false, is_colored: false }
    }

    /// The same voice, whatever `--quiet` says.
    pub(super) fn loud(self) -> Self {
        Self { is_quiet: false, ..self }
    }

    /// Says what went wrong.
    pub(super) fn error(&self, words: &str) {
        if self.is_quiet {
            return;
        }
        let program = self.program;
        if self.is_colored {
            self.write(&format!("\x1b[1;31m{program}:\x1b[0m {words}\n"));
        } else {
            self.write(&format!("{program}: {words}\n"));
        }
    }

    /// Says something that a person at a terminal wants to know.
    pub(super) fn note(&self, words: &str) {
        if !self.is_quiet {
            self.write(&format!("{words}\n"));
        }
    }

    /// Writes without an end of line.
    #[expect(clippy::unused_self, reason = "everything on stderr goes through here")]
    pub(super) fn write(&self, words: &str) {
        // Nobody is left to tell when stderr is gone.
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(words.as_bytes());
        let _ = stderr.flush();
    }
}

/// `-d`: a line for each packet.
pub(super) fn describe_packet(client_id: &str, direction: Direction, packet: &Packet) -> String {
    let direction = match direction {
        Direction::Sending => "sending",
        Direction::Received => "received",
    };
    let name = packet.name();
    match packet {
        Packet::Publish(publish) => format!(
            "Client {client_id} {direction} {name} (d{}, q{}, r{}, m{}, '{}', ... ({} bytes))",
            u8::from(publish.dup),
            publish.qos.bits(),
            u8::from(publish.retain),
            publish.packet_id.map_or(0, crate::mqtt::PacketId::get),
            publish.topic,
            publish.payload.len(),
        ),
        Packet::Connack(connack) => {
            format!("Client {client_id} {direction} {name} ({})", connack.reason_code)
        }
        Packet::Puback(ack) => with_id(client_id, direction, name, ack.packet_id.get()),
        Packet::Pubrec(ack) => with_id(client_id, direction, name, ack.packet_id.get()),
        Packet::Pubrel(ack) => with_id(client_id, direction, name, ack.packet_id.get()),
        Packet::Pubcomp(ack) => with_id(client_id, direction, name, ack.packet_id.get()),
        Packet::Subscribe(request) => with_id(client_id, direction, name, request.packet_id.get()),
        Packet::Suback(answer) => with_id(client_id, direction, name, answer.packet_id.get()),
        Packet::Unsubscribe(request) => {
            with_id(client_id, direction, name, request.packet_id.get())
        }
        Packet::Unsuback(answer) => with_id(client_id, direction, name, answer.packet_id.get()),
        Packet::Connect(_)
        | Packet::Pingreq
        | Packet::Pingresp
        | Packet::Disconnect(_)
        | Packet::Auth(_) => format!("Client {client_id} {direction} {name}"),
    }
}

fn with_id(client_id: &str, direction: &str, name: &str, packet_id: u16) -> String {
    format!("Client {client_id} {direction} {name} (Mid: {packet_id})")
}
