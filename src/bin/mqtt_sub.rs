//! `mqtt_sub`: see [`mqttzoo::client::cli`].

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    mqttzoo::client::cli::mqtt_sub(env::args_os())
}
