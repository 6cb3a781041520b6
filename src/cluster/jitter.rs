//! A little disorder, so that brokers that fail together do not try again together.

/// Numbers that follow from a seed: `SplitMix64`.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// The seed is an input: drawn where the process starts, fixed in a test.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`; zero when that is zero.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        if bound == 0 { 0 } else { bits % bound }
    }
}

#[cfg(test)]
mod tests {
    use super::Jitter;

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let draw = |seed| {
            let mut jitter = Jitter::new(seed);
            [(); 8].map(|()| jitter.below(100))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_eq!(Jitter::new(1).below(0), 0);
    }
}
