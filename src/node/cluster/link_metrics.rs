//! What is measured of the links.

use crate::metrics::Readings;
use crate::peer::{LinkCounts, LinkStatus};

/// Adds what all links and each of them have to say.
pub(super) fn read(links: &[LinkStatus], counts: &LinkCounts, readings: &mut Readings) {
    for (name, help, value) in [
        ("links_accepted", "Peers that are connected to us.", counts.accepted as u64),
        (
            "links_half_open",
            "Connections that have not said who they are.",
            counts.half_open as u64,
        ),
    ] {
        readings.gauge(name, help, value);
    }
    for (name, help, value) in [
        ("links_refused", "Connections that came and were no link.", counts.refused),
        (
            "links_put_off",
            "Links of peers that came before they, or the time of the cluster, were known here.",
            counts.put_off,
        ),
        ("link_received_bytes", "Bytes received from peers.", counts.received_bytes),
        ("link_received_batches", "Batches received from peers.", counts.received_batches),
    ] {
        readings.counter(name, help, value);
    }
    let each = |value: fn(&LinkStatus) -> u64| {
        links.iter().map(|link| (link.name.clone(), value(link))).collect::<Vec<_>>()
    };
    let is_up = each(|link| link.connected_since.is_some().into());
    readings.gauges("peer_link_up", "1 while our link to a peer stands.", "peer", is_up);
    let is_accepted = each(|link| link.accepted.is_some().into());
    readings.gauges(
        "peer_link_accepted",
        "1 while a peer's link to us stands.",
        "peer",
        is_accepted,
    );
    let round_trip = |link: &LinkStatus| {
        let micros = link.round_trip.map_or(0, |round_trip| round_trip.as_micros());
        u64::try_from(micros).unwrap_or(u64::MAX)
    };
    readings.gauges(
        "peer_round_trip_microseconds",
        "From sending a batch to a peer to hearing that it was received; 0 before the first.",
        "peer",
        links.iter().map(|link| (link.name.clone(), round_trip(link))),
    );
    let connects = each(|link| link.connects);
    readings.counters("peer_link_connects", "Times our link to a peer stood.", "peer", connects);
    readings.counters(
        "peer_link_failures",
        "Times our link to a peer ended, or did not come to stand.",
        "peer",
        each(|link| link.failures),
    );
}
