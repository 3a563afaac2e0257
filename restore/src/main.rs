//! `gtide-restore`: reads an archive of MySQL binary logs.

use std::process::ExitCode;

fn main() -> ExitCode {
    restore::cli::main().into()
}
