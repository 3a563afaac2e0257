//! `ls`: what is archived. It informs and exits 0; `verify` judges.

use comfy_table::{ContentArrangement, Table, presets};
use engine::layout::SourceIdentity;
use futures::TryStreamExt;
use serde::Serialize;

use crate::destination::Destination;
use crate::entries::{self, EntryError};
use crate::output::{self, REPORT_VERSION, Report, printable};
use crate::range::SequenceRange;
use crate::survey::{FileSurvey, SourceSurvey, Surveyor};

/// What `ls` reports. `--format json` is this document: additive changes only.
#[derive(Debug, Clone, Serialize)]
pub struct Listing {
    /// [`REPORT_VERSION`].
    pub report_version: u32,
    /// Where the archive lies.
    pub destination: String,
    /// Its sources, ordered by name.
    pub sources: Vec<SourceSurvey>,
}

/// Surveys `sources`; those without entries are left out. `with_files` lists every file too.
///
/// # Errors
/// When an entry cannot be read.
pub async fn survey(
    destination: &Destination,
    sources: &[SourceIdentity],
    with_files: bool,
) -> Result<Listing, EntryError> {
    let mut surveys = Vec::new();
    for source in sources {
        let mut surveyor = Surveyor::new(with_files);
        let store = destination.store().as_ref();
        let mut stream = std::pin::pin!(entries::read(store, source, SequenceRange::default()));
        while let Some(stored) = stream.try_next().await? {
            surveyor.push(&stored);
        }
        surveys.extend(surveyor.finish());
    }
    Ok(Listing {
        report_version: REPORT_VERSION,
        destination: destination.url().to_owned(),
        sources: surveys,
    })
}

impl Report for Listing {
    fn human(&self) -> String {
        if self.sources.is_empty() {
            return format!("{}: no files are archived\n", self.destination);
        }
        let parts: Vec<String> = self.sources.iter().map(source_text).collect();
        parts.join("\n")
    }
}

fn source_text(survey: &SourceSurvey) -> String {
    let mut table = plain_table();
    for (label, value) in source_rows(survey) {
        table.add_row([format!("  {label}"), printable(&value).into_owned()]);
    }
    let mut text = format!("{}\n{}\n", survey.source, table.trim_fmt());
    if let Some(files) = &survey.file_list {
        text.push('\n');
        text.push_str(&files_table(files).trim_fmt());
        text.push('\n');
    }
    text
}

fn source_rows(survey: &SourceSurvey) -> Vec<(&'static str, String)> {
    let runs: Vec<String> = survey
        .contiguous
        .iter()
        .map(|&(first, last)| output::sequences(first, last))
        .collect();
    let stored = output::percent(survey.stored_bytes, survey.plain_bytes)
        .map_or_else(String::new, |percent| format!(" ({percent})"));
    let anonymous = match survey.anonymous_transactions {
        0 => String::new(),
        count => format!(", {count} of them anonymous"),
    };
    let watermark = &survey.watermark;
    let mut rows = vec![
        (
            "files",
            format!("{}, sequences {}", survey.files, runs.join(" | ")),
        ),
        (
            "watermark",
            format!("{} ({})", watermark.sequence, watermark.file_name),
        ),
        (
            "committed",
            format!(
                "{} to {}",
                output::time(survey.first_commit),
                output::time(survey.last_commit)
            ),
        ),
        (
            "size",
            format!(
                "{}, stored {}{stored}",
                output::bytes(survey.plain_bytes),
                output::bytes(survey.stored_bytes)
            ),
        ),
        (
            "transactions",
            format!("{}{anonymous}", survey.transactions),
        ),
        ("begins after", output::gtids(&survey.executed_before)),
        ("adds", output::gtids(&survey.added)),
        ("reaches", output::gtids(&survey.executed_after)),
    ];
    rows.extend(
        survey
            .findings
            .iter()
            .map(|found| ("finding", found.message.clone())),
    );
    rows.extend(survey.flaws.iter().map(|flaw| ("flaw", flaw.to_string())));
    rows
}

fn files_table(files: &[FileSurvey]) -> Table {
    let mut table = plain_table();
    table.set_header([
        "  SEQUENCE",
        "FILE",
        "SIZE",
        "STORED",
        "TRX",
        "FIRST COMMIT",
        "LAST COMMIT",
        "END",
    ]);
    for file in files {
        let end = if file.flawed { "flawed" } else { file.end };
        table.add_row([
            format!("  {}", file.sequence),
            printable(&file.file_name).into_owned(),
            file.plain_bytes.to_string(),
            file.stored_bytes.to_string(),
            file.transactions.to_string(),
            output::time(file.first_commit),
            output::time(file.last_commit),
            end.to_owned(),
        ]);
    }
    table
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table
}
