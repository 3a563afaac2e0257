//! A binlog three times as large as the memory allowed is sealed and uploaded within a bounded memory.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::workspace::{Workspace, code, fixture, stderr};

const FILE_SIZE: u64 = 384 << 20;

/// The promise: `gtide` never needs more for one file, whatever the file's size.
const PEAK_KIB_MAX: u64 = 128 * 1024;

#[test]
#[ignore = "needs a minute and 1 GiB of disk"]
fn peak_memory_of_a_large_file_stays_under_128_mib() {
    let workspace = Workspace::empty();
    fs::copy(
        fixture("binlog/mysql-9.7/auto.cnf"),
        workspace.datadir().join("auto.cnf"),
    )
    .unwrap();
    write_binlog(&workspace.datadir().join("binlog.000001"));
    fs::write(
        workspace.datadir().join("binlog.index"),
        "./binlog.000001\n./binlog.000002\n",
    )
    .unwrap();
    workspace.init(&workspace.datadir().join("binlog.index"), &[]);

    let mut child = workspace
        .gtide()
        .args(["run", "--once"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak_kib(child.id()).unwrap_or(peak);
        sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let stored = fs::metadata(
        workspace
            .archive()
            .join("test")
            .join(SERVER_UUID)
            .join("1/log/0000000001.gtb"),
    )
    .unwrap();
    assert!(
        stored.len() > FILE_SIZE / 2,
        "the test's input is too easy: {}",
        stored.len()
    );
    assert!(peak > 0 && peak < PEAK_KIB_MAX, "peak memory {peak} KiB");
}

const SERVER_UUID: &str = "0d1a7e00-97a0-4000-8000-000000000001";

/// The high-water mark of a process's resident memory.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A real transaction of many rows, again and again, each time with another GTID and other row
/// bytes, so that it neither repeats nor compresses well.
fn write_binlog(path: &std::path::Path) {
    let folder = fixture("binlog/mysql-9.7");
    let source = fs::read(folder.join("binlog.000013")).unwrap();
    let expected: Value =
        serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let file = &expected["files"][12];
    assert_eq!(file["name"], "binlog.000013");
    let transactions = file["transactions"].as_array().unwrap();
    let largest = transactions
        .iter()
        .max_by_key(|t| t["length"].as_u64())
        .unwrap();
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let (start, length) = (number(&largest["position"]), number(&largest["length"]));
    let head = &source[..number(&transactions[0]["position"])];
    let template = &source[start..start + length];

    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    out.write_all(head).unwrap();
    let mut position = head.len() as u64;
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut gno = 1_000_000_u64;
    while position < FILE_SIZE {
        let mut transaction = template.to_vec();
        position = rewrite(&mut transaction, position, gno, &mut random);
        out.write_all(&transaction).unwrap();
        gno += 1;
    }
    out.into_inner().unwrap().sync_all().unwrap();
}

const GTID_EVENT: u8 = 33;
const WRITE_ROWS_EVENT: u8 = 30;

/// Gives each event its position, its GTID or random rows, and its CRC anew.
fn rewrite(transaction: &mut [u8], mut position: u64, gno: u64, random: &mut u64) -> u64 {
    let mut at = 0;
    while at < transaction.len() {
        let length = u32::from_le_bytes(transaction[at + 9..at + 13].try_into().unwrap()) as usize;
        let event = &mut transaction[at..at + length];
        position += length as u64;
        let wrapped = u32::try_from(position & 0xFFFF_FFFF).unwrap();
        event[13..17].copy_from_slice(&wrapped.to_le_bytes());
        match event[4] {
            GTID_EVENT => event[36..44].copy_from_slice(&gno.to_le_bytes()),
            WRITE_ROWS_EVENT => {
                for byte in &mut event[60..length - 4] {
                    *random ^= *random << 13;
                    *random ^= *random >> 7;
                    *random ^= *random << 17;
                    *byte = random.to_le_bytes()[3];
                }
            }
            _ => {}
        }
        let (body, footer) = event.split_at_mut(length - 4);
        footer.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        at += length;
    }
    position
}
