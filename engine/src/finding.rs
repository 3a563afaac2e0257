//! What a check found: one line of a report, the same whatever was looked at.
//!
//! `gtide check` shows them. A check that is written elsewhere (of a MySQL server's settings, say) gives back the same.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::exit::{self, Exit};

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It works; this was seen, not assumed.
    Ok,
    /// It works, and a person should know of something.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was checked. The field names are a contract with scripts: additive changes only.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What was tried, in lower case with hyphens: `spool-link`, `database-write`. Scripts may rely on it.
    pub check: &'static str,
    /// Of what: a file, a source's name, a destination's URL.
    pub subject: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was seen, or why it does not work. Lower case, no full stop.
    pub reason: String,
    /// What to check or run; none for what is well.
    pub hint: Option<String>,
    /// The exit code that it calls for: `Ok` unless it failed.
    pub exit: Exit,
    /// What was measured, by name with its unit (`free_bytes`).
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub facts: Map<String, Value>,
}

impl Finding {
    /// It works.
    pub fn ok(check: &'static str, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            check,
            subject: subject.into(),
            verdict: Verdict::Ok,
            reason: reason.into(),
            hint: None,
            exit: Exit::Ok,
            facts: Map::new(),
        }
    }

    /// It works, but.
    pub fn warn(
        check: &'static str,
        subject: impl Into<String>,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Warn,
            hint: Some(hint.into()),
            ..Self::ok(check, subject, reason)
        }
    }

    /// It does not work, in words of the check's own.
    pub fn fail(
        check: &'static str,
        subject: impl Into<String>,
        exit: Exit,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Fail,
            hint: Some(hint.into()),
            exit,
            ..Self::ok(check, subject, reason)
        }
    }

    /// It does not work, in the words of the error that said so, with its hint and its exit code.
    pub fn error(check: &'static str, subject: impl Into<String>, error: &anyhow::Error) -> Self {
        let (exit, hint) = exit::diagnose(error);
        Self {
            verdict: Verdict::Fail,
            hint,
            exit,
            ..Self::ok(check, subject, format!("{error:#}"))
        }
    }

    /// Adds something that was measured.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}

/// The exit code of a program that found all this: of the gravest failure.
pub fn exit_of<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Exit {
    let exits = findings.into_iter().map(|finding| finding.exit);
    exits.fold(Exit::Ok, Exit::graver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Failure;

    #[test]
    fn the_gravest_failure_decides_and_a_warning_does_not() {
        let warning = Finding::warn("spool-link", "/spool", "not tried", "look there");
        let failed = |exit| {
            let failure = Failure {
                message: "no".to_owned(),
                exit,
                hint: Some("do".to_owned()),
            };
            Finding::error("database", "sqlite", &failure.into())
        };
        assert_eq!(exit_of([&warning]), Exit::Ok);
        let findings = [failed(Exit::Transient), warning, failed(Exit::Conflict)];
        assert_eq!(exit_of(&findings), Exit::Conflict);
        assert_eq!(findings[0].hint.as_deref(), Some("do"));
    }

    #[test]
    fn as_json_it_has_the_fields_that_scripts_rely_on() {
        let finding = Finding::ok("spool-room", "/spool", "enough").with("free_bytes", 7);
        let json = serde_json::to_value(finding).unwrap();
        let expected = serde_json::json!({
            "check": "spool-room", "subject": "/spool", "verdict": "ok", "reason": "enough",
            "hint": null, "exit": "ok", "facts": { "free_bytes": 7 },
        });
        assert_eq!(json, expected);
    }
}
