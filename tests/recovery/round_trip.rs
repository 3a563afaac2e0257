//! Back to random moments, by time, by GTID and by position: what comes back is what was there.
//!
//! What comes back is `gtid_executed`, the columns and checksums of all tables, and the XA transactions that were
//! prepared at that moment and neither committed nor rolled back. Of those, the rows are in no checksum, on
//! neither side; that they come with the `XA COMMIT`, wherever it stands, the later moments prove.
//!
//! For each kind of target one server goes forward through all moments, each planned from what it has by then;
//! some moments, by the seed, are restored on the base anew.

use std::path::{Path, PathBuf};

use engine::gtid::GtidSet;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::harness::Mysqld;
use crate::place::{SERVER, add_backup, archive, cold_copy, planned, run, workspace_of};
use crate::workload::{Moment, Workload, checksums, executed, prepared};
use crate::workspace::Workspace;

/// The seed of the workload and of what is restored how; another one with `GTIDE_SEED`.
const SEED: u64 = 20_261_122;

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn every_moment_comes_back_by_time_by_gtid_and_by_position() {
    Oracle::new(8).restores(1);
}

#[test]
#[ignore = "takes many minutes: tests/run soak"]
fn fifty_moments_come_back_by_time_by_gtid_and_by_position() {
    Oracle::new(50).restores(15);
}

/// What names a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Time,
    Gtid,
    Position,
}

impl By {
    const ALL: [Self; 3] = [Self::Time, Self::Gtid, Self::Position];

    fn target(self, moment: &Moment) -> [&str; 2] {
        match self {
            Self::Time => ["--to-time", &moment.time],
            // All that was executed is as good as the last.
            Self::Gtid if moment.last_gtid.is_empty() => ["--to-gtid", &moment.executed],
            Self::Gtid => ["--to-gtid", &moment.last_gtid],
            Self::Position => ["--to-position", &moment.position],
        }
    }
}

/// How a plan is run.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The printed command that streams.
    Stream,
    /// The printed commands that fetch files and replay them.
    Files,
    /// The printed script.
    Script,
    /// `apply`.
    Pipe,
    /// `apply --via relay`.
    Relay,
    /// `apply --via replication`.
    Replication,
}

const WAYS: [Way; 6] = [
    Way::Stream,
    Way::Files,
    Way::Script,
    Way::Pipe,
    Way::Relay,
    Way::Replication,
];

fn way_named(name: &str) -> Way {
    let named = WAYS.into_iter().find(|way| format!("{way:?}") == name);
    named.unwrap_or_else(|| panic!("GTIDE_WAY is one of {WAYS:?}"))
}

/// An archive of random work, what the server held at its moments, and its base.
struct Oracle {
    workspace: Workspace,
    cold: PathBuf,
    moments: Vec<Moment>,
    random: StdRng,
    restored: usize,
}

impl Oracle {
    fn new(moments: usize) -> Self {
        let seed = std::env::var("GTIDE_SEED").map_or(SEED, |seed| seed.parse().unwrap());
        println!("GTIDE_SEED={seed}");
        let mut mysqld = Mysqld::start(SERVER);
        let mut workload = Workload::begin(&mysqld, seed);
        workload.work(&mysqld);
        // Prepared before the base, ended behind it.
        workload.prepare(&mysqld);
        let workspace = workspace_of(&mysqld);
        let base = executed(&mysqld);
        mysqld.shutdown();
        let cold = cold_copy(&mysqld, &workspace);
        mysqld.start_again(SERVER);
        let moments = (0..moments).map(|_| {
            for _ in 0..3 {
                workload.work(&mysqld);
            }
            Workload::moment(&mysqld)
        });
        let moments = moments.collect();
        workload.work(&mysqld);
        mysqld.sql("INSERT INTO a.t (v) VALUES (1); FLUSH BINARY LOGS");
        archive(&workspace);
        add_backup(&workspace, &base);
        Self {
            workspace,
            cold,
            moments,
            random: StdRng::seed_from_u64(seed),
            restored: 0,
        }
    }

    /// All moments in every way, and so many from the base.
    fn restores(mut self, anew: usize) {
        let moments = self.moments.clone();
        for by in By::ALL {
            let server = self.server();
            for moment in &moments {
                self.restore(&server, moment, by, true);
            }
        }
        for _ in 0..anew {
            let moment = &moments[self.random.random_range(0..moments.len())];
            let by = By::ALL[self.random.random_range(0..By::ALL.len())];
            self.restore(&self.server(), moment, by, false);
        }
    }

    /// A server with the base, which no replication takes for the source.
    fn server(&self) -> Mysqld {
        Mysqld::start_on_copy_of(&self.cold, &[SERVER, &["--server-id=2"]].concat())
    }

