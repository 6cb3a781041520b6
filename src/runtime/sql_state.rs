//! What an error of PostgreSQL says of another try: one answer for all that write there.

use tokio_postgres::error::SqlState;

/// Whether another try may do: the server is going, coming, full, locked, or may not be written to.
#[must_use]
pub fn is_transient(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    ["08", "40", "53", "55", "57", "58"].contains(&class)
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_stays() {
        let is_transient = |code: &str| is_transient(&SqlState::from_code(code));
        // A failover, a transaction that was left alone, a full disk, a lock, a stop, a deadlock.
        for code in ["25006", "25P03", "53100", "55P03", "57P01", "40P01"] {
            assert!(is_transient(code), "{code}");
        }
        // No table, no right, not a number.
        for code in ["42P01", "42501", "22P02"] {
            assert!(!is_transient(code), "{code}");
        }
    }
}
