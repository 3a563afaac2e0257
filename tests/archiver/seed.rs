//! What is left to chance can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// `GTIDE_SEED`, else another one each time. It is printed: a failed test shows it.
pub fn seed() -> u64 {
    let given = std::env::var("GTIDE_SEED").ok();
    let seed = given.map_or_else(from_time, |seed| {
        seed.parse().expect("GTIDE_SEED is a number")
    });
    println!("GTIDE_SEED={seed}");
    seed
}

fn from_time() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos())
}
