//! `mqtt_broker`: the broker.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use mqttzoo::{
    auth::passwd::{self, PasswdError},
    config::{self, Passwd, Request, Surroundings},
    node,
};
use tikv_jemallocator::Jemalloc;

/// It gives freed memory back, which the high-water mark waits for: docs/design/0004-allocator.md.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let surroundings = Surroundings::of_this_process();
    match config::load(&surroundings) {
        Ok((Request::Run(config), warnings)) => node::run(*config, surroundings, &warnings),
        Ok((Request::Show(text), _)) => show(&text),
        Ok((Request::Passwd(request), _)) => match change_password(&request) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Err(error) => fail(&error),
    }
}

fn change_password(request: &Passwd) -> Result<(), PasswdError> {
    if request.is_deletion {
        return passwd::remove_user(&request.file, &request.user);
    }
    let password = passwd::ask_password(&request.user)?;
    passwd::set_password(&request.file, &request.user, password.as_bytes())
}

/// Prints `text`. Whoever reads may have had enough before its end.
fn show(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Says in one line what failed, and what that came from.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut line = format!("mqtt_broker: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    // Nobody is left to tell when standard error is closed.
    let _unheard = writeln!(io::stderr().lock(), "{line}");
    ExitCode::FAILURE
}
