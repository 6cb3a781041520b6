//! Probes: whether the process serves, has started, and wants traffic.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::json;

use super::AdminContext;
use crate::ports::store::{Store, StoreHealth};

/// How far the broker is, which goes forward only, and what stands in its way at the moment.
#[derive(Default)]
pub struct Health {
    stage: AtomicU8,
    standing: Mutex<Standing>,
    /// Asked whenever somebody asks us.
    store: OnceLock<Arc<dyn Store>>,
}

/// What a broker that is one of several says of itself besides.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Why no traffic should be sent at the moment.
    pub obstacle: Option<&'static str>,
    /// What is missing although traffic is welcome.
    pub degraded: Option<&'static str>,
    /// What is wrong with the links to other brokers, as far as a person has to do something.
    pub links: Option<Arc<str>>,
}

impl Health {
    /// A broker that starts.
    #[must_use]
    pub fn starting() -> Self {
        Self::default()
    }

    /// The listeners are bound. In a cluster they are served once the broker has joined: that may
    /// take as long as `ZooKeeper` does, and is no reason to start the process anew.
    pub fn set_bound(&self) {
        self.stage.fetch_max(BOUND, Ordering::Relaxed);
    }

    /// The listeners are served.
    pub fn set_serving(&self) {
        self.stage.fetch_max(SERVING, Ordering::Relaxed);
    }

    /// What a broker that is one of several says of itself now.
    pub fn set_standing(&self, standing: Standing) {
        *self.standing.lock() = standing;
    }

    /// From now on the trouble that `store` has is told.
    pub fn watch_store(&self, store: Arc<dyn Store>) {
        let _only_one = self.store.set(store);
    }

    /// What is missing although traffic is welcome: who needs no store is served without it.
    fn degraded(&self) -> Option<String> {
        let store = self.store.get().map(|store| store.health());
        let store = store.filter(|health| *health != StoreHealth::Good);
        let store = store.map(|health| format!("the store is {health}"));
        let Standing { degraded, links, .. } = self.standing();
        let degraded = degraded.map(str::to_owned);
        let links = links.map(|links| links.as_ref().to_owned());
        let all: Vec<_> = degraded.into_iter().chain(links).chain(store).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// What an acknowledgement outlives, where a server has said so.
    fn promise(&self) -> Option<String> {
        self.store.get().and_then(|store| store.promise())
    }

    fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    /// The broker is on its way out: no traffic should be sent to it any more.
    pub fn set_draining(&self) {
        self.stage.fetch_max(DRAINING, Ordering::Relaxed);
    }

    fn is_started(&self) -> bool {
        self.stage.load(Ordering::Relaxed) >= BOUND
    }

    /// Why no traffic should be sent; nothing when it should.
    fn unready(&self) -> Option<&'static str> {
        match self.stage.load(Ordering::Relaxed) {
            STARTING => Some(self.standing().obstacle.unwrap_or(NOT_BOUND)),
            BOUND => Some(self.standing().obstacle.unwrap_or(NOT_SERVING)),
            SERVING => self.standing().obstacle,
            _ => Some("draining: the broker is shutting down"),
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Health")
            .field("stage", &self.stage)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}

/// The process serves.
pub(super) async fn livez() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

/// The broker has started: it may wait for its cluster, or be on its way out again.
pub(super) async fn startupz(State(context): State<Arc<AdminContext>>) -> Response {
    if context.health.is_started() {
        return Json(json!({ "status": "ok" })).into_response();
    }
    unavailable(context.health.unready().unwrap_or_default())
}

/// Traffic is welcome.
pub(super) async fn readyz(State(context): State<Arc<AdminContext>>) -> Response {
    match context.health.unready() {
        None => {
            let health = &context.health;
            let parts = [
                ("status", Some("ok".to_owned())),
                ("degraded", health.degraded()),
                ("promise", health.promise()),
            ];
            let body: serde_json::Map<_, _> = parts
                .into_iter()
                .filter_map(|(name, text)| Some((name.to_owned(), text?.into())))
                .collect();
            Json(body).into_response()
        }
        Some(reason) => unavailable(reason),
    }
}

fn unavailable(reason: &str) -> Response {
    let body = json!({ "status": "unavailable", "reason": reason });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

const NOT_BOUND: &str = "starting: the listeners are not bound yet";
const NOT_SERVING: &str = "starting: no clients are taken yet";
const STARTING: u8 = 0;
const BOUND: u8 = 1;
const SERVING: u8 = 2;
const DRAINING: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_serves_drains_and_never_goes_back() {
        let health = Health::starting();
        assert!(!health.is_started() && health.unready().is_some());
        health.set_bound();
        assert!(health.is_started() && health.unready().is_some());
        health.set_serving();
        assert!(health.is_started() && health.unready().is_none());
        health.set_draining();
        health.set_serving();
        assert!(health.is_started());
        assert!(health.unready().unwrap().starts_with("draining"));
    }
}
