//! The byte copier: `floor PORT`. See [`mqttzoo_load::floor`].

use std::process::ExitCode;

use mqttzoo_load::{floor, stop::Stop};

fn main() -> ExitCode {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse().ok()) else {
        eprintln!("usage: floor PORT");
        return ExitCode::from(1);
    };
    match Stop::on_signals().and_then(|stop| floor::serve(port, &stop)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::from(3)
        }
    }
}
