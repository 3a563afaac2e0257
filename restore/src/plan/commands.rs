//! The commands that run a plan, quoted for a POSIX shell.
//!
//! # Why they look so
//! - One `mysqlbinlog`, or several in one group, into one `mysql`: temporary tables and user variables
//!   live in its session and cross files (TRAPS 20).
//! - `--start-position` is of the first file of an invocation and `--stop-position` of its last
//!   (TRAPS 18), so that files which are cut in the middle of a plan end an invocation. A stream is cut
//!   by `cat` itself and needs neither.
//! - Never `--stop-datetime` (TRAPS 19), never `--force-if-open` on files that were not compared with the
//!   archive (TRAPS 3): `fetch` compares sizes and digests.

use std::path::{Path, PathBuf};

use engine::gtid::{Gtid, GtidSet};
use serde::{Deserialize, Serialize};

use super::PlannedFile;

/// Files for one `mysqlbinlog`: 128 KiB, a single argument's limit on Linux, is far, and so are the
/// 2 MiB of all arguments.
pub const MAX_FILES_OF_ONE_COMMAND: usize = 1000;

/// How programs and files are called here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The configuration, absolute.
    pub config: PathBuf,
    /// The destination, when it is not the configuration's first.
    pub destination: Option<String>,
    /// The saved plan.
    pub plan: PathBuf,
    /// Where `fetch` writes to.
    pub dir: PathBuf,
}

/// The commands of a plan, in two forms, and what to ask the server before and afterwards. Part of a
/// saved plan: additive changes only.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Commands {
    /// Without any file on disk.
    pub stream: String,
    /// Fetches the files.
    pub fetch: String,
    /// Replays the fetched files.
    pub replay: String,
    /// Answers 1 on a server that the plan may be run on.
    pub before: String,
    /// Answers 1 on a server that the plan was run on.
    pub after: String,
}

/// What the commands are about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The files, in order.
    pub files: &'a [PlannedFile],
    /// To be left out.
    pub skip: &'a GtidSet,
    /// What the server must have executed.
    pub start: &'a GtidSet,
    /// What is executed.
    pub adds: &'a GtidSet,
}

impl Commands {
    /// The commands that replay `files`; empty ones when there are none.
    pub fn of(subject: Subject<'_>, invocation: &Invocation) -> Self {
        let Subject {
            files, start, adds, ..
        } = subject;
        let mut commands = Self {
            before: format!(
                "SELECT GTID_SUBSET('{start}', @@GLOBAL.gtid_executed) AND GTID_SUBTRACT('{adds}', GTID_SUBTRACT('{adds}', @@GLOBAL.gtid_executed)) = ''"
            ),
            after: format!("SELECT GTID_SUBSET('{adds}', @@GLOBAL.gtid_executed)"),
            ..Self::default()
        };
        if files.is_empty() {
            return commands;
        }
        let skip = skip_option(subject.skip);
        let plan = quote_path(&invocation.plan);
        let dir = quote_path(&invocation.dir);
        let program = program(&invocation.config, invocation.destination.as_deref());
        commands.stream = format!("{program} cat --plan {plan} | {MYSQLBINLOG}{skip} - | {MYSQL}");
        commands.fetch = format!("{program} fetch --plan {plan} --dir {dir}");
        let fetched = Fetched::below(&invocation.dir, files);
        let runs = invocations(files);
        let in_a_group = runs.len() > 1;
        commands.replay.push_str(if in_a_group { "{ " } else { "" });
        for (number, files) in runs.iter().enumerate() {
            commands
                .replay
                .push_str(if number > 0 { " && " } else { "" });
            push_replay(&mut commands.replay, files, &skip, fetched);
        }
        let end = if in_a_group { "; } | " } else { " | " };
        commands.replay.extend([end, MYSQL]);
        commands
    }
}

/// `TZ=UTC`: no time that it prints depends on the machine. `--no-defaults`: it refuses options that are the
/// client's in a shared option file, and asks no server.
const MYSQLBINLOG: &str = "TZ=UTC mysqlbinlog --no-defaults";

/// `--binary-mode`: strings in statements may hold any byte.
const MYSQL: &str = "mysql --binary-mode";

