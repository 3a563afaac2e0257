//! `apply`: plans run by the program itself.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Mysqld, lab_program, wait_until};
use crate::place::{SERVER, add_backup, archive, cold_copy, planned, workspace_of};
use crate::workload::{Moment, Workload, checksums, executed};
use crate::workspace::{Workspace, code, json, stderr};

/// For what must happen, however slow the machine is.
const PATIENCE: Duration = Duration::from_mins(4);

/// A source with two moments behind its base, archived, and a plan to each.
struct Place {
    workspace: Workspace,
    cold: PathBuf,
    early: Moment,
    latest: Moment,
}

impl Place {
    fn new(seed: u64) -> Self {
        Self::of(seed, |mysqld, workload| {
            for _ in 0..4 {
                workload.work(mysqld);
            }
            mysqld.sql("INSERT INTO c.t (v, s) VALUES (1, 'a mark'); FLUSH BINARY LOGS");
        })
    }

    fn of(seed: u64, work: impl Fn(&Mysqld, &mut Workload)) -> Self {
        let mut mysqld = Mysqld::start(SERVER);
        let mut workload = Workload::begin(&mysqld, seed);
        let workspace = workspace_of(&mysqld);
        let base = executed(&mysqld);
        mysqld.shutdown();
        let cold = cold_copy(&mysqld, &workspace);
        mysqld.start_again(SERVER);
        let mut moment = || {
            work(&mysqld, &mut workload);
            Workload::moment(&mysqld)
        };
        let (early, latest) = (moment(), moment());
        archive(&workspace);
        add_backup(&workspace, &base);
        let place = Self {
            workspace,
            cold,
            early,
            latest,
        };
        let to = ["--to-gtid", &place.early.executed];
        place.plan(&to, "early");
        place.plan(&["--to-latest"], "latest");
        place
    }

    fn plan(&self, args: &[&str], name: &str) -> Value {
        let saved = self.saved(name);
        planned(
            &self.workspace,
            &[args, &["--save", saved.to_str().unwrap()]].concat(),
        )
    }

    fn saved(&self, name: &str) -> PathBuf {
        self.workspace.path().join(format!("{name}.json"))
    }

    /// A server with the base, which no replication takes for the source.
    fn target(&self) -> Mysqld {
        Mysqld::start_on_copy_of(&self.cold, &[SERVER, &["--server-id=2"]].concat())
    }

    fn apply(&self, server: &Mysqld, plan: &str, args: &[&str]) -> Output {
        self.applying(server, plan, args).output().unwrap()
    }

    fn applying(&self, server: &Mysqld, plan: &str, args: &[&str]) -> Command {
        let lab = lab_program("mysql").parent().unwrap().to_owned();
        let mut command = self.workspace.restore();
        command
            .args(["apply", "--format", "json", "--plan"])
            .arg(self.saved(plan))
            .args(["--target", &address(server.socket().as_path())])
            .args(args)
            .env("PATH", format!("{}:/usr/bin:/bin", lab.display()));
        command
    }

    /// An `apply` of the latest plan that waits for who holds `c.t`.
    fn applying_until_held(&self, server: &Mysqld, via: &str) -> Child {
        let mut apply = self.applying(server, "latest", &["--via", via]);
        let apply = apply.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut apply = apply.spawn().unwrap();
        let waits = || server.sql("SHOW PROCESSLIST").contains("metadata lock");
        let looked = wait_until(PATIENCE, || waits() || apply.try_wait().unwrap().is_some());
        if !looked || !waits() {
            let output = apply.wait_with_output().unwrap();
            panic!("it does not get to c.t: {}", stderr(&output));
        }
        apply
    }

    #[track_caller]
    fn applies(&self, server: &Mysqld, plan: &str, args: &[&str]) -> Value {
        let output = self.apply(server, plan, args);
        assert_eq!(code(&output), 0, "{}{}", json(&output), stderr(&output));
        let report = json(&output);
        assert_eq!(report["outcome"], "complete", "{report:#}");
        report
    }

