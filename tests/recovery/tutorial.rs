//! deploy/TUTORIAL.md, run as it stands.

use std::path::Path;
use std::process::Command;

use crate::harness::lab_program;

const TUTORIAL: &str = include_str!("../../deploy/TUTORIAL.md");

/// Its commands, in order.
fn commands() -> String {
    let mut blocks = Vec::new();
    let mut rest = TUTORIAL;
    while let Some((_, behind)) = rest.split_once("```sh\n") {
        let (block, after) = behind.split_once("```").unwrap();
        blocks.push(block);
        rest = after;
    }
    assert!(blocks.len() > 6);
    blocks.concat()
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn the_tutorial_leads_to_a_server_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_gtide")).parent().unwrap();
    let lab = lab_program("mysqld").parent().unwrap().to_owned();
    let path = format!("{}:{}:/usr/bin:/bin", programs.display(), lab.display());
    // However it ends, its servers end.
    let script = format!(
        "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{}wait\n",
        commands()
    );
    let output = Command::new("timeout")
        .args(["--kill-after=10", "240", "bash", "-c", &script])
        .current_dir(dir.path())
        .env("PATH", path)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("3\tcocoa"), "{said}\n{complained}");
    assert!(
        said.contains("complete: the server has executed all of the plan"),
        "{said}"
    );
}