/// The command that plans to before a transaction.
pub fn plan_before(config: &Path, destination: Option<&str>, gtid: &Gtid) -> String {
    let program = program(config, destination);
    let gtid = quote(&gtid.to_string());
    format!("{program} plan --before-gtid {gtid} --save plan.json")
}

fn program(config: &Path, destination: Option<&str>) -> String {
    let config = quote_path(config);
    let mut program = format!("gtide-restore --config {config}");
    if let Some(destination) = destination {
        program.push_str(" --destination ");
        program.push_str(&quote(destination));
    }
    program
}

fn skip_option(skip: &GtidSet) -> String {
    if skip.is_empty() {
        String::new()
    } else {
        format!(" --exclude-gtids={}", quote(&skip.to_string()))
    }
}

/// The files of each `mysqlbinlog`: a cut ends one, or begins one.
fn invocations(files: &[PlannedFile]) -> Vec<&[PlannedFile]> {
    let goes_on = |a: &PlannedFile, b: &PlannedFile| a.to.is_none() && b.from.is_none();
    files
        .chunk_by(goes_on)
        .flat_map(|files| files.chunks(MAX_FILES_OF_ONE_COMMAND))
        .collect()
}

fn push_replay(command: &mut String, files: &[PlannedFile], skip: &str, fetched: Fetched<'_>) {
    command.extend([MYSQLBINLOG, skip]);
    if let Some(from) = files.first().and_then(|file| file.from) {
        command.push_str(" --start-position=");
        command.push_str(&from.to_string());
    }
    if let Some(to) = files.last().and_then(|file| file.to) {
        command.push_str(" --stop-position=");
        command.push_str(&to.to_string());
    }
    for file in files {
        command.push(' ');
        command.push_str(&quote_path(&fetched.path_of(file)));
    }
}

/// Where `fetch` puts the files of a plan: under their own names, in a folder of their source's if there
/// are several, whose files may have the same names.
#[derive(Debug, Clone, Copy)]
pub struct Fetched<'a> {
    dir: &'a Path,
    several_sources: bool,
}

impl<'a> Fetched<'a> {
    /// The places of `files` below `dir`.
    pub fn below(dir: &'a Path, files: &[PlannedFile]) -> Self {
        let several_sources = files.windows(2).any(|pair| match pair {
            [a, b] => a.source != b.source,
            _ => false,
        });
        Self {
            dir,
            several_sources,
        }
    }

    /// The folder of one of the files.
    pub fn folder_of(&self, file: &PlannedFile) -> PathBuf {
        if self.several_sources {
            let source = &file.source;
            let folder = format!("{}-{}", source.server_uuid, source.incarnation);
            self.dir.join(folder)
        } else {
            self.dir.to_owned()
        }
    }

    fn path_of(&self, file: &PlannedFile) -> PathBuf {
        self.folder_of(file).join(&*file.file_name)
    }
}

fn quote_path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

/// `text` as one word. A NUL, which no word can hold, is dropped: no path or URL has one.
fn quote(text: &str) -> String {
    let text = text.replace('\0', "");
    shlex::try_quote(&text).map_or_else(|_| String::new(), std::borrow::Cow::into_owned)
}

