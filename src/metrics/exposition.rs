//! Readings as the text that Prometheus scrapes.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::readings::{Family, Kind, Readings, Sample, Source};

/// The media type of what [`Exposition::encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All sources of a broker.
pub struct Exposition {
    registry: Registry,
}

/// The sources, as the encoder asks them.
struct Sources(Vec<Box<dyn Source>>);

impl Exposition {
    /// The exposition of `sources`, asked in this order.
    #[must_use]
    pub fn new(sources: Vec<Box<dyn Source>>) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Sources(sources)));
        Self { registry }
    }

    /// Asks every source and writes what it says.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("a String takes every text");
        text
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exposition").finish_non_exhaustive()
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Sources").field(&self.0.len()).finish()
    }
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut readings = Readings::default();
        for source in &self.0 {
            source.read(&mut readings);
        }
        readings.families.iter().try_for_each(|family| encode(family, &mut encoder))
    }
}

fn encode(family: &Family, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let (name, unit) = split_unit(&family.name);
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut encoder = encoder.encode_descriptor(name, &family.help, unit.as_ref(), kind)?;
    for Sample { label, value } in &family.samples {
        match label {
            Some((name, of)) => {
                let labels = [(*name, of.as_str())];
                encode_value(family.kind, *value, encoder.encode_family(&labels)?)?;
            }
            // There is one sample without a label.
            None => return encode_value(family.kind, *value, encoder),
        }
    }
    Ok(())
}

fn encode_value(kind: Kind, value: u64, encoder: MetricEncoder<'_>) -> fmt::Result {
    match kind {
        Kind::Counter => ConstCounter::new(value).encode(encoder),
        Kind::Gauge => ConstGauge::new(value).encode(encoder),
    }
}

/// The unit is told apart from the name, and appended to it again by the encoder.
fn split_unit(name: &str) -> (&str, Option<Unit>) {
    let units = [("_bytes", Unit::Bytes), ("_seconds", Unit::Seconds)];
    let found = units.into_iter().find_map(|(end, unit)| Some((name.strip_suffix(end)?, unit)));
    found.map_or((name, None), |(name, unit)| (name, Some(unit)))
}

const PREFIX: &str = "mqttzoo";

#[cfg(test)]
mod tests {
    use super::*;

    struct Few;

    impl Source for Few {
        fn read(&self, readings: &mut Readings) {
            readings.counter("received_bytes", "Bytes received.", 12);
            readings.gauge("connections", "Connections.", 3);
            readings.gauges("tasks", "Tasks alive.", "name", [("a \"b\"\\\n", 1), ("c", 2)]);
        }
    }

    #[test]
    fn readings_become_openmetrics_text() {
        expect_test::expect![[r#"
            # HELP mqttzoo_received_bytes Bytes received.
            # TYPE mqttzoo_received_bytes counter
            # UNIT mqttzoo_received_bytes bytes
            mqttzoo_received_bytes_total 12
            # HELP mqttzoo_connections Connections.
            # TYPE mqttzoo_connections gauge
            mqttzoo_connections 3
            # HELP mqttzoo_tasks Tasks alive.
            # TYPE mqttzoo_tasks gauge
            mqttzoo_tasks{name="a \"b\"\\\n"} 1
            mqttzoo_tasks{name="c"} 2
            # EOF
        "#]]
        .assert_eq(&Exposition::new(vec![Box::new(Few)]).encode());
    }
}
