//! Random work on three schemas, the same for the same seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::harness::Mysqld;

/// What a server holds at a moment, and how to name that moment.
#[derive(Debug, Clone)]
pub struct Moment {
    /// `gtid_executed`, on one line.
    pub executed: String,
    /// The last transaction.
    pub last_gtid: String,
    /// Checksums of all tables.
    pub checksums: String,
    /// Binary log file and offset.
    pub position: String,
    /// A time after its last commit and before the next, RFC 3339.
    pub time: String,
}

/// The tables of the workload.
const TABLES: &str = "a.t, a.j, b.t, b.j, c.t, c.j";

/// A generator of transactions.
pub struct Workload {
    random: StdRng,
    step: u64,
}

impl Workload {
    /// Makes the schemas.
    pub fn begin(mysqld: &Mysqld, seed: u64) -> Self {
        for schema in ["a", "b", "c"] {
            mysqld.sql(&format!(
                "CREATE DATABASE {schema}; \
                 CREATE TABLE {schema}.t (id BIGINT PRIMARY KEY AUTO_INCREMENT, v BIGINT, s VARCHAR(200)); \
                 CREATE TABLE {schema}.j (id BIGINT PRIMARY KEY AUTO_INCREMENT, j JSON, b LONGBLOB)"
            ));
        }
        Self {
            random: StdRng::seed_from_u64(seed),
            step: 0,
        }
    }

    /// Some transactions of random kinds.
    pub fn work(&mut self, mysqld: &Mysqld) {
        let count = self.random.random_range(1..6);
        let statements: Vec<String> = (0..count).map(|_| self.transaction()).collect();
        mysqld.sql(&statements.join(";\n"));
    }

    fn transaction(&mut self) -> String {
        self.step += 1;
        let step = self.step;
        let schema = ["a", "b", "c"][self.random.random_range(0..3)];
        let number: u32 = self.random.random_range(1..1000);
        match self.random.random_range(0..10) {
            0 => {
                let rows = [10, 100, 10_000][self.random.random_range(0..3)];
                format!(
                    "SET cte_max_recursion_depth=20000; INSERT INTO {schema}.t (v, s) \
                     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
                     SELECT i * {number}, CONCAT('row ', i) FROM n"
                )
            }
            1 => format!("ALTER TABLE {schema}.t ADD COLUMN c{step} INT DEFAULT {number}"),
            2 => format!(
                "INSERT INTO {schema}.j (j, b) VALUES (JSON_OBJECT('k', {number}, 'a', JSON_ARRAY(1, 2, 'ü')), \
                 RANDOM_BYTES(1000)); \
                 UPDATE {schema}.j SET j = JSON_SET(j, '$.k', {step}) WHERE id % 2 = 0"
            ),
            3 => format!(
                "XA START 'x{step}'; INSERT INTO {schema}.t (v) VALUES ({number}); XA END 'x{step}'; \
                 XA PREPARE 'x{step}'; XA COMMIT 'x{step}'"
            ),
            4 => format!(
                "BEGIN; INSERT INTO {schema}.t (v) VALUES ({number}); SAVEPOINT s; \
                 INSERT INTO {schema}.t (v) VALUES (-{number}); ROLLBACK TO s; \
                 UPDATE {schema}.t SET v = v + 1 LIMIT 5; COMMIT"
            ),
            5 => format!(
                "SET SESSION binlog_transaction_compression=ON; BEGIN; \
                 INSERT INTO {schema}.j (j, b) VALUES (JSON_OBJECT(), REPEAT('gtide ', 3000)); \
                 INSERT INTO {schema}.t (v, s) VALUES ({number}, 'compressed'); COMMIT; \
                 SET SESSION binlog_transaction_compression=OFF"
            ),
            6 => format!(
                "SET gtid_next='AUTOMATIC:tide'; INSERT INTO {schema}.t (v, s) VALUES ({number}, 'tagged'); \
                 SET gtid_next=AUTOMATIC"
            ),
            7 => format!(
                "CREATE TEMPORARY TABLE {schema}.tmp{step} (v INT); INSERT INTO {schema}.tmp{step} VALUES ({number}); \
                 INSERT INTO {schema}.t (v) SELECT v FROM {schema}.tmp{step}; DROP TEMPORARY TABLE {schema}.tmp{step}"
            ),
            8 => format!(
                "DELETE FROM {schema}.t WHERE v % 7 = {} LIMIT 50",
                number % 7
            ),
            _ => "FLUSH BINARY LOGS".to_owned(),
        }
    }

    /// What the server holds now. Nothing else may run.
    pub fn moment(mysqld: &Mysqld) -> Moment {
        Moment {
            checksums: checksums(mysqld),
            ..Self::moment_of(mysqld)
        }
    }

    /// The same of a server that has other tables.
    pub fn moment_of(mysqld: &Mysqld) -> Moment {
        let executed = executed(mysqld);
        let status = mysqld.sql("SHOW BINARY LOG STATUS");
        let fields: Vec<&str> = status.split('\t').collect();
        let time = mysqld.sql("SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')");
        Moment {
            last_gtid: last_gtid(mysqld, fields[0]),
            checksums: String::new(),
            position: format!("{}:{}", fields[0], fields[1]),
            executed,
            time,
        }
    }
}

/// `gtid_executed` on one line.
pub fn executed(mysqld: &Mysqld) -> String {
    mysqld
        .sql("SELECT @@GLOBAL.gtid_executed")
        .replace('\n', "")
}

/// Checksums of all tables.
pub fn checksums(mysqld: &Mysqld) -> String {
    mysqld.sql(&format!("CHECKSUM TABLE {TABLES}"))
}

/// The last GTID in a file; empty when it holds none.
fn last_gtid(mysqld: &Mysqld, file: &str) -> String {
    let events = mysqld.sql(&format!("SHOW BINLOG EVENTS IN '{file}'"));
    let mut of_gtid = events
        .lines()
        .filter(|line| line.contains("SET @@SESSION.GTID_NEXT"));
    let last = of_gtid.next_back().and_then(|line| line.split('\'').nth(1));
    last.unwrap_or_default().to_owned()
}
