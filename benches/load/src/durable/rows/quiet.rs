//! What is left of a figure where a machine does nothing else, and how sure that is.

/// A quotient, and between what it would be in 95 of 100 such runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// What the quietest quarter does not exceed.
pub(super) fn quiet(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 4).copied().unwrap_or_default()
}

/// How `of` stands to `per`, of which there is one each for every turn. The range is that of many
/// draws of as many turns as there were, some of them twice and some not at all (bootstrap).
pub(super) fn quotient(of: &[f64], per: &[f64]) -> Range {
    let turns: Vec<_> = of.iter().copied().zip(per.iter().copied()).collect();
    let of_turns = |turns: Vec<(f64, f64)>| {
        let (of, per) = turns.into_iter().unzip();
        quiet(of) / quiet(per)
    };
    let mut dice = Dice(SEED);
    let mut draw = || -> Vec<_> {
        let one = |_| turns.get(dice.below(turns.len())).copied().unwrap_or_default();
        (0..turns.len()).map(one).collect()
    };
    let mut drawn: Vec<_> = (0..DRAWS).map(|_| of_turns(draw())).collect();
    drawn.sort_by(f64::total_cmp);
    let at = |index: usize| drawn.get(index).copied().unwrap_or_default();
    Range { low: at(DRAWS / 40), high: at(DRAWS - 1 - DRAWS / 40), value: of_turns(turns) }
}

/// `SplitMix64`: the same draws for the same figures.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(bound.max(1)).unwrap_or(u64::MAX)).unwrap_or(0)
    }
}

const DRAWS: usize = 2_000;
const SEED: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quotient_is_that_of_quiet_turns_and_within_its_range() {
        let per: Vec<f64> = (0..24).map(|turn| 200.0 + f64::from(turn * 7 % 24)).collect();
        let of: Vec<f64> = per.iter().map(|value| value * 1.1).collect();
        let Range { value, low, high } = quotient(&of, &per);
        assert!((value - 1.1).abs() < 1e-9, "{value}");
        assert!(low <= value && value <= high && high - low < 0.1, "{low} {high}");
    }

    #[test]
    fn a_turn_that_was_disturbed_does_not_matter() {
        let mut values = vec![100.0; 20];
        values.extend([9_000.0; 4]);
        assert!((quiet(values) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn without_turns_there_is_no_quotient() {
        assert!(quotient(&[], &[]).value.is_nan());
    }
}
