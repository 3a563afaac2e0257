//! What moto does not do: a key service that refuses, and one that gives what it never should.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use engine::archive::{KeyId, ObjectIdentity, WrappedKey};
use engine::config::EncryptionConfig;
use engine::exit::{Diagnose, Exit, chain};
use engine::keyring::{Keyring, KeyringError};
use engine::layout::{Sequence, SourceIdentity};
use engine::retry::RetryClass;

const ARN: &str = "arn:aws:kms:eu-central-1:123456789012:key/1";

/// Answers every request alike, as AWS's KMS would, and keeps what it was asked.
struct Canned {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
    credentials: tempfile::NamedTempFile,
}

impl Canned {
    fn start(status: &'static str, body: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&asked);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let request = read(&mut client);
                seen.lock().unwrap().push(request);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.1\r\n\
                     content-length: {length}\r\nconnection: close\r\n\r\n"
                );
                let _ = client.write_all(format!("{head}{body}").as_bytes());
            }
        });
        let mut credentials = tempfile::NamedTempFile::new().unwrap();
        let text = "[default]\naws_access_key_id = tester\naws_secret_access_key = hunter2\n";
        credentials.write_all(text.as_bytes()).unwrap();
        Self {
            endpoint,
            asked,
            credentials,
        }
    }

    fn refusing(code: &str, status: &'static str) -> Self {
        let body = format!(r#"{{"__type": "{code}", "message": "Says the test."}}"#);
        Self::start(status, body)
    }

    fn keyring(&self) -> Keyring {
        Keyring::open(&EncryptionConfig {
            endpoint: Some(self.endpoint.clone()),
            credentials: Some(format!("file:{}", self.credentials.path().display())),
            ..EncryptionConfig::new(format!("aws-kms:{ARN}"))
        })
        .unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(client: &mut std::net::TcpStream) -> String {
    let mut request = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_lowercase();
            let length = lower
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.trim().parse().unwrap()) {
                return text;
            }
        }
        match client.read(&mut bytes).unwrap_or(0) {
            0 => return text,
            read => request.extend_from_slice(&bytes[..read]),
        }
    }
}

fn identity() -> ObjectIdentity {
    ObjectIdentity {
        source: SourceIdentity {
            cluster: "orders".parse().unwrap(),
            server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
            incarnation: 1,
        },
        sequence: Sequence(7),
        file_name: "binlog.000007".to_owned(),
    }
}

async fn opened(canned: &Canned) -> KeyringError {
    let id: KeyId = format!("aws-kms:{ARN}").parse().unwrap();
    let wrapped = WrappedKey::new(vec![1; 100]);
    let opened = canned.keyring().unwrap(&id, &wrapped, &identity()).await;
    opened.unwrap_err()
}

/// Code, status; exit code, whether the data key under another key helps, and what the hint says.
const REFUSALS: [(&str, &str, Exit, bool, &str); 12] = [
    (
        "DisabledException",
        "400 Bad Request",
        Exit::Usage,
        true,
        "enable the key again",
    ),
    (
        "KMSInvalidStateException",
        "400 Bad Request",
        Exit::Usage,
        true,
        "cancel its deletion",
    ),
    (
        "NotFoundException",
        "400 Bad Request",
        Exit::Usage,
        true,
        "its region",
    ),
    (
        "AccessDeniedException",
        "400 Bad Request",
        Exit::Usage,
        true,
        "kms:GenerateDataKey",
    ),
    (
        "InvalidCiphertextException",
        "400 Bad Request",
        Exit::Corrupt,
        true,
        "old-keys",
    ),
    (
        "IncorrectKeyException",
        "400 Bad Request",
        Exit::Corrupt,
        true,
        "old-keys",
    ),
    (
        "ExpiredTokenException",
        "400 Bad Request",
        Exit::Transient,
        false,
        "credentials",
    ),
    (
        "UnrecognizedClientException",
        "400 Bad Request",
        Exit::Transient,
        false,
        "credentials",
    ),
    (
        "KeyUnavailableException",
        "500 Internal Server Error",
        Exit::Transient,
        false,
        "waits",
    ),
    (
        "ThrottlingException",
        "400 Bad Request",
        Exit::Transient,
        false,
        "waits",
    ),
    (
        "KMSInternalException",
        "500 Internal Server Error",
        Exit::Transient,
        false,
        "waits",
    ),
    (
        "ValidationException",
        "400 Bad Request",
        Exit::Usage,
        false,
        "see what",
    ),
];

#[tokio::test]
async fn every_refusal_has_its_class_and_its_hint() {
    for (code, status, exit, lacks_key, hint) in REFUSALS {
        let canned = Canned::refusing(code, status);
        let error = opened(&canned).await;
        let text = chain(&error);
        println!("{text}");
        assert_eq!(error.exit(), exit, "{text}");
        assert_eq!(error.lacks_key(), lacks_key, "{text}");
        let is_transient = exit == Exit::Transient;
        assert_eq!(
            error.retry_class() != RetryClass::Never,
            is_transient,
            "{text}"
        );
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        assert!(
            text.starts_with(&format!("open a data key with key aws-kms:{ARN}: ")),
            "{text}"
        );
        assert!(
            text.contains(code) && text.contains("Says the test."),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn a_request_names_key_and_context_and_no_secret() {
    let canned = Canned::refusing("DisabledException", "400 Bad Request");
    let made = canned.keyring().new_data_key(&identity()).await;
    let text = chain(&made.unwrap_err());
    assert!(text.starts_with("make a data key with key"), "{text}");
    let asked = canned.asked();
    assert_eq!(asked.len(), 1, "not tried again: {asked:?}");
    for part in [
        "TrentService.GenerateDataKey",
        "/eu-central-1/kms/aws4_request",
        ARN,
        "\"AES_256\"",
        "\"gtide:cluster\":\"orders\"",
        "\"gtide:server_uuid\":\"3e11fa47-71ca-11e1-9e33-c80aa9429562\"",
        "\"gtide:incarnation\":\"1\"",
        "\"gtide:sequence\":\"7\"",
        "\"gtide:file_name\":\"binlog.000007\"",
    ] {
        assert!(asked[0].contains(part), "{part} is not in {}", asked[0]);
    }
    assert!(!asked[0].contains("hunter2"));
}

#[tokio::test]
async fn what_a_key_service_never_gives_is_not_believed() {
    let short = r#"{"KeyId": "arn:aws:kms:eu-central-1:123456789012:key/1", "Plaintext": "AAAA"}"#;
    let cases = [
        ("{}", "no key of 32 bytes"),
        (short, "no key of 32 bytes"),
        ("<html>", "open a data key"),
    ];
    for (body, says) in cases {
        let error = opened(&Canned::start("200 OK", body.to_owned())).await;
        let text = chain(&error);
        println!("{text}");
        assert!(text.contains(says), "{text}");
        assert!(!text.contains("AAAA"), "{text}");
        assert_eq!(error.exit(), Exit::Transient, "{text}");
    }
}

#[tokio::test]
async fn without_credentials_it_says_so() {
    let canned = Canned::refusing("DisabledException", "400 Bad Request");
    std::fs::write(canned.credentials.path(), "").unwrap();
    let error = opened(&canned).await;
    let text = chain(&error);
    println!("{text}");
    assert_eq!(error.exit(), Exit::Transient, "{text}");
    assert!(
        error.hint().unwrap().contains("credentials"),
        "{text} {:?}",
        error.hint()
    );
    assert!(canned.asked().is_empty());
}
