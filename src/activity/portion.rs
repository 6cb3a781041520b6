//! Rows on their way, and the numbers that are missing among them.
//!
//! Every row has a number of its start, also one that there was no room for. So whoever writes rows sees
//! from the numbers what is missing, for whatever reason: rows and gaps together are all there was.

use std::sync::Arc;

use super::row::Row;

/// A start of a broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Start {
    /// Tells it from all others.
    pub(super) boot: i64,
    /// When it was.
    pub(super) since_millis: u64,
    /// The broker's name.
    pub(super) broker: Arc<str>,
}

/// Rows of one start in the order of their numbers.
#[derive(Clone, Debug)]
pub(super) struct Portion {
    pub(super) start: Arc<Start>,
    pub(super) rows: Arc<[Row]>,
    /// The last number that was written, as far as we were told.
    pub(super) told: i64,
    /// Why numbers are missing in front of them, if some are.
    pub(super) before: Missing,
}

/// Why rows are missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Missing {
    /// The ring was full, and the spool too, if there was one.
    NoRoom,
    /// They were written, and a failover has taken them.
    Lost,
    /// They were on the disk and cannot be read.
    Damaged,
    /// The database would not have them.
    Refused,
}

impl Missing {
    /// The words in the table.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoom => "there was no room for them",
            Self::Lost => "the database has lost them",
            Self::Damaged => "the spool was damaged",
            Self::Refused => "the database refused them",
        }
    }
}

/// Numbers that no row has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Gap {
    pub(super) first: i64,
    pub(super) last: i64,
    /// When the next row came.
    pub(super) at_millis: u64,
    pub(super) why: Missing,
}

impl Portion {
    /// The rows behind number `written`.
    pub(super) fn rows_after(&self, written: i64) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.number > written)
    }

    /// What is missing behind number `written` and up to the last row.
    pub(super) fn gaps_after(&self, written: i64) -> Vec<Gap> {
        let (mut gaps, mut expected, mut why) = (Vec::new(), written + 1, self.before);
        for row in self.rows_after(written) {
            let at_millis = row.at_millis;
            let lost = self.told.min(row.number - 1);
            if lost >= expected {
                gaps.push(Gap { first: expected, last: lost, at_millis, why: Missing::Lost });
                expected = lost + 1;
            }
            if row.number > expected {
                gaps.push(Gap { first: expected, last: row.number - 1, at_millis, why });
            }
            (expected, why) = (row.number + 1, Missing::NoRoom);
        }
        gaps
    }

    /// The number of the last row.
    pub(super) fn last(&self) -> i64 {
        self.rows.last().map_or(0, |row| row.number)
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Kind;
    use super::*;

    #[test]
    fn rows_and_gaps_are_all_there_was() {
        let row = |number| Row { number, ..Row::new(9, Kind::Connected) };
        let start = Start { boot: 1, since_millis: 0, broker: "b".into() };
        let portion = Portion {
            start: start.into(),
            rows: [3, 4, 7, 9].map(row).into(),
            told: 0,
            before: Missing::Damaged,
        };
        let gaps = |portion: &Portion, written| {
            let gaps = portion.gaps_after(written).into_iter();
            gaps.map(|gap| (gap.first, gap.last, gap.why)).collect::<Vec<_>>()
        };
        let behind = [(5, 6, Missing::NoRoom), (8, 8, Missing::NoRoom)];
        assert_eq!(gaps(&portion, 0), [&[(1, 2, Missing::Damaged)], &behind[..]].concat());
        assert_eq!(gaps(&portion, 2), behind);
        assert_eq!(gaps(&portion, 4), [(5, 6, Missing::Damaged), (8, 8, Missing::NoRoom)]);
        assert_eq!(gaps(&portion, 9), []);
        // The server has failed over to one that knows less than we were told.
        let told = Portion { told: 2, ..portion.clone() };
        assert_eq!(gaps(&told, 1)[0], (2, 2, Missing::Lost));
        let told = Portion { told: 1, ..portion.clone() };
        let both = [(1, 1, Missing::Lost), (2, 2, Missing::Damaged)];
        assert_eq!(gaps(&told, 0)[..2], both);
        assert_eq!((portion.rows_after(4).count(), portion.last()), (2, 9));
    }
}
