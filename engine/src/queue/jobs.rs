//! The jobs in their table, `Jobs`: all SQL of the queue, for both databases.
//!
//! The table is apalis's, with its migrations and its indexes (on PostgreSQL in the schema `apalis`, which our
//! connections' search path names). Its columns mean here:
//!
//! | column | |
//! |---|---|
//! | `id` | the file and its destination, as a ULID (`queue/id.rs`) |
//! | `job_type` | the lane's name |
//! | `idempotency_key` | the sequence in 20 digits, which every collation orders as numbers (Estonian, say, has Z before T) |
//! | `run_at` | the next attempt, in whole seconds |
//! | `done_at` | when the last attempt ended; none when there was none, or when its delay was forgiven |
//! | `last_result` | the [`LastFailure`] |
//!
//! The status column decides nothing but one thing: a job that is found running by the process that begins was
//! being worked on when another one ended.

use std::collections::BTreeMap;

use apalis_postgres::PostgresStorage;
use apalis_sqlite::SqliteStorage;
use jiff::Timestamp;

use super::id;
use super::policy::Verdict;
use crate::layout::Sequence;
use crate::ledger::{
    History, JOB_VERSION, LaneName, LastFailure, Ledger, LedgerError, Route, Tx, on,
};

/// A lane's lowest job, as stored.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) job: Vec<u8>,
    pub(super) attempts: i64,
    pub(super) run_at: i64,
    pub(super) done_at: Option<i64>,
    pub(super) last_result: Option<String>,
}

/// A job that a process which is no more was working on.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct LeftBehind {
    pub(super) id: String,
    pub(super) attempts: i64,
    pub(super) last_result: Option<String>,
}

/// The head by the stock index on (`job_type`, `idempotency_key`): one row, whatever the backlog.
pub(super) const HEAD: (&str, &str) = (
    "SELECT id, job, attempts, run_at, done_at, last_result FROM Jobs
     WHERE job_type = $1 ORDER BY idempotency_key LIMIT 1",
    "SELECT id, job, CAST(attempts AS bigint) AS attempts,
       CAST(floor(extract(epoch FROM run_at)) AS bigint) AS run_at,
       CAST(floor(extract(epoch FROM done_at)) AS bigint) AS done_at,
       CAST(last_result AS text) AS last_result
     FROM Jobs WHERE job_type = $1 ORDER BY idempotency_key LIMIT 1",
);

/// Creates or migrates the table.
pub(super) async fn migrate(ledger: &Ledger) -> Result<(), LedgerError> {
    // Never `setup`: on SQLite it turns `synchronous` off.
    let mut sqlite = SqliteStorage::<()>::migrations();
    // The ledger's history is another one (migrations/README.md).
    sqlite.dangerous_set_table_name("_apalis_migrations");
    let history = ledger.pick(
        History {
            migrations: sqlite,
            table: "_apalis_migrations",
        },
        History {
            migrations: PostgresStorage::<()>::migrations(),
            table: "apalis._sqlx_migrations",
        },
    );
    ledger.migrate(&history).await
}

