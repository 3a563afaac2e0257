//! Every configuration in `fixtures/config` means what its name says, or is refused as it says.

mod reference;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Config, EncryptionConfig, ReaderConfig};
use crate::exit::{Diagnose, Exit, chain};

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/config")
        .join(folder)
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let folder = fixtures("valid");
    let config = Config::load(&folder.join("least.toml")).unwrap();
    assert_eq!((config.queue.lanes, config.queue.max_attempts), (4, 5));
    assert_eq!(config.queue.shutdown_grace, Duration::from_secs(30));
    assert_eq!(config.level, 3);
    assert_eq!(config.metrics, None);
    assert_eq!((config.spool.reserve, config.spool.pin), (2 << 30, true));
    assert_eq!(config.sources[0].datadir, Path::new("/var/lib/mysql"));
    assert_eq!(config.sources[0].incarnation, 1);
    // Relative to the file, wherever the program was started.
    let folder = std::path::absolute(folder).unwrap();
    let key = folder.join("gtide.key");
    let database = folder.join("gtide.db");
    assert_eq!(config.spool.dir, folder.join("spool"));
    assert_eq!(config.encryption.key, format!("file:{}", key.display()));
    assert_eq!(
        config.queue.database,
        format!("sqlite:{}", database.display())
    );
}

#[test]
fn every_key_is_read() {
    let config = Config::load(&fixtures("valid/everything.toml")).unwrap();
    assert_eq!(config.sources[0].datadir, Path::new("/var/lib/mysql"));
    assert_eq!(config.sources[0].incarnation, 2);
    assert_eq!((config.queue.lanes, config.queue.max_attempts), (8, 3));
    assert_eq!(config.queue.shutdown_grace, Duration::from_secs(90));
    assert_eq!(config.queue.bandwidth_limit, Some(20_000_000));
    assert_eq!(config.uploads(), 48, "8 lanes, 2 sources, 3 destinations");
    assert_eq!(config.level, 9);
    let listen = config.metrics.unwrap().listen;
    assert_eq!(listen.to_string(), "127.0.0.1:9999");
    assert_eq!((config.spool.reserve, config.spool.pin), (512 << 20, false));
    assert_eq!(config.destinations.len(), 3);
    let required: Vec<_> = config.destinations.iter().map(|d| d.required).collect();
    assert_eq!(required, [true, false, true]);
    assert_eq!(config.destinations[2].store.url, "gs://backups-eu/mysql");
    let s3 = &config.destinations[0].store;
    assert_eq!(
        s3.s3.role.as_deref(),
        Some("arn:aws:iam::123456789012:role/gtide")
    );
    assert_eq!(s3.s3.external_id.as_deref(), Some("orders"));
    assert_eq!(s3.s3.addressing.as_deref(), Some("virtual-host"));
    assert!(s3.s3.dual_stack);
    assert_eq!(s3.s3.encryption.as_deref(), Some("aws:kms"));
    assert_eq!(s3.s3.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(s3.s3.tags["team"], "dba");
    assert_eq!(s3.s3.object_lock.as_deref(), Some("governance"));
    assert_eq!(s3.s3.retain_days, Some(35));
    assert_eq!(s3.s3.renew_ahead, Some(Duration::from_mins(2)));
    assert_eq!(s3.region.as_deref(), Some("eu-central-1"));
    assert_eq!(
        s3.credentials.as_deref(),
        Some("file:/etc/gtide/credentials")
    );
}

#[test]
fn old_keys_and_a_key_service_are_read() {
    let config = Config::load(&fixtures("valid/kms.toml")).unwrap();
    assert_eq!(
        config.encryption,
        EncryptionConfig {
            key: "aws-kms:alias/gtide".to_owned(),
            old_keys: vec![
                "file:/etc/gtide/2025.key".to_owned(),
                "gcp-kms:projects/p/locations/eu/keyRings/r/cryptoKeys/k".to_owned(),
            ],
            endpoint: Some("https://kms.example.net".to_owned()),
            credentials: Some("profile:gtide".to_owned()),
        }
    );
}

#[test]
fn a_server_may_keep_the_queue_and_its_password_is_not_shown() {
    let config = Config::load(&fixtures("valid/postgres.toml")).unwrap();
    assert_eq!(
        config.queue.database,
        "postgres://archiver:s3cret@db.example:5432/gtide?sslmode=verify-full"
    );
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn a_reader_needs_destinations_and_a_key_alone() {
    let path = fixtures("valid/reader.toml");
    assert_eq!(ReaderConfig::load(&path).unwrap().destinations.len(), 1);
    assert!(Config::load(&path).is_err());
}

#[test]
fn what_cannot_be_meant_is_refused_by_file_and_key() {
    let mut count = 0;
    for entry in fs::read_dir(fixtures("invalid")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        let expected = first.strip_prefix("# expect: ").unwrap();
        let error = Config::load(&path).expect_err(&path.display().to_string());
        let words = chain(&error);
        assert!(words.contains(expected), "{}: {words}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(words.contains(name), "{words}");
        assert!(!words.contains("s3cret"), "{words}");
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.hint().is_some());
        count += 1;
    }
    assert!(count >= 19);
}