    fn restore(&mut self, server: &Mysqld, moment: &Moment, by: By, goes_on: bool) {
        self.restored += 1;
        let number = self.restored;
        let way = WAYS[self.random.random_range(0..WAYS.len())];
        // All by one way, where one is named.
        let named = std::env::var("GTIDE_WAY");
        let way = named.map_or(way, |name| way_named(&name));
        let saved = self.workspace.path().join(format!("plan {number}.json"));
        let dir = self.workspace.path().join(format!("it's {number}"));
        let (address, before) = (address(server), executed(server));
        let from = match (goes_on, self.random.random_bool(0.5)) {
            (false, _) => vec![],
            (true, true) => vec!["--target", &address],
            (true, false) => vec!["--from-gtid-set", &before],
        };
        let target = by.target(moment);
        println!(
            "{number}: {target:?} {} by {way:?}",
            from.first().unwrap_or(&"anew")
        );
        let further = ["--dir", dir.to_str().unwrap()];
        let save = ["--save", saved.to_str().unwrap()];
        let args = [&target[..], &from, &further, &save].concat();
        let plan = self.planned(server, &args);
        assert_adds_up(&plan, &before, moment);
        let restoring = Restoring {
            workspace: &self.workspace,
            server,
            plan: &plan,
            saved: &saved,
        };
        match way {
            Way::Script => {
                let script = self.workspace.path().join(format!("saved {number}.json"));
                let save = ["--script", "--save", script.to_str().unwrap()];
                restoring.script(&[&target[..], &from, &further, &save].concat());
            }
            Way::Stream => restoring.lines(&["stream"]),
            Way::Files => restoring.lines(&["fetch", "replay"]),
            Way::Pipe => restoring.apply("pipe"),
            Way::Relay => restoring.apply("relay"),
            Way::Replication => restoring.apply("replication"),
        }
        assert_eq!(executed(server), moment.executed);
        assert_eq!(checksums(server), moment.checksums);
        assert_eq!(prepared(server), moment.prepared);
    }

    /// The plan; asked in the shell, where the client is that asks the server.
    fn planned(&self, server: &Mysqld, args: &[&str]) -> Value {
        if !args.contains(&"--target") {
            return planned(&self.workspace, args);
        }
        let line = self.line("plan", &[args, &["--format", "json"]].concat());
        serde_json::from_str(&run(&self.workspace, server, &line)).unwrap()
    }

    fn line(&self, command: &str, args: &[&str]) -> String {
        line(&self.workspace, command, args)
    }
}

/// A command line of `gtide-restore`.
fn line(workspace: &Workspace, command: &str, args: &[&str]) -> String {
    let config = workspace.config();
    let words = [
        &[
            "gtide-restore",
            "--config",
            config.to_str().unwrap(),
            command,
        ],
        args,
    ]
    .concat();
    shlex::try_join(words).unwrap()
}

fn address(server: &Mysqld) -> String {
    format!(
        "mysql://root@localhost?socket={}",
        server.socket().display()
    )
}

/// A plan that is run on a server.
struct Restoring<'a> {
    workspace: &'a Workspace,
    server: &'a Mysqld,
    plan: &'a Value,
    saved: &'a Path,
}

impl Restoring<'_> {
    fn command(&self, name: &str) -> &str {
        self.plan["commands"][name].as_str().unwrap()
    }

    fn is(&self, question: &str) {
        let question = self.command(question);
        assert_eq!(self.server.sql(question), "1", "{question}");
    }

    fn lines(&self, commands: &[&str]) {
        self.is("before");
        for command in commands {
            run(self.workspace, self.server, self.command(command));
        }
        self.is("after");
        assert_streamed(self.plan, self.workspace, self.saved);
    }

    fn script(&self, args: &[&str]) {
        let plan = line(self.workspace, "plan", args);
        let script = run(self.workspace, self.server, &plan);
        let path = self.workspace.path().join("restore.sh");
        std::fs::write(&path, script).unwrap();
        let line = format!("bash {} --user=root", path.display());
        run(self.workspace, self.server, &line);
        if self.plan["transactions"] != 0 {
            // Everything is executed by now: the script says so instead of replaying it once more.
            let again = crate::place::shell(self.workspace, self.server, &line);
            assert_eq!(again.status.code(), Some(3));
        }
    }

    fn apply(&self, via: &str) {
        let (saved, address) = (self.saved.to_str().unwrap(), address(self.server));
        let args = [
            "--plan", saved, "--target", &address, "--via", via, "--format", "json",
        ];
        let line = line(self.workspace, "apply", &args);
        let report: Value = serde_json::from_str(&run(self.workspace, self.server, &line)).unwrap();
        assert_eq!(report["outcome"], "complete", "{report:#}");
        assert_eq!(
            report["transactions"], self.plan["transactions"],
            "{report:#}"
        );
    }
}

/// The numbers of a plan agree with each other and with what was there.
fn assert_adds_up(plan: &Value, before: &str, moment: &Moment) {
    assert_eq!(plan["executed"], moment.executed.as_str(), "{plan:#}");
    let set = |text: &str| text.parse::<GtidSet>().unwrap();
    let adds = set(&moment.executed).subtract(&set(before));
    assert_eq!(
        set(plan["start"].as_str().unwrap()),
        set(before),
        "{plan:#}"
    );
    assert_eq!(set(plan["adds"].as_str().unwrap()), adds, "{plan:#}");
    assert_eq!(
        u128::from(plan["transactions"].as_u64().unwrap()),
        adds.count()
    );
    let files = plan["files"].as_array().unwrap();
    let sum = |of: fn(&Value) -> u64| files.iter().map(of).sum::<u64>();
    let of = |file: &Value, name: &str| file[name].as_u64();
    let replayed = |file: &Value| {
        let end = file["to"].as_u64().or(file["size"].as_u64()).unwrap();
        end - file["from"].as_u64().unwrap_or(0)
    };
    assert_eq!(plan["replay_bytes"], sum(replayed), "{plan:#}");
    assert_eq!(
        plan["fetch_bytes"],
        sum(|file| file["fetch_bytes"].as_u64().unwrap())
    );
    for file in files {
        let whole = of(file, "from").is_none() && of(file, "to").is_none();
        assert!(
            !whole || file["fetch_bytes"] == file["stored_bytes"],
            "{file:#}"
        );
    }
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
