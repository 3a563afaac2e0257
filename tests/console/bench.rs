//! An archive of its own in a folder, an archiver, and the programs that look at it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Nothing here takes longer; what hangs must not hang the suite.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct Bench {
    dir: TempDir,
}

impl Bench {
    /// One source, `db1`, whose second and last file the server still writes to.
    pub(crate) fn new() -> Self {
        let bench = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let index = fixture("binlog.index");
        let destination = format!("file://{}", bench.path("archive").display());
        let init = bench.gtide(&[
            "init",
            "--name",
            "db1",
            "--cluster",
            "shop",
            "--index",
            index.to_str().unwrap(),
            "--destination",
            &destination,
        ]);
        assert!(init.status.success(), "{}", said(&init));
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn gtide(&self, arguments: &[&str]) -> Output {
        self.run(&gtide(), arguments)
    }

    pub(crate) fn console(&self, arguments: &[&str]) -> Output {
        self.run(console(), arguments)
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Output {
        self.command(program, arguments).output().unwrap()
    }

    pub(crate) fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.dir.path());
        command.env("LANG", "C.UTF-8").env_remove("LC_ALL");
        command
    }

    /// One frame of a screen, as text.
    pub(crate) fn frame(&self, screen: &str) -> String {
        let output = self.console(&["--once", "--screen", screen]);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the archiver beside the test.
    pub(crate) fn archiver(&self) -> Archiver {
        let mut command = self.command(&gtide(), &["run"]);
        let log = std::fs::File::create(self.path("log")).unwrap();
        Archiver(command.stderr(log).stdout(Stdio::null()).spawn().unwrap())
    }

    /// From now on the store fails: objects cannot be put where a file stands in place of their folder.
    pub(crate) fn break_store(&self) {
        let folder = self.objects();
        std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
        std::fs::File::create(folder).unwrap();
    }

    pub(crate) fn mend_store(&self) {
        std::fs::remove_file(self.objects()).unwrap();
    }

    fn objects(&self) -> PathBuf {
        let auto = std::fs::read_to_string(fixture("auto.cnf")).unwrap();
        let uuid = auto
            .lines()
            .find_map(|line| line.strip_prefix("server-uuid="));
        let server = self.path("archive").join("shop").join(uuid.unwrap());
        server.join("1").join("log")
    }
}

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/binlog");
    fixtures.join("mysql-9.7-anonymous").join(name)
}

/// An archiver that ends with the test.
pub(crate) struct Archiver(Child);

impl Drop for Archiver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn console() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_gtide-tui"))
}

fn gtide() -> PathBuf {
    let gtide = console().with_file_name("gtide");
    assert!(
        gtide.exists(),
        "{} is not built: test the whole workspace",
        gtide.display()
    );
    gtide
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Looks again until a text is as it should be.
pub(crate) fn eventually(
    mut look: impl FnMut() -> String,
    is_right: impl Fn(&str) -> bool,
) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let text = look();
        if is_right(&text) {
            return text;
        }
        assert!(Instant::now() < end, "still:\n{text}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
