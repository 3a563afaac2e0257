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
        let way = [Way::Stream, Way::Files, Way::Script][number % 3];
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

fn restore(workspace: &Workspace, cold: &Path, moment: &Moment, way: Way, number: usize) {
    println!("moment {number}: {moment:?} by {way:?}");
    let path = workspace.path().join(format!("plan {number}.json"));
    let save = path.to_str().unwrap();
    let dir = workspace.path().join(format!("it's {number}"));
    let dir = dir.to_str().unwrap();
    let by_time = ["--to-time", &moment.time, "--save", save, "--dir", dir];
    let by_time = planned(workspace, &by_time);
    let by_position = planned(workspace, &["--to-position", &moment.position]);
    let mut plans = vec![&by_time, &by_position];
    let by_gtid = (!moment.last_gtid.is_empty())
        .then(|| planned(workspace, &["--to-gtid", &moment.last_gtid]));
    plans.extend(&by_gtid);
    for plan in &plans {
        assert_eq!(plan["executed"], moment.executed.as_str(), "{plan:#}");
        assert_eq!(plan["files"], by_time["files"]);
    }
    let server = Mysqld::start_on_copy_of(cold, SERVER);
    let commands = |name: &str| by_time["commands"][name].as_str().unwrap().to_owned();
    let ask = |name: &str| {
        let question = commands(name);
        assert_eq!(server.sql(&question), "1", "{question}");
    };
    ask("before");
    match way {
        Way::Stream => _ = run(workspace, &server, &commands("stream")),
        Way::Files => {
            run(workspace, &server, &commands("fetch"));
            run(workspace, &server, &commands("replay"));
        }
        Way::Script => run_as_script(workspace, &server, moment),
    }
    ask("after");
    assert_eq!(executed(&server), moment.executed);
    assert_eq!(checksums(&server), moment.checksums);
    assert_fetched(&by_time, workspace, &path);
}

fn run_as_script(workspace: &Workspace, server: &Mysqld, moment: &Moment) {
    let saved = workspace.path().join("script.json");
    let _ = std::fs::remove_file(&saved);
    let output = workspace
        .restore()
        .args(["plan", "--to-time", &moment.time, "--script", "--save"])
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
fn assert_fetched(plan: &Value, workspace: &Workspace, path: &Path) {
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
