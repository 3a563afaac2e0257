//! What each screen lists: from the picture, the filter and the order, to rows. Pure.

mod finding;
mod parity;

use engine::ledger::{
    AgentPicture, JobPicture, JobStatus, LaneName, LanePicture, Picture, QueueScope, RoutePicture,
    ServerReport, ServerState, SourceId, SourcePicture, TroublePicture, UploadReport,
};

pub use self::finding::{Finding, findings};
pub use self::parity::{ParityRow, parity, standing_word};
use crate::words::printable;

/// How a source stands at a destination, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It stands still as a whole: its index cannot be read, its destination not be reached.
    Stopped,
    /// Files are missing between archived ones.
    Gap,
    /// Something will be lost, or is not what it should be, unless a person acts.
    Danger,
    /// A file needs a person.
    Stalled,
    /// A person stopped it.
    Paused,
    /// A file failed and is tried again.
    Failing,
    /// Files are on their way.
    Archiving,
    /// No file of it was closed yet.
    New,
    /// Nothing waits.
    Current,
}

/// One source at one destination; a source that never had anything to do has no destination.
#[derive(Debug, Clone, Copy)]
pub struct RouteRow<'a> {
    /// From.
    pub source: &'a SourcePicture,
    /// To.
    pub route: Option<&'a RoutePicture>,
    /// The server beside it, where one is asked.
    pub server: Option<&'a ServerState>,
    /// How it stands.
    pub state: State,
}

/// One file on its way.
#[derive(Debug, Clone, Copy)]
pub struct JobRow<'a> {
    /// Whose file.
    pub source: Option<&'a SourcePicture>,
    /// To where.
    pub route: Option<&'a RoutePicture>,
    /// In which lane.
    pub lane: &'a LanePicture,
    /// The file.
    pub job: &'a JobPicture,
    /// Its place in the lane, from 0.
    pub place: usize,
    /// A person stopped the lane.
    pub paused: bool,
    /// How far its upload is, where it goes in parts.
    pub upload: Option<Progress>,
}

/// An upload under way, as its archiver told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are there.
    pub done: u64,
    /// Of so many.
    pub total: u64,
    /// Bytes per second, as this attempt has sent them; none before the first part.
    pub rate: Option<u64>,
}

impl Progress {
    fn of(upload: &UploadReport, seen: jiff::Timestamp) -> Self {
        let seconds = seen.duration_since(upload.started).as_secs().max(1);
        let sent = upload.done.saturating_sub(upload.resumed);
        let rate = sent / seconds.unsigned_abs();
        Self {
            done: upload.done.min(upload.total),
            total: upload.total,
            rate: (rate > 0).then_some(rate),
        }
    }

    /// Seconds until all is there, at that rate.
    pub fn left(&self) -> Option<i64> {
        let left = self.total.saturating_sub(self.done) / self.rate?;
        i64::try_from(left).ok()
    }
}

impl State {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Gap => "gap",
            Self::Danger => "danger",
            Self::Stalled => "stalled",
            Self::Paused => "paused",
            Self::Failing => "failing",
            Self::Archiving => "archiving",
            Self::New => "new",
            Self::Current => "current",
        }
    }
}

/// One row for each source and destination.
pub fn routes<'a>(picture: &'a Picture, filter: &str) -> Vec<RouteRow<'a>> {
    let mut rows = Vec::new();
    for source in &picture.sources {
        if source.routes.is_empty() {
            rows.push(RouteRow::new(picture, source, None));
        }
        let routes = source.routes.iter();
        rows.extend(routes.map(|route| RouteRow::new(picture, source, Some(route))));
    }
    rows.retain(|row| matches(filter, &[row.name(), row.url(), row.state.word()]));
    rows
}

/// One row for each file at the head of a lane.
pub fn jobs<'a>(picture: &'a Picture, filter: &str) -> Vec<JobRow<'a>> {
    let paused = picture.paused_lanes();
    let mut rows = Vec::new();
    for lane in &picture.lanes {
        let source = picture.source(lane.name.route.source);
        let to = lane.name.route.destination;
        let route = source.and_then(|s| s.routes.iter().find(|r| r.destination == to));
        for (place, job) in lane.heads.iter().enumerate() {
            rows.push(JobRow {
                source,
                route,
                lane,
                job,
                place,
                paused: paused.contains(&lane.name),
                upload: progress(&picture.agents, lane, job),
            });
        }
    }
    rows.retain(|row| {
        let file = row.file();
        let error = row.job.failure.as_ref().map_or("", |f| f.message.as_str());
        matches(filter, &[row.name(), row.url(), &file, row.step(), error])
    });
    rows
}

fn progress(agents: &[AgentPicture], lane: &LanePicture, job: &JobPicture) -> Option<Progress> {
    if job.status != JobStatus::Running {
        return None;
    }
    agents.iter().find_map(|agent| {
        let mut uploads = agent.report.uploads.iter();
        let upload = uploads
            .find(|upload| upload.route == lane.name.route && upload.sequence == job.sequence)?;
        Some(Progress::of(upload, agent.seen))
    })
}

/// One row for each file whose last attempt failed.
pub fn retries<'a>(picture: &'a Picture, filter: &str) -> Vec<JobRow<'a>> {
    let mut rows = jobs(picture, filter);
    rows.retain(JobRow::has_failed);
    rows
}

fn matches(filter: &str, texts: &[&str]) -> bool {
    let filter = filter.to_lowercase();
    filter.is_empty() || texts.iter().any(|t| t.to_lowercase().contains(&filter))
}

