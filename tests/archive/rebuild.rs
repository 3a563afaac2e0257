//! The bucket is the truth: everything local but the binlogs and the key can be lost.

use std::fs;

use crate::workspace::{Workspace, code, json, stderr};

fn archived_fixture() -> Workspace {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    workspace
}

fn forget_the_ledger(workspace: &Workspace) {
    for name in ["gtide.db", "gtide.db-wal", "gtide.db-shm"] {
        let _ = fs::remove_file(workspace.path().join(name));
    }
}

#[test]
fn a_deleted_ledger_is_rebuilt_and_nothing_is_uploaded_again() {
    let workspace = archived_fixture();
    forget_the_ledger(&workspace);
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["archived"], 0);
    assert_eq!(json(&output)["sources"][0]["watermark"], 13);

    let output = workspace.run_all();
    assert_eq!(json(&output)["sources"][0]["archived"], 1);
    assert_eq!(json(&output)["sources"][0]["watermark"], 14);
    assert_eq!(code(&workspace.verify()), 0);
}

/// Killed between object and manifest, and the spool lost with the ledger: the object is there,
/// sealed under a key that only its own header knows. It is read back and adopted.
#[test]
fn an_object_without_an_entry_is_adopted_after_it_was_read_back() {
    let workspace = archived_fixture();
    let entry = source_folder(&workspace).join("manifest/0000000013.json");
    let object = source_folder(&workspace).join("log/0000000013.gtb");
    let before = fs::read(&object).unwrap();
    fs::remove_file(entry).unwrap();
    forget_the_ledger(&workspace);

    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["archived"], 1);
    assert_eq!(
        fs::read(&object).unwrap(),
        before,
        "the object was overwritten"
    );
    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
}

/// TRAPS 14: the same name with other content is a conflict, never an overwrite.
#[test]
fn numbering_that_began_anew_stops_as_a_conflict() {
    let workspace = archived_fixture();
    let first = workspace.datadir().join("binlog.000001");
    fs::copy(workspace.datadir().join("binlog.000003"), &first).unwrap();
    let output = workspace.run_once();
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("binlog.000001"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("incarnation"),
        "{}",
        stderr(&output)
    );
    assert_eq!(code(&workspace.verify()), 0, "the archive was touched");

    // What the hint says: another incarnation, another chain.
    workspace.edit("#incarnation = 1", "incarnation = 2");
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["watermark"], 13);
}

#[test]
fn another_content_under_an_archived_name_is_a_conflict_also_without_a_ledger() {
    let workspace = archived_fixture();
    forget_the_ledger(&workspace);
    let first = workspace.datadir().join("binlog.000001");
    fs::copy(workspace.datadir().join("binlog.000003"), &first).unwrap();
    let output = workspace.run_once();
    assert_eq!(code(&output), 5, "{}", stderr(&output));
}

/// A bucket that lost what was committed is not silently filled again.
#[test]
fn an_emptied_bucket_is_a_refusal() {
    let workspace = archived_fixture();
    fs::remove_dir_all(source_folder(&workspace).join("manifest")).unwrap();
    let output = workspace.run_once();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("manifest/0000000013.json"),
        "{}",
        stderr(&output)
    );
}

/// The chain cannot take in a file below its head: the entry behind names the one that was there.
#[test]
fn a_deleted_entry_is_not_written_anew() {
    let workspace = archived_fixture();
    let entry = source_folder(&workspace).join("manifest/0000000005.json");
    fs::remove_file(&entry).unwrap();
    forget_the_ledger(&workspace);
    let output = workspace.run_all();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("binlog.000005"),
        "{}",
        stderr(&output)
    );
    assert!(!entry.exists());
    assert_eq!(json(&output)["sources"][0]["watermark"], 4);
    assert!(
        source_folder(&workspace)
            .join("manifest/0000000014.json")
            .exists()
    );
    assert_eq!(code(&workspace.verify()), 3);
}

/// A copied file has another inode and time: its content decides.
#[test]
fn a_file_that_only_looks_new_is_the_same_file() {
    let workspace = archived_fixture();
    let first = workspace.datadir().join("binlog.000001");
    let aside = workspace.path().join("aside");
    fs::copy(&first, &aside).unwrap();
    fs::remove_file(&first).unwrap();
    fs::copy(&aside, &first).unwrap();
    let output = workspace.run_once();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["sources"][0]["archived"], 0);
}

/// Lost before it was archived: said as a gap, and the files behind it are archived.
#[test]
fn a_file_lost_before_it_was_archived_becomes_a_gap() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let index = workspace.datadir().join("binlog.index");
    let whole = fs::read_to_string(&index).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    fs::write(&index, lines[..4].concat()).unwrap();
    assert_eq!(code(&workspace.run_once()), 0);

    let without_4_and_5 = [&lines[..3], &lines[5..]].concat().concat();
    fs::write(&index, without_4_and_5).unwrap();
    let output = workspace.run_once();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    let source = &json(&output)["sources"][0];
    assert_eq!(source["watermark"], 3, "the watermark passed a gap");
    assert_eq!(source["gaps"], serde_json::json!([[4, 5]]));
    assert_eq!(workspace.archived("manifest").len(), 11);
    let verify = workspace.verify();
    assert_eq!(code(&verify), 3, "{}", stderr(&verify));
}

/// TRAPS 28: the server purges behind the archiver's back; pins hold what it purged, and are found
/// again when the ledger is lost too.
#[test]
fn purged_files_are_archived_from_their_pins() {
    for ledger_is_lost in [false, true] {
        let workspace = Workspace::of_fixture("binlog/mysql-9.7");
        // Nothing can be stored: a file stands where the folder of objects would be.
        let folder = source_folder(&workspace);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("log"), "in the way").unwrap();
        let stuck = workspace.run_once();
        assert_ne!(code(&stuck), 0);

        for n in 1..=13 {
            fs::remove_file(workspace.datadir().join(format!("binlog.{n:06}"))).unwrap();
        }
        fs::write(
            workspace.datadir().join("binlog.index"),
            "./binlog.000014\n",
        )
        .unwrap();
        fs::remove_file(folder.join("log")).unwrap();
        if ledger_is_lost {
            forget_the_ledger(&workspace);
        }
        let output = workspace.run_once();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert_eq!(json(&output)["sources"][0]["watermark"], 13);
        assert_eq!(code(&workspace.verify()), 0);
        let pins = workspace
            .path()
            .join("spool/pin")
            .read_dir()
            .unwrap()
            .next()
            .unwrap();
        assert_eq!(
            pins.unwrap().path().read_dir().unwrap().count(),
            0,
            "a pin was left"
        );
    }
}

fn source_folder(workspace: &Workspace) -> std::path::PathBuf {
    workspace
        .archive()
        .join("test/0d1a7e00-97a0-4000-8000-000000000001/1")
}
