//! A server's settings: which serve recovery, which endanger it, and the statement that mends them.

use std::path::Path;

use uuid::Uuid;

use super::Answers;
use crate::exit::Exit;
use crate::finding::Finding;

/// A file that the server keeps for less than a day is gone after one night's outage.
const SHORT_EXPIRY_SECS: i64 = 24 * 3600;

/// Below this a busy server closes files faster than it is worth a request for each.
const SMALL_BINLOG_BYTES: u64 = 1 << 20;

/// What a value means.
enum Judgement {
    Ok(&'static str),
    Warn(&'static str, &'static str),
    Fail(&'static str, &'static str),
}

use Judgement::{Fail, Ok, Warn};

struct Rule {
    variable: &'static str,
    /// The check's name in reports.
    check: &'static str,
    judge: fn(&str, &Answers) -> Judgement,
}

/// In the order in which they are reported. The meaning of each value: Reference Manual, "Binary Logging Options and
/// Variables", "Global Transaction ID System Variables".
const RULES: [Rule; 14] = [
    Rule {
        variable: "log_bin",
        check: "server-log-bin",
        judge: |_, answers| {
            if answers.is_on("log_bin") {
                Ok("binary logs are written")
            } else {
                Fail(
                    "no binary logs are written: nothing can be archived",
                    "set log_bin in the server's option file and restart it",
                )
            }
        },
    },
    Rule {
        variable: "binlog_encryption",
        check: "server-binlog-encryption",
        judge: |_, answers| {
            if answers.is_on("binlog_encryption") {
                Fail(
                    "the server encrypts its binary logs: read as files they cannot be archived",
                    "SET PERSIST binlog_encryption = OFF; FLUSH BINARY LOGS (the archive is encrypted by gtide)",
                )
            } else {
                Ok("can be read as files")
            }
        },
    },
    Rule {
        variable: "gtid_mode",
        check: "server-gtid-mode",
        judge: |value, _| match value {
            "ON" => Ok("continuity is proved by GTIDs"),
            _ => Warn(
                "without GTIDs on every transaction continuity is not proved, and plans go by position",
                "SET PERSIST enforce_gtid_consistency = ON, then SET PERSIST gtid_mode = OFF_PERMISSIVE, ON_PERMISSIVE and ON, \
                 one after the other",
            ),
        },
    },
    Rule {
        variable: "enforce_gtid_consistency",
        check: "server-gtid-consistency",
        judge: |value, _| match value {
            "ON" => Ok("no statement can break a GTID"),
            _ => Warn(
                "statements that GTIDs cannot express are let through",
                "SET PERSIST enforce_gtid_consistency = ON",
            ),
        },
    },
    Rule {
        variable: "binlog_format",
        check: "server-binlog-format",
        judge: |value, _| match value {
            // Gone as a choice in later versions.
            "ROW" | "" => Ok("a replay changes the same rows"),
            _ => Warn(
                "a statement may change other rows when it is replayed",
                "SET PERSIST binlog_format = ROW",
            ),
        },
    },
    Rule {
        variable: "binlog_row_image",
        check: "server-row-image",
        judge: |value, _| match value {
            "MINIMAL" => Warn(
                "rows carry only what changed: a replay needs exactly the rows of then, and `find` shows less",
                "SET PERSIST binlog_row_image = FULL, if there is room",
            ),
            _ => Ok("rows are whole"),
        },
    },
    Rule {
        variable: "binlog_checksum",
        check: "server-binlog-checksum",
        judge: |value, _| match value {
            "NONE" => Warn(
                "events carry no checksum: damage on the server's disk is archived unseen",
                "SET PERSIST binlog_checksum = CRC32",
            ),
            _ => Ok("every event is checked while it is read"),
        },
    },
    Rule {
        variable: "sync_binlog",
        check: "server-sync-binlog",
        judge: |value, _| match value {
            "1" => Ok("a crash of the host loses no committed transaction"),
            _ => Warn(
                "a crash of the host may lose transactions that clients took for committed",
                "SET PERSIST sync_binlog = 1",
            ),
        },
    },
    Rule {
        variable: "innodb_flush_log_at_trx_commit",
        check: "server-redo-flush",
        judge: |value, _| match value {
            "1" => Ok("the tables keep what the binary log has"),
            _ => Warn(
                "after a crash the binary log may have what the tables have not",
                "SET PERSIST innodb_flush_log_at_trx_commit = 1",
            ),
        },
    },
    Rule {
        variable: "max_binlog_size",
        check: "server-binlog-size",
        judge: |value, _| match value.parse::<u64>() {
            std::result::Result::Ok(size) if size < SMALL_BINLOG_BYTES => Warn(
                "files this small cost more requests than bytes",
                "SET PERSIST max_binlog_size = 128 * 1024 * 1024",
            ),
            _ => Ok("large enough"),
        },
    },
    Rule {
        variable: "binlog_expire_logs_seconds",
        check: "server-expiry",
        judge: |_, answers| match answers.expire_after() {
            None => Warn(
                "the server never removes a binary log by itself: its disk fills unless somebody purges",
                "`[purge] auto = true`, or SET PERSIST binlog_expire_logs_seconds = 259200",
            ),
            Some(kept) if kept.as_secs() < SHORT_EXPIRY_SECS => Warn(
                "files expire in less than a day: an outage of one night outlives them",
                "SET PERSIST binlog_expire_logs_seconds = 259200",
            ),
            Some(_) => Ok("files stay for a day at least"),
        },
    },
    Rule {
        variable: "log_replica_updates",
        check: "server-replica-updates",
        judge: |_, answers| {
            let is_replica = !answers.channels.is_empty();
            // Under its older name before 8.0.26.
            let logs = answers.is_on("log_replica_updates") || answers.is_on("log_slave_updates");
            if is_replica && !logs {
                Fail(
                    "a replica that does not log what it replicates: its binary logs lack nearly everything",
                    "set log_replica_updates = ON in the server's option file and restart it",
                )
            } else {
                Ok("all that is executed is logged")
            }
        },
    },
    Rule {
        variable: "performance_schema",
        check: "server-performance-schema",
        judge: |_, answers| {
            if answers.is_on("performance_schema") {
                Ok("readers of binary logs and channels can be seen")
            } else {
                Warn(
                    "off: readers of binary logs cannot be seen, so nothing is purged",
                    "set performance_schema = ON in the server's option file and restart it",
                )
            }
        },
    },
    Rule {
        variable: "server_id",
        check: "server-id",
        judge: |value, _| match value {
            "0" => Warn(
                "0: no replica can connect",
                "SET PERSIST server_id to a number of its own",
            ),
            _ => Ok("replicas can connect"),
        },
    },
];

/// Every setting that matters, judged. `index` is the configured one, `files_of` the `server_uuid` in the data directory
/// beside it.
#[must_use]
pub fn judge(
    source: &str,
    answers: &Answers,
    index: &Path,
    files_of: Option<Uuid>,
) -> Vec<Finding> {
    let rules = RULES.iter().map(|rule| rule.find(source, answers));
    let mut findings: Vec<_> = rules.collect();
    findings.push(same_server(source, answers, files_of));
    findings.push(same_index(source, answers, index));
    findings.push(readers(source, answers));
    findings
}

impl Rule {
    fn find(&self, source: &str, answers: &Answers) -> Finding {
        let value = answers.variable(self.variable);
        let said = |reason: &str| match value {
            "" => format!("{}: {reason}", self.variable),
            value => format!("{} = {value}: {reason}", self.variable),
        };
        let finding = match (self.judge)(value, answers) {
            Ok(reason) => Finding::ok(self.check, source, said(reason)),
            Warn(reason, hint) => Finding::warn(self.check, source, said(reason), hint),
            Fail(reason, hint) => {
                Finding::fail(self.check, source, Exit::Usage, said(reason), hint)
            }
        };
        finding.with(self.variable, value)
    }
}

fn same_server(source: &str, answers: &Answers, files_of: Option<Uuid>) -> Finding {
    let check = "server-uuid";
    match (answers.server_uuid(), files_of) {
        (Some(server), Some(files)) if server == files => Finding::ok(
            check,
            source,
            format!("{server}: the files are this server's"),
        ),
        (Some(server), Some(files)) => Finding::fail(
            check,
            source,
            Exit::Usage,
            format!("the server at `mysql` is {server}, the files are {files}'s"),
            "make `index` and `mysql` of the source name the same server",
        ),
        _ => Finding::warn(
            check,
            source,
            "whose files they are cannot be told",
            "check `datadir`, where auto.cnf lies, or set `server-uuid`",
        ),
    }
}

fn same_index(source: &str, answers: &Answers, index: &Path) -> Finding {
    let check = "server-log-bin-index";
    let said = answers.variable("log_bin_index");
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let is_same = real(index).is_some() && real(index) == real(Path::new(said));
    if is_same {
        return Finding::ok(check, source, format!("{said}: the index that is read"));
    }
    Finding::warn(
        check,
        source,
        format!(
            "the server's is {said}, the configured one {}",
            index.display()
        ),
        "nothing, if both are the same file by another path (a container's, say); otherwise correct `index`",
    )
}

fn readers(source: &str, answers: &Answers) -> Finding {
    let threads = answers.dump_threads.iter();
    let names: Vec<_> = threads
        .map(|thread| format!("{}@{}", thread.user, thread.host))
        .collect();
    let reason = match names.as_slice() {
        [] => "nobody reads binary logs at present".to_owned(),
        names => format!("binary logs are read by {}", names.join(", ")),
    };
    Finding::ok("server-readers", source, reason).with("readers", names.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn good() -> Answers {
        let variables = [
            ("log_bin", "ON"),
            ("binlog_encryption", "OFF"),
            ("gtid_mode", "ON"),
            ("enforce_gtid_consistency", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_checksum", "CRC32"),
            ("sync_binlog", "1"),
            ("innodb_flush_log_at_trx_commit", "1"),
            ("max_binlog_size", "1073741824"),
            ("binlog_expire_logs_seconds", "2592000"),
            ("binlog_expire_logs_auto_purge", "ON"),
            ("log_replica_updates", "ON"),
            ("performance_schema", "ON"),
            ("server_id", "1"),
            ("server_uuid", UUID),
            ("version", "8.4.2"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Answers {
            variables: variables.into_iter().collect(),
            gtid_executed: crate::gtid::GtidSet::new(),
            gtid_purged: crate::gtid::GtidSet::new(),
            channels: Vec::new(),
            dump_threads: Vec::new(),
        }
    }

    fn with(name: &str, value: &str) -> Answers {
        let mut answers = good();
        answers.variables.insert(name.to_owned(), value.to_owned());
        answers
    }

    fn complaints(answers: &Answers) -> Vec<(&'static str, Verdict)> {
        let findings = judge(
            "db1",
            answers,
            Path::new("/nowhere/index"),
            UUID.parse().ok(),
        );
        let findings = findings
            .into_iter()
            .filter(|finding| finding.verdict != Verdict::Ok);
        let told = findings.map(|finding| (finding.check, finding.verdict));
        // There is no such file here.
        told.filter(|(check, _)| *check != "server-log-bin-index")
            .collect()
    }

    #[test]
    fn a_server_as_it_should_be_has_no_complaint() {
        assert_eq!(complaints(&good()), []);
    }

    /// Variable, value, check and verdict.
    const ENDANGERS: [(&str, &str, &str, Verdict); 16] = [
        ("log_bin", "OFF", "server-log-bin", Verdict::Fail),
        (
            "binlog_encryption",
            "ON",
            "server-binlog-encryption",
            Verdict::Fail,
        ),
        ("gtid_mode", "OFF", "server-gtid-mode", Verdict::Warn),
        (
            "gtid_mode",
            "ON_PERMISSIVE",
            "server-gtid-mode",
            Verdict::Warn,
        ),
        (
            "enforce_gtid_consistency",
            "WARN",
            "server-gtid-consistency",
            Verdict::Warn,
        ),
        (
            "binlog_format",
            "MIXED",
            "server-binlog-format",
            Verdict::Warn,
        ),
        (
            "binlog_row_image",
            "MINIMAL",
            "server-row-image",
            Verdict::Warn,
        ),
        (
            "binlog_checksum",
            "NONE",
            "server-binlog-checksum",
            Verdict::Warn,
        ),
        ("sync_binlog", "1000", "server-sync-binlog", Verdict::Warn),
        (
            "innodb_flush_log_at_trx_commit",
            "2",
            "server-redo-flush",
            Verdict::Warn,
        ),
        (
            "max_binlog_size",
            "4096",
            "server-binlog-size",
            Verdict::Warn,
        ),
        (
            "binlog_expire_logs_seconds",
            "0",
            "server-expiry",
            Verdict::Warn,
        ),
        (
            "binlog_expire_logs_seconds",
            "3600",
            "server-expiry",
            Verdict::Warn,
        ),
        (
            "binlog_expire_logs_auto_purge",
            "OFF",
            "server-expiry",
            Verdict::Warn,
        ),
        (
            "performance_schema",
            "OFF",
            "server-performance-schema",
            Verdict::Warn,
        ),
        (
            "server_uuid",
            "00000000-0000-0000-0000-000000000001",
            "server-uuid",
            Verdict::Fail,
        ),
    ];

    #[test]
    fn each_setting_that_endangers_recovery_is_told() {
        for (name, value, check, verdict) in ENDANGERS {
            assert_eq!(
                complaints(&with(name, value)),
                [(check, verdict)],
                "{name} = {value}"
            );
        }
    }

    #[test]
    fn only_a_replica_must_log_what_it_replicates() {
        let mut answers = with("log_replica_updates", "OFF");
        assert_eq!(complaints(&answers), []);
        answers.channels.push(crate::mysql::Channel {
            name: String::new(),
            source: "db0:3306".to_owned(),
            source_uuid: String::new(),
            receiver: "ON".to_owned(),
            receiver_error: String::new(),
            received: String::new(),
            applier: "ON".to_owned(),
            applier_error: String::new(),
            lag_micros: None,
        });
        assert_eq!(
            complaints(&answers),
            [("server-replica-updates", Verdict::Fail)]
        );
        answers
            .variables
            .insert("log_slave_updates".to_owned(), "ON".to_owned());
        assert_eq!(complaints(&answers), [], "by its older name");
    }
}
