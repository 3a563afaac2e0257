//! The command line of `gtide-restore`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use engine::base_backup::Position;
use engine::clock::SystemClock;
use engine::config::{self, ReaderConfig};
use engine::durable_fs;
use engine::exit::{self, Diagnose, Exit, Failure};
use engine::gtid::{Gtid, GtidSet};
use engine::keyring::Keyring;
use engine::layout::{BackupId, ClusterName, Sequence, SourceIdentity};
use engine::terminal::{self, Format, LogFor, Terminal};
use futures::TryStreamExt;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use crate::cat::{self, CatError};
use crate::destination::Destination;
use crate::entries;
use crate::fetch::{self, Fetched};
use crate::history::ArchivedFile;
use crate::ls;
use crate::object::Archive;
use crate::output::{self, Report};
use crate::part::Part;
use crate::plan::{Invocation, MAX_PLAN_LEN, Plan, SavedPlanError, StartAt, commands};
use crate::planning::{Planner, PlanningError, Request};
use crate::range::SequenceRange;
use crate::selection::{Selection, Selector};
use crate::source::{SourceFilter, SourceName};
use crate::target::Target;
use crate::verify::{self, Scope};

/// Reads an archive of MySQL binary logs: lists it, judges it, and gives the files back.
#[derive(Debug, Parser)]
#[command(name = "gtide-restore", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 unexpected, 2 usage or configuration, 3 gap, \
    4 corruption or authentication, 5 conflict, 6 transient: try again, 130 interrupted"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
struct Global {
    /// The configuration [default: ./gtide.toml, then /etc/gtide/gtide.toml]
    #[arg(long, global = true, value_name = "FILE", env = "GTIDE_CONFIG")]
    config: Option<PathBuf>,
    /// One of the configured destinations [default: the first]
    #[arg(long, global = true, value_name = "URL", env = "GTIDE_DESTINATION")]
    destination: Option<String>,
    /// Only this cluster's sources
    #[arg(long, global = true, value_name = "NAME", env = "GTIDE_CLUSTER")]
    cluster: Option<ClusterName>,
    /// Only this source: its uuid as `ls` prints it, or the beginning of it, and perhaps /INCARNATION
    #[arg(long, global = true, value_name = "SOURCE", env = "GTIDE_SOURCE")]
    source: Option<SourceName>,
    #[command(flatten)]
    terminal: Terminal,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what is archived: files, GTIDs, times, gaps
    Ls {
        /// Show every file too
        #[arg(long)]
        files: bool,
    },
    /// Find the way to a moment: base backup, files, cuts, and the commands to run
    Plan(Box<Planned>),
    /// Write binary logs to stdout as one stream, for `mysqlbinlog -`
    Cat(Wanted),
    /// Write binary logs to a directory, under their own names
    Fetch {
        /// Where to; files that are there already are not fetched again
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Read everything back and judge it
    Verify(Range),
}

/// Which files.
#[derive(Debug, Args)]
struct Range {
    /// The first sequence, as in binlog.000042 [default: the archive's first]
    #[arg(long, value_name = "N", value_parser = sequence)]
    from_seq: Option<Sequence>,
    /// The last sequence, itself included [default: the archive's last]
    #[arg(long, value_name = "N", value_parser = sequence)]
    to_seq: Option<Sequence>,
}

/// Which files, and in which state.
#[derive(Debug, Args)]
struct Selected {
    #[command(flatten)]
    range: Range,
    /// Take files that were damaged before they were archived, byte for byte
    #[arg(long)]
    accept_damage: bool,
}

/// Which files, by a range or by a plan.
#[derive(Debug, Args)]
struct Wanted {
    #[command(flatten)]
    selected: Selected,
    /// What a saved plan wants
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from_seq", "to_seq", "accept_damage"])]
    plan: Option<PathBuf>,
}

/// The moment, where to begin, and where the plan goes.
#[derive(Debug, Args)]
struct Planned {
    #[command(flatten)]
    moment: Moment,
    /// Leave these transactions out, and keep what follows
    #[arg(long, value_name = "SET")]
    skip_gtid: Option<GtidSetText>,
    /// Begin with this base backup [default: the one that leaves the least to replay]
    #[arg(long, value_name = "ID", conflicts_with = "from_gtid_set")]
    from_backup: Option<BackupId>,
    /// Begin with a server that has executed this; '' is one that was just initialised
    #[arg(long, value_name = "SET", value_parser = any_gtid_set)]
    from_gtid_set: Option<GtidSet>,
    /// Pass damage and events that are not understood, where the GTIDs prove that nothing is missing
    #[arg(long)]
    accept_damage: bool,
    /// Write the plan to a new file, for `cat --plan` and `fetch --plan`
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Print a shell script that checks the server, replays the plan and checks again
    #[arg(long, requires = "save")]
    script: bool,
    /// Where the printed commands fetch files to
    #[arg(long, value_name = "DIR", default_value = "binlogs")]
    dir: PathBuf,
}

/// The moment to restore.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Moment {
    /// All up to the first transaction that was committed later, RFC 3339
    #[arg(long, value_name = "TIME")]
    to_time: Option<Timestamp>,
    /// All up to and including these transactions
    #[arg(long, value_name = "SET")]
    to_gtid: Option<GtidSetText>,
    /// All before this transaction
    #[arg(long, value_name = "GTID")]
    before_gtid: Option<Gtid>,
    /// All that ends at or before a place in a source's binary log
    #[arg(long, value_name = "FILE:POS", value_parser = position)]
    to_position: Option<Position>,
    /// All that is archived
    #[arg(long)]
    to_latest: bool,
}

