//! `gtide restore …` runs `gtide-restore …`, as git does.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::exit::{Exit, Failure};

/// The programs that `gtide` knows besides itself.
const COMPANIONS: [&str; 2] = ["restore", "tui"];

/// Becomes the companion: beside this program if it is there, else from PATH.
pub(super) fn exec(args: &[OsString]) -> anyhow::Result<Exit> {
    let Some((name, rest)) = args.split_first() else {
        return Err(unknown(OsStr::new("")).into());
    };
    if !COMPANIONS.iter().any(|companion| name == companion) {
        return Err(unknown(name).into());
    }
    let mut program = OsString::from("gtide-");
    program.push(name);
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join(&program)))
        .filter(|path| path.exists());
    let program = beside.unwrap_or_else(|| PathBuf::from(program));
    // Only returns when the program could not be started.
    let error = Command::new(&program).args(rest).exec();
    Err(Failure {
        message: format!("run {}: {error}", program.display()),
        exit: Exit::Usage,
        hint: Some("install it beside gtide, or on PATH".to_owned()),
    }
    .into())
}

fn unknown(name: &OsStr) -> Failure {
    Failure {
        message: format!("unknown command {:?}", name.to_string_lossy()),
        exit: Exit::Usage,
        hint: Some("`gtide help` lists the commands".to_owned()),
    }
}
