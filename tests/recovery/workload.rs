//! Random work on three schemas, the same for the same seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::harness::Mysqld;

/// What a server holds at a moment, and how to name that moment.
#[derive(Debug, Clone)]
pub struct Moment {
    /// `gtid_executed`, on one line.
    pub executed: String,
    /// The last transaction; empty when the binary log file that is written to holds none yet.
    pub last_gtid: String,
    /// Columns and checksums of all tables.
    pub checksums: String,
    /// XA transactions that are prepared, and neither committed nor rolled back.
    pub prepared: String,
    /// Binary log file and offset.
    pub position: String,
    /// A time after its last commit and before the next, RFC 3339.
    pub time: String,
}

/// The schemas of the workload.
const SCHEMAS: [&str; 3] = ["a", "b", "c"];

/// The largest transaction, in rows.
const MAX_ROWS: u32 = 10_000;

/// A generator of transactions.
pub struct Workload {
    random: StdRng,
    step: u64,
    /// The XA transaction that is prepared.
    prepared: Option<String>,
    /// Tables that come and go.
    passing: Vec<String>,
}

impl Workload {
    /// Makes the schemas. `x` is for XA transactions: what they lock stands in nobody's way there.
    pub fn begin(mysqld: &Mysqld, seed: u64) -> Self {
        for schema in SCHEMAS {
            mysqld.sql(&format!(
                "CREATE DATABASE {schema}; \
                 CREATE TABLE {schema}.t (id BIGINT PRIMARY KEY AUTO_INCREMENT, v BIGINT, s VARCHAR(200)); \
                 CREATE TABLE {schema}.j (id BIGINT PRIMARY KEY AUTO_INCREMENT, j JSON, b LONGBLOB); \
                 CREATE TABLE {schema}.x (id BIGINT PRIMARY KEY AUTO_INCREMENT, v BIGINT)"
            ));
        }
        Self {
            random: StdRng::seed_from_u64(seed),
            step: 0,
            prepared: None,
            passing: Vec::new(),
        }
    }

    /// Some transactions of random kinds.
    pub fn work(&mut self, mysqld: &Mysqld) {
        let count = self.random.random_range(1..6);
        let statements: Vec<String> = (0..count).map(|_| self.transaction()).collect();
        mysqld.sql(&statements.join(";\n"));
    }

    /// Prepares an XA transaction, if none is, and begins the next file.
    pub fn prepare(&mut self, mysqld: &Mysqld) {
        self.step += 1;
        if self.prepared.is_none() {
            mysqld.sql(&format!("{}; FLUSH BINARY LOGS", self.xa("a")));
        }
    }

    fn transaction(&mut self) -> String {
        self.step += 1;
        let step = self.step;
        let schema = SCHEMAS[self.random.random_range(0..SCHEMAS.len())];
        let number: u32 = self.random.random_range(1..1000);
        match self.random.random_range(0..13) {
            0 => self.rows(schema, number),
            1 => self.ddl(schema, number),
            2 => format!(
                "INSERT INTO {schema}.j (j, b) VALUES (JSON_OBJECT('k', {number}, 'a', JSON_ARRAY(1, 2, 'ü'), \
                 's', REPEAT('x', 500)), RANDOM_BYTES(1000)); \
                 UPDATE {schema}.j SET j = JSON_SET(j, '$.k', {step}) WHERE id % 2 = 0"
            ),
            3 => format!(
                "SET SESSION binlog_row_value_options=PARTIAL_JSON, binlog_row_image=MINIMAL; \
                 UPDATE {schema}.j SET j = JSON_SET(j, '$.k', {step}, '$.n{number}', {number}) WHERE id % 3 = 0; \
                 UPDATE {schema}.j SET j = JSON_REMOVE(JSON_REPLACE(j, '$.s', 'short'), '$.a[0]') WHERE id % 5 = 0; \
                 SET SESSION binlog_row_value_options='', binlog_row_image=FULL"
            ),
            4 => self.xa(schema),
            5 => format!(
                "BEGIN; INSERT INTO {schema}.t (v) VALUES ({number}); SAVEPOINT s; \
                 INSERT INTO {schema}.t (v) VALUES (-{number}); SAVEPOINT r; DELETE FROM {schema}.t LIMIT 3; \
                 ROLLBACK TO s; UPDATE {schema}.t SET v = v + 1 ORDER BY id LIMIT 5; COMMIT"
            ),
            6 => format!(
                "SET SESSION binlog_transaction_compression=ON; BEGIN; \
                 INSERT INTO {schema}.j (j, b) VALUES (JSON_OBJECT(), REPEAT('gtide ', 3000)); \
                 INSERT INTO {schema}.t (v, s) VALUES ({number}, 'compressed'); COMMIT; \
                 SET SESSION binlog_transaction_compression=OFF"
            ),
            7 => format!(
                "SET gtid_next='AUTOMATIC:tide{}'; INSERT INTO {schema}.t (v, s) VALUES ({number}, 'tagged'); \
                 SET gtid_next=AUTOMATIC",
                number % 3
            ),
            8 => format!(
                "CREATE TEMPORARY TABLE {schema}.tmp{step} (v INT); INSERT INTO {schema}.tmp{step} VALUES ({number}); \
                 INSERT INTO {schema}.t (v) SELECT v FROM {schema}.tmp{step}; DROP TEMPORARY TABLE {schema}.tmp{step}"
            ),
            // Statements that name a temporary table, made in one file and used in the next.
            9 => format!(
                "SET SESSION binlog_format=STATEMENT; CREATE TEMPORARY TABLE {schema}.tmp{step} (v INT); \
                 INSERT INTO {schema}.tmp{step} VALUES ({number}); FLUSH BINARY LOGS; \
                 INSERT INTO {schema}.t (v) SELECT v FROM {schema}.tmp{step}; \
                 DROP TEMPORARY TABLE {schema}.tmp{step}; SET SESSION binlog_format=ROW"
            ),
            10 => format!(
                "DELETE FROM {schema}.t WHERE v % 7 = {} LIMIT 50",
                number % 7
            ),
            11 => format!(
                "BEGIN; INSERT INTO a.t (v) VALUES ({number}); UPDATE b.t SET v = v - 1 WHERE id % 4 = 0; \
                 INSERT INTO c.j (j, b) VALUES ('[{number}]', REPEAT(RANDOM_BYTES(1000), {number})); COMMIT"
            ),
            _ => "FLUSH BINARY LOGS".to_owned(),
        }
    }

