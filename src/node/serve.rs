//! Where net and gateway meet: a transport becomes a driven connection.

use std::future::Future;
use std::io;
use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::card::Origin;
use crate::broker::options::ConnectionOptions;
use crate::gateway::mqtt::{Driver, DriverOptions, Link, ParkingPlace, ShardContext};
use crate::net::{ParkedTransport, Peer, Serve, Transport, diagnose_first_bytes};
use crate::runtime::{Clock, ShardHandle};

/// Serves the connections of one listener.
pub(super) struct Server {
    options: Arc<DriverOptions>,
    contexts: Arc<[Arc<ShardContext>]>,
    parking: Arc<[Arc<ParkingPlace<Transport>>]>,
}

impl Server {
    pub(super) fn new(
        broker: Arc<Broker>,
        clock: Clock,
        connection: Arc<ConnectionOptions>,
        contexts: Arc<[Arc<ShardContext>]>,
        parking: Arc<[Arc<ParkingPlace<Transport>>]>,
    ) -> Self {
        let options = DriverOptions { broker, clock, connection, diagnose: diagnose_first_bytes };
        Self { options: Arc::new(options), contexts, parking }
    }
}

impl Serve for Server {
    fn serve(
        self: Arc<Self>,
        transport: Transport,
        peer: Peer,
        shard: ShardHandle,
    ) -> impl Future<Output = ()> + Send + 'static {
        let origin = Origin {
            address: Arc::from(peer.address.to_string()),
            listener: peer.listener,
            tls_common_name: peer.tls_common_name.map(Arc::from),
        };
        let context = self.contexts.get(shard.id()).expect("a context for every shard");
        let place = self.parking.get(shard.id()).expect("a parking place for every shard");
        Driver::new(transport, origin, Arc::clone(&self.options), Arc::clone(context))
            .parked_at(Arc::clone(place))
    }
}

impl Link for Transport {
    type Parked = ParkedTransport;

    fn mark_established(&mut self) {
        Self::mark_established(self);
    }

    fn can_park(&self) -> bool {
        Self::can_park(self)
    }

    fn park(&mut self) -> io::Result<ParkedTransport> {
        Self::park(self)
    }

    fn resume(parked: ParkedTransport) -> io::Result<Self> {
        Self::resume(parked)
    }
}
