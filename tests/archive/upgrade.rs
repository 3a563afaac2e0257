//! What an older gtide left behind: this one reads it, and goes on where that one was.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sqlx::{Connection, SqliteConnection};

use crate::workspace::{Workspace, code, fixture, json, stderr};

/// Where the older gtide ran.
const THERE: &str = "/srv/gtide";

/// Files that it had archived.
const ARCHIVED: usize = 5;

/// Ledger, archive, key and configuration of the first version, and the binary logs that they are of.
fn first_version() -> Workspace {
    let workspace = Workspace::empty();
    copy(&fixture("upgrade/first"), workspace.path());
    // A checkout keeps no mode, and a key that others can read is refused.
    let key = workspace.path().join("gtide.key");
    fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
    copy(&fixture("binlog/mysql-9.7"), &workspace.datadir());
    let here = workspace.path().to_str().unwrap();
    workspace.edit(THERE, here);
    move_to(&workspace.path().join("gtide.db"), here);
    workspace
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// As if the older gtide had run here.
fn move_to(database: &Path, here: &str) {
    let moved = async {
        let url = format!("sqlite:{}", database.display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        for column in ["destinations SET url", "files SET path"] {
            let name = column.rsplit(' ').next().unwrap();
            let update = format!("UPDATE {column} = replace({name}, $1, $2)");
            let update = sqlx::query(sqlx::AssertSqlSafe(update));
            update
                .bind(THERE)
                .bind(here)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        connection.close().await.unwrap();
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(moved);
}

fn objects(workspace: &Workspace) -> Vec<Vec<u8>> {
    let folder = workspace.archived_folder();
    let kinds = ["log", "manifest"].into_iter();
    let paths = kinds.flat_map(|kind| {
        let names = workspace.archived(kind).into_iter();
        names
            .take(ARCHIVED)
            .map(|name| folder.join(kind).join(name))
            .collect::<Vec<_>>()
    });
    paths.map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn a_ledger_and_an_archive_of_the_first_version_are_gone_on_with() {
    let workspace = first_version();
    let before = objects(&workspace);
    assert_eq!(before.len(), 2 * ARCHIVED);

    // Who only looks changes nothing, and says who does.
    let status = workspace.gtide().arg("status").output().unwrap();
    assert_eq!(code(&status), 2, "{}", stderr(&status));
    assert!(stderr(&status).contains("`gtide run` of this version migrates it"));

    // Three files had failed at its last run, and five were closed later.
    let run = workspace.run_once();
    assert_eq!(code(&run), 0, "{}", stderr(&run));
    assert_eq!(json(&run)["sources"][0]["archived"], 8);
    assert_eq!(json(&run)["sources"][0]["watermark"], 13);
    assert!(
        objects(&workspace) == before,
        "what was archived is as it was"
    );
    let again = workspace.run_once();
    assert_eq!(json(&again)["sources"][0]["archived"], 0);
}

#[test]
fn an_archive_of_the_first_version_is_read() {
    let workspace = first_version();
    let verify = workspace.verify();
    assert_eq!(code(&verify), 0, "{}", stderr(&verify));
    let cat = workspace.restore().arg("cat").output().unwrap();
    assert_eq!(code(&cat), 0, "{}", stderr(&cat));
    let files = (1..=ARCHIVED).map(|number| {
        let file = workspace.datadir().join(format!("binlog.{number:06}"));
        let bytes = fs::read(file).unwrap();
        bytes[if number == 1 { 0 } else { 4 }..].to_vec()
    });
    assert!(cat.stdout == files.collect::<Vec<_>>().concat());
}
