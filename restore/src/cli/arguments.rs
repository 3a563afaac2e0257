//! The arguments of `gtide-restore`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use engine::base_backup::Position;
use engine::binlog::ChangeKind;
use engine::clock::{Clock, SystemClock};
use engine::gtid::{Gtid, GtidSet};
use engine::layout::{BackupId, ClusterName, Sequence};
use engine::terminal::Terminal;
use jiff::Timestamp;

use super::session::failed;
use crate::apply::Via;
use crate::apply::check::ACCEPTABLE;
use crate::find::sought::TableName;
use crate::range::SequenceRange;
use crate::serve::{ANY_PORT, SERVER_ID, USER};
use crate::server::{Address, Server};
use crate::source::SourceName;
use crate::target::Target;
use crate::verify::depth::{Depth, Percent};

/// Flags of every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// The configuration [default: ./gtide.toml, then /etc/gtide/gtide.toml]
    #[arg(long, global = true, value_name = "FILE", env = "GTIDE_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// One of the configured destinations, and no other [default: the first that answers; `verify`: the first]
    #[arg(long, global = true, value_name = "URL", env = "GTIDE_DESTINATION")]
    pub(super) destination: Option<String>,
    /// Only this cluster's sources
    #[arg(long, global = true, value_name = "NAME", env = "GTIDE_CLUSTER")]
    pub(super) cluster: Option<ClusterName>,
    /// Only this source: its uuid as `ls` prints it, or the beginning of it, and perhaps /INCARNATION
    #[arg(long, global = true, value_name = "SOURCE", env = "GTIDE_SOURCE")]
    pub(super) source: Option<SourceName>,
    #[command(flatten)]
    pub(super) terminal: Terminal,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
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
    /// Serve binary logs as a source of replication, to replicas and to `mysqlbinlog --read-from-remote-server`
    Serve(Serving),
    /// Run a saved plan on a server: checked before and afterwards, and resumable
    Apply(Applied),
    /// Restore to a moment on a server of its own, compare, and remove it: a drill for every night
    Rehearse(Box<Rehearsal>),
    /// Look for an accident: by table, kind of change, GTID, time of commit
    Find(Box<FindArguments>),
    /// Read everything back and judge it
    Verify(Verified),
}

impl Command {
    /// The saved plan that the command is about.
    pub(super) fn saved_plan(&self) -> Option<&Path> {
        match self {
            Self::Cat(wanted) | Self::Fetch { wanted, .. } => wanted.plan.as_deref(),
            Self::Serve(serving) => serving.wanted.plan.as_deref(),
            Self::Apply(applied) => Some(&applied.plan),
            Self::Ls { .. }
            | Self::Plan(_)
            | Self::Rehearse(_)
            | Self::Find(_)
            | Self::Verify(_) => None,
        }
    }
}

/// Which files.
#[derive(Debug, Args)]
pub(super) struct Range {
    /// The first sequence, as in binlog.000042 [default: the archive's first]
    #[arg(long, value_name = "N", value_parser = sequence)]
    pub(super) from_seq: Option<Sequence>,
    /// The last sequence, itself included [default: the archive's last]
    #[arg(long, value_name = "N", value_parser = sequence)]
    pub(super) to_seq: Option<Sequence>,
}

/// Which files, and in which state.
#[derive(Debug, Args)]
pub(super) struct Selected {
    #[command(flatten)]
    pub(super) range: Range,
    /// Take files that were damaged before they were archived, byte for byte
    #[arg(long)]
    pub(super) accept_damage: bool,
}

impl Selected {
    /// The same from this sequence on, without an end.
    pub(super) fn from(&self, first: Sequence) -> Self {
        Self {
            range: Range {
                from_seq: Some(first),
                to_seq: None,
            },
            accept_damage: self.accept_damage,
        }
    }
}

/// Which files, by a range or by a plan.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    #[command(flatten)]
    pub(super) selected: Selected,
    /// What a saved plan wants
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from_seq", "to_seq", "accept_damage"])]
    pub(super) plan: Option<PathBuf>,
}

