//! What others build upon: the schema of `gtide status --format json`, and the example for Kubernetes.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::documents::assert_understood;
use crate::harness::lab_program;
use crate::running::{Daemon, status, watermark};
use crate::workspace::{Workspace, code};

const SCHEMA: &str = include_str!("../../deploy/status.schema.json");
const SIDECAR: &str = "../deploy/kubernetes/sidecar.yaml";

/// Runs a script of the lab's Python, which has `jsonschema` and `yaml`.
fn python(script: &str, arguments: &[&Path]) -> String {
    let output = Command::new(lab_program("python3"))
        .args(["-c", script])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The schema with no key allowed but those that it names.
fn closed(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        for value in object.values_mut() {
            *value = closed(value.take());
        }
        if object.get("properties").is_some_and(Value::is_object) {
            object.insert("additionalProperties".to_owned(), json!(false));
        }
    }
    schema
}

/// What `gtide status` says of it now is as the schema has it.
pub(crate) fn assert_valid(workspace: &Workspace) {
    let output = workspace
        .gtide()
        .args(["status", "--format", "json"])
        .output()
        .unwrap();
    let (schema, report) = (
        workspace.path().join("schema.json"),
        workspace.path().join("report.json"),
    );
    let closed = closed(serde_json::from_str(SCHEMA).unwrap());
    fs::write(&schema, closed.to_string()).unwrap();
    fs::write(&report, output.stdout).unwrap();
    python(
        "import json, sys, jsonschema\n\
         schema, report = (json.load(open(path)) for path in sys.argv[1:])\n\
         jsonschema.Draft202012Validator.check_schema(schema)\n\
         jsonschema.Draft202012Validator(schema).validate(report)",
        &[&schema, &report],
    );
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn reports_of_a_status_are_what_the_schema_says() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let second = workspace.path().join("second");
    fs::write(&second, "in the way").unwrap();
    let destination = format!(
        "[[destination]]\nurl = \"file://{}\"\n\n[encryption]",
        second.display()
    );
    workspace.edit("[encryption]", &destination);
    let mut daemon = Daemon::start(&workspace, "daemon.log");
    daemon.wait_until("archived, and in trouble", || {
        let rows = status(&workspace);
        let is_unserved = rows.iter().any(|row| !row["unserved"].is_null());
        is_unserved && watermark(&workspace, 1, "archive") == Some(13)
    });
    let pause = ["queue", "pause", "db1", "--reason", "a test"];
    let paused = workspace.gtide().args(pause).output().unwrap();
    assert_eq!(code(&paused), 0, "{paused:?}");
    daemon.wait_until("paused", || {
        let rows = status(&workspace);
        rows.iter().any(|row| row["paused"] != json!([]))
    });
    assert_valid(&workspace);
    daemon.stop();
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn the_kubernetes_example_has_a_configuration_and_a_command_that_work() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(SIDECAR);
    let text = python(
        "import json, sys, yaml\nprint(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))",
        &[&path],
    );
    let documents: Vec<Value> = serde_json::from_str(&text).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("gtide.toml");
    let configured = documents[0]["data"]["gtide.toml"].as_str().unwrap();
    fs::write(&config, configured).unwrap();
    let config = engine::config::Config::load(&config).unwrap();

    let pod = &documents[1]["spec"]["template"]["spec"];
    let containers = pod["containers"].as_array().unwrap();
    let gtide = containers
        .iter()
        .find(|one| one["name"] == "gtide")
        .unwrap();
    let arguments = gtide["args"].as_array().unwrap().iter();
    let mut words = vec!["gtide".to_owned()];
    words.extend(arguments.map(|word| word.as_str().unwrap().to_owned()));
    assert_understood(&words, &path);
    let port = gtide["ports"][0]["containerPort"].as_u64().unwrap();
    assert_eq!(u64::from(config.metrics.unwrap().listen.port()), port);

    // One volume, mounted whole at one place, holds what must lie in one mount.
    for container in containers {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let data = mounts.iter().find(|mount| mount["name"] == "data").unwrap();
        assert!(data["subPath"].is_null(), "{container:#}");
        let at = Path::new(data["mountPath"].as_str().unwrap());
        assert!(config.sources[0].index.starts_with(at) && config.spool.dir.starts_with(at));
    }
}
