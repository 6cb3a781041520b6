//! Rows that are not what was written: the disk has made them. What they say is lost, and no more.

use crate::store::retry::Failure;

/// Rows of one query that cannot be read.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    rows: u64,
    why: String,
}

impl LeftOut {
    /// What was read, if it can be read.
    ///
    /// # Errors
    ///
    /// It is not the row that is wrong.
    pub(super) fn unless_read<T>(
        &mut self,
        read: Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(Failure::Refused(why)) => {
                (self.rows, self.why) = (self.rows + 1, why);
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// One line for all of them.
    pub(super) fn tell(&self) {
        if self.rows > 0 {
            let Self { rows, why } = self;
            tracing::error!(rows, why, "rows of the store cannot be read and are left out");
        }
    }
}
