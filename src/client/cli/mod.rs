//! The parts of `mqtt_pub` and `mqtt_sub`: every letter and option of the Mosquitto clients means the
//! same here, so a script works after a rename.
//!
//! Data goes to the standard output, everything else to stderr. Options are defined once, with clap;
//! `argv` makes the parser read them as the Mosquitto clients do.

mod argv;
mod common_options;
mod connection;
mod conversation;
mod diagnostics;
mod exit;
mod field;
mod json_lines;
mod json_value;
mod latency;
mod message_json;
mod pace;
mod print;
mod progress;
mod property;
mod pub_options;
mod publish;
mod redial;
mod signals;
mod source;
mod start_error;
mod stats;
mod stdout;
mod sub_options;
mod subscribe;
mod template;
mod url;
mod watch;

use std::{ffi::OsString, io, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, error::ErrorKind};
use clap_complete::Shell;

use diagnostics::Diagnostics;
use exit::Exit;
use pub_options::PubOptions;
use start_error::StartError;
use sub_options::SubOptions;

/// The whole of `mqtt_pub`.
#[must_use]
pub fn mqtt_pub(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match parse::<PubOptions>("mqtt_pub", args) {
        Ok(options) => options,
        Err(exit) => return exit.finish(),
    };
    let behaviour = &options.common.behaviour;
    if let Some(shell) = behaviour.generate_completion {
        return print_completion::<PubOptions>("mqtt_pub", shell).finish();
    }
    let say = Diagnostics::new("mqtt_pub", behaviour);
    block_on(say, publish::run(&options, say)).finish()
}

/// The whole of `mqtt_sub`.
#[must_use]
pub fn mqtt_sub(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match parse::<SubOptions>("mqtt_sub", args) {
        Ok(options) => options,
        Err(exit) => return exit.finish(),
    };
    let behaviour = &options.common.behaviour;
    if let Some(shell) = behaviour.generate_completion {
        return print_completion::<SubOptions>("mqtt_sub", shell).finish();
    }
    let say = Diagnostics::new("mqtt_sub", behaviour);
    block_on(say, subscribe::run(&options, say)).finish()
}

fn parse<T: CommandFactory + FromArgMatches>(
    program: &'static str,
    args: impl IntoIterator<Item = OsString>,
) -> Result<T, Exit> {
    let command = T::command();
    let args = argv::normalise(&command, args);
    let parsed = command.try_get_matches_from(args).and_then(|it| T::from_arg_matches(&it));
    parsed.map_err(|error| explain(program, &error))
}

/// Help and version are data; a mistake is one line.
fn explain(program: &'static str, error: &clap::Error) -> Exit {
    let say = Diagnostics::plain(program);
    let text = error.render();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return print(say, text.to_string().as_bytes());
    }
    let text = text.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let told: Vec<_> = lines.take_while(|line| !line.starts_with("Usage:")).collect();
    let told = told.join("; ");
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    let told = told.split("; For more information").next().unwrap_or(told);
    say.error(&format!("{told} (see {program} --help)"));
    Exit::Usage
}

fn print_completion<T: CommandFactory>(program: &'static str, shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut T::command(), program, &mut script);
    print(Diagnostics::plain(program), &script)
}

fn print(say: Diagnostics, text: &[u8]) -> Exit {
    match stdout::print(text) {
        Ok(()) => Exit::Ok,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            say.error(&format!("cannot write the output: {error}"));
            Exit::File
        }
    }
}

fn block_on(say: Diagnostics, program: impl Future<Output = Result<Exit, StartError>>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say.error(&format!("cannot start: {error}"));
            return Exit::Connect;
        }
    };
    let exit = runtime.block_on(program).unwrap_or_else(|error| {
        // As with the Mosquitto clients, --quiet does not hide mistakes of the command line.
        say.loud().error(&error.to_string());
        error.exit()
    });
    // A resolver that hangs must not keep the program alive.
    runtime.shutdown_background();
    exit
}
