//! `rehearse`: a restore on a server that comes and goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::harness::{Mysqld, lab_program, wait_until};
use crate::place::{SERVER, add_backup, archive, cold_copy, workspace_of};
use crate::workload::{Moment, Workload, executed};
use crate::workspace::{Workspace, code, json, stderr};

/// A source with a moment behind its base, archived from its first transaction on.
struct Place {
    workspace: Workspace,
    cold: PathBuf,
    base: String,
    moment: Moment,
    rows: String,
}

impl Place {
    fn new(seed: u64) -> Self {
        let mut mysqld = Mysqld::start(SERVER);
        let mut workload = Workload::begin(&mysqld, seed);
        let workspace = workspace_of(&mysqld);
        let base = executed(&mysqld);
        mysqld.shutdown();
        let cold = cold_copy(&mysqld, &workspace);
        mysqld.start_again(SERVER);
        for _ in 0..4 {
            workload.work(&mysqld);
        }
        mysqld.sql("INSERT INTO c.t (v, s) VALUES (1, 'a mark')");
        let moment = Workload::moment(&mysqld);
        let rows = mysqld.sql("SELECT COUNT(*) FROM c.t");
        workload.work(&mysqld);
        mysqld.sql("INSERT INTO c.t (v) VALUES (2); FLUSH BINARY LOGS");
        archive(&workspace);
        fs::create_dir(workspace.path().join("scratch")).unwrap();
        Self {
            workspace,
            cold,
            base,
            moment,
            rows,
        }
    }

    fn scratch(&self) -> PathBuf {
        self.workspace.path().join("scratch")
    }

    fn command(&self, args: &[&str]) -> Command {
        let lab = lab_program("mysql").parent().unwrap().to_owned();
        let mut command = self.workspace.restore();
        command
            .args(["rehearse", "--format", "json", "--scratch"])
            .arg(self.scratch())
            .arg("--mysqld")
            .arg(lab_program("mysqld"))
            .args(args)
            .env("PATH", format!("{}:/usr/bin:/bin", lab.display()));
        command
    }

    /// Rehearses; whatever comes of it, nothing is left of it.
    #[track_caller]
    fn rehearse(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().unwrap();
        assert_eq!(fs::read_dir(self.scratch()).unwrap().count(), 0, "{args:?}");
        assert_eq!(servers_in(&self.scratch()), 0, "{args:?}");
        output
    }

    fn cold(&self) -> [&str; 2] {
        ["--base", self.cold.to_str().unwrap()]
    }
}

/// How many processes name this folder in their arguments.
fn servers_in(folder: &Path) -> usize {
    let folder = folder.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let arguments = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    arguments
        .filter(|arguments| {
            let text = String::from_utf8_lossy(arguments);
            text.contains(&format!("--datadir={folder}")) && text.contains("--socket=")
        })
        .count()
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_moment_comes_back_on_a_server_of_its_own_and_nothing_is_left_of_it() {
    let place = Place::new(11);
    let [base, cold] = place.cold();
    let question = format!("SELECT COUNT(*) = {} FROM c.t", place.rows);
    let to_gtid = ["--to-gtid", &place.moment.executed];
    let args = [&to_gtid[..], &[base, cold, "--check-sql", &question]].concat();
    let output = place.rehearse(&args);
    let report = json(&output);
    assert_eq!(code(&output), 0, "{report:#}{}", stderr(&output));
    assert_eq!(report["outcome"], "complete");
    assert_eq!(report["expected"], place.moment.executed.as_str());
    assert_eq!(report["apply"]["executed"], place.moment.executed.as_str());
    assert_eq!(report["apply"]["began_with"], place.base.as_str());
    assert_eq!(report["answers"][0]["passed"], true, "{report:#}");
    let prepared = place.moment.prepared.lines().count() as u64;
    assert_eq!(report["prepared"], prepared, "{report:#}");

    // An answer of no is no success; and by the server's own applier it goes as well.
    let relay = ["--via", "relay", "--check-sql", "SELECT 0"];
    let output = place.rehearse(&[&to_gtid[..], &[base, cold], &relay].concat());
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert_eq!(json(&output)["outcome"], "failed");
    assert_eq!(json(&output)["apply"]["outcome"], "complete");
    assert!(
        stderr(&output).contains("SELECT 0: 0"),
        "{}",
        stderr(&output)
    );
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_random_moment_is_drawn_and_its_seed_draws_it_again() {
    let place = Place::new(12);
    // The archive begins with an empty server, and so does the rehearsal.
    let drawn = place.rehearse(&[]);
    assert_eq!(code(&drawn), 0, "{}{}", json(&drawn), stderr(&drawn));
    assert_eq!(json(&drawn)["apply"]["began_with"], "");
    let seed = json(&drawn)["seed"].to_string();
    let again = place.rehearse(&["--seed", &seed]);
    assert_eq!(json(&again)["expected"], json(&drawn)["expected"]);
    assert_eq!(json(&again)["target"]["kind"], "to_gtid");
    // It does so whether a base backup is recorded or not.
    add_backup(&place.workspace, &place.base);
    let whole = place.rehearse(&["--to-latest"]);
    assert_eq!(code(&whole), 0, "{}{}", json(&whole), stderr(&whole));
    assert_eq!(json(&whole)["apply"]["began_with"], "");
    // Where the beginning is gone, nothing is started for a plan that needs the base backup, which is elsewhere.
    let folder = place.workspace.archived_folder();
    for name in ["manifest/0000000001.json", "log/0000000001.gtb"] {
        fs::remove_file(folder.join(name)).unwrap();
    }
    let refused = place.rehearse(&["--to-latest"]);
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("a cold copy"),
        "{}",
        stderr(&refused)
    );
    let refused = place.rehearse(&["--base", "/var/empty"]);
    assert_eq!(code(&refused), 2);
    assert!(
        stderr(&refused).contains("no data directory"),
        "{}",
        stderr(&refused)
    );
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn whoever_ends_a_rehearsal_ends_its_server() {
    let place = Place::new(13);
    for (signal, folders) in [("TERM", 0), ("KILL", 1)] {
        // It waits in the middle: a server that was started, and a question that takes for ever.
        let [base, cold] = place.cold();
        let mut child = place
            .command(&[
                "--to-latest",
                base,
                cold,
                "--check-sql",
                "SELECT SLEEP(100000)",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let patience = Duration::from_mins(4);
        let started = wait_until(patience, || {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            servers_in(&place.scratch()) == 1
        });
        assert!(started);
        let kill = Command::new("sh")
            .args(["-c", "kill -$0 $1", signal, &child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        child.wait().unwrap();
        assert!(
            wait_until(patience, || servers_in(&place.scratch()) == 0),
            "{signal}"
        );
        let left = fs::read_dir(place.scratch()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), folders, "{signal}: {left:?}");
        assert!(
            left.iter()
                .all(|name| name.to_string_lossy().starts_with("gtide-rehearse-"))
        );
    }
}
