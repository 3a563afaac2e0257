//! `gtide`: archives MySQL binary logs.

use std::process::ExitCode;

fn main() -> ExitCode {
    engine::cli::main().into()
}
