//! The documents: what they link to is there, and the programs know the commands in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Begin these words a line or a span of code, then it is a command.
const PROGRAMS: [&str; 3] = ["gtide", "gtide-restore", "gtide-tui"];

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
}

/// Every file below with such an ending, build results and hidden folders aside.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            found.extend(files(&path, ending));
        } else if path.is_file() && name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The text line by line, and the language of the fenced block in which a line stands.
fn lines(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut fence = None;
    text.lines().map(move |line| {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            return (line, fence);
        };
        fence = fence.xor(Some(language));
        (line, Some(language))
    })
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let text = heading.trim().to_lowercase();
    text.chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = lines(text).filter(|(line, code)| code.is_none() && line.starts_with('#'));
    let mut all = BTreeSet::new();
    for (line, _) in headings {
        let anchor = anchor(line.trim_start_matches('#'));
        let mut numbered = (1..).map(|n| format!("{anchor}-{n}"));
        let new = if all.contains(&anchor) {
            numbered.find(|name| !all.contains(name)).unwrap()
        } else {
            anchor
        };
        all.insert(new);
    }
    all
}

/// What stands in the parentheses of `[…](…)`, spans of code aside.
fn targets(text: &str) -> Vec<String> {
    let plain = lines(text).filter(|(_, code)| code.is_none());
    let mut found = Vec::new();
    for (line, _) in plain {
        // Every second piece is a span of code; a link's text may hold one, its target does not.
        let text: String = line.split('`').step_by(2).collect();
        let behind = text.split("](").skip(1);
        found.extend(behind.map(|rest| rest.split(')').next().unwrap().to_owned()));
    }
    found
}

#[test]
fn every_link_of_every_document_leads_to_a_file_and_a_heading() {
    let mut followed = 0;
    for document in files(&root(), ".md") {
        let text = fs::read_to_string(&document).unwrap();
        for target in targets(&text) {
            if target.contains("://") {
                continue;
            }
            let here = document.display();
            let (path, heading) = target.split_once('#').unwrap_or((&target, ""));
            let file = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            assert!(file.exists(), "{here}: {target}");
            if !heading.is_empty() {
                let headings = anchors(&fs::read_to_string(&file).unwrap());
                assert!(headings.contains(heading), "{here}: {target}: {headings:?}");
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "{followed}");
    assert_eq!(anchor(" `[[source]]`, and so on"), "source-and-so-on");
}

/// The commands in one line of shell: what stands between `|`, `&&` and `;`, comments aside.
fn commands(line: &str) -> Vec<Vec<String>> {
    let Some(words) = shlex::split(line) else {
        return Vec::new();
    };
    let is_between = |word: &String| matches!(word.as_str(), "|" | "&&" | ";" | "&");
    let commands = words.split(is_between);
    let ours = commands.filter(|words| {
        words
            .first()
            .is_some_and(|first| PROGRAMS.contains(&first.as_str()))
    });
    ours.map(<[String]>::to_vec).collect()
}

/// Of blocks, indented or fenced; `text` is what a program shows.
fn commands_in_blocks(text: &str) -> Vec<Vec<String>> {
    let shell = lines(text).filter_map(|(line, code)| match code {
        Some("text") => None,
        Some(_) => Some(line),
        None => line.strip_prefix("    "),
    });
    shell.flat_map(|line| commands(line.trim())).collect()
}

/// Of spans in the text. What is written in capitals, brackets or dots there is to be filled in, or left out.
fn commands_in_text(text: &str) -> Vec<Vec<String>> {
    let plain = lines(text).filter(|(line, code)| code.is_none() && !line.starts_with("    "));
    let plain: Vec<_> = plain.map(|(line, _)| line).collect();
    let plain = plain.join(" ");
    let spans = plain.split('`').skip(1).step_by(2);
    let whole = spans.filter(|span| !span.contains(['[', '…', '|', '\'']));
    whole.flat_map(commands).collect()
}

/// Would the program take this command line? `--help` at its end is met when all before it was understood, and ends the
/// program before anything is done; only what is required and missing is not found out this way.
pub(crate) fn assert_understood(words: &[String], place: &Path) {
    let cut = |word: &&String| !word.starts_with(['>', '<']) && !word.starts_with("2>");
    let words: Vec<_> = words.iter().take_while(cut).collect();
    let programs = PathBuf::from(env!("CARGO_BIN_EXE_gtide"));
    let output = Command::new(programs.with_file_name(words[0]))
        .args(&words[1..])
        .arg("--help")
        .env_remove("GTIDE_CONFIG")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}: {words:?}: {said}",
        place.display()
    );
}

#[test]
fn the_programs_know_every_command_in_the_documents() {
    let mut seen = BTreeSet::new();
    for document in files(&root(), ".md") {
        if document.ends_with("CHANGELOG.md") {
            continue;
        }
        let text = fs::read_to_string(&document).unwrap();
        for command in [commands_in_blocks(&text), commands_in_text(&text)].concat() {
            if seen.insert(command.clone()) {
                assert_understood(&command, &document);
            }
        }
    }
    assert!(seen.len() > 45, "{}: {seen:?}", seen.len());
}

/// The units name programs by their path; `$GTIDE_REHEARSE` and the like are for whoever edits them.
#[test]
fn the_programs_know_every_command_of_the_units() {
    let mut tried = 0;
    for unit in files(&root().join("deploy/systemd"), ".service") {
        let text = fs::read_to_string(&unit).unwrap();
        for line in text
            .lines()
            .filter_map(|line| line.strip_prefix("ExecStart=/usr/bin/"))
        {
            let words = line.split(' ').filter(|word| !word.starts_with('$'));
            let words: Vec<_> = words.map(str::to_owned).collect();
            assert_understood(&words, &unit);
            tried += 1;
        }
    }
    assert_eq!(tried, 3);
}
