//! Which path does what, and what holds for all of them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Version;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use serde_json::json;

use super::error::AdminError;
use super::{AdminContext, clients, health, log_level};
use crate::metrics;

/// The answers of one administration port.
pub(super) fn router(context: Arc<AdminContext>) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(scrape))
        .route("/clients", get(clients::list))
        .route("/clients/{*client_id}", get(clients::show).delete(clients::end))
        .route("/cluster", get(cluster))
        .route("/log-level", get(log_level::show).put(log_level::change))
        .route_layer(from_fn_with_state(Arc::clone(&context), guard));
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/startupz", get(health::startupz))
        .merge(guarded)
        .fallback(async || AdminError::NoSuchPath)
        .method_not_allowed_fallback(async || AdminError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(limit_time))
        .layer(from_fn(check_host))
        .with_state(context)
}

async fn scrape(State(context): State<Arc<AdminContext>>) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], context.exposition.encode()).into_response()
}

async fn cluster(State(context): State<Arc<AdminContext>>) -> Response {
    match &context.cluster {
        Some(report) => Json(report()).into_response(),
        None => Json(json!({ "clustered": false })).into_response(),
    }
}

/// Lets those through who may come here.
async fn guard(State(context): State<Arc<AdminContext>>, request: Request, next: Next) -> Response {
    match context.access.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(denial) => AdminError::Denied(denial).into_response(),
    }
}

/// A request of HTTP/1.1 names its host, once (RFC 9112, section 3.2).
async fn check_host(request: Request, next: Next) -> Response {
    let count = request.headers().get_all(HOST).iter().count();
    if count > 1 || (count == 0 && request.version() == Version::HTTP_11) {
        let reason = format!("a request has one Host header, this one has {count}");
        return AdminError::BadRequest(reason).into_response();
    }
    next.run(request).await
}

async fn limit_time(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(ANSWER_TIME_MAX, next.run(request)).await;
    answered.unwrap_or_else(|_| AdminError::TimedOut.into_response())
}

/// Nothing that is asked for here is longer.
const BODY_BYTES_MAX: usize = 4 * 1_024;
/// From the head of a request to its answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