/// Queues those files of a route whose jobs are neither queued, in whatever lane, nor done. Returns them.
pub(super) async fn enqueue(
    tx: &mut Tx,
    route: Route,
    sequences: &[Sequence],
    lanes: u32,
    max_attempts: u32,
    now: Timestamp,
) -> Result<Vec<(LaneName, Sequence)>, LedgerError> {
    // Id to sequence: scalars, which SQLite need not parse again for each column.
    let wanted: BTreeMap<String, u64> = sequences
        .iter()
        .map(|&sequence| (id::of_job(route, sequence).to_string(), sequence.0))
        .collect();
    let sql = tx.pick(
        "INSERT INTO Jobs
           (job, id, job_type, idempotency_key, status, attempts, max_attempts, run_at, priority)
         SELECT CAST(json_object('version', $2, 'source', $3, 'destination', $4,
             'sequence', value) AS BLOB),
           key, $5 || (value % $6), printf('%020d', value), 'Pending', 0, $7, $8, 0
         FROM json_each($1)
         WHERE (SELECT 1 FROM commits
           WHERE source = $3 AND destination = $4 AND sequence = value) IS NULL
         ON CONFLICT DO NOTHING RETURNING id, job_type",
        "INSERT INTO Jobs
           (job, id, job_type, idempotency_key, status, attempts, max_attempts, run_at, priority)
         SELECT convert_to(format('{\"version\":%s,\"source\":%s,\"destination\":%s,\"sequence\":%s}',
             $2, $3, $4, value), 'UTF8'),
           key, $5 || (value % $6), lpad(CAST(value AS text), 20, '0'), 'Pending', 0, $7,
           to_timestamp($8), 0
         FROM (SELECT key, CAST(value AS bigint) AS value FROM jsonb_each($1)) AS wanted
         WHERE (SELECT 1 FROM commits
           WHERE source = $3 AND destination = $4 AND sequence = wanted.value) IS NULL
         ON CONFLICT DO NOTHING RETURNING id, job_type",
    );
    let queued: Vec<(String, String)> = on!(tx, |db| {
        sqlx::query_as(sql)
            .bind(sqlx::types::Json(&wanted))
            .bind(i64::from(JOB_VERSION))
            .bind(route.source.stored())
            .bind(route.destination.stored())
            .bind(lanes_of(route))
            .bind(i64::from(lanes))
            .bind(i32::try_from(max_attempts).unwrap_or(i32::MAX))
            .bind(now.as_second())
            .fetch_all(db)
            .await
    })
    .map_err(LedgerError::database("queue files"))?;
    let read = |(id, lane): (String, String)| {
        let sequence = wanted.get(&id).copied();
        let sequence = sequence.ok_or_else(|| LedgerError::damaged("a job's id", &id))?;
        Ok((lane.parse()?, Sequence(sequence)))
    };
    queued.into_iter().map(read).collect()
}

/// What the names of a route's lanes begin with.
fn lanes_of(route: Route) -> String {
    format!("archive/{}/{}/", route.source, route.destination)
}

/// With another number of lanes, a queued job's lane is another. The order within a lane stays.
pub(super) async fn move_to_lanes(
    ledger: &Ledger,
    route: Route,
    lanes: u32,
) -> Result<u64, LedgerError> {
    let prefix = lanes_of(route);
    let pattern = format!("{prefix}%");
    // Asked first, so that a start does not wait for the write lock of a file.
    let misplaced: Result<bool, _> = on!(ledger, |db| {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM Jobs WHERE job_type LIKE $3
               AND job_type <> $1 || CAST(CAST(idempotency_key AS bigint) % $2 AS text))",
        )
        .bind(&prefix)
        .bind(i64::from(lanes))
        .bind(&pattern)
        .fetch_one(db)
        .await
    });
    if !misplaced.map_err(LedgerError::database("look for misplaced jobs"))? {
        return Ok(0);
    }
    let mut tx = ledger.begin().await?;
    let moved = on!(tx, |db| {
        sqlx::query(
            "UPDATE Jobs SET job_type = $1 || CAST(CAST(idempotency_key AS bigint) % $2 AS text)
             WHERE job_type LIKE $3
               AND job_type <> $1 || CAST(CAST(idempotency_key AS bigint) % $2 AS text)",
        )
        .bind(&prefix)
        .bind(i64::from(lanes))
        .bind(&pattern)
        .execute(db)
        .await
        .map(|done| done.rows_affected())
    })
    .map_err(LedgerError::database("move jobs to their lanes"))?;
    tx.commit().await?;
    Ok(moved)
}

