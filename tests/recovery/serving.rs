//! `gtide-restore serve`, running.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::harness::lab_program;
use crate::workspace::Workspace;

/// A source of replication. It is killed when it is dropped.
pub struct Serving {
    child: Child,
    /// What it said when it began.
    pub report: Value,
}

impl Serving {
    /// Serves what these arguments name, on any port.
    pub fn start(workspace: &Workspace, args: &[&str]) -> Self {
        Self::start_at(workspace, "127.0.0.1:0", args)
    }

    /// The same, at an address.
    pub fn start_at(workspace: &Workspace, address: &str, args: &[&str]) -> Self {
        let mut child = workspace
            .restore()
            .args(["serve", "--format", "json", "--listen", address])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let report = first_document(child.stdout.as_mut().unwrap());
        Self { child, report }
    }

    fn text(&self, field: &str) -> &str {
        self.report[field].as_str().unwrap()
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        self.text("address")
    }

    pub fn port(&self) -> &str {
        self.address().rsplit(':').next().unwrap()
    }

    /// The password for `gtide`.
    pub fn password(&self) -> &str {
        self.text("password")
    }

    /// What makes a server its replica.
    pub fn statements(&self) -> Vec<&str> {
        let statements = self.report["statements"].as_array().unwrap();
        statements.iter().map(|s| s.as_str().unwrap()).collect()
    }

    /// Runs one of MySQL's clients on it.
    pub fn client(&self, program: &str, args: &[&str], dir: &Path) -> Output {
        let login = [
            "--host=127.0.0.1".to_owned(),
            format!("--port={}", self.port()),
            "--user=gtide".to_owned(),
        ];
        Command::new(lab_program(program))
            .arg("--no-defaults")
            .args(login)
            .args(args)
            .env("MYSQL_PWD", self.password())
            .current_dir(dir)
            .output()
            .unwrap()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

/// The first JSON document of a stream that goes on.
fn first_document(stream: &mut impl Read) -> Value {
    let mut documents = serde_json::Deserializer::from_reader(stream).into_iter();
    documents.next().expect("it ended").unwrap()
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
