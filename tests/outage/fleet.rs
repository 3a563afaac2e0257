//! Several archivers, one for each database host, with one PostgreSQL database.
//!
//! Each runs in namespaces of its own: another host name, and no network but a socket in the file system that leads to
//! the database.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::archiver::{Daemon, Database, Destination, Site, binlogs, originals};
use crate::harness::{Postgres, wait_until};
use crate::{DRAINED_WITHIN, LARGE};

const HOSTS: u8 = 3;

/// Files that each server closes in each of three rounds.
const ROUND: u64 = 3;

/// A database host: a server, and the archiver beside it.
struct Host {
    name: String,
    site: Site,
    server: binlogs::Server,
    _template: TempDir,
}

impl Host {
    fn new(nth: u8, database: &str) -> Self {
        let template = tempfile::tempdir().unwrap();
        let server = binlogs::Server::new(template.path(), nth);
        let database = Database::Shared(database);
        let site = Site::of("it", template.path(), database, Destination::Folder);
        let name = format!("db{nth}");
        site.workspace
            .edit("name = \"db1\"", &format!("name = \"{name}\""));
        Self {
            name,
            site,
            server,
            _template: template,
        }
    }

    fn start(&self) -> Daemon {
        let gtide = self.site.workspace.gtide();
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--net", "--uts", "sh", "-c"])
            .args(["hostname \"$0\" && exec \"$@\"", &self.name])
            .arg(gtide.get_program())
            .args(gtide.get_args());
        self.site.start_by(command)
    }

    fn close(&mut self, files: u64) {
        for nth in 0..files {
            let size = if nth == 1 { LARGE } else { 0 };
            self.server.rotate(&self.site.workspace.datadir(), size);
        }
    }
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn three_agents_on_one_database_and_one_status_of_all() {
    let postgres = Postgres::start();
    postgres.create_database("fleet");
    let database = postgres.socket_url("fleet");
    let mut hosts: Vec<Host> = (1..=HOSTS).map(|nth| Host::new(nth, &database)).collect();
    let mut daemons: Vec<Daemon> = hosts.iter().map(Host::start).collect();

    close_and_wait(&mut hosts, ROUND);
    let all = [("db1", "db1"), ("db2", "db2"), ("db3", "db3")];
    let mut last = Value::Null;
    let reported = wait_until(DRAINED_WITHIN, || {
        let (report, exit) = hosts[0].site.report();
        last = report;
        exit == 0 && agents(&last) == all
    });
    assert!(reported, "{last:#}");

    // One dies, and one's server shows no index: the others do not notice.
    daemons.remove(1).kill9();
    let index = hosts[0].site.workspace.datadir().join("binlog.index");
    let aside = index.with_extension("aside");
    std::fs::rename(&index, &aside).unwrap();
    hosts[2].close(ROUND);
    wait_for(&hosts[2], 2 * ROUND);
    std::fs::rename(&aside, &index).unwrap();

    daemons.insert(1, hosts[1].start());
    hosts[0].close(ROUND);
    hosts[1].close(ROUND);
    for host in &hosts {
        wait_for(host, 2 * ROUND);
    }
    close_and_wait(&mut hosts, ROUND);
    for daemon in daemons {
        assert_eq!(daemon.terminate(), Some(0));
    }
    for host in &hosts {
        let originals = originals(&host.site.workspace.datadir());
        host.site.assert_identical(&originals);
        assert_eq!(host.site.keys().len(), 2 * originals.len() + 1);
    }
    assert_eq!(hosts[0].site.jobs(), 0);
    let (report, exit) = hosts[0].site.report();
    assert_eq!((exit, agents(&report)), (0, vec![]), "{report:#}");
}

fn close_and_wait(hosts: &mut [Host], files: u64) {
    let mut closed = 0;
    for host in hosts.iter_mut() {
        host.close(files);
        closed = originals(&host.site.workspace.datadir()).len() as u64;
    }
    for host in hosts.iter() {
        wait_for(host, closed);
    }
}

/// Every host's status shows every source.
fn wait_for(host: &Host, watermark: u64) {
    let end = std::time::Instant::now() + DRAINED_WITHIN;
    loop {
        let (report, _) = host.site.report();
        let mut rows = report["sources"].as_array().into_iter().flatten();
        let row = rows.find(|row| row["source"] == host.name.as_str());
        if row.and_then(|row| row["watermark"].as_u64()) >= Some(watermark) {
            return;
        }
        let late = std::time::Instant::now() > end;
        assert!(!late, "{}: {report:#}\n{}", host.name, host.site.log());
        sleep(Duration::from_millis(200));
    }
}

/// Host and source of each agent.
fn agents(report: &Value) -> Vec<(&str, &str)> {
    let agents = report["agents"].as_array().into_iter().flatten();
    agents
        .filter_map(|agent| Some((agent["host"].as_str()?, agent["sources"][0].as_str()?)))
        .collect()
}