pub(super) async fn head(ledger: &Ledger, lane: LaneName) -> Result<Option<Head>, LedgerError> {
    let sql = ledger.pick(HEAD.0, HEAD.1);
    let lane = lane.to_string();
    let head = on!(ledger, |db| {
        sqlx::query_as(sql).bind(&lane).fetch_optional(db).await
    });
    head.map_err(LedgerError::database("look at a lane's head"))
}

/// The job that follows the lane's head, if that is `present` and neither of them ever failed or was interrupted.
pub(super) async fn untroubled_after(
    ledger: &Ledger,
    lane: LaneName,
    present: Sequence,
) -> Result<Option<Vec<u8>>, LedgerError> {
    let lane = lane.to_string();
    let two: Result<Vec<(String, Vec<u8>)>, _> = on!(ledger, |db| {
        sqlx::query_as(
            "SELECT idempotency_key, job FROM (
               SELECT idempotency_key, job, attempts, last_result FROM Jobs
               WHERE job_type = $1 ORDER BY idempotency_key LIMIT 2) AS two
             WHERE attempts = 0 AND last_result IS NULL ORDER BY idempotency_key",
        )
        .bind(&lane)
        .fetch_all(db)
        .await
    });
    let two = two.map_err(LedgerError::database("look at what follows a lane's head"))?;
    let [(head, _), (_, next)] = two.as_slice() else {
        return Ok(None);
    };
    Ok((*head == key(present)).then(|| next.clone()))
}

/// How the statement that queues files writes a sequence.
fn key(sequence: Sequence) -> String {
    format!("{:020}", sequence.0)
}

/// A job is being worked on. When the power fails, nobody is.
pub(super) async fn take(ledger: &Ledger, id: &str, now: Timestamp) -> Result<(), LedgerError> {
    let mut tx = ledger.begin_unsynced().await?;
    let sql = tx.pick(
        "UPDATE Jobs SET status = 'Running', lock_at = $2 WHERE id = $1",
        "UPDATE Jobs SET status = 'Running', lock_at = to_timestamp($2) WHERE id = $1",
    );
    on!(tx, |db| {
        let query = sqlx::query(sql).bind(id).bind(now.as_second());
        query.execute(db).await.map(|_| ())
    })
    .map_err(LedgerError::database("take a job"))?;
    tx.commit().await
}

/// The jobs of a lane that are being worked on, by whomever.
pub(super) async fn running(tx: &mut Tx, lane: LaneName) -> Result<Vec<LeftBehind>, LedgerError> {
    let sql = tx.pick(
        "SELECT id, attempts, last_result FROM Jobs
         WHERE job_type = $1 AND status IN ('Queued', 'Running')",
        "SELECT id, CAST(attempts AS bigint) AS attempts, CAST(last_result AS text) AS last_result
         FROM Jobs WHERE job_type = $1 AND status IN ('Queued', 'Running')",
    );
    let lane = lane.to_string();
    let jobs = on!(tx, |db| sqlx::query_as(sql).bind(&lane).fetch_all(db).await);
    jobs.map_err(LedgerError::database("look for jobs left behind"))
}

/// Jobs of a lane that are being worked on are pending again. All else about them stays.
pub(super) async fn release(ledger: &Ledger, lane: LaneName) -> Result<(), LedgerError> {
    let lane = lane.to_string();
    let mut tx = ledger.begin().await?;
    on!(tx, |db| {
        sqlx::query(
            "UPDATE Jobs SET status = 'Pending', lock_at = NULL
             WHERE job_type = $1 AND status IN ('Queued', 'Running')",
        )
        .bind(&lane)
        .execute(db)
        .await
        .map(|_| ())
    })
    .map_err(LedgerError::database("release a lane's jobs"))?;
    tx.commit().await
}