/// What to serve, and to whom.
#[derive(Debug, Args)]
pub(super) struct Serving {
    #[command(flatten)]
    pub(super) wanted: Wanted,
    /// Where to listen; who connects from another machine must use TLS
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3307")]
    pub(super) listen: SocketAddr,
    /// The user that clients log in as
    #[arg(long, value_name = "NAME", default_value = USER)]
    pub(super) user: String,
    /// A file with the password [default: one is made for this run, and printed]
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// The `server_id` to be; no replica may have it
    #[arg(long, value_name = "N", default_value_t = SERVER_ID, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) server_id: u32,
}

impl Serving {
    /// A range without an end has what is archived later, too.
    pub(super) fn follows(&self) -> bool {
        self.wanted.plan.is_none() && self.wanted.selected.range.to_seq.is_none()
    }
}

/// How clients log in.
#[derive(Debug, Args)]
pub(super) struct Login {
    /// The option file of MySQL's clients, with the password [default: their own, as ~/.my.cnf]
    #[arg(long, value_name = "FILE", requires = "target")]
    pub(super) defaults_file: Option<PathBuf>,
}

impl Login {
    /// The server at an address.
    pub(super) fn server(&self, address: Address) -> Server {
        Server {
            address,
            defaults_file: self.defaults_file.clone(),
        }
    }
}

/// Which plan, on which server.
#[derive(Debug, Args)]
pub(super) struct Applied {
    /// The plan, as `plan --save` wrote it
    #[arg(long, value_name = "FILE")]
    pub(super) plan: PathBuf,
    /// The server; also localhost?socket=PATH
    #[arg(long, value_name = "mysql://USER@HOST:PORT")]
    pub(super) target: Address,
    #[command(flatten)]
    pub(super) login: Login,
    /// How the plan gets into the server [default: replication where the server allows it, else pipe]
    #[arg(long, value_enum)]
    pub(super) via: Option<Via>,
    /// Sync nothing at each commit while it runs; afterwards the server is as it was
    #[arg(long)]
    pub(super) relaxed_durability: bool,
    /// With `--via replication`: the address of this machine at which the server reaches it, and a port [default: any]
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value_t = ANY_PORT,
        hide_default_value = true
    )]
    pub(super) listen: SocketAddr,
    /// Only check whether the plan can be run
    #[arg(long)]
    pub(super) check: bool,
    /// Run it in spite of what this check found
    #[arg(long, value_name = "CHECK", value_parser = PossibleValuesParser::new(ACCEPTABLE))]
    pub(super) accept: Vec<String>,
}

/// What to judge, and how thoroughly.
#[derive(Debug, Args)]
pub(super) struct Verified {
    #[command(flatten)]
    pub(super) range: Range,
    /// Read manifests only, and ask the store for size and checksum of every object
    #[arg(long, conflicts_with = "sample")]
    pub(super) quick: bool,
    /// The same, and read this random share of the objects back
    #[arg(long, value_name = "PERCENT")]
    pub(super) sample: Option<Percent>,
    /// Read the sample that this number stands for [default: another one each time]
    #[arg(long, value_name = "N", requires = "sample")]
    pub(super) seed: Option<u64>,
}

impl Verified {
    pub(super) fn depth(&self) -> Depth {
        // Any number that is another one each time.
        let now = || SystemClock.now().as_microsecond().unsigned_abs();
        match self.sample {
            Some(percent) => Depth::Sample {
                percent,
                seed: self.seed.unwrap_or_else(now),
            },
            None if self.quick => Depth::Quick,
            None => Depth::Full,
        }
    }
}

/// What to rehearse, and with what.
#[derive(Debug, Args)]
pub(super) struct Rehearsal {
    #[command(flatten)]
    pub(super) moment: Moment,
    /// Draw the moment that this number stands for, if none is named [default: another one each time]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Begin with a copy of this data directory, of a server that was shut down [default: an empty server]
    #[arg(long, value_name = "DIR")]
    pub(super) base: Option<PathBuf>,
    /// The server's program
    #[arg(long, value_name = "FILE", default_value = "mysqld")]
    pub(super) mysqld: PathBuf,
    /// A further option of it, as --mysqld-option=--innodb-buffer-pool-size=4G; may be given several times
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub(super) mysqld_option: Vec<String>,
    /// Where to make the server's folder, gtide-rehearse-…, which is removed at the end [default: the system's]
    #[arg(long, value_name = "DIR")]
    pub(super) scratch: Option<PathBuf>,
    /// Ask this afterwards: a value that is neither empty, NULL nor 0 passes; may be given several times
    #[arg(long, value_name = "SQL")]
    pub(super) check_sql: Vec<String>,
    /// How the plan gets into the server [default: replication where the server allows it, else pipe]
    #[arg(long, value_enum)]
    pub(super) via: Option<Via>,
    /// Pass damage and events that are not understood, where the GTIDs prove that nothing is missing
    #[arg(long)]
    pub(super) accept_damage: bool,
}

