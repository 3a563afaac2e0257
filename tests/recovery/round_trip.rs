//! Back to random moments, by time, by GTID and by position: what comes back is what was there.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::Mysqld;
use crate::place::{SERVER, add_backup, archive, cold_copy, planned, run, workspace_of};
use crate::workload::{Moment, Workload, checksums, executed};
use crate::workspace::Workspace;

/// Moments that are restored.
const MOMENTS: usize = 12;

/// The seed of the workload; another one with `GTIDE_SEED`.
const SEED: u64 = 20_261_122;

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn every_moment_comes_back_by_time_by_gtid_and_by_position() {
    let seed = std::env::var("GTIDE_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut mysqld = Mysqld::start(SERVER);
    let mut workload = Workload::begin(&mysqld, seed);
    workload.work(&mysqld);
    let workspace = workspace_of(&mysqld);
    let base = executed(&mysqld);
    mysqld.shutdown();
    let cold = cold_copy(&mysqld, &workspace);
    mysqld.start_again(SERVER);

    let mut moments = Vec::new();
    for _ in 0..MOMENTS {
        for _ in 0..3 {
            workload.work(&mysqld);
        }
        moments.push(Workload::moment(&mysqld));
    }
    workload.work(&mysqld);
    mysqld.sql("INSERT INTO a.t (v) VALUES (1); FLUSH BINARY LOGS");
    archive(&workspace);
    add_backup(&workspace, &base);

    for (number, moment) in moments.iter().enumerate() {
        // Every target in every way, and all three targets of each moment planned.
        let way = [Way::Stream, Way::Files, Way::Script][number / 3 % 3];
        restore(&workspace, &cold, moment, way, number);
    }
}

/// How a plan is run.
#[derive(Debug, Clone, Copy)]
enum Way {
    Stream,
    Files,
    Script,
}

/// The arguments that name a moment: by time, by position and, where one is known, by GTID.
fn targets(moment: &Moment) -> Vec<[&str; 2]> {
    let mut targets = vec![
        ["--to-time", &moment.time],
        ["--to-position", &moment.position],
    ];
    if !moment.last_gtid.is_empty() {
        targets.push(["--to-gtid", &moment.last_gtid]);
    }
    targets
}

fn restore(workspace: &Workspace, cold: &Path, moment: &Moment, way: Way, number: usize) {
    let targets = targets(moment);
    for target in &targets {
        let plan = planned(workspace, target);
        assert_eq!(plan["executed"], moment.executed.as_str(), "{plan:#}");
    }
    let target = targets[number % targets.len()];
    println!("moment {number}: {target:?} by {way:?}");
    let path = workspace.path().join(format!("plan {number}.json"));
    let dir = workspace.path().join(format!("it's {number}"));
    let further = [
        "--save",
        path.to_str().unwrap(),
        "--dir",
        dir.to_str().unwrap(),
    ];
    let plan = planned(workspace, &[&target[..], &further].concat());
    let server = Mysqld::start_on_copy_of(cold, SERVER);
    let command = |name: &str| plan["commands"][name].as_str().unwrap().to_owned();
    let ask = |name: &str| {
        let question = command(name);
        assert_eq!(server.sql(&question), "1", "{question}");
    };
    ask("before");
    match way {
        Way::Stream => _ = run(workspace, &server, &command("stream")),
        Way::Files => {
            run(workspace, &server, &command("fetch"));
            run(workspace, &server, &command("replay"));
        }
        Way::Script => run_as_script(workspace, &server, target, number),
    }
    ask("after");
    assert_eq!(executed(&server), moment.executed);
    assert_eq!(checksums(&server), moment.checksums);
    assert_streamed(&plan, workspace, &path);
}

fn run_as_script(workspace: &Workspace, server: &Mysqld, target: [&str; 2], number: usize) {
    let saved = workspace.path().join(format!("script {number}.json"));
    let output = workspace
        .restore()
        .arg("plan")
        .args(target)
        .args(["--script", "--save"])
        .arg(&saved)
        .output()
        .unwrap();
    assert!(output.status.success());
    let script: PathBuf = workspace.path().join("restore.sh");
    std::fs::write(&script, &output.stdout).unwrap();
    let line = format!("bash {} --user=root", script.display());
    run(workspace, server, &line);
    // Everything is executed by now: the script says so instead of replaying it once more.
    let again = crate::place::shell(workspace, server, &line);
    assert_eq!(again.status.code(), Some(3));
}

/// The stream has as many bytes as the plan says, and the headers of the files that are cut.
fn assert_streamed(plan: &Value, workspace: &Workspace, path: &Path) {
    let output = workspace
        .restore()
        .args(["cat", "--plan"])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success());
    let replayed = plan["replay_bytes"].as_u64().unwrap();
    let streamed = output.stdout.len() as u64;
    assert!(streamed.abs_diff(replayed) < 4096, "{streamed} {replayed}");
}
