//! `gtide key rewrap`: without the former key everything comes back, however often it was killed.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::archiver::Site;
use crate::harness::wait_until;
use crate::place::{assert_verifies, encryption, key, set_encryption, site};
use crate::workspace::{code, json, stderr};

/// A site whose files are all sealed under a key of before; that key's path.
fn rotated_site(files: u64) -> (Site, crate::archiver::Originals, std::path::PathBuf) {
    let (site, originals) = site(files);
    assert_eq!(site.run_once().code, Some(0));
    let former = encryption(&site)["key"].as_str().unwrap().to_owned();
    let former = former.trim_start_matches("file:");
    let former = site.workspace.path().join(former);
    assert_eq!(code(&key(&site, &["rotate", "file:next.key"])), 0);
    (site, originals, former)
}

/// The former keys are lost, and nothing names them any more.
fn forget(site: &Site, former: &std::path::Path, current: &str) {
    fs::remove_file(former).unwrap();
    set_encryption(site, &format!("key = \"{current}\""));
}

fn rewrapped(site: &Site) -> Vec<String> {
    let folder = site.workspace.archived_folder().join("keys");
    let names = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

#[test]
fn without_the_former_key_everything_comes_back() {
    let (site, originals, former) = rotated_site(5);
    let entries = fs::read(
        site.workspace
            .archived_folder()
            .join("manifest/0000000003.json"),
    )
    .unwrap();
    let done = key(&site, &["rewrap"]);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    let report = json(&done)["destinations"][0].clone();
    assert_eq!(
        (&report["files"], &report["rewrapped"], &report["objects"]),
        (&5.into(), &5.into(), &1.into())
    );
    let names = rewrapped(&site);
    assert_eq!(names.len(), 1);
    assert!(names[0].starts_with("0000000001-0000000005-"), "{names:?}");
    let after = fs::read(
        site.workspace
            .archived_folder()
            .join("manifest/0000000003.json"),
    )
    .unwrap();
    assert_eq!(entries, after, "entries are not touched");

    // Once more: nothing is left to do.
    let again = key(&site, &["rewrap"]);
    let report = json(&again)["destinations"][0].clone();
    assert_eq!(
        (&report["covered"], &report["rewrapped"]),
        (&5.into(), &0.into())
    );
    assert_eq!(rewrapped(&site), names);

    forget(&site, &former, "file:next.key");
    assert_verifies(&site);
    site.assert_identical(&originals);

    // From key to key, without the first one: the third opens what the first one sealed.
    assert_eq!(code(&key(&site, &["rotate", "file:third.key"])), 0);
    let done = key(&site, &["rewrap"]);
    assert_eq!(
        json(&done)["destinations"][0]["rewrapped"],
        5,
        "{}",
        stderr(&done)
    );
    forget(
        &site,
        &site.workspace.path().join("next.key"),
        "file:third.key",
    );
    site.assert_identical(&originals);
}

#[test]
fn before_it_the_former_key_is_missed_and_named() {
    let (site, _, former) = rotated_site(2);
    forget(&site, &former, "file:next.key");
    let verify = site.workspace.verify();
    assert_eq!(code(&verify), 4);
    let done = key(&site, &["rewrap"]);
    assert_eq!(code(&done), 4, "{}", stderr(&done));
    assert!(stderr(&done).contains("hint:"), "{}", stderr(&done));
    let report = json(&done)["destinations"][0].clone();
    assert_eq!(
        (&report["failed"], &report["rewrapped"]),
        (&2.into(), &0.into())
    );
    assert!(rewrapped(&site).is_empty());
}

#[test]
fn killed_in_the_middle_and_run_again_it_is_complete() {
    let (site, originals, former) = rotated_site(40);
    let mut kills = 0;
    for already in [0, 3, 9] {
        let mut rewrap = site.workspace.gtide();
        rewrap.args(["key", "rewrap", "--batch", "1"]);
        let mut running = rewrap
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = std::time::Instant::now() + Duration::from_mins(4);
        while rewrapped(&site).len() <= already && running.try_wait().unwrap().is_none() {
            assert!(std::time::Instant::now() < end);
        }
        running.kill().unwrap();
        running.wait().unwrap();
        let there = rewrapped(&site).len();
        println!("killed with {there} of 40 data keys wrapped anew");
        kills += u32::from(there < 40);
    }
    assert!(kills > 0, "it was never killed in the middle");
    let there = rewrapped(&site).len();
    let done = key(&site, &["rewrap", "--batch", "7"]);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    let report = json(&done)["destinations"][0].clone();
    assert_eq!(
        report["covered"].as_u64().unwrap(),
        there as u64,
        "what was done is passed over"
    );
    assert_eq!(report["rewrapped"].as_u64().unwrap(), 40 - there as u64);
    forget(&site, &former, "file:next.key");
    assert_verifies(&site);
    site.assert_identical(&originals);
}

#[test]
fn in_the_middle_of_archiving_nothing_is_lost() {
    let (site, originals) = site(12);
    let first = encryption(&site)["key"].as_str().unwrap().to_owned();
    site.close_up_to(3);
    let daemon = site.start();
    site.wait_for_watermark(3, Duration::from_mins(4));
    assert_eq!(code(&key(&site, &["rotate", "file:next.key"])), 0);
    // The daemon has not been told: it goes on with the former key.
    site.close_up_to(6);
    let done = key(&site, &["rewrap"]);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    site.wait_for_watermark(6, Duration::from_mins(4));
    daemon.signal(rustix::process::Signal::HUP);
    let told = || site.log().contains("read [encryption] again");
    assert!(wait_until(Duration::from_mins(4), told), "{}", site.log());
    site.close_up_to(12);
    let done = key(&site, &["rewrap"]);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    site.wait_for_watermark(12, Duration::from_mins(4));
    assert_eq!(daemon.terminate(), Some(0), "{}", site.log());
    let former = site
        .workspace
        .path()
        .join(first.trim_start_matches("file:"));
    forget(&site, &former, "file:next.key");
    assert_verifies(&site);
    site.assert_identical(&originals);
}

#[test]
fn verify_tells_of_re_wrapped_keys_that_are_none() {
    let (site, _, _) = rotated_site(2);
    assert_eq!(code(&key(&site, &["rewrap"])), 0);
    assert_verifies(&site);
    let folder = site.workspace.archived_folder().join("keys");
    let path = folder.join(&rewrapped(&site)[0]);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "{}").unwrap();
    let verify = site.workspace.verify();
    let report = String::from_utf8_lossy(&verify.stdout).into_owned();
    assert_eq!(code(&verify), 4, "{report}");
    assert!(
        report.contains("not data keys that were wrapped anew"),
        "{report}"
    );
}
