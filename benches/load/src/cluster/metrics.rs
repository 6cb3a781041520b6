//! What a broker counts, as `/metrics` tells it.

use crate::{
    error::LoadError,
    number::{float, ratio},
};

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics(String);

/// How long ZooKeeper took to answer a broker between two scrapes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answers {
    /// How many there were.
    pub count: u64,
    /// On average, in microseconds.
    pub mean: f64,
    /// 99 of 100 took no longer than this, in microseconds: the bound of a bucket.
    pub p99_at_most: f64,
}

impl Metrics {
    /// Of the text that was answered.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The reading of this name, without the prefix of the project.
    ///
    /// # Errors
    /// There is none.
    pub fn value(&self, name: &str) -> Result<u64, LoadError> {
        let reading = self.readings().find(|(key, _)| *key == name);
        let (_, value) = reading.ok_or_else(|| LoadError::Refused(format!("to tell of {name}")))?;
        Ok(value)
    }

    /// What ZooKeeper has answered since `earlier`.
    ///
    /// # Errors
    /// Nothing is told of it.
    pub fn answers_since(&self, earlier: &Self) -> Result<Answers, LoadError> {
        let grown = |name| Ok::<_, LoadError>(self.value(name)? - earlier.value(name)?);
        let count = grown("zookeeper_answers_total")?;
        let mean = ratio(grown("zookeeper_answer_microseconds_total")?, count);
        let mut p99_at_most = f64::INFINITY;
        for (bound, within) in self.buckets() {
            let before = earlier.buckets().find(|(other, _)| *other == bound);
            let within = within - before.map_or(0, |(_, within)| within);
            if within * 100 >= count * 99 {
                p99_at_most = p99_at_most.min(float(bound));
            }
        }
        Ok(Answers { count, mean, p99_at_most })
    }

    /// Bounds in microseconds, and how many answers took no longer.
    fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.readings().filter_map(|(key, value)| {
            let bound = key.strip_prefix("zookeeper_answers_within_total{le=\"")?;
            Some((bound.strip_suffix("\"}")?.parse().ok()?, value))
        })
    }

    fn readings(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            let name = name.strip_prefix("mqttzoo_")?;
            Some((name.strip_suffix("{}").unwrap_or(name), value.parse().ok()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(within: [u64; 3], micros: u64) -> Metrics {
        let [one, two, all] = within;
        Metrics::new(format!(
            "# HELP mqttzoo_zookeeper_answers_total Answers.\n\
             mqttzoo_zookeeper_answers_within_total{{le=\"1000\"}} {one}\n\
             mqttzoo_zookeeper_answers_within_total{{le=\"5000\"}} {two}\n\
             mqttzoo_zookeeper_answers_within_total{{le=\"+Inf\"}} {all}\n\
             mqttzoo_zookeeper_answers_total{{}} {all}\n\
             mqttzoo_zookeeper_answer_microseconds_total {micros}\n"
        ))
    }

    #[test]
    fn answers_are_those_between_two_scrapes() {
        let before = scrape([10, 10, 10], 1_000);
        let after = scrape([108, 110, 110], 51_000);
        let answers = Answers { count: 100, mean: 500.0, p99_at_most: 5_000.0 };
        assert_eq!(after.answers_since(&before).unwrap(), answers);
        assert_eq!(before.answers_since(&before).unwrap().count, 0);
        assert!(before.value("no_such_thing").is_err());
    }
}
