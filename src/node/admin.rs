//! The administration port put together: who is asked for what.

use std::sync::Arc;

use super::{Node, StartError};
use crate::admin::{self, Access, AdminContext, BoundAdmin, ClusterReport, Turns, Witness};
use crate::broker::Broker;
use crate::broker::turn::Turn;
use crate::gateway::mqtt::{ParkingPlace, ShardContext};
use crate::metrics::{BrokerSource, Exposition, Readings, RuntimeSource, Source};
use crate::net::{ConnectionBudget, NetCounters, Refusal, Setback, Transport, TransportKind};
use crate::node::activity::ActivitySource;
use crate::node::cluster::{ClusterSource, broker_name};
use crate::node::store_source::StoreSource;
use crate::runtime::{Clock, ShardHandle};

impl Node {
    /// Opens the administration port, if there is to be one.
    pub(super) fn bind_admin(&self) -> Result<Option<(BoundAdmin, Access)>, StartError> {
        let options = &self.config.admin;
        let Some(port) = options.admin_port else { return Ok(None) };
        let access = Access::load(options.admin_host, options.admin_token_file.clone())?;
        if access.is_probes_only() {
            tracing::warn!(
                admin_host = %options.admin_host,
                "only probes are answered on the administration port: give --admin-token-file, or \
                 listen on loopback"
            );
        }
        Ok(Some((admin::bind(options.admin_host, port)?, access)))
    }

    /// Answers on the administration port.
    pub(super) fn serve_admin(
        &self,
        bound: BoundAdmin,
        access: Arc<Access>,
    ) -> Result<(), StartError> {
        let shards = self.shards.handles();
        let context = AdminContext {
            broker: Arc::clone(&self.broker),
            clock: self.clock,
            exposition: self.exposition(),
            health: Arc::clone(&self.health),
            cluster: self.cluster_status.clone().map(|status| {
                let (broker, clock) = (Arc::clone(&self.broker), self.clock);
                Box::new(move || status.to_json(&broker, clock.now())) as ClusterReport
            }),
            log: self.logging.handle(),
            turns: Box::new(FirstShard {
                shard: shards.iter().next().expect("there is at least one shard").clone(),
                context: Arc::clone(self.contexts.first().expect("a context for every shard")),
                broker: Arc::clone(&self.broker),
                clock: self.clock,
            }),
            access,
            witness: self.activity.clone().map(|log| {
                let own = broker_name(&self.config);
                let witness = move |client_id: Option<&str>, act: &str| {
                    log.note_admin(client_id.unwrap_or(&own), act);
                };
                Box::new(witness) as Witness
            }),
        };
        bound.serve(Arc::new(context), &self.background.handle()).map_err(StartError::System)
    }

    fn exposition(&self) -> Exposition {
        let mut sources: Vec<Box<dyn Source>> = vec![
            Box::new(RuntimeSource {
                clock: self.clock,
                shards: self.shards.handles(),
                background: self.background.handle(),
                log: self.logging.handle(),
                version: env!("CARGO_PKG_VERSION"),
            }),
            Box::new(BrokerSource::new(Arc::clone(&self.broker))),
            Box::new(NetSource {
                counters: Arc::clone(&self.net_counters),
                budget: Arc::clone(&self.budget),
                connections_max: self.connections_max as u64,
                contexts: Arc::clone(&self.contexts),
                parking: Arc::clone(&self.parking),
            }),
        ];
        if let Some(log) = self.activity.clone() {
            sources.push(Box::new(ActivitySource(log)));
        }
        if let Some(status) = &self.cluster_status {
            let (status, broker) = (Arc::clone(status), Arc::clone(&self.broker));
            sources.push(Box::new(ClusterSource { status, broker, clock: self.clock }));
        }
        if let Some(kept) = &self.kept {
            let (store, counters) = (Arc::clone(kept.durable.store()), Arc::clone(&kept.counters));
            sources.push(Box::new(StoreSource { store, counters }));
        }
        Exposition::new(sources)
    }
}

/// What the listeners and the shards' caches count.
struct NetSource {
    counters: Arc<NetCounters>,
    budget: Arc<ConnectionBudget>,
    connections_max: u64,
    contexts: Arc<[Arc<ShardContext>]>,
    parking: Arc<[Arc<ParkingPlace<Transport>>]>,
}

impl Source for NetSource {
    fn read(&self, readings: &mut Readings) {
        let counters = &self.counters;
        readings.counters(
            "connections_accepted",
            "Connections accepted, by how MQTT is carried.",
            "transport",
            TransportKind::ALL.map(|kind| (kind.as_str(), counters.accepted(kind).value())),
        );
        readings.counters(
            "connections_refused",
            "Connections closed at once, by the bound that was reached.",
            "bound",
            Refusal::ALL.map(|refusal| (refusal.as_str(), counters.refused(refusal).value())),
        );
        readings.counters(
            "handshakes_failed",
            "Connections that did not get through their handshakes, by reason.",
            "reason",
            Setback::ALL.map(|setback| (setback.as_str(), counters.setbacks(setback).value())),
        );
        readings.counter(
            "accept_pauses",
            "Times a listener paused because the system had no file or memory for a socket.",
            counters.accept_pauses.value(),
        );
        let open = self.budget.open() as u64;
        readings.gauge("connections", "Connections that are open.", open);
        readings.gauge(
            "connections_half_open",
            "Connections that have not finished their handshakes.",
            counters.half_open.value(),
        );
        let parked: usize = self.parking.iter().map(|place| place.len()).sum();
        readings.gauge(
            "connections_parked",
            "Connections among them that have nothing to do and wait without a task.",
            parked as u64,
        );
        readings.gauge("limit_connections", "Connections there may be.", self.connections_max);
        let cached: usize = self.contexts.iter().map(|context| context.cached_routes()).sum();
        readings.gauge("cached_routes", "Routes in the caches of all shards.", cached as u64);
    }
}

/// Turns of an operator are had on the first shard, among those of its connections.
struct FirstShard {
    shard: ShardHandle,
    context: Arc<ShardContext>,
    broker: Arc<Broker>,
    clock: Clock,
}

impl Turns for FirstShard {
    fn run(&self, work: Box<dyn FnOnce(&mut Turn<'_>) + Send>) {
        let (context, broker) = (Arc::clone(&self.context), Arc::clone(&self.broker));
        let clock = self.clock;
        self.shard.spawn("operator's turn", async move {
            context.run(&broker, clock.now(), work);
        });
    }
}
