//! The files of parallel runs, on both sides.

use engine::ledger::{Picture, SourcePicture};
use engine::parity::compare::{Compared, Standing};
use engine::parity::report::ParityPicture;

/// One file of a run.
#[derive(Debug, Clone, Copy)]
pub struct ParityRow<'a> {
    /// Whose.
    pub source: Option<&'a SourcePicture>,
    /// Of which run.
    pub run: &'a ParityPicture,
    /// The file.
    pub file: &'a Compared,
}

/// One row for each file that the picture has, what keeps a run from parity first.
pub fn parity<'a>(picture: &'a Picture, filter: &str) -> Vec<ParityRow<'a>> {
    let mut rows: Vec<ParityRow<'a>> = Vec::new();
    for run in &picture.parity {
        let source = picture.source(run.source);
        rows.extend(run.files.iter().map(|file| ParityRow { source, run, file }));
    }
    rows.retain(|row| {
        let cause = row.file.cause.as_deref().unwrap_or_default();
        let word = standing_word(row.file.standing);
        super::matches(filter, &[row.name(), &row.file.file_name, word, cause])
    });
    rows
}

/// How a file stands, in a word or two.
pub fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Matched => "matched",
        Standing::Late => "late",
        Standing::Pending => "pending",
        Standing::Mismatched => "mismatched",
        Standing::OnlyCron => "only cron",
        Standing::OnlyGtide => "only gtide",
    }
}

impl<'a> ParityRow<'a> {
    /// The source's name, as it came from the database.
    pub fn name(&self) -> &'a str {
        self.source.map_or("", |source| &source.name)
    }

    /// By source, then by the file's number, which grows a digit one day.
    pub(crate) fn order(&self) -> (&'a str, usize, &'a str) {
        let file = self.file.file_name.as_str();
        (self.name(), file.len(), file)
    }
}
