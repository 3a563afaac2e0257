//! The program in a terminal of its own: `script`, of util-linux, which every Linux has.

use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};

use engine::durable_fs;

use crate::bench::{Bench, console, eventually, said};

/// Rows and columns.
const SIZE: (NonZero<u16>, NonZero<u16>) = (NonZero::new(30).unwrap(), NonZero::new(100).unwrap());

struct Sitting {
    program: Child,
    keys: ChildStdin,
    terminal: Arc<Mutex<vt100::Parser>>,
}

impl Sitting {
    fn begin(bench: &Bench, arguments: &str) -> Self {
        let (rows, columns) = SIZE;
        let program = console().display();
        let line = format!("stty rows {rows} cols {columns}; exec {program} {arguments}");
        let arguments = ["-q", "-e", "-c", &line, "/dev/null"];
        let mut command = bench.command("script".as_ref(), &arguments);
        command.env("TERM", "xterm-256color");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command.spawn().unwrap();
        let terminal = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let (mut output, seen) = (program.stdout.take().unwrap(), Arc::clone(&terminal));
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                seen.lock().unwrap().process(&bytes[..count]);
            }
        });
        Self {
            keys: program.stdin.take().unwrap(),
            program,
            terminal,
        }
    }

    fn shown(&self) -> String {
        self.terminal.lock().unwrap().screen().contents()
    }

    fn wait_for(&self, text: &str) {
        eventually(|| self.shown(), |shown| shown.contains(text));
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits for the program's end, and for the screen that it gives back.
    fn left(mut self) -> bool {
        let status = self.program.wait().unwrap();
        let is_back = || self.terminal.lock().unwrap().screen().alternate_screen();
        eventually(|| is_back().to_string(), |alternate| alternate == "false");
        status.success()
    }
}

#[test]
fn a_source_is_paused_and_resumed_by_keys_and_yes() {
    let bench = Bench::new();
    assert!(bench.gtide(&["run", "--once"]).status.success());
    let mut sitting = Sitting::begin(&bench, "--every 1");
    sitting.wait_for("current");
    sitting.press("p");
    sitting.wait_for("Pause db1");
    assert!(
        bench.gtide(&["status"]).status.success(),
        "nobody said yes yet"
    );
    sitting.press("y");
    let is_paused = || {
        let status = bench.gtide(&["status"]);
        format!("{:?} {}", status.status.code(), said(&status))
    };
    eventually(is_paused, |status| status.starts_with("Some(6)"));
    sitting.wait_for("paused");
    sitting.press("p");
    sitting.wait_for("Resume db1");
    sitting.press("y");
    eventually(is_paused, |status| status.starts_with("Some(0)"));
    sitting.press("q");
    assert!(sitting.left());
}

#[test]
fn a_database_that_goes_away_leaves_the_last_picture_and_comes_back() {
    let bench = Bench::new();
    assert!(bench.gtide(&["run", "--once"]).status.success());
    let mut sitting = Sitting::begin(&bench, "--every 1 --read-only");
    sitting.wait_for("current");
    let moved = |from: &str, to: &str| {
        // With the log that belongs to it, where there is one.
        for end in ["", "-wal", "-shm"] {
            let (from, to) = (
                bench.path(&format!("{from}{end}")),
                bench.path(&format!("{to}{end}")),
            );
            if from.exists() {
                durable_fs::rename(&from, &to).unwrap();
            }
        }
    };
    moved("gtide.db", "away.db");
    // One connection lasts for ten pictures: then it is looked for by its name again.
    sitting.wait_for("LOST: as of");
    moved("away.db", "gtide.db");
    sitting.press("5");
    sitting.wait_for("can be read again");
    sitting.press("\u{3}");
    assert!(sitting.left());
}
