//! `sha256sum` manifests, in both of their forms.
//!
//! GNU: 64 hexadecimal digits, a blank, a blank or `*`, the name. A line that begins with `\` has a name in which `\\`, `\n`
//! and `\r` stand for those characters (GNU coreutils, "md5sum invocation"). BSD (`--tag`): `SHA256 (name) = digest`,
//! escaped alike.

use crate::digest::Digest;

/// A line that names a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// As it is written, unescaped: it may have folders before it.
    pub name: String,
    /// Of the file.
    pub digest: Digest,
}

/// What a manifest holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums {
    /// In the order of the lines.
    pub files: Vec<Listed>,
    /// Numbers, from 1, of the lines that are none: they are told, not passed over.
    pub unread: Vec<usize>,
}

/// Reads a manifest. Empty lines and `#` comments are nothing; a last line without its end is still being written, and is
/// left for the next look.
#[must_use]
pub fn parse(bytes: &[u8]) -> Sums {
    let mut sums = Sums::default();
    for (nth, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b"\n") else {
            break;
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match std::str::from_utf8(line).ok().and_then(parse_line) {
            Some(listed) => sums.files.push(listed),
            None => sums.unread.push(nth + 1),
        }
    }
    sums
}

fn parse_line(line: &str) -> Option<Listed> {
    let (line, is_escaped) = match line.strip_prefix('\\') {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let (name, digest) = bsd(line).or_else(|| gnu(line))?;
    Some(Listed {
        name: if is_escaped {
            unescape(name)?
        } else {
            name.to_owned()
        },
        digest: digest.to_ascii_lowercase().parse().ok()?,
    })
}

fn gnu(line: &str) -> Option<(&str, &str)> {
    let (digest, rest) = line.split_once(' ')?;
    let name = rest.strip_prefix([' ', '*'])?;
    (!name.is_empty()).then_some((name, digest))
}

fn bsd(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("SHA256 (")?;
    rest.rsplit_once(") = ")
        .filter(|(name, _)| !name.is_empty())
}

fn unescape(name: &str) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '\\' => match letters.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            letter => letter,
        });
    }
    Some(text)
}

/// How the older job packed a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
    /// `.lz4`
    Lz4,
}

/// The binlog file that a listed name means, and how it is packed. None for a name that is no binlog's: those end in a
/// number.
#[must_use]
pub fn binlog_name(listed: &str) -> Option<(&str, Packing)> {
    let name = listed.rsplit('/').next()?;
    let endings = [
        (".gz", Packing::Gzip),
        (".zst", Packing::Zstd),
        (".lz4", Packing::Lz4),
    ];
    let packed = endings
        .into_iter()
        .find_map(|(ending, packing)| Some((name.strip_suffix(ending)?, packing)));
    let (name, packing) = packed.unwrap_or((name, Packing::Plain));
    let (stem, number) = name.rsplit_once('.')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !stem.is_empty()).then_some((name, packing))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const D: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn names(text: &str) -> Vec<String> {
        let sums = parse(text.as_bytes());
        assert_eq!(sums.unread, Vec::<usize>::new(), "{text}");
        sums.files.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn both_forms_are_read() {
        let text = format!(
            "{D}  binlog.000001\n{D} *dir/binlog.000002\nSHA256 (binlog.000003) = {D}\n\n# a comment\r\n"
        );
        assert_eq!(
            names(&text),
            ["binlog.000001", "dir/binlog.000002", "binlog.000003"]
        );
    }

    #[test]
    fn escaped_names_are_unescaped_and_others_are_not() {
        let text = format!("\\{D}  a\\nb\\\\c\n{D}  a\\nb\n\\SHA256 (x\\ry) = {D}\n");
        assert_eq!(names(&text), ["a\nb\\c", "a\\nb", "x\ry"]);
    }

    #[test]
    fn odd_names_are_taken_whole() {
        let text = format!(
            "{D}   a blank\nSHA256 (a) = (b) = {D}\n{}  upper\n",
            D.to_uppercase()
        );
        assert_eq!(names(&text), [" a blank", "a) = (b", "upper"]);
    }

    #[test]
    fn lines_that_are_none_are_told() {
        let text =
            format!("{D}  good\nnonsense\n{D}\n{D} \n\\{D}  bad\\x\nabc  short\n{D}  good too\n");
        let sums = parse(text.as_bytes());
        assert_eq!(sums.unread, [2, 3, 4, 5, 6]);
        assert_eq!(sums.files.len(), 2);
    }

    #[test]
    fn a_line_that_is_still_being_written_is_left() {
        let text = format!("{D}  binlog.000001\n{D}  binlog.0000");
        assert_eq!(names(&text), ["binlog.000001"]);
    }

    #[test]
    fn names_of_binlogs_are_told_from_others() {
        for (listed, name, packing) in [
            ("binlog.000001", "binlog.000001", Packing::Plain),
            (
                "/backup/db1/mysql-bin.1000000.gz",
                "mysql-bin.1000000",
                Packing::Gzip,
            ),
            (
                "./db.with.dots.000007.zst",
                "db.with.dots.000007",
                Packing::Zstd,
            ),
            ("binlog.000001.lz4", "binlog.000001", Packing::Lz4),
        ] {
            assert_eq!(binlog_name(listed), Some((name, packing)), "{listed}");
        }
        for other in [
            "binlog.index",
            "SHA256SUMS",
            "binlog.",
            ".000001",
            "a/",
            "binlog.000001.bz2",
            "",
        ] {
            assert_eq!(binlog_name(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_name_survives_a_manifest(name in "[^\\x00]{1,40}", is_bsd in any::<bool>()) {
            let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
            let mark = if escaped == name { "" } else { "\\" };
            let line = if is_bsd {
                format!("{mark}SHA256 ({escaped}) = {D}\n")
            } else {
                format!("{mark}{D}  {escaped}\n")
            };
            prop_assert_eq!(names(&line), [name]);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let sums = parse(&bytes);
            prop_assert!(sums.files.len() + sums.unread.len() <= bytes.len());
        }
    }
}
