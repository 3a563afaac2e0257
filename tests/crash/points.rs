//! Where the program is killed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A failpoint, and the how manieth time that the program comes there it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub name: &'static str,
    pub passing: u32,
}

const fn at(name: &'static str, passing: u32) -> Point {
    Point { name, passing }
}

/// All of them, in the order of a file's life. Four files come to each in several lanes at once; only the large one
/// to those of an upload of several parts.
pub const POINTS: &[Point] = &[
    at("pinned", 1),
    at("enqueued", 1),
    at("before-seal", 2),
    at("seal-block", 1),
    at("seal-block", 5),
    at("before-keep", 3),
    at("kept", 1),
    at("kept", 4),
    at("sealed", 1),
    at("sealed", 4),
    at("linked", 1),
    at("linked", 4),
    at("before-begin-upload", 1),
    at("begun", 1),
    at("upload-recorded", 1),
    at("before-part", 1),
    at("before-part", 3),
    at("part-sent", 1),
    at("part-sent", 2),
    at("parts-sent", 1),
    at("before-complete", 1),
    at("completed", 1),
    at("before-put", 1),
    at("put", 1),
    at("put", 3),
    at("before-verify", 4),
    at("verified", 1),
    at("verified", 4),
    at("before-turn", 2),
    at("before-entry", 1),
    at("before-entry", 2),
    at("entry-written", 1),
    at("entry-written", 2),
    at("before-acknowledge", 1),
    at("before-acknowledge", 3),
    at("acknowledged", 1),
    at("acknowledged", 4),
    at("before-clear", 1),
    at("before-clear", 2),
    at("cleared", 1),
    at("cleared", 4),
];

/// On the way to a store that takes bytes.
const OF_SENDING: [&str; 10] = [
    "before-begin-upload",
    "begun",
    "upload-recorded",
    "before-part",
    "part-sent",
    "parts-sent",
    "before-complete",
    "completed",
    "before-put",
    "put",
];

/// To one where the object only gets a second name.
pub const LINKED: &str = "linked";

impl Point {
    /// Does the program come there, with a destination on the spool's filesystem or not?
    pub fn is_passed(self, is_linked: bool) -> bool {
        if is_linked {
            !OF_SENDING.contains(&self.name)
        } else {
            self.name != LINKED
        }
    }
}

/// The table above and the engine name the same points: none is forgotten when one is added.
#[test]
fn every_failpoint_of_the_engine_is_in_the_table() {
    let mut named = BTreeSet::new();
    names_below(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut named,
    );
    let table: BTreeSet<String> = POINTS.iter().map(|point| point.name.to_owned()).collect();
    assert_eq!(table, named);
}

fn names_below(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names_below(&path, names);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let calls = text.split("failpoint!(\"").skip(1);
        names.extend(calls.map(|call| call.split('"').next().unwrap().to_owned()));
    }
}
