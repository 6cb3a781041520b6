//! How the runs of a simulation are chosen, counted, and found again when one fails.

use std::collections::BTreeMap;

/// What happened in runs, and how often.
pub(crate) type Tally = BTreeMap<&'static str, u64>;

/// A simulation of which each seed is a run.
pub(crate) struct Suite {
    /// The variable of the environment that names the one seed to run. With an `S` behind it, it names
    /// the last of all from 1 on.
    pub(crate) variable: &'static str,
    /// The test to run again.
    pub(crate) test: &'static str,
    /// Plays a seed: what happened, or what rule was broken.
    pub(crate) play: fn(u64) -> Result<Tally, String>,
}

impl Suite {
    /// Runs the seeds that the environment names, else `usual`. All of them together must contain what
    /// `happens`, so that they mean something; one alone need not.
    pub(crate) fn run(&self, usual: impl IntoIterator<Item = u64>, happens: &[&str]) {
        if let Some(seed) = number(self.variable) {
            let _tally = self.check(seed);
            return;
        }
        let mut tally = Tally::new();
        let mut note = |seed| {
            for (what, count) in self.check(seed) {
                *tally.entry(what).or_default() += count;
            }
        };
        match number(&format!("{}S", self.variable)) {
            Some(last) => (1..=last).for_each(&mut note),
            None => usual.into_iter().for_each(&mut note),
        }
        for what in happens {
            assert!(tally.get(what).is_some_and(|count| *count > 0), "never: {what}; {tally:#?}");
        }
    }

    /// What happens in a run in which no rule is broken.
    pub(crate) fn check(&self, seed: u64) -> Tally {
        let Self { variable, test, play } = self;
        play(seed).unwrap_or_else(|failure| {
            panic!("{failure}\nagain: {variable}={seed} cargo test --test it {test}")
        })
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
