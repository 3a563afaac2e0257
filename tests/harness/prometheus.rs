//! Prometheus, that scrapes one target every second and judges rules as often.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::lab::lab_program;
use super::port::free_port;
use super::process::{Process, tail, wait_until};

const READY_WITHIN: Duration = Duration::from_mins(3);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    _process: Process,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes this port of this machine as the job `gtide`, and waits until it answers.
    pub fn start(target: u16, rules: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("gtide-prometheus-")
            .tempdir()
            .unwrap();
        let (log, port) = (dir.path().join("log"), free_port());
        configure(dir.path(), target, rules);
        let mut command = Command::new(lab_program("prometheus"));
        command
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(dir.path());
        let mut process = Process::start(&mut command, &log);
        let is_up = wait_until(READY_WITHIN, || {
            process.ended().is_some() || get(port, "/-/ready").is_some()
        });
        assert!(
            is_up && process.ended().is_none(),
            "Prometheus does not start:\n{}",
            tail(&log)
        );
        Self {
            port,
            _process: process,
            _dir: dir,
        }
    }

    /// Names of the alerts that fire.
    pub fn firing(&self) -> BTreeSet<String> {
        let report = self.ask("/api/v1/alerts");
        let alerts = report["data"]["alerts"].as_array().unwrap();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing
            .map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Values of the series with this name.
    pub fn values(&self, name: &str) -> Vec<String> {
        let report = self.ask(&format!("/api/v1/query?query={name}"));
        let series = report["data"]["result"].as_array().unwrap();
        series
            .iter()
            .map(|series| series["value"][1].as_str().unwrap().to_owned())
            .collect()
    }

    fn ask(&self, path: &str) -> Value {
        let answer = get(self.port, path).unwrap_or_else(|| panic!("Prometheus refuses {path}"));
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
    }
}

fn configure(dir: &Path, target: u16, rules: &str) {
    let text = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\nscrape_configs:\n  \
         - {{job_name: gtide, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}\n"
    );
    std::fs::write(dir.join("prometheus.yml"), text).unwrap();
    std::fs::write(dir.join("rules.yml"), rules).unwrap();
}

/// The body of an answer with status 200. HTTP/1.0 has no chunks.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}
