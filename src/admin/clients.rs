//! `/clients`: who is there, and the end of one.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::AdminContext;
use super::error::AdminError;
use crate::broker::administer::{ClientQuery, Ending};
use crate::broker::card::ClientCard;
use crate::broker::registry::Listed;
use crate::ports::message::SessionKey;

/// The filters of `GET /clients`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filters {
    after: Option<String>,
    limit: Option<usize>,
    prefix: Option<String>,
    user: Option<String>,
    connected: Option<bool>,
}

/// One page of clients.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    clients: Vec<Summary>,
    /// What `after` is to be for the next page; none after the last.
    next: Option<String>,
}

/// A client. What belongs to a connection is that of the last one while there is none.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    client_id: String,
    connected: bool,
    user_name: Option<String>,
    address: Option<String>,
    listener: Option<String>,
    version: Option<String>,
    keep_alive_secs: Option<u16>,
    session_expiry_interval_secs: Option<u32>,
    connected_since: Option<String>,
    /// For a parked Session: when it ends.
    session_expires_in_secs: Option<u64>,
    queued_messages: usize,
    queued_bytes: usize,
    queued_qos0_messages: usize,
    dropped_messages: u64,
}

/// A client and what only a look at its Session shows.
#[derive(Debug, Serialize)]
pub(super) struct Details {
    #[serde(flatten)]
    summary: Summary,
    tls_common_name: Option<String>,
    /// Known while no connection owns the Session.
    subscription_count: Option<usize>,
    /// The first of them.
    subscriptions: Option<Vec<String>>,
}

/// Some clients, in the order of their Client Identifiers.
pub(super) async fn list(
    State(context): State<Arc<AdminContext>>,
    filters: Result<Query<Filters>, QueryRejection>,
) -> Result<Json<Page>, AdminError> {
    let Query(filters) = filters.map_err(|error| AdminError::BadRequest(error.body_text()))?;
    let limit = filters.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > LIMIT_MAX {
        let reason = format!("limit is {limit}: it must be from 1 to {LIMIT_MAX}");
        return Err(AdminError::BadRequest(reason));
    }
    let page = context.broker.list_clients(&ClientQuery {
        after: filters.after,
        prefix: filters.prefix,
        user_name: filters.user,
        is_connected: filters.connected,
        limit,
    });
    let last = page.clients.last().map(|listed| listed.client_id.to_string());
    let next = last.filter(|_| page.has_more);
    let clients = page.clients.iter().map(|listed| Summary::new(&context, listed)).collect();
    Ok(Json(Page { clients, next }))
}

/// One client.
pub(super) async fn show(
    State(context): State<Arc<AdminContext>>,
    client_id: Result<Path<String>, PathRejection>,
) -> Result<Json<Details>, AdminError> {
    let client_id = named(client_id)?;
    let Some(listed) = context.broker.registry().find(&client_id) else {
        return Err(AdminError::UnknownClient(client_id));
    };
    let subscriptions = context.broker.parked_subscriptions(&client_id, SUBSCRIPTIONS_MAX);
    let common_name = listed.card.as_ref().and_then(|card| card.origin.tls_common_name.clone());
    Ok(Json(Details {
        summary: Summary::new(&context, &listed),
        tls_common_name: common_name.map(|name| name.to_string()),
        subscription_count: subscriptions.as_ref().map(|subscriptions| subscriptions.count),
        subscriptions: subscriptions.map(|subscriptions| subscriptions.filters),
    }))
}

/// Ends a Session, and its connection with 0x98. Answers when it has ended, or with 202 when its
/// connection has been told and did not get to it in time.
pub(super) async fn end(
    State(context): State<Arc<AdminContext>>,
    client_id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, AdminError> {
    let client_id = named(client_id)?;
    let mut told = None;
    for _ in 0..END_ATTEMPTS_MAX {
        match end_once(&context, &client_id, told).await {
            Ending::Unknown if told.is_none() => return Err(AdminError::UnknownClient(client_id)),
            Ending::Unknown | Ending::Ended => {
                tracing::info!(client_id, "a session was ended by an operator");
                context.note(Some(&client_id), "the session was ended by an operator");
                return Ok(StatusCode::NO_CONTENT);
            }
            Ending::Told(key) => told = Some(key),
            Ending::Moving => {}
        }
        tokio::time::sleep(END_PAUSE).await;
    }
    Ok(StatusCode::ACCEPTED)
}

/// The Client Identifier in a path, where it is text.
fn named(path: Result<Path<String>, PathRejection>) -> Result<String, AdminError> {
    let Path(client_id) = path.map_err(|error| AdminError::BadRequest(error.body_text()))?;
    Ok(client_id)
}

async fn end_once(context: &AdminContext, client_id: &str, only: Option<SessionKey>) -> Ending {
    let (answer, answered) = oneshot::channel();
    let client_id = client_id.to_owned();
    context.turns.run(Box::new(move |turn| {
        // Whoever asked may have left.
        let _unheard = answer.send(turn.end_client(&client_id, only));
    }));
    answered.await.unwrap_or(Ending::Moving)
}

impl Summary {
    fn new(context: &AdminContext, listed: &Listed) -> Self {
        let now = context.clock.now();
        let card = listed.card.as_deref();
        let counts = listed.mailbox.as_ref().map(|mailbox| mailbox.counts()).unwrap_or_default();
        let text = |of: fn(&ClientCard) -> &str| card.map(|card| of(card).to_owned());
        Self {
            client_id: listed.client_id.to_string(),
            connected: listed.is_connected,
            user_name: card.and_then(|card| card.identity.user_name.as_deref()).map(str::to_owned),
            address: text(|card| &card.origin.address),
            listener: text(|card| &card.origin.listener),
            version: card.map(|card| card.version.to_string()),
            keep_alive_secs: card.map(|card| card.keep_alive_secs),
            session_expiry_interval_secs: card.map(|card| card.session_expiry_secs),
            connected_since: card.filter(|_| listed.is_connected).and_then(|card| {
                let ago = now.saturating_since(card.connected_at);
                wall_clock(context.clock.unix_millis().saturating_sub(ago))
            }),
            session_expires_in_secs: listed.expires_at.map(|at| at.saturating_since(now) / 1_000),
            queued_messages: counts.messages,
            queued_bytes: counts.bytes,
            queued_qos0_messages: counts.qos0_messages,
            dropped_messages: counts.dropped,
        }
    }
}

fn wall_clock(unix_millis: u64) -> Option<String> {
    let time = DateTime::from_timestamp_millis(i64::try_from(unix_millis).ok()?)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Clients of one page, unless told otherwise.
const LIMIT_DEFAULT: usize = 100;
/// Clients of one page.
const LIMIT_MAX: usize = 1_000;
/// Subscriptions shown of one client.
const SUBSCRIPTIONS_MAX: usize = 1_000;
/// How often, and after what time, a Session that is told to end is looked at again.
const END_ATTEMPTS_MAX: usize = 100;
const END_PAUSE: Duration = Duration::from_millis(20);
