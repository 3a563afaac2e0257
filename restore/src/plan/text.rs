//! The plan for people.

use std::fmt::Write as _;

use jiff::SignedDuration;

use comfy_table::{ContentArrangement, Table, presets};

use super::{Base, Plan, PlannedFile};
use crate::cut::Mark;
use crate::output::{self, Report, printable};

/// Files that the text lists; of more, the first and the last of these.
const MAX_LISTED: usize = 40;

impl Report for Plan {
    fn human(&self) -> String {
        let mut text = self.summary();
        if !self.files.is_empty() {
            let _ = write!(text, "\n{}\n", self.file_table().trim_fmt());
        }
        for warning in &self.warnings {
            let _ = write!(text, "\nwarning: {}\n", printable(warning));
        }
        if self.files.is_empty() {
            text.push_str("\nNothing is to be replayed.\n");
            return text;
        }
        let commands = &self.commands;
        let _ = write!(
            text,
            "\nReplay it as a stream:\n  {}\n\nor from files:\n  {}\n  {}\n\nBefore and afterwards the server must answer 1 to:\n  {}\n  {}\n",
            commands.stream, commands.fetch, commands.replay, commands.before, commands.after
        );
        text
    }
}

impl Plan {
    /// What it does, a line for each fact.
    pub fn summary(&self) -> String {
        let mut table = plain_table();
        for (label, value) in self.rows() {
            table.add_row([label.to_owned(), printable(&value).into_owned()]);
        }
        format!("{}\n", table.trim_fmt())
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let stop = &self.stop;
        let mut rows = vec![
            ("target", self.target.to_string()),
            ("of", self.lead.to_string()),
            ("base", self.base_text()),
            ("begins after", output::gtids(&self.start)),
            (
                "stops at",
                format!("{} position {}", stop.file_name, stop.position),
            ),
        ];
        rows.extend(stop.last.as_ref().map(|mark| ("behind", mark_text(mark))));
        rows.extend(stop.next.as_ref().map(|mark| ("before", mark_text(mark))));
        let adds = format!(
            "{} transactions: {}",
            self.transactions,
            output::gtids(&self.adds)
        );
        rows.push(("executes", adds));
        if !self.skip.is_empty() {
            rows.push(("leaves out", output::gtids(&self.skip)));
        }
        rows.push(("reaches", output::gtids(&self.executed)));
        rows.push((
            "files",
            format!(
                "{}, {} to replay, {} to fetch",
                self.files.len(),
                output::bytes(self.replay_bytes),
                output::bytes(self.fetch_bytes)
            ),
        ));
        let seconds = i64::try_from(self.replay_seconds).unwrap_or(i64::MAX);
        let time = SignedDuration::from_secs(seconds);
        rows.push((
            "takes",
            format!(
                "about {time:#} through the pipe on an idle server, far less with apply --via relay"
            ),
        ));
        rows
    }

    fn base_text(&self) -> String {
        match &self.base {
            Base::Backup {
                id,
                location,
                taken_at,
            } => {
                let taken = match taken_at {
                    Some(time) => format!(", taken at {time}"),
                    None => String::new(),
                };
                format!("backup {id} in {location}{taken}")
            }
            Base::Stated => "a server that has executed what is stated".to_owned(),
            Base::Empty => "a server that was just initialised".to_owned(),
        }
    }

    fn file_table(&self) -> Table {
        let mut table = plain_table();
        table.set_header(["FILE", "SIZE", "STORED", "FETCH", "FROM", "TO", "SOURCE"]);
        let left_out = self.files.len().saturating_sub(MAX_LISTED);
        let half = MAX_LISTED / 2;
        for (number, file) in self.files.iter().enumerate() {
            if left_out > 0 && number == half {
                table.add_row([format!("… {left_out} more files")]);
            }
            let listed = left_out == 0
                || number < half
                || number
                    >= self
                        .files
                        .len()
                        .saturating_sub(MAX_LISTED.saturating_sub(half));
            if listed {
                table.add_row(file_row(file));
            }
        }
        table
    }
}

fn file_row(file: &PlannedFile) -> [String; 7] {
    let offset = |offset: Option<u64>, whole: &str| {
        offset.map_or_else(|| whole.to_owned(), |offset| offset.to_string())
    };
    [
        printable(&file.file_name).into_owned(),
        file.size.to_string(),
        file.stored_bytes.to_string(),
        file.fetch_bytes.to_string(),
        offset(file.from, "begin"),
        offset(file.to, "end"),
        file.source.to_string(),
    ]
}

fn mark_text(mark: &Mark) -> String {
    let gtid = mark.gtid.as_ref();
    let gtid = gtid.map_or_else(
        || "an anonymous transaction".to_owned(),
        ToString::to_string,
    );
    match mark.commit {
        Some(commit) => format!("{gtid}, committed at {commit}"),
        None => gtid,
    }
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}
