//! A recovery engineer's way: the accident is found, and the server comes back to just before it, or without it.

use std::process::Output;

use serde_json::Value;

use crate::harness::{Mysqld, lab_program};
use crate::place::{SERVER, archive, planned, workspace_of};
use crate::workload::executed;
use crate::workspace::{Workspace, code, json, stderr};

/// An archive in which somebody deleted all orders, and work went on.
struct Accident {
    workspace: Workspace,
    source: Mysqld,
    gtid: String,
}

impl Accident {
    fn new() -> Self {
        let source = Mysqld::start(SERVER);
        let workspace = workspace_of(&source);
        source.sql("CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY)");
        source.sql("INSERT INTO shop.orders VALUES (1), (2); FLUSH BINARY LOGS");
        source.sql("INSERT INTO shop.orders VALUES (3)");
        source.sql("DELETE FROM shop.orders");
        source.sql("INSERT INTO shop.orders VALUES (4); FLUSH BINARY LOGS");
        source.sql("INSERT INTO shop.orders VALUES (5); FLUSH BINARY LOGS");
        archive(&workspace);
        let gtid = found(&workspace);
        Self {
            workspace,
            source,
            gtid,
        }
    }

    /// Restored on an empty server by a plan with these arguments.
    fn restored(&self, target: &[&str], via: &str) -> Mysqld {
        let server = Mysqld::start(&[SERVER, &["--server-id=2"]].concat());
        let plan = self.workspace.path().join(format!("{via}.json"));
        let plan = plan.to_str().unwrap();
        let args = [target, &["--from-gtid-set", "", "--save", plan]].concat();
        planned(&self.workspace, &args);
        let output = self.apply(&server, plan, via);
        let report: Value = json(&output);
        assert_eq!(code(&output), 0, "{report:#}{}", stderr(&output));
        assert_eq!(report["via"], via);
        server
    }

    fn apply(&self, server: &Mysqld, plan: &str, via: &str) -> Output {
        let lab = lab_program("mysql").parent().unwrap().to_owned();
        let address = format!(
            "mysql://root@localhost?socket={}",
            server.socket().display()
        );
        self.workspace
            .restore()
            .args(["apply", "--format", "json", "--plan", plan])
            .args(["--target", &address, "--via", via])
            .env("PATH", format!("{}:/usr/bin:/bin", lab.display()))
            .output()
            .unwrap()
    }

    fn all_but_it(&self) -> String {
        let all = executed(&self.source);
        let gtid = &self.gtid;
        self.source
            .sql(&format!("SELECT GTID_SUBTRACT('{all}', '{gtid}')"))
    }
}

fn found(workspace: &Workspace) -> String {
    let mut find = workspace.restore();
    let find = find.args(["find", "--table", "shop.orders", "--kind", "delete"]);
    let output = find.args(["--format", "json"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report = json(&output);
    let transactions = report["transactions"].as_array().unwrap();
    assert_eq!(transactions.len(), 1, "{report:#}");
    transactions[0]["gtid"].as_str().unwrap().to_owned()
}

fn orders(server: &Mysqld) -> String {
    server.sql("SELECT GROUP_CONCAT(id ORDER BY id) FROM shop.orders")
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_server_comes_back_to_just_before_it() {
    let accident = Accident::new();
    let server = accident.restored(&["--before-gtid", &accident.gtid], "replication");
    assert_eq!(orders(&server), "1,2,3");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_server_comes_back_without_it_and_with_what_follows() {
    let accident = Accident::new();
    for via in ["replication", "pipe"] {
        let server = accident.restored(&["--to-latest", "--skip-gtid", &accident.gtid], via);
        assert_eq!(orders(&server), "1,2,3,4,5", "{via}");
        assert_eq!(executed(&server), accident.all_but_it(), "{via}");
    }
}