    /// One transaction of 1 to [`MAX_ROWS`] rows, small ones as likely as large ones.
    fn rows(&mut self, schema: &str, number: u32) -> String {
        let limit = [1, 30, 1000, MAX_ROWS][self.random.random_range(0..4)];
        let rows = self.random.random_range(1..=limit);
        format!(
            "SET cte_max_recursion_depth=20000; INSERT INTO {schema}.t (v, s) \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
             SELECT i * {number}, CONCAT('row ', i) FROM n"
        )
    }

    fn ddl(&mut self, schema: &str, number: u32) -> String {
        let step = self.step;
        match (self.random.random_range(0..6), self.passing.pop()) {
            (0, Some(table)) => format!("DROP TABLE {table}"),
            (1, Some(table)) => {
                self.passing.push(format!("{schema}.r{step}"));
                format!("RENAME TABLE {table} TO {schema}.r{step}")
            }
            (2, Some(table)) => {
                let ddl = format!("TRUNCATE TABLE {table}; INSERT INTO {table} VALUES ({number})");
                self.passing.push(table);
                ddl
            }
            (3, Some(table)) => {
                let ddl = format!("CREATE TABLE {schema}.s{step} AS SELECT * FROM {table}");
                self.passing.extend([table, format!("{schema}.s{step}")]);
                ddl
            }
            (4, table) => {
                self.passing.extend(table);
                format!("ALTER TABLE {schema}.t ADD COLUMN c{step} INT DEFAULT {number}")
            }
            (_, table) => {
                self.passing.extend(table);
                self.passing.push(format!("{schema}.p{step}"));
                format!(
                    "CREATE TABLE {schema}.p{step} (id INT PRIMARY KEY); INSERT INTO {schema}.p{step} VALUES ({number})"
                )
            }
        }
    }

    /// Ends the XA transaction that is prepared; else one that does it all at once, or one that stays prepared.
    fn xa(&mut self, schema: &str) -> String {
        let step = self.step;
        if let Some(xid) = self.prepared.take() {
            let end = ["COMMIT", "ROLLBACK"][self.random.random_range(0..2)];
            return format!("XA {end} '{xid}'");
        }
        let prepare = format!(
            "XA START 'x{step}'; INSERT INTO {schema}.x (v) VALUES ({step}), (-{step}); XA END 'x{step}'; \
             XA PREPARE 'x{step}'"
        );
        if self.random.random_range(0..3) == 0 {
            return format!("{prepare}; XA COMMIT 'x{step}'");
        }
        self.prepared = Some(format!("x{step}"));
        prepare
    }

    /// What the server holds now. Nothing else may run.
    pub fn moment(mysqld: &Mysqld) -> Moment {
        Moment {
            checksums: checksums(mysqld),
            prepared: prepared(mysqld),
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
            prepared: String::new(),
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

/// Columns and checksums of all tables.
pub fn checksums(mysqld: &Mysqld) -> String {
    let ours = "table_schema IN ('a', 'b', 'c')";
    mysqld.sql(&format!(
        "SELECT table_schema, table_name, column_name, column_type FROM information_schema.columns \
         WHERE {ours} ORDER BY table_schema, table_name, ordinal_position; \
         SET SESSION group_concat_max_len = 1000000; \
         SELECT CONCAT('CHECKSUM TABLE ', GROUP_CONCAT(table_schema, '.', table_name ORDER BY table_schema, table_name)) \
         INTO @checksum FROM information_schema.tables WHERE {ours}; \
         PREPARE checksum FROM @checksum; EXECUTE checksum"
    ))
}

/// The XA transactions that are prepared.
pub fn prepared(mysqld: &Mysqld) -> String {
    mysqld.sql("XA RECOVER")
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
