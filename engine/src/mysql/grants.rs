//! The rights that an account needs, and no more.

use std::collections::BTreeSet;

use crate::exit::Exit;
use crate::finding::Finding;

/// What the account is to do.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// `[[source]] max-rpo`: closes the active file.
    pub rotates: bool,
    /// `[purge] auto`: makes the server forget files.
    pub purges: bool,
}

/// Rights by which an account may do everything: more than anything here needs.
const TOO_MUCH: [&str; 2] = ["ALL PRIVILEGES", "SUPER"];

/// Judges what `SHOW GRANTS` printed. `account` is for the statement that mends it.
#[must_use]
pub fn judge(source: &str, account: &str, grants: &[String], wanted: Wanted) -> Vec<Finding> {
    let everywhere = privileges(grants, "*.*");
    let has = |right: &str| everywhere.contains(right) || everywhere.contains("ALL PRIVILEGES");
    let sees = has("SELECT")
        || ["SELECT", "ALL PRIVILEGES"]
            .iter()
            .any(|right| privileges(grants, "`performance_schema`.*").contains(*right));
    let rights = [
        Right {
            name: "SELECT on performance_schema",
            is_there: sees,
            is_used: true,
            why: "who reads binary logs, and how replicas stand",
            statement: format!("GRANT SELECT ON performance_schema.* TO {account}"),
        },
        Right {
            name: "RELOAD",
            is_there: has("RELOAD"),
            is_used: wanted.rotates,
            why: "`max-rpo` closes the active file by FLUSH BINARY LOGS",
            statement: format!("GRANT RELOAD ON *.* TO {account}"),
        },
        Right {
            name: "BINLOG_ADMIN",
            is_there: has("BINLOG_ADMIN"),
            is_used: wanted.purges,
            why: "`[purge] auto` and `gtide purge --execute` need it",
            statement: format!("GRANT BINLOG_ADMIN ON *.* TO {account}"),
        },
    ];
    let rights = rights.into_iter().map(|right| right.find(source));
    let mut findings: Vec<_> = rights.collect();
    findings.extend(
        TOO_MUCH
            .iter()
            .filter(|right| everywhere.contains(**right))
            .map(|right| {
                Finding::warn(
                    "server-grants",
                    source,
                    format!("{account} has {right}: more than anything here needs"),
                    "give gtide an account of its own",
                )
            }),
    );
    findings
}

/// One right.
struct Right {
    name: &'static str,
    is_there: bool,
    /// By this configuration.
    is_used: bool,
    why: &'static str,
    /// Grants it.
    statement: String,
}

impl Right {
    fn find(self, source: &str) -> Finding {
        let (check, name, why) = ("server-grants", self.name, self.why);
        match (self.is_there, self.is_used) {
            (true, _) => Finding::ok(check, source, format!("{name} is granted")),
            (false, false) => Finding::ok(
                check,
                source,
                format!("{name} is not granted, and not used: {why}"),
            ),
            (false, true) => {
                let reason = format!("{name} is not granted: {why}");
                Finding::fail(check, source, Exit::Usage, reason, self.statement)
            }
        }
    }
}

/// What is granted on exactly this.
fn privileges(grants: &[String], on: &str) -> BTreeSet<String> {
    let of = |grant: &String| {
        let rest = grant.strip_prefix("GRANT ")?;
        let (rights, rest) = rest.split_once(" ON ")?;
        let rights = rights.split(',').map(|right| right.trim().to_owned());
        rest.starts_with(&format!("{on} "))
            .then(|| rights.collect::<Vec<_>>())
    };
    grants.iter().filter_map(of).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    const ALL: Wanted = Wanted {
        rotates: true,
        purges: true,
    };

    fn verdicts(grants: &[&str], wanted: Wanted) -> Vec<Verdict> {
        let grants: Vec<_> = grants.iter().map(|&grant| grant.to_owned()).collect();
        let findings = judge("db1", "gtide", &grants, wanted);
        findings
            .into_iter()
            .map(|finding| finding.verdict)
            .collect()
    }

    #[test]
    fn the_least_rights_suffice_and_more_are_told() {
        let least = [
            "GRANT RELOAD ON *.* TO `gtide`@`%`",
            "GRANT BINLOG_ADMIN ON *.* TO `gtide`@`%`",
            "GRANT SELECT ON `performance_schema`.* TO `gtide`@`%`",
        ];
        assert_eq!(verdicts(&least, ALL), [Verdict::Ok; 3]);
        let root = ["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"];
        assert_eq!(
            verdicts(&root, ALL),
            [Verdict::Ok, Verdict::Ok, Verdict::Ok, Verdict::Warn]
        );
    }

    #[test]
    fn a_right_that_is_missing_fails_where_it_is_used() {
        let none = ["GRANT USAGE ON *.* TO `gtide`@`%`"];
        assert_eq!(verdicts(&none, ALL), [Verdict::Fail; 3]);
        let wanted = Wanted {
            rotates: false,
            purges: false,
        };
        assert_eq!(
            verdicts(&none, wanted),
            [Verdict::Fail, Verdict::Ok, Verdict::Ok]
        );
        // On something else it is of no use.
        let elsewhere = ["GRANT SELECT ON `performance_schemas`.* TO `gtide`@`%`"];
        assert_eq!(verdicts(&elsewhere, wanted)[0], Verdict::Fail);
    }
}