/// An attempt ended without success: the job waits in `run_at`.
pub(super) async fn put_back(
    tx: &mut Tx,
    id: &str,
    verdict: &Verdict,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let failure = verdict.failure.as_ref().map(LastFailure::stored);
    let sql = tx.pick(
        "UPDATE Jobs SET status = $2, attempts = $3, run_at = $4, done_at = $5, lock_at = NULL,
           last_result = coalesce($6, last_result)
         WHERE id = $1",
        "UPDATE Jobs SET status = $2, attempts = $3, run_at = to_timestamp($4),
           done_at = to_timestamp($5), lock_at = NULL,
           last_result = coalesce(CAST($6 AS jsonb), last_result)
         WHERE id = $1",
    );
    let failure = failure.transpose()?;
    on!(tx, |db| {
        sqlx::query(sql)
            .bind(id)
            .bind(verdict.status.as_str())
            .bind(i32::try_from(verdict.attempts).unwrap_or(i32::MAX))
            .bind(verdict.run_at)
            .bind(now.as_second())
            .bind(&failure)
            .execute(db)
            .await
            .map(|_| ())
    })
    .map_err(LedgerError::database("record a failed attempt"))
}

/// A job is done, or its file is lost.
pub(super) async fn delete(tx: &mut Tx, id: &str) -> Result<(), LedgerError> {
    on!(tx, |db| {
        let query = sqlx::query("DELETE FROM Jobs WHERE id = $1").bind(id);
        query.execute(db).await.map(|_| ())
    })
    .map_err(LedgerError::database("delete a job"))
}

/// The jobs of a route up to a sequence are done. Returns how many there were.
pub(super) async fn delete_up_to(
    tx: &mut Tx,
    route: Route,
    last: Sequence,
) -> Result<u64, LedgerError> {
    let lanes = format!("{}%", lanes_of(route));
    on!(tx, |db| {
        sqlx::query("DELETE FROM Jobs WHERE job_type LIKE $1 AND idempotency_key <= $2")
            .bind(&lanes)
            .bind(key(last))
            .execute(db)
            .await
            .map(|done| done.rows_affected())
    })
    .map_err(LedgerError::database("drop jobs that are done"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::servers::Postgres;

    /// Fetching happens once per file: with a backlog of 500,000 it must not look at them all. A stock index
    /// answers it; this fails when another version of apalis-sqlite drops that index.
    #[tokio::test]
    async fn the_head_is_found_by_an_index_without_sorting() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("gtide.db").display());
        let ledger = Ledger::open(&url).await.unwrap();
        migrate(&ledger).await.unwrap();
        let plan: Vec<(i64, i64, i64, String)> = on!(ledger, |db| {
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", HEAD.0));
            sqlx::query_as(explain)
                .bind("archive/1/1/0")
                .fetch_all(db)
                .await
        })
        .unwrap();
        let steps: Vec<&str> = plan.iter().map(|(.., step)| step.as_str()).collect();
        let expected = "SEARCH Jobs USING INDEX idx_jobs_idempotency_key (job_type=?)";
        assert_eq!(steps, [expected]);
    }

    /// The same on PostgreSQL, before and after it has gathered statistics.
    #[tokio::test]
    #[ignore = "needs the lab: tests/lab/install"]
    async fn the_head_is_found_by_an_index_without_sorting_on_postgres() {
        let server = Postgres::start();
        let ledger = Ledger::open(&server.create_database("ledger")).await;
        migrate(&ledger.unwrap()).await.unwrap();
        server.sql(
            "ledger",
            "INSERT INTO apalis.jobs (job, id, job_type, idempotency_key)
             SELECT '{}', n, 'archive/1/1/' || n % 4, lpad(n::text, 20, '0')
             FROM generate_series(1, 50000) n",
        );
        let explain = HEAD.1.replace("$1", "'archive/1/1/0'");
        let explain = format!("SET search_path = apalis; EXPLAIN {explain}");
        for _ in 0..2 {
            let plan = server.sql("ledger", &explain);
            let index = "Index Scan using idx_jobs_idempotency_key";
            assert!(plan.contains(index) && !plan.contains("Sort"), "{plan}");
            server.sql("ledger", "ANALYZE");
        }
    }
}
