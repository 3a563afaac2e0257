//! `gtide check` at key services, and the time that credentials have left.

use std::process::Output;

use serde_json::Value;

use crate::harness::Moto;
use crate::place::{set_encryption, site};
use crate::workspace::{code, json};

const BUCKET: &str = "probes";

fn the(output: &Output, name: &str) -> Value {
    let findings = json(output)["findings"].as_array().unwrap().clone();
    let found: Vec<_> = findings
        .into_iter()
        .filter(|f| f["check"] == name)
        .collect();
    assert_eq!(found.len(), 1, "{name}: {found:?} in {}", json(output));
    found[0].clone()
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn a_key_is_tried_and_the_time_left_of_a_roles_credentials_is_told() {
    let moto = Moto::start();
    moto.create_bucket(BUCKET, false);
    let arn = moto.create_key();
    let (site, _) = site(2);
    let (endpoint, credentials) = (moto.endpoint(), moto.credentials_file());
    let account = format!(
        "endpoint = \"{endpoint}\"\ncredentials = \"file:{}\"\n",
        credentials.display()
    );
    set_encryption(&site, &format!("key = \"aws-kms:{arn}\"\n{account}"));
    let role = "role = \"arn:aws:iam::123456789012:role/gtide\"\nrenew-ahead = \"4m\"\n";
    let second =
        format!("[[destination]]\nurl = \"s3://{BUCKET}/x\"\n{account}{role}required = false\n");
    site.workspace
        .edit("[encryption]", &format!("{second}\n[encryption]"));
    let check = || {
        let mut command = site.workspace.gtide();
        command.args(["check", "--format", "json"]);
        command
            .env("AWS_ENDPOINT_URL_STS", &endpoint)
            .output()
            .unwrap()
    };
    let output = check();
    assert_eq!(the(&output, "key")["verdict"], "ok", "{}", json(&output));
    assert_eq!(
        the(&output, "key-credentials")["reason"],
        "they do not expire"
    );
    let role = the(&output, "destination-credentials");
    assert_eq!(role["verdict"], "ok", "{role}");
    let left = role["facts"]["seconds_left"].as_i64().unwrap();
    assert!((1..=3600).contains(&left), "{role}");
    assert_eq!(role["facts"]["renewed_ahead_seconds"], 240);

    // A key that is none.
    let text = format!(
        "key = \"aws-kms:{}\"\n{account}",
        arn.replace(":key/", ":key/0")
    );
    set_encryption(&site, &text);
    let output = check();
    assert_eq!(the(&output, "key")["verdict"], "fail");
    assert_ne!(code(&output), 0);
}
