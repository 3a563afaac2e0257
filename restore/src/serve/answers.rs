//! What is answered to the statements that are understood. Pure, but for the time of day.

use engine::binlog::ChecksumAlgorithm;
use jiff::Timestamp;

use super::answer::{Refusal, Rows};
use super::offer::Offer;
use super::statement::{Expression, Selected};

/// What is asked is of no source of replication.
pub(super) fn not_here() -> Refusal {
    Refusal::new(
        1235,
        "42000",
        "This is an archive that is served by gtide, and no server: it answers what replicas and mysqlbinlog ask",
    )
}

/// One row of expressions.
pub(super) fn select(
    offer: &Offer,
    checksum: Option<ChecksumAlgorithm>,
    selected: &[Selected],
) -> Result<Rows, Refusal> {
    let values = selected.iter().map(|selected| match &selected.value {
        Expression::Version => Ok(Some(offer.version())),
        Expression::Time => Ok(Some(Timestamp::now().as_second().to_string())),
        Expression::Number(number) => Ok(Some(number.to_string())),
        Expression::User(name) => Ok(user(name, checksum)),
        Expression::System(name) => system(offer, name).map(Some).ok_or_else(|| unknown(name)),
    });
    Ok(Rows {
        columns: selected
            .iter()
            .map(|selected| selected.column.clone())
            .collect(),
        rows: vec![values.collect::<Result<_, _>>()?],
    })
}

/// `SHOW VARIABLES LIKE`: no row of a variable that is not there.
pub(super) fn variable(offer: &Offer, name: &str) -> Rows {
    let row = system(offer, name).map(|value| vec![Some(name.to_owned()), Some(value)]);
    Rows {
        columns: ["Variable_name", "Value"].map(str::to_owned).to_vec(),
        rows: row.into_iter().collect(),
    }
}

/// `SHOW BINARY LOGS`.
pub(super) fn binary_logs(offer: &Offer) -> Rows {
    let row = |(name, size): (&str, u64)| {
        [name.to_owned(), size.to_string(), "No".to_owned()]
            .map(Some)
            .to_vec()
    };
    let steps = offer.steps();
    let files = steps.iter().map(|step| &step.part.file);
    let mut files: Vec<_> = files.map(|file| (file.file_name(), file.size)).collect();
    files.dedup();
    Rows {
        columns: ["Log_name", "File_size", "Encrypted"]
            .map(str::to_owned)
            .to_vec(),
        rows: files.into_iter().map(row).collect(),
    }
}

/// `SHOW BINARY LOG STATUS`.
pub(super) fn binary_log_status(offer: &Offer) -> Rows {
    let columns = [
        "File",
        "Position",
        "Binlog_Do_DB",
        "Binlog_Ignore_DB",
        "Executed_Gtid_Set",
    ];
    let row = offer.steps().last().map(|step| {
        let part = &step.part;
        let end = part.to.unwrap_or(part.file.size).to_string();
        let executed = offer.executed().to_string();
        let values = [
            part.file.file_name().to_owned(),
            end,
            String::new(),
            String::new(),
            executed,
        ];
        values.map(Some).to_vec()
    });
    Rows {
        columns: columns.map(str::to_owned).to_vec(),
        rows: row.into_iter().collect(),
    }
}

fn user(name: &str, checksum: Option<ChecksumAlgorithm>) -> Option<String> {
    let asks = matches!(name, "source_binlog_checksum" | "master_binlog_checksum");
    let name = |checksum| match checksum {
        ChecksumAlgorithm::None => "NONE".to_owned(),
        ChecksumAlgorithm::Crc32 => "CRC32".to_owned(),
    };
    checksum.filter(|_| asks).map(name)
}

fn system(offer: &Offer, name: &str) -> Option<String> {
    Some(match name {
        "server_id" => offer.server_id.to_string(),
        "server_uuid" => offer.server_uuid.to_string(),
        "gtid_mode" => offer.gtid_mode().to_owned(),
        "enforce_gtid_consistency" | "read_only" | "super_read_only" | "log_bin" => "ON".to_owned(),
        "gtid_executed" => offer.executed().to_string(),
        "gtid_purged" => offer.before.to_string(),
        "binlog_checksum" => "CRC32".to_owned(),
        "version" => offer.version(),
        "version_comment" => "gtide: an archive of binary logs".to_owned(),
        "max_allowed_packet" => (1_u32 << 30).to_string(),
        _ => return None,
    })
}

/// `ER_UNKNOWN_SYSTEM_VARIABLE`: a replica that asks for semi-synchronous replication goes on without it.
fn unknown(name: &str) -> Refusal {
    Refusal::new(1193, "HY000", format!("Unknown system variable '{name}'"))
}
