//! A folder with a datadir of binlogs, a configuration, a spool and an archive.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Where the committed fixtures lie.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures")
        .join(path)
}

/// One archiver with everything that it needs.
pub struct Workspace {
    dir: TempDir,
}

impl Workspace {
    /// A datadir with a copy of these fixture files, archived to a folder.
    pub fn of_fixture(folder: &str) -> Self {
        let workspace = Self::empty();
        for entry in fs::read_dir(fixture(folder)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), workspace.datadir().join(entry.file_name())).unwrap();
        }
        workspace.init(&workspace.datadir().join("binlog.index"), &[]);
        workspace
    }

    /// No binlogs, no configuration.
    pub fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("mysql")).unwrap();
        Self { dir }
    }

    /// `gtide init` with these further arguments, and no space reserved.
    pub fn init(&self, index: &Path, arguments: &[&str]) {
        let output = self
            .gtide()
            .args(["init", "--cluster", "test", "--name", "db1", "--index"])
            .arg(index)
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        self.edit("#reserve = \"2GiB\"", "reserve = \"1MiB\"");
    }

    /// Runs `gtide init` and nothing else.
    pub fn try_init(&self, arguments: &[&str]) -> Output {
        self.gtide().arg("init").args(arguments).output().unwrap()
    }

    /// Replaces text in the configuration, which must be there.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from:?} is not in the configuration");
        fs::write(self.config(), text.replace(from, to)).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("gtide.toml")
    }

    pub fn datadir(&self) -> PathBuf {
        self.path().join("mysql")
    }

    pub fn archive(&self) -> PathBuf {
        self.path().join("archive")
    }

    /// The only source's folder in the archive.
    pub fn archived_folder(&self) -> PathBuf {
        only_folder(&only_folder(&self.archive().join("test")))
    }

    /// Files in the archive below a folder of the source, by name.
    pub fn archived(&self, kind: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.archived_folder().join(kind))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub fn gtide(&self) -> Command {
        Self::gtide_with(&self.config())
    }

    /// With another configuration.
    pub fn gtide_with(config: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gtide"));
        command
            .arg("--config")
            .arg(config)
            .env_remove("GTIDE_LOG")
            .env("NO_COLOR", "1");
        command
    }

    pub fn restore(&self) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_gtide")).with_file_name("gtide-restore");
        assert!(
            program.exists(),
            "{} is not built: test the whole workspace",
            program.display()
        );
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(self.config())
            .env("NO_COLOR", "1");
        command
    }

    pub fn run_once(&self) -> Output {
        self.gtide()
            .args(["run", "--once", "--format", "json"])
            .output()
            .unwrap()
    }

    pub fn run_all(&self) -> Output {
        self.gtide()
            .args(["run", "--once", "--include-last", "--format", "json"])
            .output()
            .unwrap()
    }

    pub fn verify(&self) -> Output {
        self.restore().arg("verify").output().unwrap()
    }
}

/// The only folder in `parent`, that of base backup records aside.
fn only_folder(parent: &Path) -> PathBuf {
    let folders: Vec<PathBuf> = fs::read_dir(parent)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && !path.ends_with("base"))
        .collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders[0].clone()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by a signal")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!(
            "{e}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            stderr(output)
        )
    })
}
