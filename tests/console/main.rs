//! The console's program on a real ledger.

#![expect(clippy::unwrap_used, reason = "a failure is what a test is for")]

use std::path::Path;
use std::process::{Command, Output};

fn run(program: &Path, config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).arg("--config").arg(config);
    command.output().unwrap()
}

#[test]
fn one_frame_shows_how_far_a_source_is_archived() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("gtide.toml");
    let console = Path::new(env!("CARGO_BIN_EXE_gtide-tui"));
    let gtide = console.with_file_name("gtide");
    assert!(
        gtide.exists(),
        "{} is not built: test the whole workspace",
        gtide.display()
    );
    let index = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/binlog/mysql-9.7-anonymous/binlog.index");

    // Without a ledger there is a reason and a hint, not a frame.
    let init = run(
        &gtide,
        &config,
        &["init", "--name", "db1", "--index", index.to_str().unwrap()],
    );
    assert!(init.status.success());
    let missing = run(console, &config, &["--once"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("hint:"));

    let archived = run(&gtide, &config, &["run", "--once", "--include-last"]);
    assert!(
        archived.status.success(),
        "{}",
        String::from_utf8_lossy(&archived.stderr)
    );
    let frame = run(console, &config, &["--once"]);
    assert!(
        frame.status.success(),
        "{}",
        String::from_utf8_lossy(&frame.stderr)
    );
    let text = String::from_utf8(frame.stdout).unwrap();
    let row = text.lines().find(|line| line.contains("db1")).unwrap();
    assert!(row.split_whitespace().any(|cell| cell == "2"), "{text}");
    assert!(text.contains("nothing"), "{text}");
}

#[test]
fn the_interactive_console_is_refused_for_now() {
    let console = Path::new(env!("CARGO_BIN_EXE_gtide-tui"));
    let output = Command::new(console).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--once"));
}
