//! How long a replay will take, roughly: to choose between ways, not to promise.

/// Transactions that the pipe (`mysqlbinlog | mysql`) executes in a second. Measured with MySQL 9.7 on two cores and relaxed
/// durability: 20,000 transactions of one row of 1,500 bytes in 12.2 s.
const PIPE_TRANSACTIONS: u64 = 1_640;

/// Bytes of large transactions that it executes in a second. Measured there: 100 transactions of 1,000 such rows, 151 MB, in
/// 8.8 s.
const PIPE_BYTES: u64 = 17_000_000;

/// Seconds that the pipe needs for so many transactions with so many bytes, rounded up. A server with strict durability,
/// indexes or little memory takes several times as long; its own applier (`apply --via relay`) a fraction.
pub(crate) fn pipe_seconds(transactions: u64, bytes: u64) -> u64 {
    let of_transactions = transactions.div_ceil(PIPE_TRANSACTIONS);
    of_transactions.saturating_add(bytes.div_ceil(PIPE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_comes_out_again() {
        assert!((12..=16).contains(&pipe_seconds(20_000, 35_500_000)));
        assert!((9..=11).contains(&pipe_seconds(100, 151_000_000)));
        assert_eq!(pipe_seconds(0, 0), 0);
        assert_eq!(pipe_seconds(1, 1), 2);
        assert!(pipe_seconds(u64::MAX, u64::MAX) > 0);
    }
}
