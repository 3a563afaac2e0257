//! README.md: every command in it, run, in the order in which it stands there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::harness::{Moto, Mysqld, SeaweedFs, lab_program};
use crate::place::SERVER;
use crate::workspace::{code, stderr};

const README: &str = include_str!("../../README.md");

/// A command as it stands in README, how it is run here, and its exit code.
type Step = (&'static str, &'static str, i32);

/// Lines that are not run as they stand: other places, a moment of this run, what would stay until somebody ends it, and
/// what has to answer with another exit code than 0.
const STEPS: &[Step] = &[
    ("tests/demo", "$ROOT/tests/demo", 0),
    // This test is a part of them.
    ("tests/run", "true", 0),
    ("tests/run quick", "true", 0),
    (
        "gtide init --cluster orders --index /var/lib/mysql/binlog.index --destination s3://backups/mysql",
        "gtide init --cluster orders --index $DATADIR/binlog.index --destination s3://archive/mysql && ./configure",
        0,
    ),
    ("gtide run", "gtide run >run.log 2>&1 & echo $! >pid", 0),
    (
        "gtide-tui",
        "(sleep 2; printf q) | script --quiet --return --command 'stty rows 30 cols 120; gtide-tui' frames",
        0,
    ),
    (
        "gtide-restore cat --from-seq 120 --to-seq 131 | mysqlbinlog - | mysql",
        "gtide-restore cat --from-seq 1 --to-seq 2 | mysqlbinlog - | mysql",
        0,
    ),
    (
        "gtide-restore fetch --dir /tmp/binlogs",
        "gtide-restore fetch --dir binlogs && cmp binlogs/binlog.000001 $DATADIR/binlog.000001",
        0,
    ),
    (
        "gtide-restore plan --to-time 2026-11-22T13:47:58.5Z",
        "gtide-restore plan --to-time $MOMENT",
        0,
    ),
    (
        "gtide-restore plan --to-time 2026-11-22T13:47:58.5Z --save plan.json",
        "gtide-restore plan --to-time $MOMENT --save plan.json",
        0,
    ),
    (
        "gtide-restore apply --plan plan.json --target mysql://root@db7",
        "gtide-restore apply --plan plan.json --target mysql://root@localhost?socket=$TARGET",
        0,
    ),
    (
        "gtide-restore serve --plan plan.json",
        "timeout --preserve-status --signal=INT 3 gtide-restore serve --plan plan.json",
        130,
    ),
    (
        "gtide-restore rehearse --base /backups/monday --check-sql 'SELECT COUNT(*) > 0 FROM shop.orders'",
        "gtide-restore rehearse --base monday --check-sql 'SELECT COUNT(*) > 0 FROM shop.orders'",
        0,
    ),
    (
        "gtide parity start --manifest '/backup/db1/SHA256SUMS' --window 72h",
        "gtide parity start --manifest \"$PWD/older/SHA256SUMS\" --window 72h",
        0,
    ),
    // The window has only begun.
    ("gtide parity report", "gtide parity report", 6),
    ("gtide parity finish", "gtide parity finish", 6),
    (
        "gtide adopt --from '/backup/db1/binlog.*'",
        "gtide adopt --from \"$PWD/older/binlog.*\"",
        0,
    ),
    (
        "gtide tui",
        "(sleep 2; printf q) | script --quiet --return --command 'stty rows 30 cols 120; gtide tui' frames",
        0,
    ),
    ("kill -HUP PID", "kill -HUP $(cat pid)", 0),
];

/// What begins a command.
const BEGINS: [&str; 5] = ["gtide ", "gtide-restore ", "gtide-tui", "tests/", "kill "];

/// A line without its comment.
fn command(line: &str) -> Option<String> {
    let line = line.split(" #").next().unwrap_or(line).trim();
    BEGINS
        .iter()
        .any(|begin| line.starts_with(begin))
        .then(|| line.to_owned())
}

/// Of blocks, fenced as `sh` or indented, in order; and spans of the text that are no line's beginning.
fn commands() -> Vec<String> {
    let (mut lines, mut text) = (Vec::new(), String::new());
    let mut fence = None;
    for line in README.lines() {
        match (line.strip_prefix("```"), fence) {
            (Some(language), None) => fence = Some(language),
            (Some(_), Some(_)) => fence = None,
            (None, Some("sh")) => lines.extend(command(line)),
            (None, Some(_)) => {}
            (None, None) => match line.strip_prefix("    ") {
                Some(line) => lines.extend(command(line)),
                None => text.extend([line, " "]),
            },
        }
    }
    let spans = text.split('`').skip(1).step_by(2).filter_map(command);
    for span in spans {
        if !span.contains('[') && !lines.iter().any(|line| line.starts_with(&span)) {
            lines.push(span);
        }
    }
    lines
}

/// The statements in its block of SQL.
fn statements() -> &'static str {
    let (_, behind) = README.split_once("```sql\n").unwrap();
    behind.split_once("```").unwrap().0
}

