//! Two servers, a switch between them, and a stray write to the old one.

use std::path::PathBuf;

use crate::harness::Mysqld;
use crate::place::{SERVER, add_backup, archive, cold_copy, planned, run, shell, workspace_of};
use crate::workload::{Moment, Workload, checksums, executed};
use crate::workspace::{Workspace, code, stderr};

/// Executes all of `from` at `to` that is not there yet, with its GTIDs.
fn replicate(workspace: &Workspace, from: &Mysqld, to: &Mysqld) {
    from.sql("FLUSH BINARY LOGS");
    let line = format!(
        "mysqlbinlog {}/binlog.0* | mysql --binary-mode",
        from.datadir().display()
    );
    let output = shell(workspace, to, &line);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

/// A configuration for another server of the same cluster, to the same archive.
fn beside(workspace: &Workspace, mysqld: &Mysqld) -> Workspace {
    let other = Workspace::empty();
    let destination = format!("file://{}", workspace.archive().display());
    let key = workspace.path().join("gtide.key");
    let further = [
        "--destination",
        &destination,
        "--key",
        key.to_str().unwrap(),
    ];
    other.init(&mysqld.index(), &further);
    other
}

/// What is left when the new server has taken over.
struct Switched {
    workspace: Workspace,
    cold: PathBuf,
    new: Mysqld,
    /// Of the new server.
    moments: Vec<Moment>,
    /// `gtid_executed` of the old one.
    stray: String,
}

impl Switched {
    fn begin() -> Self {
        let mut old = Mysqld::start(SERVER);
        let mut workload = Workload::begin(&old, 7);
        let workspace = workspace_of(&old);
        let base = executed(&old);
        old.shutdown();
        let cold = cold_copy(&old, &workspace);
        old.start_again(SERVER);
        let new = Mysqld::start_on_copy_of(&cold, SERVER);
        for _ in 0..4 {
            workload.work(&old);
        }
        old.sql("INSERT INTO a.t (v) VALUES (1)");
        replicate(&workspace, &old, &new);
        // What the new server logged as a replica is not archived: the way leads through the old one.
        let kept = new.sql("FLUSH BINARY LOGS; SHOW BINARY LOG STATUS");
        let kept = kept.split('\t').next().unwrap();
        new.sql(&format!("PURGE BINARY LOGS TO '{kept}'"));
        let mut moments = Vec::new();
        for _ in 0..2 {
            workload.work(&new);
            new.sql("INSERT INTO a.t (v) VALUES (2)");
            moments.push(Workload::moment(&new));
        }
        old.sql("INSERT INTO b.t (v) VALUES (666)");
        let stray = executed(&old);
        workload.work(&new);
        new.sql("INSERT INTO a.t (v) VALUES (3); FLUSH BINARY LOGS");
        old.sql("FLUSH BINARY LOGS");
        archive(&workspace);
        archive(&beside(&workspace, &new));
        add_backup(&workspace, &base);
        Self {
            workspace,
            cold,
            new,
            moments,
            stray,
        }
    }

    fn restores(&self, moment: &Moment) {
        let saved = self.workspace.path().join(format!("{}.json", moment.time));
        let args = ["--to-time", &moment.time, "--save", saved.to_str().unwrap()];
        let plan = planned(&self.workspace, &args);
        assert_eq!(plan["executed"], moment.executed.as_str(), "{plan:#}");
        assert_eq!(
            plan["lead"]["server_uuid"],
            self.new.sql("SELECT @@server_uuid")
        );
        let restored = Mysqld::start_on_copy_of(&self.cold, SERVER);
        let stream = plan["commands"]["stream"].as_str().unwrap();
        run(&self.workspace, &restored, stream);
        assert_eq!(executed(&restored), moment.executed);
        assert_eq!(checksums(&restored), moment.checksums);
    }

    /// The archive as one source of two servers' transactions.
    fn restores_as_a_replica(&self, moment: &Moment) {
        let saved = self.workspace.path().join(format!("{}.json", moment.time));
        let restored = Mysqld::start_on_copy_of(&self.cold, &[SERVER, &["--server-id=2"]].concat());
        let socket = restored.socket();
        let line = format!(
            "gtide-restore apply --via replication --plan {} --target 'mysql://root@localhost?socket={}'",
            saved.display(),
            socket.display()
        );
        run(&self.workspace, &restored, &line);
        assert_eq!(executed(&restored), moment.executed);
        assert_eq!(checksums(&restored), moment.checksums);
    }

    /// Files of two servers, in folders of their own, in one session.
    fn restores_the_latest_from_files(&self) {
        let saved = self.workspace.path().join("latest.json");
        let args = [
            "--to-latest",
            "--dir",
            "both",
            "--save",
            saved.to_str().unwrap(),
        ];
        let plan = planned(&self.workspace, &args);
        let (stray, new) = (&self.stray, &self.new);
        let only_old = format!("SELECT GTID_SUBTRACT('{stray}', @@GLOBAL.gtid_executed)");
        assert_eq!(plan["left_out"][0]["gtids"], new.sql(&only_old));
        assert!(plan["warnings"].to_string().contains("errant"), "{plan:#}");
        let restored = Mysqld::start_on_copy_of(&self.cold, SERVER);
        for command in ["fetch", "replay"] {
            let line = plan["commands"][command].as_str().unwrap();
            run(&self.workspace, &restored, line);
        }
        assert_eq!(executed(&restored), executed(new));
        assert_eq!(checksums(&restored), checksums(new));
    }
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_plan_crosses_the_switch_and_reports_the_stray_write() {
    let switched = Switched::begin();
    for moment in &switched.moments {
        switched.restores(moment);
    }
    switched.restores_as_a_replica(&switched.moments[1]);
    switched.restores_the_latest_from_files();
}
