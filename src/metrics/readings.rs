//! Readings: named numbers with a sentence about each, gathered for one scrape.

/// Somebody who counts.
pub trait Source: Send + Sync + 'static {
    /// Adds what it has counted.
    fn read(&self, readings: &mut Readings);
}

/// What one scrape found.
///
/// Names are without the prefix of the project. A unit is the last word of a name; that a counter is
/// one is said by the exposition.
#[derive(Debug, Default)]
pub struct Readings {
    pub(super) families: Vec<Family>,
}

/// The readings of one name.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) help: String,
    pub(super) kind: Kind,
    pub(super) samples: Vec<Sample>,
}

/// A number, and which of its family it is.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) label: Option<(&'static str, String)>,
    pub(super) value: u64,
}

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// It grows, from zero at the start of the process.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Readings {
    /// A number that only grows.
    pub fn counter(&mut self, name: impl Into<String>, help: impl Into<String>, value: u64) {
        self.push(name.into(), help.into(), Kind::Counter, vec![Sample { label: None, value }]);
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: impl Into<String>, help: impl Into<String>, value: u64) {
        self.push(name.into(), help.into(), Kind::Gauge, vec![Sample { label: None, value }]);
    }

    /// Numbers that only grow, one for each value of `label`.
    pub fn counters<L: Into<String>>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) {
        self.push(name.to_owned(), help.to_owned(), Kind::Counter, samples(label, values));
    }

    /// Numbers that go up and down, one for each value of `label`.
    pub fn gauges<L: Into<String>>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) {
        self.push(name.to_owned(), help.to_owned(), Kind::Gauge, samples(label, values));
    }

    fn push(&mut self, name: String, help: String, kind: Kind, samples: Vec<Sample>) {
        debug_assert!(self.families.iter().all(|family| family.name != name), "{name} is there");
        self.families.push(Family { name, help, kind, samples });
    }
}

fn samples<L: Into<String>>(
    label: &'static str,
    values: impl IntoIterator<Item = (L, u64)>,
) -> Vec<Sample> {
    let sample = |(of, value): (L, u64)| Sample { label: Some((label, of.into())), value };
    values.into_iter().map(sample).collect()
}
