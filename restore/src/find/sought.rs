//! What is sought: tables, kinds of change, GTIDs, a time. Pure.

use std::str::FromStr;

use engine::binlog::{Boundary, Change, ChangeKind, Summary};
use engine::gtid::GtidSet;
use jiff::Timestamp;

/// What a transaction must have to be found: each of those that are named.
#[derive(Debug, Clone, Default)]
pub struct Sought {
    /// It changes one of these tables; any, if there are none.
    pub tables: Vec<TableName>,
    /// In one of these ways; in any, if there are none.
    pub kinds: Vec<ChangeKind>,
    /// It is one of these.
    pub gtids: Option<GtidSet>,
    /// It was committed at this time or later.
    pub from: Option<Timestamp>,
    /// It was committed at this time or earlier.
    pub to: Option<Timestamp>,
    /// How many transactions are enough.
    pub limit: usize,
}

/// `TABLE`, `SCHEMA.TABLE` or `SCHEMA.*`. Upper and lower case are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    schema: Option<String>,
    table: Option<String>,
}

impl FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |name: &str| name.trim_matches('`').to_owned();
        let (schema, table) = match text.split_once('.') {
            Some((schema, "*")) => (Some(plain(schema)), None),
            Some((schema, table)) => (Some(plain(schema)), Some(plain(table))),
            None => (None, Some(plain(text))),
        };
        if [&schema, &table]
            .into_iter()
            .flatten()
            .any(String::is_empty)
        {
            return Err("write TABLE, SCHEMA.TABLE or SCHEMA.*".to_owned());
        }
        Ok(Self { schema, table })
    }
}

impl TableName {
    fn is(&self, schema: &str, table: &str) -> bool {
        let same = |wanted: &Option<String>, name: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        same(&self.schema, schema) && same(&self.table, table)
    }

    /// Whether a statement, executed in `schema`, names it, or drops the schema that it is in.
    fn is_named_in(&self, statement: &str, schema: &str) -> bool {
        let words = words(statement);
        let of_schema = words.iter().take(2).any(|word| {
            ["DATABASE", "SCHEMA"]
                .iter()
                .any(|object| word.eq_ignore_ascii_case(object))
        });
        if of_schema {
            let wanted = self.schema.as_deref();
            return wanted
                .is_some_and(|wanted| words.iter().any(|w| w.eq_ignore_ascii_case(wanted)));
        }
        let mut named = words
            .iter()
            .enumerate()
            .filter(|(_, word)| word.as_str() != ".");
        named.any(|(at, word)| {
            let before = |steps: usize| at.checked_sub(steps).and_then(|at| words.get(at));
            let is_schema = words
                .get(at.saturating_add(1))
                .is_some_and(|next| next == ".");
            match (before(1).is_some_and(|dot| dot == "."), before(2)) {
                _ if is_schema => false,
                (true, Some(schema)) => self.is(schema, word),
                _ => self.is(schema, word),
            }
        })
    }
}

/// The names and words of a statement, and the dots between them; strings and comments left out. The
/// statement may be cut off anywhere.
fn words(statement: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = statement;
    while let Some(first) = rest.chars().next() {
        let behind = rest.get(first.len_utf8()..).unwrap_or_default();
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        rest = if let Some(comment) = rest.strip_prefix("/*").filter(|c| !c.starts_with('!')) {
            comment.split_once("*/").map_or("", |(_, behind)| behind)
        } else if matches!(first, '\'' | '"') {
            behind.split_once(first).map_or("", |(_, behind)| behind)
        } else if first == '`' {
            let (name, behind) = behind.split_once('`').unwrap_or((behind, ""));
            words.push(name.to_owned());
            behind
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            words.push(word.to_owned());
            behind
        } else {
            if first == '.' {
                words.push(".".to_owned());
            }
            behind
        };
    }
    words
}

impl Sought {
    /// Whether a file with this summary may hold it.
    pub fn may_be_in(&self, binlog: &Summary) -> bool {
        if binlog.transactions == 0 && !binlog.open_transaction {
            return false;
        }
        let by_gtid = self
            .gtids
            .as_ref()
            .is_none_or(|gtids| !gtids.is_disjoint(&binlog.added_gtids));
        by_gtid
            && binlog
                .commit_times()
                .is_none_or(|(earliest, latest)| self.may_be_within(earliest, latest))
    }

    /// Whether some of what was committed between these times may be it.
    pub fn may_be_within(&self, earliest: Timestamp, latest: Timestamp) -> bool {
        self.from.is_none_or(|from| latest >= from) && self.to.is_none_or(|to| earliest <= to)
    }

    /// Whether a time is sought.
    pub fn has_time(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }

    /// Whether any change will do, even none.
    pub fn any_change(&self) -> bool {
        self.tables.is_empty() && self.kinds.is_empty()
    }

    /// Whether the transaction that begins here may be it.
    pub fn is_transaction(&self, boundary: &Boundary) -> bool {
        let by_gtid = self.gtids.as_ref().is_none_or(|gtids| {
            boundary
                .gtid
                .as_ref()
                .is_some_and(|gtid| gtids.contains(gtid))
        });
        by_gtid
            && boundary
                .commit
                .is_none_or(|commit| self.may_be_within(commit, commit))
    }

    /// Whether it is the change.
    pub fn is_change(&self, change: &Change) -> bool {
        if !self.kinds.is_empty() && !self.kinds.contains(&change.kind) {
            return false;
        }
        let named = |name: &TableName| match (&change.table, &change.statement) {
            (Some(table), _) => name.is(&change.schema, table),
            (None, Some(statement)) => name.is_named_in(statement, &change.schema),
            (None, None) => false,
        };
        self.tables.is_empty() || self.tables.iter().any(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(table: &str, statement: &str) -> bool {
        table
            .parse::<TableName>()
            .unwrap()
            .is_named_in(statement, "shop")
    }

    #[test]
    fn a_statement_names_a_table_with_its_schema_or_in_its_own() {
        assert!(names(
            "orders",
            "DROP TABLE `orders` /* generated by server */"
        ));
        assert!(names("shop.orders", "TRUNCATE orders"));
        assert!(names("SHOP.Orders", "ALTER TABLE shop . orders ADD x INT"));
        assert!(names("shop.*", "DROP TABLE customers"));
        assert!(names("shop.orders", "DROP DATABASE shop"));
        assert!(names("shop.orders", "/*!40000 DROP TABLE `a`, `orders` */"));
        assert!(!names("other.orders", "TRUNCATE orders"));
        assert!(!names("shop.orders", "TRUNCATE other.orders"));
        assert!(!names(
            "orders",
            "DELETE FROM t WHERE a = 'orders' /* orders */"
        ));
        assert!(!names("orders", "DROP TABLE orders.items"));
        assert!(!names("orders", "UPDATE t SET s = 'cut off orders"));
    }

    #[test]
    fn what_names_no_table_is_refused() {
        for text in ["", ".", "shop.", ".orders"] {
            assert!(text.parse::<TableName>().is_err(), "{text:?}");
        }
    }
}
