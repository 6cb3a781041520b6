//! What is to be added to the time that the ensemble stamps, so that it goes on without a jump when
//! another server leads.

use bytes::Bytes;

/// The content of `/clock`: a line for each stretch of transactions, the latest last.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct SkewTable {
    stretches: Vec<Stretch>,
}

/// Transactions that were stamped by one clock that did not jump.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stretch {
    /// The first one.
    from: i64,
    /// What is to be added to their time.
    skew_millis: i64,
}

impl SkewTable {
    /// Reads the content of `/clock`: nothing, if it is not ours.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= BYTES_MAX)?;
        let lines = text.strip_prefix(HEADER)?.lines();
        let stretches = lines.map(Stretch::parse).collect::<Option<Vec<_>>>()?;
        let is_sorted = stretches.is_sorted_by(|one, next| one.from < next.from);
        (is_sorted && stretches.len() <= STRETCHES_MAX).then_some(Self { stretches })
    }

    /// What `/clock` is to hold.
    pub(super) fn encode(&self) -> Bytes {
        let lines = self.stretches.iter();
        let lines = lines.map(|stretch| format!("{:x} {}\n", stretch.from, stretch.skew_millis));
        format!("{HEADER}{}", lines.collect::<String>()).into()
    }

    /// What is to be added to the time of a transaction; nothing in a reign that nobody has measured.
    pub(super) fn skew_at(&self, zxid: i64) -> Option<i64> {
        self.stretch_of(zxid).map(|stretch| stretch.skew_millis)
    }

    /// Where the stretch of a transaction begins.
    pub(super) fn start_of(&self, zxid: i64) -> Option<i64> {
        self.stretch_of(zxid).map(|stretch| stretch.from)
    }

    fn stretch_of(&self, zxid: i64) -> Option<&Stretch> {
        let stretch = self.stretches.iter().rev().find(|stretch| stretch.from <= zxid)?;
        (reign_of(stretch.from) == reign_of(zxid)).then_some(stretch)
    }

    /// A table in which another stretch begins. One that began there, or later in what is another
    /// ensemble by now, is forgotten.
    pub(super) fn with(&self, from: i64, skew_millis: i64) -> Self {
        let before = self.stretches.iter().filter(|stretch| stretch.from < from).copied();
        let mut stretches: Vec<Stretch> = before.chain([Stretch { from, skew_millis }]).collect();
        stretches.drain(..stretches.len().saturating_sub(STRETCHES_MAX));
        Self { stretches }
    }

    /// A table in which the latest stretch has a little more.
    pub(super) fn slewed(&self, by_millis: i64) -> Self {
        let mut slewed = self.clone();
        if let Some(latest) = slewed.stretches.last_mut() {
            latest.skew_millis = latest.skew_millis.saturating_add(by_millis);
        }
        slewed
    }
}

impl Stretch {
    fn parse(line: &str) -> Option<Self> {
        let (from, skew_millis) = line.split_once(' ')?;
        let from = i64::from_str_radix(from, 16).ok()?;
        Some(Self { from, skew_millis: skew_millis.parse().ok()? })
    }
}

/// The reign of a leader of the ensemble in which a transaction was made.
pub(super) fn reign_of(zxid: i64) -> i64 {
    zxid >> 32
}

/// The first transaction of the reign.
pub(super) fn start_of_reign(zxid: i64) -> i64 {
    reign_of(zxid) << 32
}

const HEADER: &str = "clock 1\n";

/// Readings are kept for about a minute, in which there are not more leaders than that.
const STRETCHES_MAX: usize = 8;

const BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_ends_with_the_reign_or_with_the_next_one() {
        let table = SkewTable::default().with(1 << 32, -5).with((1 << 32) + 9, 7).with(3 << 32, 1);
        let skews =
            [0, (1 << 32) + 8, (1 << 32) + 9, (2 << 32) + 1, 3 << 32].map(|z| table.skew_at(z));
        assert_eq!(skews, [None, Some(-5), Some(7), None, Some(1)]);
        assert_eq!(table.slewed(3).skew_at(3 << 32), Some(4));
        assert_eq!(SkewTable::decode(&table.encode()), Some(table));
    }

    #[test]
    fn a_table_is_bounded_and_told_from_what_is_none() {
        let table =
            (1..100).fold(SkewTable::default(), |table, reign| table.with(reign << 32, i64::MIN));
        assert_eq!(table.stretches.len(), STRETCHES_MAX);
        assert_eq!(SkewTable::decode(&table.encode()), Some(table));
        for spoilt in ["clock 2\n", "clock 1\nx 1\n", "clock 1\n2 1\n1 1\n", "clock 1\n1\n"] {
            assert_eq!(SkewTable::decode(spoilt.as_bytes()), None, "{spoilt}");
        }
    }
}
