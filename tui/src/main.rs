//! `gtide-tui`: the console.

use std::process::ExitCode;

fn main() -> ExitCode {
    tui::cli::main().into()
}
