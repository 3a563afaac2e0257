use super::*;

const ONE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-105";
const CLONED: &str =
    "0d1a7e00-97a0-4000-8000-000000000001:tide:1,75efd01e-e6b4-11f1-a1e6-02fc00000001:1-3";

fn text(path: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/backup/");
    std::fs::read_to_string(format!("{folder}{path}")).unwrap()
}

fn evidence(path: &str) -> Evidence {
    read([(path, text(path).as_str())]).unwrap()
}

/// Tool, GTID set, position, and the time without a zone.
fn facts(path: &str) -> (Tool, String, String, String) {
    let Evidence {
        coordinates,
        local_time,
    } = evidence(path);
    (
        coordinates.tool,
        coordinates
            .gtid_set
            .map_or("-".into(), |set| set.to_string()),
        coordinates
            .position
            .map_or("-".into(), |place| place.to_string()),
        local_time.map_or("-".into(), |time| time.to_string()),
    )
}

fn expect(path: &str, tool: Tool, gtids: &str, place: &str, time: &str) {
    let expected = (tool, gtids.to_owned(), place.to_owned(), time.to_owned());
    assert_eq!(facts(path), expected, "{path}");
}

#[test]
fn mysqldump_states_a_set_over_several_lines_and_a_position() {
    for path in ["mysqldump/dump.sql", "mysqldump/commented.sql"] {
        expect(
            path,
            Tool::Mysqldump,
            CLONED,
            "binlog.000001:1060",
            "2026-11-22T20:37:04",
        );
        let coordinates = evidence(path).coordinates;
        assert_eq!(coordinates.tool_version.as_deref(), Some("9.7.4"));
        assert_eq!(coordinates.server_version.as_deref(), Some("9.7.4-2"));
    }
}

#[test]
fn rows_of_a_dump_are_not_taken_for_its_head() {
    let dump = "-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)\n\
        -- Table structure for table `t`\n\
        INSERT INTO `t` VALUES ('SET @@GLOBAL.GTID_PURGED=\\'evil\\'');\n";
    let error = read([("dump.sql", dump)]).unwrap_err();
    assert!(
        error.to_string().contains("neither a GTID set nor"),
        "{error}"
    );
}

#[test]
fn an_old_dump_speaks_of_a_master() {
    let dump = "-- MySQL dump 10.13  Distrib 5.7.44, for Linux (x86_64)\n\
        CHANGE MASTER TO MASTER_LOG_FILE='db1-bin.000042', MASTER_LOG_POS=154;\n";
    let place = read([("dump.sql", dump)]).unwrap().coordinates.position;
    assert_eq!(place.unwrap().to_string(), "db1-bin.000042:154");
}

#[test]
fn a_clone_tells_once_the_server_has_started_on_it() {
    expect(
        "clone/view_status",
        Tool::Clone,
        CLONED,
        "binlog.000002:244",
        "-",
    );
    let taken_at = evidence("clone/view_status").coordinates.taken_at.unwrap();
    assert_eq!(taken_at.to_string(), "2026-11-22T20:37:28.834466Z");
    for path in ["clone/clone_status.txt", "clone/clone_status.tsv"] {
        expect(
            path,
            Tool::Clone,
            CLONED,
            "binlog.000002:244",
            "2026-11-22T20:37:28.834",
        );
    }
    let path = "clone/view_status_before_start";
    let error = read([(path, text(path).as_str())]).unwrap_err();
    assert!(error.to_string().contains("has not started"), "{error}");
}

#[test]
fn xtrabackup_states_position_and_set() {
    let both = format!("{ONE},75efd01e-e6b4-11f1-a1e6-02fc00000001:1-3");
    let tool = Tool::Xtrabackup;
    expect(
        "xtrabackup/xtrabackup_binlog_info",
        tool,
        &both,
        "binlog.000003:1234",
        "-",
    );
    expect(
        "xtrabackup/xtrabackup_info",
        tool,
        &both,
        "binlog.000003:1234",
        "2026-11-22T02:03:11",
    );
    expect(
        "xtrabackup/xtrabackup_binlog_info_without_gtids",
        tool,
        "-",
        "mysql-bin.000042:107",
        "-",
    );
}

#[test]
fn the_texts_of_one_backup_add_up() {
    let (place, info) = (
        text("xtrabackup/xtrabackup_binlog_info"),
        text("xtrabackup/xtrabackup_info"),
    );
    let both = read([("a", place.as_str()), ("b", info.as_str())]).unwrap();
    assert!(both.coordinates.tool_version.is_some() && both.local_time.is_some());
    let other = "binlog.000003\t1235\n";
    let error = read([("a", place.as_str()), ("b", other)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "b: the position is binlog.000003:1235, and binlog.000003:1234 before it"
    );
    let error = read([("a", place.as_str()), ("b", text("shell/@.json").as_str())]);
    assert!(matches!(error, Err(EvidenceError::Contradiction { .. })));
}

#[test]
fn enterprise_backup_shell_and_mydumper_are_read() {
    let place = "binlog.000003:1234";
    expect(
        "enterprise/backup_variables.txt",
        Tool::EnterpriseBackup,
        ONE,
        place,
        "-",
    );
    expect(
        "enterprise/backup_gtid_executed.sql",
        Tool::EnterpriseBackup,
        ONE,
        "-",
        "-",
    );
    expect(
        "shell/@.json",
        Tool::MysqlShell,
        ONE,
        place,
        "2026-11-22T02:00:01",
    );
    let set = "7b166a41-65a2-11ed-9de3-0800275ff74d:1-147115,7b166a41-65a2-11ed-9de3-0800275ff74e:1-61558";
    let place = "mydumper1-bin.000017:241149225";
    expect(
        "mydumper/metadata",
        Tool::Mydumper,
        set,
        place,
        "2026-11-22T02:00:01",
    );
    expect(
        "mydumper/metadata_0.10",
        Tool::Mydumper,
        ONE,
        "db1-bin.000007:106",
        "2026-11-22T02:00:01",
    );
}

#[test]
fn an_inconsistent_dump_and_foreign_texts_are_refused() {
    let dump = text("shell/@.json").replace("\"consistent\": true", "\"consistent\": false");
    let error = read([("@.json", dump.as_str())]).unwrap_err();
    assert!(error.to_string().contains("not consistent"), "{error}");
    for foreign in [
        "",
        "\n",
        "hello world",
        "{}",
        "1 2\n3",
        "a\tb\tc",
        "-- MySQL dump ",
    ] {
        assert!(read([("x", foreign)]).is_err(), "{foreign:?}");
    }
    assert_eq!(read([]), Err(EvidenceError::Nothing));
}
