//! Restoring needs no queue and no database, and its program must not drag them along.

use std::process::Command;

#[test]
fn restore_depends_on_no_queue_and_no_database() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "restore",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--format", "{lib}", "--frozen"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.lines().any(|name| name == "engine"), "{tree}");
    for name in tree.lines() {
        assert!(
            !["apalis", "sqlx", "libsqlite3"]
                .iter()
                .any(|no| name.starts_with(no)),
            "{name}"
        );
    }
}
