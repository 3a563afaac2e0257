//! `gtide key rotate`, and the daemon that takes another key while it runs.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::wait_until;
use crate::place::{assert_verifies, encryption, key, sealed_with, set_encryption, site};
use crate::workspace::{code, json, stderr};

#[test]
fn a_rotated_key_seals_what_comes_and_the_former_one_opens_what_was() {
    let (site, originals) = site(4);
    site.close_up_to(2);
    assert_eq!(site.run_once().code, Some(0));
    let former = encryption(&site)["key"].as_str().unwrap().to_owned();
    let comments = comments(&site);

    let rotated = key(&site, &["rotate", "file:next.key"]);
    assert_eq!(code(&rotated), 0, "{}", stderr(&rotated));
    assert!(
        stderr(&rotated).contains("Keep a copy"),
        "{}",
        stderr(&rotated)
    );
    let id = json(&rotated)["key_id"].as_str().unwrap().to_owned();
    let after = encryption(&site);
    assert_eq!(after["key"].as_str(), Some("file:next.key"));
    assert_eq!(
        after["old-keys"].as_array().unwrap(),
        &[toml::Value::from(former)]
    );
    assert_eq!(self::comments(&site), comments, "comments stay");
    assert!(site.workspace.path().join("next.key").is_file());

    site.close_up_to(4);
    assert_eq!(site.run_once().code, Some(0));
    let ids = sealed_with(&site);
    assert_eq!(ids[2..], [id.clone(), id.clone()]);
    assert!(ids[..2].iter().all(|former| *former != id));
    site.assert_identical(&originals);
}

fn comments(site: &crate::archiver::Site) -> Vec<String> {
    let text = fs::read_to_string(site.workspace.config()).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[test]
fn nothing_is_written_when_the_new_key_does_not_work() {
    let (site, _) = site(1);
    let path = site.workspace.config();
    let before = fs::read_to_string(&path).unwrap();
    let current = encryption(&site)["key"].as_str().unwrap().to_owned();
    fs::write(site.workspace.path().join("broken.key"), "no key").unwrap();
    let credentials = "\nendpoint = \"http://127.0.0.1:9\"\n";
    for (reference, exit) in [
        ("hunter2", 2),
        ("file:missing-folder/new.key", 2),
        ("file:broken.key", 2),
        (current.as_str(), 2),
    ] {
        let refused = key(&site, &["rotate", reference]);
        assert_eq!(code(&refused), exit, "{reference}: {}", stderr(&refused));
        assert!(stderr(&refused).contains("hint:"), "{}", stderr(&refused));
        assert_eq!(fs::read_to_string(&path).unwrap(), before, "{reference}");
    }
    // A key service that does not answer.
    set_encryption(&site, &format!("key = \"{current}\"{credentials}"));
    let before = fs::read_to_string(&path).unwrap();
    let mut rotate = site.workspace.gtide();
    rotate
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "y");
    let refused = rotate
        .args(["key", "rotate", "aws-kms:alias/x"])
        .output()
        .unwrap();
    assert_eq!(code(&refused), 6, "{}", stderr(&refused));
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
}

#[test]
fn a_daemon_takes_the_new_key_at_sighup_and_keeps_its_own_when_that_is_none() {
    let (site, originals) = site(4);
    site.close_up_to(1);
    let daemon = site.start();
    site.wait_for_watermark(1, Duration::from_mins(4));

    let before = fs::read_to_string(site.workspace.config()).unwrap();
    set_encryption(&site, "key = \"file:/nonexistent/key\"");
    daemon.signal(Signal::HUP);
    let told = || site.log().contains("stays as it was");
    assert!(wait_until(Duration::from_mins(4), told), "{}", site.log());
    site.close_up_to(2);
    site.wait_for_watermark(2, Duration::from_mins(4));
    fs::write(site.workspace.config(), before).unwrap();

    let rotated = key(&site, &["rotate", "file:next.key"]);
    assert_eq!(code(&rotated), 0, "{}", stderr(&rotated));
    daemon.signal(Signal::HUP);
    let told = || site.log().contains("read [encryption] again");
    assert!(wait_until(Duration::from_mins(4), told), "{}", site.log());
    site.close_up_to(4);
    site.wait_for_watermark(4, Duration::from_mins(4));
    assert_eq!(daemon.terminate(), Some(0), "{}", site.log());

    let ids = sealed_with(&site);
    assert_eq!(ids[0], ids[1]);
    let new = json(&rotated)["key_id"].as_str().unwrap().to_owned();
    assert_eq!(ids[2..], [new.clone(), new]);
    assert_verifies(&site);
    site.assert_whole(&originals, 4);
}
