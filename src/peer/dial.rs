//! The task that dials one peer, sends to it, and dials again.

use crate::peer::backoff::Backoff;
use crate::peer::error::LinkError;
use crate::peer::handshake::greet;
use crate::peer::link::Link;
use crate::peer::links::Ground;
use crate::peer::outgoing::Outgoing;
use crate::peer::stream::{LinkStream, set_up};
use std::future::{Future, poll_fn};
use std::sync::Arc;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::{TlsConnector, TlsStream};

/// Dials until the peer is gone for good.
pub(super) async fn dial(link: Arc<Link>, ground: Arc<Ground>) {
    tokio::select! {
        () = ground.shutdown.begun() => {}
        () = link.closed.begun() => {}
        () = keep_dialling(&link, &ground) => {}
    }
}

async fn keep_dialling(link: &Link, ground: &Ground) {
    let mut backoff = Backoff::new();
    while !link.lane.is_closed() {
        let error = stand(link, ground, &mut backoff).await;
        if matches!(error, LinkError::Closed) {
            return;
        }
        link.failed(&error, ground.clock.now());
        if error.is_mistrust() {
            ground.receiver.link_mistrusted(link.boot_id);
        }
        // Without chance, all would wait the same: a nuisance, no fault.
        let chance = getrandom::u32().unwrap_or(u32::MAX);
        tokio::time::sleep(backoff.wait(chance)).await;
    }
}

/// One connection, from dialling to its end.
async fn stand(link: &Link, ground: &Ground, backoff: &mut Backoff) -> LinkError {
    match try_stand(link, ground, backoff).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn try_stand(
    link: &Link,
    ground: &Ground,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, LinkError> {
    let address = link.address();
    let mut stream = in_time(ground, LinkError::TimedOut, connect(&address, ground)).await?;
    let hello = ground.hello(link.boot_id, link.lane.gone());
    let greeting = greet(&mut stream, &hello, &ground.options.secret);
    let received = in_time(ground, LinkError::Silent, greeting).await?;
    if received != hello.gone {
        // The last connection carried something, whether we heard of it or not.
        backoff.reset();
    }
    link.lane.rewind(received)?;
    let _standing = link.stand(ground);
    let mut outgoing = Outgoing::new(stream, &link.lane, ground.clock);
    loop {
        let turn = tokio::select! {
            turn = poll_fn(|cx| outgoing.poll(cx)) => turn,
            () = link.redial.notified() => Err(LinkError::Stuck),
        };
        if outgoing.has_progress {
            backoff.reset();
        }
        turn?;
        if let Some(round_trip) = outgoing.round_trip {
            link.measured(round_trip);
        }
    }
}

pub(super) async fn connect(address: &str, ground: &Ground) -> Result<LinkStream, LinkError> {
    let found = lookup_host(address).await.map_err(LinkError::Resolve)?;
    let mut last = LinkError::NoAddress;
    for candidate in found.take(ADDRESSES_MAX) {
        match TcpStream::connect(candidate).await {
            Ok(stream) => {
                set_up(&stream).map_err(LinkError::Connect)?;
                return encrypt(stream, address, ground).await;
            }
            Err(error) => last = LinkError::Connect(error),
        }
    }
    Err(last)
}

async fn encrypt(
    stream: TcpStream,
    address: &str,
    ground: &Ground,
) -> Result<LinkStream, LinkError> {
    let Some(tls) = &ground.tls else { return Ok(LinkStream::Plain(stream)) };
    let name = tls.server_name(host_of(address)).map_err(LinkError::TlsName)?;
    let connector = TlsConnector::from(tls.current().client.clone());
    let stream = connector.connect(name, stream).await.map_err(LinkError::Tls)?;
    Ok(LinkStream::Tls(Box::new(TlsStream::Client(stream))))
}

pub(super) async fn in_time<T>(
    ground: &Ground,
    late: LinkError,
    step: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    let outcome = tokio::time::timeout(ground.options.handshake_timeout, step).await;
    outcome.unwrap_or(Err(late))
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_host_is_what_a_certificate_is_for() {
        let rows =
            [("b-1.mqtt:7883", "b-1.mqtt"), ("[::1]:7883", "::1"), ("10.0.0.1:1", "10.0.0.1")];
        for (address, host) in rows {
            assert_eq!(host_of(address), host);
        }
    }
}
