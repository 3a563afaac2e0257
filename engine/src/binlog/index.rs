//! The binlog index file: which binlogs a server has, oldest first.
//!
//! One path per line, as the server wrote it: `./binlog.000001`, absolute, or in another directory;
//! relative ones resolve against the data directory (TRAPS 12). The server replaces the file by rename
//! when it purges, so open it anew each time. It writes lines whole; a last line without its newline
//! is one being written, and is not read as a name that is shorter than it will be.

use std::path::{Path, PathBuf};

use crate::exit::{Diagnose, Exit};
use crate::layout::{LayoutError, Sequence};
use crate::retry::RetryClass;

/// One line of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The number at the end of the name. Order is by number, never by name: beyond 999999 it has
    /// seven digits (TRAPS 11).
    pub sequence: Sequence,
    /// The last component of the path.
    pub file_name: String,
    /// Where the file is.
    pub path: PathBuf,
}

/// Does an index list a file of this number? Its lines ascend.
pub fn has(index: &[IndexEntry], sequence: Sequence) -> bool {
    index
        .binary_search_by_key(&sequence, |entry| entry.sequence)
        .is_ok()
}

/// An index that is not to be trusted. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// A name that cannot become part of a key.
    #[error("binlog index line {line}: \"{text}\" is not UTF-8")]
    NotUtf8 {
        /// The line.
        line: usize,
        /// The line's bytes, escaped.
        text: String,
    },
    /// No path at all.
    #[error("binlog index line {line} is empty")]
    EmptyLine {
        /// The line.
        line: usize,
    },
    /// A path that ends in no binlog file name.
    #[error("binlog index line {line}")]
    FileName {
        /// The line.
        line: usize,
        /// Why.
        source: LayoutError,
    },
    /// Numbers must ascend: a duplicate, another base name's numbering, or a damaged index.
    #[error("binlog index line {line}: {file_name} does not come after {previous}")]
    NotAscending {
        /// The line.
        line: usize,
        /// Its file name.
        file_name: String,
        /// The file name on the line before.
        previous: String,
    },
    /// The server is writing, or the file was cut off.
    #[error("binlog index line {line} has no newline: it is being written, or cut off")]
    CutOff {
        /// The line.
        line: usize,
    },
}

impl IndexError {
    /// A line that is being written will be whole soon.
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::CutOff { .. } => RetryClass::Backoff,
            _ => RetryClass::Never,
        }
    }
}

impl Diagnose for IndexError {
    fn exit(&self) -> Exit {
        match self {
            Self::CutOff { .. } => Exit::Transient,
            _ => Exit::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some("compare the index (@@log_bin_index) with SHOW BINARY LOGS".to_owned())
    }
}

/// Reads an index file's bytes. Relative paths resolve against `base`, the data directory.
///
/// # Errors
/// When any line is not a binlog's path, or the sequences do not ascend; nothing is skipped.
pub fn parse_index(bytes: &[u8], base: &Path) -> Result<Vec<IndexEntry>, IndexError> {
    let mut entries: Vec<IndexEntry> = Vec::new();
    for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let entry = parse_line(number + 1, line, base)?;
        if let Some(previous) = entries.last()
            && previous.sequence >= entry.sequence
        {
            return Err(IndexError::NotAscending {
                line: number + 1,
                file_name: entry.file_name,
                previous: previous.file_name.clone(),
            });
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn parse_line(line: usize, bytes: &[u8], base: &Path) -> Result<IndexEntry, IndexError> {
    let Some(text) = bytes.strip_suffix(b"\n") else {
        return Err(IndexError::CutOff { line });
    };
    let text = std::str::from_utf8(text).map_err(|_| IndexError::NotUtf8 {
        line,
        text: text.escape_ascii().to_string(),
    })?;
    if text.is_empty() {
        return Err(IndexError::EmptyLine { line });
    }
    let file_name = text.rsplit('/').next().unwrap_or(text);
    let sequence = Sequence::of_file_name(file_name)
        .map_err(|source| IndexError::FileName { line, source })?;
    let relative = text.trim_start_matches("./");
    Ok(IndexEntry {
        sequence,
        file_name: file_name.to_owned(),
        path: base.join(relative),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<IndexEntry>, IndexError> {
        parse_index(text.as_bytes(), Path::new("/var/lib/mysql"))
    }

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn trap_12_paths_resolve_against_the_data_directory() {
        let entries = parse(
            "./binlog.000001\nbinlog.000002\nlogs/a.b.c.000003\n../other/binlog.000004\n\
             /srv/binlogs/binlog.000005\n",
        )
        .unwrap();
        let paths: Vec<_> = entries
            .iter()
            .map(|entry| entry.path.to_str().unwrap())
            .collect();
        let expected = [
            "/var/lib/mysql/binlog.000001",
            "/var/lib/mysql/binlog.000002",
            "/var/lib/mysql/logs/a.b.c.000003",
            "/var/lib/mysql/../other/binlog.000004",
            "/srv/binlogs/binlog.000005",
        ];
        assert_eq!(paths, expected);
        assert_eq!(entries[2].file_name, "a.b.c.000003");
        assert_eq!(entries[4].sequence, Sequence(5));
    }

    #[test]
    fn trap_11_the_millionth_file_comes_after_the_one_before() {
        let entries = parse("./b.999999\n./b.1000000\n./b.1000001\n").unwrap();
        let sequences: Vec<_> = entries.iter().map(|entry| entry.sequence.0).collect();
        assert_eq!(sequences, [999_999, 1_000_000, 1_000_001]);
    }

    #[test]
    fn an_empty_index_has_no_entries() {
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn what_cannot_be_trusted_is_an_error_that_names_the_line() {
        let duplicate = "binlog index line 2: b.000001 does not come after b.000001";
        assert_eq!(error("./b.000001\n./b.000001\n"), duplicate);
        let descending = "binlog index line 2: b.000001 does not come after b.000009";
        assert_eq!(error("./b.000009\n./b.000001\n"), descending);
        assert_eq!(
            error("./b.000001\n\n./b.000002\n"),
            "binlog index line 2 is empty"
        );
        assert_eq!(error("./b.000001\n./b.index\n"), "binlog index line 2");
        assert_eq!(error("logs/\n"), "binlog index line 1");
        let invalid = parse_index(b"./b.000001\n./\xFF.000002\n", Path::new("/")).unwrap_err();
        let expected = r#"binlog index line 2: "./\xff.000002" is not UTF-8"#;
        assert_eq!(invalid.to_string(), expected);
    }

    #[test]
    fn a_line_that_is_being_written_is_not_read_as_a_shorter_name() {
        let error = parse("./b.000001\n./b.00001").unwrap_err();
        assert_eq!(error, IndexError::CutOff { line: 2 });
        assert_eq!(error.retry_class(), RetryClass::Backoff);
    }

    #[test]
    fn the_index_of_a_server_is_read() {
        let dir = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../fixtures/binlog/mysql-9.7"
        ));
        let bytes = std::fs::read(dir.join("binlog.index")).unwrap();
        let entries = parse_index(&bytes, dir).unwrap();
        assert_eq!(entries.len(), 14);
        assert!(entries.iter().all(|entry| entry.path.is_file()));
    }
}