impl<'a> RouteRow<'a> {
    fn new(
        picture: &'a Picture,
        source: &'a SourcePicture,
        route: Option<&'a RoutePicture>,
    ) -> Self {
        Self {
            source,
            route,
            server: server(picture, source.id),
            state: state(picture, source, route),
        }
    }

    /// What the server beside it said last.
    pub fn report(&self) -> Option<&'a ServerReport> {
        report(self.server)
    }

    /// The source's name, as it came from the database.
    pub fn name(&self) -> &'a str {
        &self.source.name
    }

    /// The destination's URL, as it came from the database.
    pub fn url(&self) -> &'a str {
        self.route.map_or("", |route| &route.url)
    }

    /// Sequences between the newest file and the last committed one.
    pub fn behind(&self) -> u64 {
        behind(self.source, self.route)
    }

    /// The source, whole.
    pub fn scope(&self) -> QueueScope {
        self.source.id.into()
    }
}

fn server(picture: &Picture, source: SourceId) -> Option<&ServerState> {
    picture
        .servers
        .iter()
        .find(|server| server.source == source)
}

fn report(server: Option<&ServerState>) -> Option<&ServerReport> {
    server?.answer.as_ref().map(|(_, report)| report)
}

/// Binary logs are numbered without holes, so what is behind is a difference.
fn behind(source: &SourcePicture, route: Option<&RoutePicture>) -> u64 {
    let Some(route) = route else { return 0 };
    match (source.newest, &route.position) {
        (Some(newest), Some(position)) => newest.0.saturating_sub(position.head.0),
        _ => route.queued,
    }
}

fn state(picture: &Picture, source: &SourcePicture, route: Option<&RoutePicture>) -> State {
    let is_here = |trouble: &&TroublePicture| {
        let url = trouble.destination.as_deref();
        trouble.source == source.name && (url.is_none() || url == route.map(|r| r.url.as_str()))
    };
    if picture.troubles.iter().any(|trouble| is_here(&trouble)) {
        return State::Stopped;
    }
    let is_pause = |scope: QueueScope| {
        let to = route.map(|route| route.destination);
        scope.source == source.id && (scope.destination.is_none() || scope.destination == to)
    };
    let paused = picture.pauses.iter().any(|pause| is_pause(pause.scope));
    let Some(route) = route else {
        return if paused { State::Paused } else { State::New };
    };
    let of_route = |lane: LaneName| {
        lane.route.source == source.id && lane.route.destination == route.destination
    };
    let lanes = picture.lanes.iter().filter(|lane| of_route(lane.name));
    let failures = lanes
        .flat_map(|lane| &lane.heads)
        .filter(|job| is_failed(job));
    let stalled = failures.clone().any(is_stalled);
    match () {
        () if !route.gaps.is_empty() => State::Gap,
        () if route.queued > 0 && expires(picture, source.id) => State::Danger,
        () if stalled => State::Stalled,
        () if paused => State::Paused,
        () if failures.count() > 0 => State::Failing,
        () if route.queued > 0 => State::Archiving,
        () => State::Current,
    }
}

/// A file that is not archived may soon be removed.
fn expires(picture: &Picture, source: SourceId) -> bool {
    let report = report(server(picture, source));
    report.is_some_and(|report| {
        report
            .expiry
            .as_ref()
            .is_some_and(|expiry| expiry.in_danger)
    })
}

fn is_failed(job: &JobPicture) -> bool {
    job.failure.is_some() && (job.attempts > 0 || job.status == JobStatus::Failed)
}

fn is_stalled(job: &JobPicture) -> bool {
    is_failed(job) && job.failure.as_ref().is_some_and(|failure| failure.stalled)
}

impl<'a> JobRow<'a> {
    /// The source's name, as it came from the database.
    pub fn name(&self) -> &'a str {
        self.source.map_or("", |source| &source.name)
    }

    /// The destination's URL, as it came from the database.
    pub fn url(&self) -> &'a str {
        self.route.map_or("", |route| &route.url)
    }

    /// The file's name, or its sequence.
    pub fn file(&self) -> String {
        let name = self.job.file_name.clone();
        name.unwrap_or_else(|| self.job.sequence.to_string())
    }

    /// The last attempt failed, or one that failed is being repeated.
    pub fn has_failed(&self) -> bool {
        is_failed(self.job)
    }

    /// Only slow retries are left.
    pub fn is_stalled(&self) -> bool {
        is_stalled(self.job)
    }

    /// Where it is on its way, as far as the ledger knows.
    pub fn step(&self) -> &'static str {
        let job = self.job;
        match job.status {
            JobStatus::Running if job.uploading => "uploading",
            JobStatus::Running if job.sealed => "sealed, on its way",
            JobStatus::Running => "sealing",
            _ if self.is_stalled() => "stalled",
            JobStatus::Failed => "failed",
            _ if self.paused => "paused",
            _ if self.place > 0 => "behind",
            _ => "due",
        }
    }

    /// Its lane.
    pub fn scope(&self) -> QueueScope {
        self.lane.name.into()
    }
}

/// A part of the queue, as people call it.
pub fn scope_words(picture: &Picture, scope: QueueScope) -> String {
    let source = picture.source(scope.source);
    let name = source.map_or(scope.source.to_string(), |source| printable(&source.name));
    let mut words = name;
    if let Some(lane) = scope.lane {
        words = format!("{words} lane {lane}");
    }
    if let Some(to) = scope.destination {
        let route = source.and_then(|s| s.routes.iter().find(|r| r.destination == to));
        let url = route.map_or(to.to_string(), |route| printable(&route.url));
        words = format!("{words} to {url}");
    }
    words
}
