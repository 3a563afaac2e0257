//! Where the lab's programs are.

use std::env;
use std::path::PathBuf;

/// The lab's program `name`; fails the test where the lab is missing.
pub fn lab_program(name: &str) -> PathBuf {
    let lab = env::var_os("GTIDE_LAB").map(PathBuf::from);
    let cache = || {
        env::var_os("XDG_CACHE_HOME")
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
    };
    let home = || PathBuf::from(env::var_os("HOME").expect("HOME is set")).join(".cache");
    let lab = lab.unwrap_or_else(|| cache().unwrap_or_else(home).join("gtide-lab"));
    let program = lab.join("bin").join(name);
    assert!(
        program.is_file(),
        "the lab is not installed: {} is missing; run tests/lab/install",
        program.display()
    );
    program
}