impl Moment {
    fn target(&self) -> Target {
        if let Some(time) = self.to_time {
            Target::Time { time }
        } else if let Some(GtidSetText(gtids)) = &self.to_gtid {
            Target::ToGtid {
                gtids: gtids.clone(),
            }
        } else if let Some(gtid) = &self.before_gtid {
            Target::BeforeGtid { gtid: gtid.clone() }
        } else if let Some(position) = &self.to_position {
            Target::Position {
                position: position.clone(),
            }
        } else {
            Target::Latest
        }
    }
}

/// A GTID set that is not empty.
#[derive(Debug, Clone)]
struct GtidSetText(GtidSet);

impl FromStr for GtidSetText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let set: GtidSet = text.parse().map_err(|error| format!("{error}"))?;
        if set.is_empty() {
            return Err("no GTID in it".to_owned());
        }
        Ok(Self(set))
    }
}

fn any_gtid_set(text: &str) -> Result<GtidSet, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn position(text: &str) -> Result<Position, String> {
    let parts = text.rsplit_once(':');
    let parsed = parts.and_then(|(file, offset)| Position::new(file, offset.parse().ok()?));
    parsed.ok_or_else(|| "write a binlog file's name, a colon and an offset".to_owned())
}

fn sequence(text: &str) -> Result<Sequence, String> {
    match text.parse().map(Sequence) {
        Ok(sequence) if (Sequence(1)..=Sequence::MAX).contains(&sequence) => Ok(sequence),
        _ => Err(format!("not a number from 1 to {}", Sequence::MAX)),
    }
}

impl Range {
    fn range(&self) -> anyhow::Result<SequenceRange> {
        SequenceRange::new(self.from_seq, self.to_seq).map_err(failed)
    }
}

/// Runs the program and says how it ended.
pub fn main() -> Exit {
    let cli = Cli::parse();
    cli.global.terminal.start(LogFor::Person);
    match run(&cli) {
        Ok(exit) => exit,
        Err(error) => exit::report(&error),
    }
}

fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let exit = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            exit = dispatch(&cli.global, &cli.command) => exit,
            _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
            _ = terminate.recv() => Ok(Exit::Interrupted),
        }
    });
    // Not by waiting: a write to a pipe that nobody reads would never end.
    runtime.shutdown_background();
    exit
}

async fn dispatch(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    let path = config::find(global.config.as_deref())?;
    let config = ReaderConfig::load(&path)?;
    let plan = saved_plan(command)?;
    // A plan names the destination that it was made of.
    let planned = plan.as_ref().map(|plan| plan.destination.as_str());
    let url = global.destination.as_deref().or(planned);
    let destination = Destination::open(&config, url).map_err(failed)?;
    let session = Session {
        global,
        path,
        config,
        destination,
        plan,
    };
    match command {
        Command::Ls { files } => session.ls(*files).await,
        Command::Plan(planned) => session.plan(planned).await,
        Command::Cat(wanted) => session.cat(&wanted.selected).await,
        Command::Fetch { dir, wanted } => session.fetch(&wanted.selected, dir).await,
        Command::Verify(range) => session.verify(range).await,
    }
}

/// The saved plan that a command names.
fn saved_plan(command: &Command) -> anyhow::Result<Option<Plan>> {
    let path = match command {
        Command::Cat(wanted) | Command::Fetch { wanted, .. } => wanted.plan.as_deref(),
        _ => None,
    };
    let Some(path) = path else { return Ok(None) };
    let name = path.display().to_string();
    let read = || {
        let mut bytes = Vec::new();
        let limit = MAX_PLAN_LEN as u64;
        std::fs::File::open(path)?
            .take(limit)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| {
        failed(SavedPlanError::Read {
            path: name.clone(),
            source,
        })
    })?;
    Plan::parse(&name, &bytes).map(Some).map_err(failed)
}

/// An open destination, and what the command line says about it.
struct Session<'a> {
    global: &'a Global,
    /// The configuration's file.
    path: PathBuf,
    config: ReaderConfig,
    destination: Destination,
    plan: Option<Plan>,
}

