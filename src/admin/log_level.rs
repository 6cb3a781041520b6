//! `/log-level`: what is logged, changeable while running.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::StringRejection;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;

use super::AdminContext;
use super::error::AdminError;

/// The level, as it is asked for and answered.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Level {
    level: String,
}

/// The level now.
pub(super) async fn show(State(context): State<Arc<AdminContext>>) -> Json<Level> {
    Json(Level { level: context.log.level().to_string() })
}

/// Sets the level, until SIGHUP or a restart brings back that of the configuration. The body is
/// `{"level":"debug"}` or just `debug`.
pub(super) async fn change(
    State(context): State<Arc<AdminContext>>,
    body: Result<String, StringRejection>,
) -> Result<Json<Level>, AdminError> {
    let body = body.map_err(unreadable)?;
    let level = parse(&body)?;
    context.log.set_level(level);
    tracing::info!(%level, "the log level was changed by an operator");
    context.note(None, &format!("the log level was changed to {level} by an operator"));
    Ok(Json(Level { level: level.to_string() }))
}

fn unreadable(rejection: StringRejection) -> AdminError {
    match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => AdminError::TooLarge,
        _ => AdminError::BadRequest("the body is not text".to_owned()),
    }
}

fn parse(body: &str) -> Result<LevelFilter, AdminError> {
    let body = body.trim();
    let name = if body.starts_with('{') {
        serde_json::from_str::<Level>(body)
            .map_err(|error| AdminError::BadRequest(format!("the body makes no sense: {error}")))?
            .level
    } else {
        body.to_owned()
    };
    let known = LEVELS.into_iter().find(|level| level.to_string().eq_ignore_ascii_case(&name));
    known.ok_or_else(|| {
        let expected = "expected error, warn, info, debug, trace or off";
        AdminError::BadRequest(format!("{name:?} is not a level: {expected}"))
    })
}

const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_from_json_and_from_plain_text() {
        for (body, level) in [
            ("debug\n", LevelFilter::DEBUG),
            ("{\"level\": \"off\"}", LevelFilter::OFF),
            ("WARN", LevelFilter::WARN),
        ] {
            assert_eq!(parse(body).unwrap(), level, "{body}");
        }
        for body in ["", "loud", "3", "{\"level\":1}", "{\"level\":\"info\",\"x\":1}"] {
            assert!(parse(body).is_err(), "{body}");
        }
    }
}