/// The plan as a shell script: prechecks, the stream, postcheck. Its arguments are the client's
/// connection options.
pub fn script(commands: &Commands, about: &str) -> String {
    let mut text = String::from("#!/usr/bin/env bash\n");
    for line in about.lines() {
        text.push_str(format!("# {line}").trim_end());
        text.push('\n');
    }
    let stream = commands.stream.replace(MYSQL, "mysql \"$@\" --binary-mode");
    let ask = |question: &str| {
        format!(
            "[ \"$(mysql \"$@\" --batch --skip-column-names --execute {})\" = 1 ]",
            quote(question)
        )
    };
    text.push_str("#\n# Arguments: connection options of mysql, as in --socket=/run/mysqld/mysqld.sock --user=root\n");
    text.push_str("set -euo pipefail\n");
    text.push_str(&ask(&commands.before));
    text.push_str(" || { echo 'error: the server has not executed what the plan begins with, or has executed some of it' >&2; exit 3; }\n");
    if !stream.is_empty() {
        text.push_str(&stream);
        text.push('\n');
    }
    text.push_str(&ask(&commands.after));
    text.push_str(
        " || { echo 'error: the server has not executed all of the plan' >&2; exit 3; }\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::made::{set, source};

    fn file(server: &str, number: u64, from: Option<u64>, to: Option<u64>) -> PlannedFile {
        let source = source(server);
        let sequence = engine::layout::Sequence(number);
        PlannedFile {
            source,
            sequence,
            file_name: format!("binlog.{number:06}").into(),
            sha256: engine::digest::Digest::of(b""),
            size: 1000,
            stored_bytes: 300,
            from,
            to,
            fetch_bytes: 300,
        }
    }

    fn commands(files: &[PlannedFile], skip: &str) -> Commands {
        let (skip, start, adds) = (set(skip), set("a:1-5"), set("a:6-9"));
        let subject = Subject {
            files,
            skip: &skip,
            start: &start,
            adds: &adds,
        };
        let invocation = Invocation {
            config: PathBuf::from("/etc/my files/gtide.toml"),
            destination: None,
            plan: PathBuf::from("/tmp/it's.json"),
            dir: PathBuf::from("logs"),
        };
        Commands::of(subject, &invocation)
    }

    /// TRAPS 18 and 20: positions are of the first and of the last file; one session for all.
    #[test]
    fn one_command_replays_files_that_follow_and_words_are_quoted() {
        let files = [
            file("a", 1, Some(236), None),
            file("a", 2, None, None),
            file("a", 3, None, Some(700)),
        ];
        let commands = commands(&files, "");
        assert_eq!(
            commands.replay,
            "TZ=UTC mysqlbinlog --no-defaults --start-position=236 --stop-position=700 logs/binlog.000001 logs/binlog.000002 \
             logs/binlog.000003 | mysql --binary-mode"
        );
        assert_eq!(
            commands.stream,
            "gtide-restore --config '/etc/my files/gtide.toml' cat --plan \"/tmp/it's.json\" | TZ=UTC mysqlbinlog --no-defaults - | \
             mysql --binary-mode"
        );
        assert_eq!(
            commands.fetch,
            "gtide-restore --config '/etc/my files/gtide.toml' fetch --plan \"/tmp/it's.json\" --dir logs"
        );
    }

    #[test]
    fn a_cut_in_the_middle_ends_a_command_but_not_the_session() {
        let files = [
            file("a", 2, None, Some(500)),
            file("b", 2, None, None),
            file("b", 3, None, Some(600)),
        ];
        let [a, b] = ["a", "b"].map(|server| format!("logs/{}-1", source(server).server_uuid));
        assert_eq!(
            commands(&files, "").replay,
            format!(
                "{{ TZ=UTC mysqlbinlog --no-defaults --stop-position=500 {a}/binlog.000002 && TZ=UTC mysqlbinlog --no-defaults \
                 --stop-position=600 {b}/binlog.000002 {b}/binlog.000003; }} | mysql --binary-mode"
            )
        );
    }

    #[test]
    fn what_is_skipped_is_excluded_in_both_forms() {
        let commands = commands(&[file("a", 1, None, None)], "a:7");
        let option = format!("mysqlbinlog --no-defaults --exclude-gtids={}", set("a:7"));
        assert!(commands.stream.contains(&option), "{}", commands.stream);
        assert!(commands.replay.contains(&option), "{}", commands.replay);
    }

    #[test]
    fn very_many_files_are_several_commands_in_one_session() {
        let files: Vec<_> = (1..=2500)
            .map(|number| file("a", number, None, None))
            .collect();
        let replay = commands(&files, "").replay;
        assert_eq!(replay.matches("mysqlbinlog").count(), 3);
        assert_eq!(replay.matches("| mysql ").count(), 1);
    }

    #[test]
    fn nothing_to_replay_is_no_command() {
        let commands = commands(&[], "");
        assert_eq!(
            (commands.stream.as_str(), commands.replay.as_str()),
            ("", "")
        );
        let script = script(&commands, "about");
        assert!(!script.contains("mysqlbinlog"), "{script}");
    }
}