impl Session<'_> {
    async fn ls(&self, files: bool) -> anyhow::Result<Exit> {
        let found = self
            .destination
            .sources(self.global.cluster.as_ref())
            .await
            .map_err(failed)?;
        let sources = self
            .filter()
            .some(self.destination.url(), &found)
            .map_err(failed)?;
        let listing = ls::survey(&self.destination, &sources, files)
            .await
            .map_err(failed)?;
        self.print(&listing, Exit::Ok)
    }

    async fn cat(&self, selected: &Selected) -> anyhow::Result<Exit> {
        if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            return Err(Failure {
                message: "binary logs are not written to a terminal".to_owned(),
                exit: Exit::Usage,
                hint: Some("pipe them into `mysqlbinlog -`, or write them with fetch".to_owned()),
            }
            .into());
        }
        let archive = self.archive()?;
        let parts = self.parts(selected, &archive).await?;
        match cat::cat(&archive, &parts, &mut tokio::io::stdout()).await {
            // Whoever closed the pipe knows; the exit code says that not all was written.
            Err(CatError::Closed) => Ok(Exit::Interrupted),
            outcome => outcome.map(|()| Exit::Ok).map_err(failed),
        }
    }

    async fn fetch(&self, selected: &Selected, dir: &Path) -> anyhow::Result<Exit> {
        let archive = self.archive()?;
        let wanted = match &self.plan {
            Some(plan) => self.fetched_by_plan(plan, &archive, dir).await?,
            None => vec![(dir.to_owned(), self.select(selected).await?.files)],
        };
        let mut report = Fetched::into(dir);
        for (folder, files) in wanted {
            let fetched = fetch::fetch(&archive, &files, &folder).await;
            report.files.extend(fetched.map_err(failed)?.files);
        }
        self.print(&report, Exit::Ok)
    }

    /// The files of a plan, and the folders that its commands expect them in.
    async fn fetched_by_plan(
        &self,
        plan: &Plan,
        archive: &Archive,
        dir: &Path,
    ) -> anyhow::Result<Vec<(PathBuf, Vec<ArchivedFile>)>> {
        let parts = self.planner(archive).parts(plan).await.map_err(failed)?;
        let mut folders: BTreeMap<PathBuf, Vec<ArchivedFile>> = BTreeMap::new();
        for (planned, part) in plan.files.iter().zip(parts) {
            let path = commands::path_of(planned, &plan.files, dir);
            let folder = path.parent().unwrap_or(dir).to_owned();
            let files = folders.entry(folder).or_default();
            if !files.contains(&part.file) {
                files.push(part.file);
            }
        }
        Ok(folders.into_iter().collect())
    }

    async fn plan(&self, planned: &Planned) -> anyhow::Result<Exit> {
        let found = self.destination.sources(self.global.cluster.as_ref()).await;
        let found = found.map_err(failed)?;
        let lead = match &self.global.source {
            Some(_) => {
                let lead = self.filter().one(self.destination.url(), &found);
                Some(lead.map_err(failed)?)
            }
            None => None,
        };
        let cluster = self.cluster(lead.as_ref(), &found)?;
        let sources: Vec<SourceIdentity> = found
            .into_iter()
            .filter(|source| source.cluster == cluster)
            .collect();
        let set = |text: &Option<GtidSetText>| text.as_ref().map(|GtidSetText(set)| set.clone());
        let start = match (&planned.from_backup, planned.from_gtid_set.clone()) {
            (Some(id), _) => StartAt::Backup(id.clone()),
            (None, Some(executed)) => StartAt::Executed(executed),
            (None, None) => StartAt::Any,
        };
        let request = Request {
            cluster,
            target: planned.moment.target(),
            start,
            lead,
            skip: set(&planned.skip_gtid).unwrap_or_default(),
            accept_damage: planned.accept_damage,
        };
        let archive = self.archive()?;
        let invocation = self.invocation(planned)?;
        let planner = self.planner(&archive);
        match planner.plan(&request, &sources, &invocation).await {
            Ok(plan) => self.give(&plan, planned),
            Err(PlanningError::Refused(refusal)) => {
                if self.global.terminal.format == Format::Json {
                    terminal::print_json(&refusal.report())?;
                }
                Err(failed(refusal))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Saves and prints a plan.
    fn give(&self, plan: &Plan, planned: &Planned) -> anyhow::Result<Exit> {
        if let Some(path) = &planned.save {
            let saved = durable_fs::create_new(path, &plan.to_bytes()?, 0o644);
            saved.map_err(|error| Failure {
                message: format!("write {}: {error}", path.display()),
                exit: match error.kind() {
                    std::io::ErrorKind::AlreadyExists => Exit::Conflict,
                    _ => Exit::Usage,
                },
                hint: Some("--save writes a new file, and overwrites none".to_owned()),
            })?;
        }
        if planned.script {
            for warning in &plan.warnings {
                tracing::warn!("{}", output::printable(warning));
            }
            terminal::print(&commands::script(&plan.commands, &plan.summary()))?;
            return Ok(Exit::Ok);
        }
        self.print(plan, Exit::Ok)
    }

    /// The one cluster that a plan is about.
    fn cluster(
        &self,
        lead: Option<&SourceIdentity>,
        found: &[SourceIdentity],
    ) -> anyhow::Result<ClusterName> {
        if let Some(lead) = lead {
            return Ok(lead.cluster.clone());
        }
        let some = self.filter().some(self.destination.url(), found);
        let mut clusters: Vec<ClusterName> = some
            .map_err(failed)?
            .into_iter()
            .map(|source| source.cluster)
            .collect();
        clusters.dedup();
        match clusters.as_slice() {
            [only] => Ok(only.clone()),
            several => {
                let names: Vec<&str> = several.iter().map(ClusterName::as_str).collect();
                Err(Failure {
                    message: format!("the archive holds several clusters: {}", names.join(", ")),
                    exit: Exit::Usage,
                    hint: Some("name one of them with --cluster".to_owned()),
                }
                .into())
            }
        }
    }

    fn invocation(&self, planned: &Planned) -> anyhow::Result<Invocation> {
        let absolute = |path: &Path| std::path::absolute(path);
        Ok(Invocation {
            config: absolute(&self.path)?,
            destination: self.global.destination.clone(),
            plan: match &planned.save {
                Some(path) => absolute(path)?,
                None => PathBuf::from("plan.json"),
            },
            dir: planned.dir.clone(),
        })
    }

    fn planner<'s>(&'s self, archive: &'s Archive) -> Planner<'s> {
        Planner {
            destination: &self.destination,
            archive,
            clock: &SystemClock,
        }
    }

    /// What the plan wants, or the whole files of a range.
    async fn parts(&self, selected: &Selected, archive: &Archive) -> anyhow::Result<Vec<Part>> {
        if let Some(plan) = &self.plan {
            return self.planner(archive).parts(plan).await.map_err(failed);
        }
        let selection = self.select(selected).await?;
        Ok(selection.files.into_iter().map(Part::whole).collect())
    }

    async fn verify(&self, range: &Range) -> anyhow::Result<Exit> {
        let range = range.range()?;
        let found = self
            .destination
            .sources(self.global.cluster.as_ref())
            .await
            .map_err(failed)?;
        let sources = self
            .filter()
            .some(self.destination.url(), &found)
            .map_err(failed)?;
        let scope = Scope {
            sources,
            range,
            whole_clusters: self.global.source.is_none(),
        };
        let archive = self.archive()?;
        let (report, exit) = verify::verify(&archive, &self.destination, &scope)
            .await
            .map_err(failed)?;
        self.print(&report, exit)
    }

    /// The files of one source that the command line names, after everything that the manifest can
    /// tell was checked.
    async fn select(&self, selected: &Selected) -> anyhow::Result<Selection> {
        let range = selected.range.range()?;
        let found = self
            .destination
            .sources(self.global.cluster.as_ref())
            .await
            .map_err(failed)?;
        let source = self
            .filter()
            .one(self.destination.url(), &found)
            .map_err(failed)?;
        let mut selector = Selector::new(source.clone(), range, selected.accept_damage);
        let store = self.destination.store().as_ref();
        let mut entries = std::pin::pin!(entries::read(store, &source, range));
        while let Some(stored) = entries.try_next().await.map_err(failed)? {
            selector.push(&stored);
        }
        let selection = selector.finish().map_err(failed)?;
        for flaw in &selection.flaws {
            tracing::warn!("{}", output::printable(&flaw.to_string()));
        }
        Ok(selection)
    }

    fn filter(&self) -> SourceFilter {
        let Global {
            cluster, source, ..
        } = self.global;
        SourceFilter {
            cluster: cluster.clone(),
            name: source.clone(),
        }
    }

    fn archive(&self) -> anyhow::Result<Archive> {
        let keyring = Arc::new(Keyring::open(&self.config.encryption)?);
        Ok(Archive::new(Arc::clone(self.destination.store()), keyring))
    }

    fn print(&self, report: &impl Report, exit: Exit) -> anyhow::Result<Exit> {
        match output::print(report, self.global.terminal.format) {
            Ok(()) => Ok(exit),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::Interrupted),
            Err(error) => Err(failed(CatError::Write(error))),
        }
    }
}

/// One of this crate's errors, as the engine's `exit` shows it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err takes"
)]
fn failed(error: impl Diagnose + 'static) -> anyhow::Error {
    let failure = Failure {
        message: exit::chain(&error),
        exit: error.exit(),
        hint: error.hint(),
    };
    failure.into()
}
