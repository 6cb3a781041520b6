//! How `mqtt_sub` prints a message.

use std::io::{self, IsTerminal, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::Local;

use super::{
    message_json::ours,
    start_error::StartError,
    stdout::Stdout,
    sub_options::{Format, PrintOptions},
    template::{PrintError, Template},
    watch::Watch,
};
use crate::mqtt::Publish;

/// Prints messages as the options want them.
#[derive(Debug)]
pub(super) struct Printer {
    out: Stdout,
    style: Style,
    is_verbose: bool,
    is_pretty: bool,
    has_eol: bool,
}

#[derive(Debug)]
enum Style {
    Template(Template),
    Format(Format),
    Watch(Watch),
}

/// Whether a message could be printed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Printed {
    Whole,
    /// The reason why not.
    Refused(String),
}

impl Printer {
    /// Takes the standard output.
    pub(super) fn new(options: &PrintOptions) -> Result<Self, StartError> {
        let wrong = |text: &str, reason| StartError::usage(format!("-F {text}: {reason}"));
        let is_watching = options.watch && io::stdout().is_terminal();
        let style = match &options.template {
            Some(text) => {
                Style::Template(Template::parse(text).map_err(|reason| wrong(text, reason))?)
            }
            None if is_watching => Style::Watch(Watch::new()),
            None => Style::Format(options.format),
        };
        Ok(Self {
            out: Stdout::lock(),
            style,
            is_verbose: options.verbose || options.watch,
            is_pretty: options.pretty,
            has_eol: !options.no_eol && options.format != Format::Raw,
        })
    }

    /// Prints one message.
    pub(super) fn print(&mut self, publish: &Publish) -> io::Result<Printed> {
        let mut printed = Printed::Whole;
        match &mut self.style {
            Style::Watch(watch) => {
                watch.show(&mut self.out, publish)?;
                return Ok(Printed::Whole);
            }
            Style::Template(template) => {
                let at = Local::now();
                match template.print(&mut self.out, publish, &at, self.is_pretty) {
                    Ok(()) => {}
                    Err(PrintError::Io(error)) => return Err(error),
                    Err(error @ PrintError::NotJson(_)) => {
                        printed = Printed::Refused(error.to_string());
                    }
                }
            }
            Style::Format(Format::Json) => {
                let object = ours(publish, &Local::now());
                let text = if self.is_pretty { object.pretty() } else { object.compact() };
                self.out.write_all(text.as_bytes())?;
            }
            Style::Format(format) => {
                let format = *format;
                return self.print_payload(publish, format);
            }
        }
        self.end_line()?;
        Ok(printed)
    }

    /// `--message-rate`.
    pub(super) fn print_rate(&mut self, count: u64) -> io::Result<()> {
        writeln!(self.out, "{count}")
    }

    /// Hands everything printed to the system.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Topic and payload; an empty payload is `(null)` beside its topic, and nothing without it.
    fn print_payload(&mut self, publish: &Publish, format: Format) -> io::Result<Printed> {
        if publish.payload.is_empty() {
            if self.is_verbose && self.has_eol {
                writeln!(self.out, "{} (null)", publish.topic)?;
            }
            return Ok(Printed::Whole);
        }
        if self.is_verbose {
            write!(self.out, "{} ", publish.topic)?;
        }
        match format {
            Format::Plain | Format::Raw | Format::Json => self.out.write_all(&publish.payload)?,
            Format::Hex => {
                for byte in &publish.payload {
                    write!(self.out, "{byte:02x}")?;
                }
            }
            Format::Base64 => {
                self.out.write_all(STANDARD.encode(&publish.payload).as_bytes())?;
            }
        }
        self.end_line()?;
        Ok(Printed::Whole)
    }

    fn end_line(&mut self) -> io::Result<()> {
        if self.has_eol { self.out.write_all(b"\n") } else { Ok(()) }
    }
}