    #[track_caller]
    fn refuses(&self, server: &Mysqld, plan: &str, name: &str, exit: i32) {
        let before = executed(server);
        let output = self.apply(server, plan, &[]);
        let report = json(&output);
        assert_eq!(code(&output), exit, "{report:#}");
        assert_eq!(report["outcome"], "refused");
        let checks = report["checks"].as_array().unwrap();
        let problem = checks.iter().find(|check| check["name"] == name).unwrap();
        assert_eq!(problem["status"], "problem", "{report:#}");
        assert!(
            stderr(&output).contains("not applied: "),
            "{}",
            stderr(&output)
        );
        assert_eq!(executed(server), before);
    }
}

fn address(socket: &Path) -> String {
    format!("mysql://root@localhost?socket={}", socket.display())
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_plan_is_applied_in_two_goes_and_once_more_is_nothing() {
    let place = Place::new(3);
    let server = place.target();
    let early = place.applies(&server, "early", &[]);
    assert_eq!(executed(&server), place.early.executed);
    assert_eq!(checksums(&server), place.early.checksums);
    assert_eq!(early["transactions"], early["planned_transactions"]);
    // The same base, so the later plan has all of the earlier one: it goes on behind it.
    let latest = place.applies(&server, "latest", &[]);
    assert_eq!(executed(&server), place.latest.executed);
    assert_eq!(checksums(&server), place.latest.checksums);
    let count = |report: &Value, field: &str| report[field].as_u64().unwrap();
    assert_eq!(
        count(&latest, "transactions") + count(&early, "transactions"),
        count(&latest, "planned_transactions")
    );
    let whole = place.plan(&["--to-latest"], "whole");
    assert!(count(&latest, "replay_bytes") < count(&whole, "replay_bytes"));
    let again = place.applies(&server, "latest", &[]);
    assert_eq!(count(&again, "transactions"), 0);
    // Past an earlier target there is no way back.
    place.refuses(&server, "early", "beyond", 3);
    // And from here there is nothing to plan.
    let target = address(&server.socket());
    let lab = lab_program("mysql").parent().unwrap().to_owned();
    let plan = place
        .workspace
        .restore()
        .args([
            "plan",
            "--to-latest",
            "--target",
            &target,
            "--format",
            "json",
        ])
        .env("PATH", lab)
        .output()
        .unwrap();
    assert_eq!(code(&plan), 0, "{}", stderr(&plan));
    assert_eq!(json(&plan)["start"], place.latest.executed.as_str());
    assert_eq!(json(&plan)["transactions"], 0);
}

/// The first error names its transaction, and what is mended is gone on with.
fn an_error_is_mended(seed: u64, via: &[&str], words: &str) {
    let place = Place::new(seed);
    let server = place.target();
    place.applies(&server, "early", via);
    // What the source goes on with, somebody has written here already.
    let next = server.sql("SELECT MAX(id) + 1 FROM c.t");
    let mark = format!("SET sql_log_bin = 0; INSERT INTO c.t (id, v) VALUES ({next}, 0)");
    server.sql(&mark);
    let output = place.apply(&server, "latest", via);
    let report = json(&output);
    assert_eq!(code(&output), 5, "{report:#}");
    assert_eq!(report["outcome"], "stopped");
    let stopped = &report["stopped"];
    assert!(
        stopped["message"].as_str().unwrap().contains(words),
        "{report:#}"
    );
    let gtid = stopped["gtid"].as_str().unwrap();
    // It is the first that is missing, and stands where the report says.
    let plan = place.plan(&["--before-gtid", gtid], "before");
    assert_eq!(plan["executed"], executed(&server), "{report:#}");
    let place_of = (&plan["stop"]["file_name"], &plan["stop"]["position"]);
    let reported = (&stopped["file_name"], &stopped["position"]);
    assert!(
        place_of == reported || plan["stop"]["next"].is_null(),
        "{report:#} {plan:#}"
    );
    assert!(stderr(&output).contains(gtid), "{}", stderr(&output));

    server.sql(&format!(
        "SET sql_log_bin = 0; DELETE FROM c.t WHERE id = {next}"
    ));
    place.applies(&server, "latest", via);
    assert_eq!(executed(&server), place.latest.executed);
    assert_eq!(checksums(&server), place.latest.checksums);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn the_clients_first_error_names_its_transaction_and_what_is_mended_is_gone_on_with() {
    an_error_is_mended(4, &["--via", "pipe"], "ERROR 1062");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn the_appliers_first_error_names_its_transaction_and_what_is_mended_is_gone_on_with() {
    an_error_is_mended(4, &["--via", "replication"], "Duplicate entry");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn the_fastest_way_is_taken_that_the_server_allows_and_durability_is_as_before() {
    let place = Place::new(11);
    let server = place.target();
    let durability = "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.sync_binlog";
    let before = server.sql(durability);
    let output = place.apply(&server, "early", &["--relaxed-durability"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["via"], "replication");
    assert!(
        stderr(&output)
            .contains("should this be killed: SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    );
    assert_eq!(server.sql(durability), before);
    // An applier skips what bears its own number: the pipe does not.
    server.sql("SET GLOBAL server_id = 1");
    let report = place.applies(&server, "latest", &["--relaxed-durability"]);
    assert_eq!(report["via"], "pipe");
    assert_eq!(server.sql(durability), before);
    assert_eq!(checksums(&server), place.latest.checksums);
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn the_servers_own_applier_runs_the_plan_from_relay_logs() {
    let place = Place::new(5);
    let server = place.target();
    place.applies(&server, "early", &["--via", "relay"]);
    assert_eq!(checksums(&server), place.early.checksums);
    place.applies(&server, "latest", &["--via", "relay"]);
    assert_eq!(executed(&server), place.latest.executed);
    assert_eq!(checksums(&server), place.latest.checksums);
    // Neither channel nor files are left.
    assert_eq!(server.sql("SHOW REPLICA STATUS"), "");
    let left = std::fs::read_dir(server.datadir()).unwrap();
    let left: Vec<String> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("-gtide."))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

/// A session that holds a table until it is dropped.
struct Holder<'a> {
    server: &'a Mysqld,
    client: Child,
}

impl<'a> Holder<'a> {
    fn of(server: &'a Mysqld, table: &str) -> Self {
        let client = Command::new(lab_program("mysql"))
            .args(["--no-defaults", "--user=root", "--execute"])
            .arg(format!("LOCK TABLES {table} WRITE; SELECT SLEEP(100000)"))
            .arg(format!("--socket={}", server.socket().display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let holder = Self { server, client };
        assert!(wait_until(PATIENCE, || holder.connection().is_some()));
        holder
    }

    fn connection(&self) -> Option<String> {
        let sessions = self.server.sql("SHOW PROCESSLIST");
        let ours = sessions.lines().find(|line| line.contains("User sleep"))?;
        ours.split('\t').next().map(str::to_owned)
    }
}

impl Drop for Holder<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection() {
            self.server.sql(&format!("KILL {connection}"));
        }
        let _ = self.client.wait();
    }
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn the_servers_own_applier_runs_the_plan_as_a_replica_of_the_archive() {
    let place = Place::new(9);
    let server = place.target();
    place.applies(&server, "early", &["--via", "replication"]);
    assert_eq!(checksums(&server), place.early.checksums);
    place.applies(&server, "latest", &["--via", "replication"]);
    assert_eq!(executed(&server), place.latest.executed);
    assert_eq!(checksums(&server), place.latest.checksums);
    assert_eq!(server.sql("SHOW REPLICA STATUS"), "");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_replica_whose_source_was_killed_is_taken_up_again() {
    let place = Place::new(10);
    let server = place.target();
    let held = Holder::of(&server, "c.t");
    let mut apply = place.applying_until_held(&server, "replication");
    apply.kill().unwrap();
    apply.wait().unwrap();
    drop(held);
    place.applies(&server, "latest", &["--via", "replication"]);
    assert_eq!(executed(&server), place.latest.executed);
    assert_eq!(checksums(&server), place.latest.checksums);
    assert_eq!(server.sql("SHOW REPLICA STATUS"), "");
}

/// A session that writes statements makes a temporary table in one file and uses it in the next.
fn with_temporary_tables(seed: u64) -> Place {
    Place::of(seed, |mysqld, _| {
        mysqld.sql(
            "SET SESSION binlog_format=STATEMENT; CREATE TEMPORARY TABLE c.kept (v INT); \
             INSERT INTO c.kept VALUES (7); FLUSH BINARY LOGS; INSERT INTO c.t (v) SELECT v FROM c.kept; \
             DROP TEMPORARY TABLE c.kept; FLUSH BINARY LOGS",
        );
    })
}

/// Kills a replica's source while the applier reads the temporary table; what the next run says, `via` this way. It stops
/// the applier behind that statement, and before the one that drops the table.
fn after_a_kill(place: &Place, server: &Mysqld, via: &str) -> Output {
    let holder = Holder::of(server, "c.t");
    let mut killed = place.applying_until_held(server, "replication");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let mut next = place.applying(server, "latest", &["--via", via]);
    let next = next.stdout(Stdio::piped()).stderr(Stdio::piped());
    let next = next.spawn().unwrap();
    let stops = || server.sql("SHOW PROCESSLIST").contains("STOP REPLICA");
    assert!(wait_until(PATIENCE, stops), "nobody stops the applier");
    drop(holder);
    next.wait_with_output().unwrap()
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn temporary_tables_outlive_a_run_that_was_killed() {
    let place = with_temporary_tables(14);
    let server = place.target();
    let output = after_a_kill(&place, &server, "replication");
    assert_eq!(code(&output), 0, "{}{}", json(&output), stderr(&output));
    assert_eq!(checksums(&server), place.latest.checksums);
    assert_eq!(server.sql("SHOW REPLICA STATUS"), "");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn temporary_tables_are_not_lost_by_another_way_and_if_they_are_the_end_says_so() {
    let place = with_temporary_tables(15);
    let server = place.target();
    let output = after_a_kill(&place, &server, "relay");
    let said = stderr(&output);
    assert_eq!(code(&output), 5, "{}{said}", json(&output));
    assert!(said.contains("a temporary table is open in it"), "{said}");
    assert!(said.contains("only --via replication goes on"), "{said}");
    // Someone does it nevertheless: the server passes over the statement that drops the table, and its GTID.
    server.sql("RESET REPLICA ALL FOR CHANNEL 'gtide'");
    let output = place.apply(&server, "latest", &["--via", "replication"]);
    assert_eq!(code(&output), 3, "{}{}", json(&output), stderr(&output));
    assert_eq!(json(&output)["outcome"], "incomplete");
    assert_ne!(json(&output)["missing"], "");
    assert_eq!(server.sql("SHOW REPLICA STATUS"), "");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn relay_logs_that_were_interrupted_in_the_middle_are_gone_on_with() {
    let place = Place::new(8);
    let server = place.target();
    let held = Holder::of(&server, "c.t");
    let mut apply = place.applying_until_held(&server, "relay");
    let terminate = Command::new("sh")
        .args(["-c", "kill -TERM $0", &apply.id().to_string()])
        .status();
    assert!(terminate.unwrap().success());
    assert_ne!(executed(&server), place.latest.executed);
    drop(held);
    assert_eq!(apply.wait().unwrap().code(), Some(130));
    // Its applier has stopped; wherever it was, the same command goes on.
    let status = server.sql("SHOW REPLICA STATUS");
    assert!(status.contains("\tNo\tNo\t"), "{status}");
    place.applies(&server, "latest", &["--via", "relay"]);
    assert_eq!(executed(&server), place.latest.executed);
    assert_eq!(checksums(&server), place.latest.checksums);
    assert_eq!(server.sql("SHOW REPLICA STATUS"), "");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_server_that_does_not_fit_is_refused_before_anything_is_written() {
    let place = Place::new(6);
    let server = place.target();
    server.sql("SET GLOBAL event_scheduler = ON");
    place.refuses(&server, "latest", "event_scheduler", 2);
    server.sql("SET GLOBAL event_scheduler = OFF; SET GLOBAL super_read_only = ON");
    place.refuses(&server, "latest", "writers", 2);
    server.sql("SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF");
    let empty = Mysqld::start(SERVER);
    place.refuses(&empty, "latest", "start", 3);
    // Only asked, and accepted.
    server.sql("SET GLOBAL event_scheduler = ON");
    let checked = place.apply(
        &server,
        "latest",
        &["--check", "--accept", "event_scheduler"],
    );
    assert_eq!(code(&checked), 0, "{}", stderr(&checked));
    assert_eq!(json(&checked)["outcome"], "checked");
    assert_eq!(
        json(&checked)["missing"],
        place.plan(&["--to-latest"], "again")["adds"]
    );
    let password = place
        .workspace
        .restore()
        .args([
            "apply",
            "--plan",
            "latest.json",
            "--target",
            "mysql://root:secret@db1",
        ])
        .output()
        .unwrap();
    assert_eq!(code(&password), 2);
    assert!(
        stderr(&password).contains("belongs into a file"),
        "{}",
        stderr(&password)
    );
}
