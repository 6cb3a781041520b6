//! What is answered when something is wrong: JSON that says what, and what to do.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{ALLOW, HeaderValue, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::access::Denial;

/// An answer other than what was asked for.
#[derive(Debug)]
pub(super) enum AdminError {
    /// There is no such path.
    NoSuchPath,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// There is no such client.
    UnknownClient(String),
    /// What was asked for cannot be understood.
    BadRequest(String),
    /// The body is too large.
    TooLarge,
    /// The head is too large, or has too many headers.
    HeadTooLarge,
    /// The path is too long.
    PathTooLong,
    /// It took too long.
    TimedOut,
    /// Not to be had by this client.
    Denied(Denial),
}

impl AdminError {
    /// The whole answer of a connection that ends with it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let (status, error, hint) = self.parts();
        let body = json!({ "error": error, "hint": hint }).to_string();
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.parts().0
    }

    fn parts(&self) -> (StatusCode, String, &'static str) {
        match self {
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "there is no such path".to_owned(), PATHS),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "this path does not do that".to_owned(), PATHS)
            }
            Self::UnknownClient(id) => (
                StatusCode::NOT_FOUND,
                format!("there is no session of client {id:?}"),
                "GET /clients lists those there are; write `/` and `%` in an identifier as %2F, %25",
            ),
            Self::BadRequest(reason) => {
                (StatusCode::BAD_REQUEST, reason.clone(), "see docs/OPERATING.md for an example")
            }
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is too large".to_owned(),
                "send at most 4 KiB",
            ),
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the head of the request is too large".to_owned(),
                "send at most 16 KiB and 64 headers",
            ),
            Self::PathTooLong => {
                (StatusCode::URI_TOO_LONG, "the path is too long".to_owned(), PATHS)
            }
            Self::TimedOut => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the answer took too long".to_owned(),
                "the broker is overloaded, or the request came too slowly: try again",
            ),
            Self::Denied(denial) => denial_parts(*denial),
        }
    }
}

fn denial_parts(denial: Denial) -> (StatusCode, String, &'static str) {
    match denial {
        Denial::Token => (
            StatusCode::UNAUTHORIZED,
            "the token is missing or wrong".to_owned(),
            "send `Authorization: Bearer TOKEN` with the content of --admin-token-file",
        ),
        Denial::OnlyProbes => (
            StatusCode::FORBIDDEN,
            "only probes are answered here".to_owned(),
            "give --admin-token-file, or listen on loopback (--admin-host 127.0.0.1)",
        ),
        Denial::Host => (
            StatusCode::FORBIDDEN,
            "the Host header is neither an address nor localhost".to_owned(),
            "use http://127.0.0.1 or http://localhost, or give --admin-token-file",
        ),
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let (status, error, hint) = self.parts();
        let mut response = (status, Json(json!({ "error": error, "hint": hint }))).into_response();
        let header = match self {
            Self::Denied(Denial::Token) => Some((WWW_AUTHENTICATE, "Bearer")),
            Self::MethodNotAllowed => Some((ALLOW, "GET, HEAD, PUT, DELETE")),
            Self::Denied(Denial::OnlyProbes | Denial::Host)
            | Self::NoSuchPath
            | Self::UnknownClient(_)
            | Self::BadRequest(_)
            | Self::TooLarge
            | Self::HeadTooLarge
            | Self::PathTooLong
            | Self::TimedOut => None,
        };
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

const PATHS: &str = "there are GET /metrics, /livez, /readyz, /startupz, /clients, \
    GET and DELETE /clients/ID, GET and PUT /log-level";
