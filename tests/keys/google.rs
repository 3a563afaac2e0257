//! Google Cloud KMS, as a strict server of the tests' own has it.

mod server;

use engine::archive::ObjectIdentity;
use engine::config::EncryptionConfig;
use engine::exit::{Diagnose, Exit, chain};
use engine::keyring::{Keyring, KeyringError};
use engine::layout::{Sequence, SourceIdentity};

use crate::place::{assert_verifies, key, sealed_with, set_encryption, site};
use crate::workspace::{code, json, stderr};
use server::{Fault, GoogleKms};

fn keyring(server: &GoogleKms, reference: &str, old_keys: &[&str]) -> Keyring {
    Keyring::open(&EncryptionConfig {
        endpoint: Some(server.endpoint()),
        credentials: Some(format!("file:{}", server.credentials_file().display())),
        old_keys: old_keys.iter().map(|&key| key.to_owned()).collect(),
        ..EncryptionConfig::new(reference)
    })
    .unwrap()
}

fn identity(number: u64) -> ObjectIdentity {
    ObjectIdentity {
        source: SourceIdentity {
            cluster: "orders".parse().unwrap(),
            server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
            incarnation: 1,
        },
        sequence: Sequence(number),
        file_name: format!("binlog.{number:06}"),
    }
}

#[tokio::test]
async fn a_data_key_opens_for_its_own_object_only_and_over_versions() {
    let server = GoogleKms::start();
    let reference = server.create_key("archive");
    let keyring = keyring(&server, &reference, &[]);
    let mine = identity(7);
    let key = keyring.new_data_key(&mine).await.unwrap();
    let (id, wrapped) = (key.key_id(), key.wrapped_key());
    assert_eq!(id.as_str(), reference);
    let opened = keyring.unwrap(id, wrapped, &mine).await.unwrap();

    // The service's own rotation: the former version still opens.
    server.add_version(&reference);
    assert!(keyring.unwrap(id, wrapped, &mine).await.is_ok());
    let (_, again) = keyring.wrap(&opened, &mine).await.unwrap();
    assert_ne!(
        again.as_bytes()[0],
        wrapped.as_bytes()[0],
        "the primary version wraps"
    );

    for wrapped in [wrapped, &again] {
        let error = keyring.unwrap(id, wrapped, &identity(8)).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Corrupt, "{}", chain(&error));
    }
    assert_eq!(server.tokens_given(), 1, "one token serves all");
}

#[tokio::test]
async fn refusals_have_their_class_and_their_hint() {
    let server = GoogleKms::start();
    let reference = server.create_key("archive");
    let keyring = keyring(&server, &reference, &[]);
    let mine = identity(7);
    let key = keyring.new_data_key(&mine).await.unwrap();
    let (id, wrapped) = (key.key_id(), key.wrapped_key());

    // A revoked token is replaced, a short absence and a damaged answer are passed over.
    server.revoke_tokens();
    assert!(keyring.unwrap(id, wrapped, &mine).await.is_ok());
    assert_eq!(server.tokens_given(), 2);
    for fault in [Fault::Unavailable, Fault::Damaged, Fault::Unverified] {
        server.fail(&[fault]);
        assert!(keyring.new_data_key(&mine).await.is_ok(), "{fault:?}");
        server.fail(&[fault]);
        assert!(
            keyring.unwrap(id, wrapped, &mine).await.is_ok(),
            "{fault:?}"
        );
    }
    server.fail(&[Fault::Unavailable; 3]);
    let error = keyring.new_data_key(&mine).await.unwrap_err();
    told(&error, Exit::Transient, "waits", "UNAVAILABLE");
    server.fail(&[Fault::Damaged; 3]);
    let error = keyring.unwrap(id, wrapped, &mine).await.unwrap_err();
    told(&error, Exit::Transient, "endpoint", "CRC32C");
    server.fail(&[Fault::Unverified; 3]);
    let error = keyring.new_data_key(&mine).await.unwrap_err();
    told(&error, Exit::Transient, "endpoint", "right bytes");
    server.fail(&[Fault::Denied]);
    let error = keyring.new_data_key(&mine).await.unwrap_err();
    told(
        &error,
        Exit::Usage,
        "Encrypter/Decrypter",
        "PERMISSION_DENIED",
    );

    server.disable(&reference);
    let error = keyring.unwrap(id, wrapped, &mine).await.unwrap_err();
    told(
        &error,
        Exit::Usage,
        "enable the key again",
        "FAILED_PRECONDITION",
    );
    let missing = reference.replace("archive", "other");
    let keyring = self::keyring(&server, &missing, &[]);
    let error = keyring.new_data_key(&mine).await.unwrap_err();
    told(&error, Exit::Usage, "name", "NOT_FOUND");
}

fn told(error: &KeyringError, exit: Exit, hint: &str, says: &str) {
    let text = chain(error);
    println!("{text}");
    assert_eq!(error.exit(), exit, "{text}");
    assert!(text.contains(says), "{text}");
    assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
}

#[test]
fn rotated_and_rewrapped_the_disabled_key_is_not_needed() {
    let server = GoogleKms::start();
    let first = server.create_key("first");
    let second = server.create_key("second");
    let (site, originals) = site(4);
    let lines = |reference: &str| {
        let credentials = server.credentials_file();
        let (endpoint, credentials) = (server.endpoint(), credentials.display());
        format!(
            "key = \"{reference}\"\nendpoint = \"{endpoint}\"\ncredentials = \"file:{credentials}\"\n"
        )
    };
    set_encryption(&site, &lines(&first));
    site.close_up_to(2);
    assert_eq!(site.run_once().code, Some(0));
    let rotated = key(&site, &["rotate", &second]);
    assert_eq!(code(&rotated), 0, "{}", stderr(&rotated));
    site.close_up_to(4);
    assert_eq!(site.run_once().code, Some(0));
    let expected = [&first, &first, &second, &second];
    assert!(sealed_with(&site).iter().eq(expected));
    let done = key(&site, &["rewrap"]);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    assert_eq!(json(&done)["destinations"][0]["rewrapped"], 2);

    // Disabled, though it is still named: its refusal is a reason to look for the other envelope.
    server.disable(&first);
    assert_verifies(&site);
    set_encryption(&site, &lines(&second));
    assert_verifies(&site);
    site.assert_identical(&originals);
    assert!(
        server
            .asked()
            .iter()
            .all(|asked| asked.contains("additionalAuthenticatedDataCrc32c"))
    );
}
