//! What programs make of their own command lines: completions and manual pages.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const PROGRAMS: [&str; 3] = ["gtide", "gtide-restore", "gtide-tui"];

fn program(name: &str) -> Command {
    let programs = PathBuf::from(env!("CARGO_BIN_EXE_gtide"));
    Command::new(programs.with_file_name(name))
}

fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a program's help lists.
fn commands(name: &str) -> BTreeSet<String> {
    let help = stdout(program(name).arg("--help"));
    let Some((_, listed)) = help.split_once("Commands:\n") else {
        return BTreeSet::new();
    };
    let lines = listed.lines().take_while(|line| !line.is_empty());
    // A command stands two columns in; what goes on in another line stands further in.
    let own = lines.filter_map(|line| line.strip_prefix("  "));
    let own = own.filter(|line| !line.starts_with(' '));
    let first = own.filter_map(|line| line.split_whitespace().next());
    first
        .filter(|command| *command != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_program_and_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    for name in PROGRAMS {
        stdout(program(name).arg("man").arg(dir.path()));
        let page = fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH OPTIONS"), "{page}");
        for command in commands(name) {
            let page = dir.path().join(format!("{name}-{command}.1"));
            assert!(page.exists(), "{}", page.display());
        }
    }
    assert!(commands("gtide").contains("check") && commands("gtide-restore").contains("apply"));
}

#[test]
fn shells_complete_every_command() {
    for name in PROGRAMS {
        for shell in ["bash", "zsh", "fish"] {
            let text = stdout(program(name).args(["completions", shell]));
            assert!(text.contains("config"), "{name} {shell}");
            for command in commands(name) {
                assert!(text.contains(&command), "{name} {shell}: {command}");
            }
        }
        let bash = stdout(program(name).args(["completions", "bash"]));
        let check = Command::new("bash")
            .args(["-n", "-c", &bash])
            .output()
            .unwrap();
        assert!(check.status.success(), "{check:?}");
    }
}