/// A folder in which the commands are run, and the servers that they speak of.
struct Scene {
    dir: TempDir,
    server: Mysqld,
    target: Mysqld,
    store: SeaweedFs,
    moto: Moto,
    moment: String,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let monday = dir.path().join("monday");
        // Purging asks it who reads which binary log.
        let options = [SERVER, &["--performance-schema=ON"]].concat();
        let mut server = Mysqld::start(&options);
        server.sql(statements());
        server.sql("CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY)");
        server.sql("INSERT INTO shop.orders VALUES (1); FLUSH BINARY LOGS");
        // The base backup: a cold copy, and where the server stood.
        let stands = server.sql("SHOW BINARY LOG STATUS");
        let words: Vec<_> = stands.split('\t').collect();
        let info = format!("{}\t{}\t{}\n", words[0], words[1], words[4]);
        fs::write(dir.path().join("xtrabackup_binlog_info"), info).unwrap();
        server.shutdown();
        copy(&server.datadir(), &monday);
        let target = Mysqld::start_on_copy_of(&monday, SERVER);
        server.start_again(&options);
        server.sql("INSERT INTO shop.orders VALUES (2), (3)");
        std::thread::sleep(std::time::Duration::from_secs(1));
        let now = "SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')";
        let moment = server.sql(now);
        server.sql("DELETE FROM shop.orders WHERE id > 1; FLUSH BINARY LOGS");
        let moto = Moto::start();
        moto.alias("gtide", &moto.create_key());
        Self {
            dir,
            server,
            target,
            store: SeaweedFs::start(),
            moto,
            moment,
        }
    }

    /// What a person edits after `gtide init`: the store that is not AWS itself, and the server.
    fn write_configure(&self) {
        let (store, kms) = (self.store.endpoint(), self.moto.endpoint());
        let stores = self.store.credentials_file();
        let kmses = self.moto.credentials_file();
        let socket = self.server.socket();
        let script = format!(
            "#!/bin/sh\numask 077; printf %s '…' >password\n\
             sed -i -e 's|^#reserve = .*|reserve = \"1MiB\"|' \
             -e '/^url = \"s3:/a endpoint = \"{store}\"\\ncredentials = \"file:{}\"\\nregion = \"us-east-1\"' \
             -e '/^index = /a mysql = \"mysql://gtide@localhost?socket={}\"\\npassword-file = \"password\"' \
             -e '/^key = /a endpoint = \"{kms}\"\\ncredentials = \"file:{}\"' gtide.toml\n",
            stores.display(),
            socket.display(),
            kmses.display()
        );
        let path = self.dir.path().join("configure");
        fs::write(&path, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(path, mode).unwrap();
    }

    /// What the older job has: copies of closed binary logs, and their checksums.
    fn write_older_job(&self) {
        let script = "mkdir older && cp $DATADIR/binlog.00000[12] older/ && cd older && sha256sum binlog.* >SHA256SUMS";
        let output = self.bash(script);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }

    fn bash(&self, line: &str) -> Output {
        let programs = Path::new(env!("CARGO_BIN_EXE_gtide")).parent().unwrap();
        let lab = lab_program("mysqld").parent().unwrap().to_owned();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let path = format!("{}:{}:/usr/bin:/bin", programs.display(), lab.display());
        Command::new("timeout")
            .args(["--kill-after=5", "60", "bash", "-o", "pipefail", "-c", line])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .env("PATH", path)
            .env("GTIDE_PROGRAMS", programs)
            .env("TMPDIR", self.dir.path())
            .env("ROOT", root)
            .env("DATADIR", self.server.datadir())
            .env("TARGET", self.target.socket())
            .env("MOMENT", &self.moment)
            .env("MYSQL_UNIX_PORT", self.server.socket())
            .env("USER", "root")
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }
}

/// The daemon outlives the line that starts it.
impl Drop for Scene {
    fn drop(&mut self) {
        self.bash("kill -KILL $(cat pid)");
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success());
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn every_command_of_the_readme_is_run() {
    let scene = Scene::new();
    scene.write_configure();
    scene.write_older_job();
    let commands = commands();
    assert!(commands.len() > 35, "{commands:#?}");
    for line in &commands {
        let step = STEPS.iter().find(|(written, ..)| written == line);
        let (_, run, expected) = step.copied().unwrap_or(("", line, 0));
        let output = scene.bash(run);
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = stderr(&output);
        println!("$ {run}\n{said}{complained}");
        assert_eq!(code(&output), expected, "{line}: {said}{complained}");
    }
    let written: BTreeSet<_> = commands.iter().map(String::as_str).collect();
    let gone: Vec<_> = STEPS
        .iter()
        .filter(|(line, ..)| !written.contains(line))
        .collect();
    assert!(gone.is_empty(), "no longer in the README: {gone:?}");
}
