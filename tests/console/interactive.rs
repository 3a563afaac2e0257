//! The program in a terminal of its own: `script`, of util-linux, which every Linux has.

use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::clock::{Clock, SystemClock};
use engine::durable_fs;
use tui::model::{Looks, Model};
use tui::session;

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
        Self::of(bench, &format!("exec {} {arguments}", console().display()))
    }

    /// A line of shell in a terminal.
    fn of(bench: &Bench, line: &str) -> Self {
        let (rows, columns) = SIZE;
        let line = format!("stty rows {rows} cols {columns}; {line}");
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

    /// Waits for the program's end, and for the screen that it gives back: its exit code.
    fn left(&mut self) -> Option<i32> {
        let status = self.program.wait().unwrap();
        let taken = || {
            let terminal = self.terminal.lock().unwrap();
            let screen = terminal.screen();
            screen.alternate_screen() || screen.hide_cursor()
        };
        eventually(|| taken().to_string(), |taken| taken == "false");
        status.code()
    }

    /// The program's own process: what `script` started became it.
    fn pid(&self) -> String {
        let script = self.program.id();
        let children = format!("/proc/{script}/task/{script}/children");
        let children = std::fs::read_to_string(children).unwrap();
        children.trim().to_owned()
    }
}

impl Drop for Sitting {
    /// A test that failed leaves no program behind: it ends with its terminal.
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn signal(name: &str, pid: &str) {
    let sent = Command::new("kill").args([name, pid]).status().unwrap();
    assert!(sent.success());
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
    // In the picture: the note of what was done comes before it.
    sitting.wait_for("‖ paused");
    sitting.press("p");
    sitting.wait_for("Resume db1");
    sitting.press("y");
    eventually(is_paused, |status| status.starts_with("Some(0)"));
    sitting.press("q");
    assert_eq!(sitting.left(), Some(0));
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
    sitting.press("6");
    sitting.wait_for("can be read again");
    sitting.press("\u{3}");
    assert_eq!(sitting.left(), Some(0));
}

#[test]
fn a_program_that_is_told_to_end_gives_the_terminal_back() {
    let bench = Bench::new();
    assert!(bench.gtide(&["run", "--once"]).status.success());
    for name in ["-TERM", "-HUP", "-INT"] {
        let mut sitting = Sitting::begin(&bench, "--every 1");
        sitting.wait_for("current");
        signal(name, &sitting.pid());
        assert_eq!(sitting.left(), Some(130), "{name}");
    }
}

#[test]
fn a_program_whose_terminal_goes_away_ends() {
    let bench = Bench::new();
    assert!(bench.gtide(&["run", "--once"]).status.success());
    let mut sitting = Sitting::begin(&bench, "--every 1");
    sitting.wait_for("current");
    let pid = sitting.pid();
    sitting.program.kill().unwrap();
    // Whoever inherits it may take its time to bury it.
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        let stat = stat.unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        state.map_or("gone".to_owned(), |state| state.to_string())
    };
    eventually(state, |state| ["gone", "Z", "X"].contains(&state));
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_told_there() {
    let bench = Bench::new();
    let this = std::env::current_exe().unwrap();
    let child = "--exact interactive::child --ignored --nocapture";
    // What the terminal is like is asked once the program is over.
    let mut sitting = Sitting::of(
        &bench,
        &format!("RUST_BACKTRACE=0 {} {child}; stty -a", this.display()),
    );
    sitting.wait_for("The database has not been read yet");
    assert_eq!(sitting.left(), Some(0), "stty's");
    let shown = sitting.shown();
    assert!(shown.contains("on purpose"), "{shown}");
    assert!(
        shown.contains(" icanon") && shown.contains(" echo "),
        "{shown}"
    );
}

/// Sits at a terminal of its own, and panics.
#[test]
#[ignore = "another test starts it, in a terminal"]
fn child() {
    let looks = Looks {
        colour: false,
        ascii: false,
    };
    let model = Model::new(SystemClock.now(), looks, true, String::new());
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::select! {
            left = session::run(model, None) => panic!("{left:?}"),
            () = tokio::time::sleep(Duration::from_secs(2)) => panic!("on purpose"),
        }
    });
}
