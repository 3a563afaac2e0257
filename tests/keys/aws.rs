//! AWS KMS, as moto has it, through the real programs.

use std::fs;
use std::time::Duration;

use engine::config::EncryptionConfig;
use engine::keyring::{Keyring, KeyringError};
use engine::layout::Sequence;

use crate::archiver::Site;
use crate::harness::{Line, Moto, TcpProxy, wait_until};
use crate::place::{self, assert_verifies, key, sealed_with, set_encryption, site};
use crate::workspace::{code, json, stderr};

/// What `[encryption]` says of a key at moto.
fn lines(moto: &Moto, endpoint: &str, reference: &str, old_keys: &[&str]) -> String {
    format!(
        "key = \"{reference}\"\nold-keys = {old_keys:?}\nendpoint = \"{endpoint}\"\ncredentials = \"file:{}\"\n",
        moto.credentials_file().display()
    )
}

fn keyring(moto: &Moto, reference: &str) -> Keyring {
    Keyring::open(&EncryptionConfig {
        endpoint: Some(moto.endpoint()),
        credentials: Some(format!("file:{}", moto.credentials_file().display())),
        ..EncryptionConfig::new(reference)
    })
    .unwrap()
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn an_archive_under_an_alias_comes_back_by_alias_and_by_arn() {
    let moto = Moto::start();
    let arn = moto.create_key();
    moto.alias("gtide", &arn);
    let (site, originals) = site(4);
    set_encryption(
        &site,
        &lines(&moto, &moto.endpoint(), "aws-kms:alias/gtide", &[]),
    );
    let ran = site.run_once();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    site.assert_whole(&originals, 4);
    // An alias may stand for another key tomorrow: what is archived names the key itself.
    let id = format!("aws-kms:{arn}");
    assert_eq!(sealed_with(&site), vec![id.clone(); 4]);

    set_encryption(&site, &lines(&moto, &moto.endpoint(), &id, &[]));
    site.assert_identical(&originals);

    // Another key by its ARN is not even asked.
    let other = format!("aws-kms:{}", moto.create_key());
    set_encryption(&site, &lines(&moto, &moto.endpoint(), &other, &[]));
    let verify = site.workspace.verify();
    let report = String::from_utf8_lossy(&verify.stdout).into_owned();
    assert_eq!(code(&verify), 4, "{report}");
    assert!(report.contains(&id) && report.contains(&other), "{report}");

    // An alias that stands for another key does not open either, and an old key beside it does.
    moto.alias("next", other.trim_start_matches("aws-kms:"));
    let rotated = lines(&moto, &moto.endpoint(), "aws-kms:alias/next", &[&id]);
    set_encryption(&site, &rotated);
    site.assert_identical(&originals);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the lab: tests/lab/install"]
async fn a_data_key_opens_for_its_own_object_only() {
    let moto = Moto::start();
    let arn = format!("aws-kms:{}", moto.create_key());
    let keyring = keyring(&moto, &arn);
    let mine = engine::archive::ObjectIdentity {
        source: engine::layout::SourceIdentity {
            cluster: "orders".parse().unwrap(),
            server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
            incarnation: 1,
        },
        sequence: Sequence(7),
        file_name: "binlog.000007".to_owned(),
    };
    let key = keyring.new_data_key(&mine).await.unwrap();
    let (id, wrapped) = (key.key_id(), key.wrapped_key());
    let opened = keyring.unwrap(id, wrapped, &mine).await.unwrap();
    let (again, rewrapped) = keyring.wrap(&opened, &mine).await.unwrap();
    assert_eq!(&again, id);
    assert!(keyring.unwrap(&again, &rewrapped, &mine).await.is_ok());

    let mut others = vec![mine.clone(); 5];
    others[0].sequence = Sequence(8);
    others[1].file_name = "binlog.000008".to_owned();
    others[2].source.incarnation = 2;
    others[3].source.cluster = "billing".parse().unwrap();
    others[4].source.server_uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429563".parse().unwrap();
    for other in others {
        for wrapped in [wrapped, &rewrapped] {
            let error = keyring.unwrap(id, wrapped, &other).await.unwrap_err();
            assert!(matches!(error, KeyringError::Service { .. }), "{error:?}");
            assert!(error.lacks_key(), "{error:?}");
        }
    }
    let debug = format!("{key:?} {opened:?} {keyring:?}");
    assert!(debug.contains("secret"), "{debug}");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn while_the_key_service_is_away_nothing_is_sealed_and_then_it_drains() {
    let moto = Moto::start();
    let arn = format!("aws-kms:{}", moto.create_key());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let proxy = runtime.block_on(TcpProxy::start(&moto.address()));
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    proxy.set(Line::Refused);
    let (once, _) = site(1);
    set_encryption(&once, &lines(&moto, &endpoint, &arn, &[]));
    let ran = once.run_once();
    assert_eq!(ran.code, Some(6), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("nothing is stored unencrypted"),
        "{}",
        ran.stderr
    );
    assert_nothing_sealed(&once);

    let (site, originals) = site(4);
    set_encryption(&site, &lines(&moto, &endpoint, &arn, &[]));
    let daemon = site.start();
    let in_the_way = || site.status().to_string().contains("make a data key");
    assert!(
        wait_until(Duration::from_mins(4), in_the_way),
        "{}",
        site.log()
    );
    assert_nothing_sealed(&site);

    proxy.set(Line::Open);
    site.wait_for_watermark(4, Duration::from_mins(4));
    assert_eq!(daemon.terminate(), Some(0), "{}", site.log());
    site.assert_whole(&originals, 4);
}

/// No object and no entry: the layout version at most.
fn assert_nothing_sealed(site: &Site) {
    let keys = site.keys();
    let archived = keys
        .iter()
        .filter(|key| key.contains("/log/") || key.contains("/manifest/"));
    assert_eq!(archived.count(), 0, "{keys:?}");
    let spooled = crate::archiver::files_below(&site.spool());
    let is_sealed = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "gtb");
    assert!(!spooled.iter().any(is_sealed), "{spooled:?}");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn rotated_and_rewrapped_at_the_service_the_former_key_is_not_needed() {
    let moto = Moto::start();
    let (site, originals) = site(6);
    site.close_up_to(3);
    let first = format!("aws-kms:{}", moto.create_key());
    set_encryption(&site, &lines(&moto, &moto.endpoint(), &first, &[]));
    assert_eq!(site.run_once().code, Some(0));

    let second = moto.create_key();
    moto.alias("second", &second);
    let rotated = key(&site, &["rotate", "aws-kms:alias/second"]);
    assert_eq!(code(&rotated), 0, "{}", stderr(&rotated));
    let encryption = place::encryption(&site);
    assert_eq!(encryption["key"].as_str(), Some("aws-kms:alias/second"));
    assert_eq!(encryption["old-keys"][0].as_str(), Some(first.as_str()));
    site.close_up_to(6);
    assert_eq!(site.run_once().code, Some(0));
    let second = format!("aws-kms:{second}");
    let expected = [vec![first.clone(); 3], vec![second.clone(); 3]].concat();
    assert_eq!(sealed_with(&site), expected);

    let rewrapped = key(&site, &["rewrap"]);
    assert_eq!(code(&rewrapped), 0, "{}", stderr(&rewrapped));
    let report = &json(&rewrapped)["destinations"][0];
    assert_eq!(
        (&report["rewrapped"], &report["current"]),
        (&3.into(), &3.into()),
        "{report}"
    );
    assert_eq!(report["key_id"].as_str(), Some(second.as_str()));

    // Gone from the configuration, and from the service.
    let body = format!(
        r#"{{"KeyId": "{}", "PendingWindowInDays": 7}}"#,
        &first["aws-kms:".len()..]
    );
    moto.kms("ScheduleKeyDeletion", &body);
    set_encryption(&site, &lines(&moto, &moto.endpoint(), &second, &[]));
    assert_verifies(&site);
    site.assert_identical(&originals);
    let again = key(&site, &["rewrap"]);
    assert_eq!(json(&again)["destinations"][0]["covered"], 3);
    let keys = fs::read_dir(site.workspace.archived_folder().join("keys")).unwrap();
    assert_eq!(keys.count(), 1);
}
