//! A parallel run in words: for a terminal, for a ticket, and the way off the older job.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{Table, presets};

use super::Whole;
use crate::parity::compare::{Compared, Standing};
use crate::parity::verdict::{Verdict, Word};

/// Lines of the report that name files at most; JSON has all.
const MAX_NAMED: usize = 50;

/// The least that files stay at the server after the switch.
const MIN_EXPIRE: u64 = 3 * DAY;

/// Files stay this many times as long as archiving ever took.
const LAG_FACTOR: u64 = 10;

const DAY: u64 = 24 * 3600;

pub(super) fn plain(whole: &Whole) -> String {
    let mut text = format!("{}: {}\n", whole.source, word(&whole.verdict));
    for reason in whole.verdict.reasons.iter().take(MAX_NAMED) {
        let _ = writeln!(text, "  {reason}");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "MATCHED",
        "LATE",
        "PENDING",
        "MISMATCHED",
        "ONLY CRON",
        "ONLY GTIDE",
    ]);
    table.add_row(counts(&whole.verdict));
    let _ = writeln!(text, "\n{table}");
    let late: Vec<_> = of(&whole.files, Standing::Late).collect();
    for file in late.iter().take(MAX_NAMED) {
        let cause = file.cause.as_deref().unwrap_or_default();
        let _ = writeln!(text, "  {}: {cause}", file.file_name);
    }
    text
}

pub(super) fn markdown(whole: &Whole) -> String {
    let mut text = format!(
        "## Parallel run of `{}`: {}\n\nBegun {:.0}, window {:.1} hours.\n\n",
        whole.source,
        word(&whole.verdict),
        whole.started_at,
        whole.window_hours
    );
    text.push_str("| matched | late | pending | mismatched | only cron | only gtide |\n|--:|--:|--:|--:|--:|--:|\n");
    let _ = writeln!(text, "| {} |\n", counts(&whole.verdict).join(" | "));
    for reason in &whole.verdict.reasons {
        let _ = writeln!(text, "- {reason}");
    }
    let told = whole
        .files
        .iter()
        .filter(|file| file.standing != Standing::Matched);
    let told: Vec<_> = told.collect();
    if !told.is_empty() {
        text.push_str(
            "\n| file | standing | cause | cron sha256 | gtide sha256 |\n|---|---|---|---|---|\n",
        );
    }
    for file in told {
        let sha = |side: &Option<crate::parity::compare::Side>| {
            let digest = side.as_ref().and_then(|side| side.sha256);
            digest.map_or("-".to_owned(), |digest| format!("`{digest}`"))
        };
        let _ = writeln!(
            text,
            "| `{}` | {:?} | {} | {} | {} |",
            file.file_name,
            file.standing,
            file.cause.as_deref().unwrap_or("").replace('|', "\\|"),
            sha(&file.cron),
            sha(&file.gtide)
        );
    }
    text
}

fn word(verdict: &Verdict) -> String {
    match verdict.verdict {
        Word::Parity => "parity".to_owned(),
        Word::NoParity => "no parity".to_owned(),
        Word::NotYet => format!("not yet ({:.1} hours left)", verdict.hours_left),
    }
}

fn counts(verdict: &Verdict) -> [String; 6] {
    [
        verdict.matched,
        verdict.late,
        verdict.pending,
        verdict.mismatched,
        verdict.only_cron,
        verdict.only_gtide,
    ]
    .map(|count| count.to_string())
}

fn of(files: &[Compared], standing: Standing) -> impl Iterator<Item = &Compared> {
    files.iter().filter(move |file| file.standing == standing)
}

/// How long the server should keep its files after the switch, in seconds: what `[purge] keep` wants, three days at least,
/// and ten times what archiving lagged behind the older job at worst; in whole days.
pub(super) fn expire_seconds(files: &[Compared], keep: Duration) -> u64 {
    let lags = files.iter().filter_map(|file| {
        let lag = file
            .gtide
            .as_ref()?
            .at
            .duration_since(file.cron.as_ref()?.at);
        u64::try_from(lag.as_secs()).ok()
    });
    let lag = lags.max().unwrap_or(0).saturating_mul(LAG_FACTOR);
    keep.as_secs().max(MIN_EXPIRE).max(lag).div_ceil(DAY) * DAY
}

pub(super) fn runbook(source: &str, expire: u64) -> String {
    format!(
        "{source}: parity. The way off the older job:

1. Stop it: remove its line from the crontab (`crontab -e`, /etc/cron.d), keep the script and its files.
2. Let the server keep its files as long as gtide may need them:
       SET PERSIST binlog_expire_logs_seconds = {expire};
3. Look once more, the next day:
       gtide status                        (exit code 0)
       gtide-restore verify --sample 5     (exit code 0)
       gtide-restore plan --to-latest      (a base backup, and no gap)
4. If the older job purged the server's binary logs, that is gtide's now: `gtide purge`, or `[purge] auto = true`.
5. Take what the older job has archived before into this archive, so that one serves every recovery; its files are only read:
       gtide adopt --from 'PLACE/binlog.*'

And back: put the line into the crontab again. gtide changed nothing that the older job needs, as long as nothing was purged
in between; `gtide purge` says what it would take.
"
    )
}