/// What to look for, and where.
#[derive(Debug, Args)]
pub(super) struct FindArguments {
    /// Changes of this table: TABLE, SCHEMA.TABLE or SCHEMA.*; may be given several times
    #[arg(long, value_name = "TABLE")]
    pub(super) table: Vec<TableName>,
    /// Changes of these kinds: insert, update, delete, truncate, drop, create, alter, rename, other
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    pub(super) kind: Vec<Kind>,
    /// These transactions
    #[arg(long, value_name = "SET")]
    pub(super) gtid: Option<GtidSetText>,
    /// Committed at this time or later, RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(super) from_time: Option<Timestamp>,
    /// Committed at this time or earlier
    #[arg(long, value_name = "TIME")]
    pub(super) to_time: Option<Timestamp>,
    /// Stop after so many transactions
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(super) limit: usize,
    #[command(flatten)]
    pub(super) range: Range,
}

/// A kind of change, by the name that reports call it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind(pub(super) ChangeKind);

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = serde_json::from_value(serde_json::Value::from(text));
        kind.map(Self).map_err(|error| error.to_string())
    }
}

/// The moment, where to begin, and where the plan goes.
#[derive(Debug, Args)]
pub(super) struct Planned {
    #[command(flatten)]
    pub(super) moment: Moment,
    /// Leave these transactions out, and keep what follows
    #[arg(long, value_name = "SET")]
    pub(super) skip_gtid: Option<GtidSetText>,
    /// Begin with this base backup [default: the one that leaves the least to replay]
    #[arg(long, value_name = "ID", conflicts_with = "from_gtid_set")]
    pub(super) from_backup: Option<BackupId>,
    /// Begin with a server that has executed this; '' is one that was just initialised
    #[arg(long, value_name = "SET", value_parser = any_gtid_set)]
    pub(super) from_gtid_set: Option<GtidSet>,
    /// Begin with what this server has executed; also localhost?socket=PATH
    #[arg(long, value_name = "mysql://USER@HOST:PORT", conflicts_with_all = ["from_backup", "from_gtid_set"])]
    pub(super) target: Option<Address>,
    #[command(flatten)]
    pub(super) login: Login,
    /// Pass damage and events that are not understood, where the GTIDs prove that nothing is missing
    #[arg(long)]
    pub(super) accept_damage: bool,
    /// Write the plan to a new file, for `cat --plan` and `fetch --plan`
    #[arg(long, value_name = "FILE")]
    pub(super) save: Option<PathBuf>,
    /// Print a shell script that checks the server, replays the plan and checks again
    #[arg(long, requires = "save")]
    pub(super) script: bool,
    /// Where the printed commands fetch files to
    #[arg(long, value_name = "DIR", default_value = "binlogs")]
    pub(super) dir: PathBuf,
}

/// The moment to restore.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Moment {
    /// All up to the first transaction that was committed later, RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(super) to_time: Option<Timestamp>,
    /// All up to and including these transactions
    #[arg(long, value_name = "SET")]
    pub(super) to_gtid: Option<GtidSetText>,
    /// All before this transaction
    #[arg(long, value_name = "GTID")]
    pub(super) before_gtid: Option<Gtid>,
    /// All that ends at or before a place in a source's binary log
    #[arg(long, value_name = "FILE:POS", value_parser = position)]
    pub(super) to_position: Option<Position>,
    /// All that is archived
    #[arg(long)]
    pub(super) to_latest: bool,
}

impl Moment {
    /// The one that is named.
    pub(super) fn target(&self) -> Option<Target> {
        Some(if let Some(time) = self.to_time {
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
        } else if self.to_latest {
            Target::Latest
        } else {
            return None;
        })
    }
}

/// A GTID set that is not empty.
#[derive(Debug, Clone)]
pub(super) struct GtidSetText(pub(super) GtidSet);

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
    pub(super) fn range(&self) -> anyhow::Result<SequenceRange> {
        SequenceRange::new(self.from_seq, self.to_seq).map_err(failed)
    }
}
