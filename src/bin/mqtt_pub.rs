//! `mqtt_pub`: see [`mqttzoo::client::cli`].

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    mqttzoo::client::cli::mqtt_pub(env::args_os())
}
