//! `gtide`: archives MySQL binary logs.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _failpoints = engine::failpoint::setup();
    engine::cli::main().into()
}
