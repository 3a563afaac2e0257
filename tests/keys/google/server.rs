//! A strict Cloud KMS: what its reference promises of `encrypt` and `decrypt`, and a refusal of everything else.
//!
//! `cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/{encrypt,decrypt}`: bytes are
//! base64, CRC32Cs are decimal text and are compared with what came (400 `INVALID_ARGUMENT`); additional authenticated
//! data must be the same for both; `encrypt` uses the primary version, `decrypt` finds the version by the ciphertext; a
//! version that is disabled or destroyed is 400 `FAILED_PRECONDITION`; 401 without a token that was given out here, 403
//! for a key of somebody else's, 404 for one that is not there.
//!
//! Inside is AES-256-GCM with a key for each version.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use data_encoding::BASE64;
use gcm::{Cipher, NONCE_SIZE};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;

const TAG_SIZE: usize = 16;

type Answer = Response<Full<Bytes>>;
type Refused = Box<Answer>;

/// What is to be wrong with the next answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 503.
    Unavailable,
    /// A bit of the wrapped or opened key is another one, its CRC32C is the true one.
    Damaged,
    /// It does not say that it got the right bytes.
    Unverified,
    /// 403.
    Denied,
}

#[derive(Debug, Default)]
struct State {
    /// By a key's full name: the secrets of its versions, the primary one last; none when disabled.
    keys: BTreeMap<String, Vec<Option<[u8; 32]>>>,
    tokens: Vec<String>,
    given: u32,
    faults: Vec<Fault>,
    asked: Vec<String>,
}

/// The server; it ends with the test's process.
pub struct GoogleKms {
    endpoint: String,
    state: Arc<Mutex<State>>,
    dir: TempDir,
}

impl GoogleKms {
    /// Starts it, without a key.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(accept(listener, shared));
        });
        let dir = tempfile::tempdir().unwrap();
        let server = Self {
            endpoint,
            state,
            dir,
        };
        server.write_credentials();
        server
    }

    /// A workload identity configuration whose tokens come from here.
    fn write_credentials(&self) {
        let subject = self.dir.path().join("subject");
        std::fs::write(&subject, "who-we-are").unwrap();
        let configuration = json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("{}/token", self.endpoint),
            "credential_source": {"file": subject},
        });
        std::fs::write(self.credentials_file(), configuration.to_string()).unwrap();
    }

    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    pub fn credentials_file(&self) -> PathBuf {
        self.dir.path().join("credentials.json")
    }

    /// Makes a key with one version; its reference.
    pub fn create_key(&self, name: &str) -> String {
        let name = format!("projects/p/locations/europe-west3/keyRings/gtide/cryptoKeys/{name}");
        self.add_version(&format!("gcp-kms:{name}"));
        format!("gcp-kms:{name}")
    }

    /// Another version, which is the primary one from now on.
    pub fn add_version(&self, reference: &str) {
        let name = reference.trim_start_matches("gcp-kms:").to_owned();
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).unwrap();
        self.lock().keys.entry(name).or_default().push(Some(secret));
    }

    /// No version can be used any more.
    pub fn disable(&self, reference: &str) {
        let name = reference.trim_start_matches("gcp-kms:");
        self.lock().keys.get_mut(name).unwrap().fill(None);
    }

    /// No token that was given out is good any more.
    pub fn revoke_tokens(&self) {
        self.lock().tokens.clear();
    }

    /// Tokens that were given out.
    pub fn tokens_given(&self) -> u32 {
        self.lock().given
    }

    /// What is wrong with the next answers, one after the other.
    pub fn fail(&self, faults: &[Fault]) {
        let mut faults = faults.to_vec();
        faults.reverse();
        self.lock().faults = faults;
    }

    /// What was asked of keys so far, as it came.
    pub fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((client, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| serve(request, &state));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(client), service)
                .await;
        });
    }
}

async fn serve(
    request: Request<Incoming>,
    state: &Arc<Mutex<State>>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut state = state.lock().unwrap();
    if head.method == Method::POST && head.uri.path() == "/token" {
        state.given += 1;
        let token = format!("token-{}", state.given);
        state.tokens.push(token.clone());
        let answer = json!({
            "access_token": token, "expires_in": 3600, "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        });
        return Ok(ok(&answer));
    }
    let token = head
        .headers
        .get("authorization")
        .map(|value| value.to_str().unwrap());
    let token = token.and_then(|value| value.strip_prefix("Bearer "));
    if !token.is_some_and(|token| state.tokens.iter().any(|given| given == token)) {
        return Ok(refuse(
            401,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials.",
        ));
    }
    state
        .asked
        .push(String::from_utf8_lossy(&body).into_owned());
    let answer = answer(&mut state, &head.method, head.uri.path(), &body);
    Ok(answer.unwrap_or_else(|refused| *refused))
}

fn answer(state: &mut State, method: &Method, path: &str, body: &[u8]) -> Result<Answer, Refused> {
    let fault = state.faults.pop();
    match fault {
        Some(Fault::Unavailable) => return Err(refused(503, "UNAVAILABLE", "not available")),
        Some(Fault::Denied) => return Err(refused(403, "PERMISSION_DENIED", "denied")),
        _ => {}
    }
    let name = path.strip_prefix("/v1/").filter(|_| method == Method::POST);
    let asked = name.and_then(|name| name.split_once(':'));
    let (name, verb) = asked.ok_or_else(|| refused(404, "NOT_FOUND", "no such method"))?;
    let versions = state.keys.get(name);
    let versions = versions.ok_or_else(|| refused(404, "NOT_FOUND", "CryptoKey not found"))?;
    let body = serde_json::from_slice(body).map_err(|_| invalid("not JSON"))?;
    let data = field(&body, "additionalAuthenticatedData")?;
    let known = ["additionalAuthenticatedData", "plaintext", "ciphertext"];
    for name in body.as_object().unwrap().keys() {
        if !known.contains(&name.trim_end_matches("Crc32c")) {
            return Err(invalid("unknown name"));
        }
    }
    match verb {
        "encrypt" => encrypt(name, versions, &field(&body, "plaintext")?, &data, fault),
        "decrypt" => decrypt(versions, &field(&body, "ciphertext")?, &data, fault),
        _ => Err(invalid("no such method")),
    }
}

/// Bytes that have the CRC32C that came with them.
fn field(body: &Value, name: &str) -> Result<Vec<u8>, Refused> {
    let text = body[name].as_str().ok_or_else(|| invalid("missing"))?;
    let bytes = BASE64.decode(text.as_bytes());
    let bytes = bytes.map_err(|_| invalid("not base64"))?;
    let crc32c = body[format!("{name}Crc32c")].as_str();
    if crc32c.and_then(|text| text.parse().ok()) != Some(crc32c::crc32c(&bytes)) {
        return Err(invalid("the checksum did not match"));
    }
    Ok(bytes)
}

fn encrypt(
    name: &str,
    versions: &[Option<[u8; 32]>],
    plaintext: &[u8],
    data: &[u8],
    fault: Option<Fault>,
) -> Result<Answer, Refused> {
    let version = versions.len() - 1;
    let secret = versions[version].ok_or_else(disabled)?;
    let mut text = plaintext.to_vec();
    let mut nonce = [0; NONCE_SIZE];
    getrandom::fill(&mut nonce).unwrap();
    let tag = Cipher::new(&secret).seal(nonce, data, &mut text);
    let sealed = [&[u8::try_from(version).unwrap()][..], &nonce, &text, &tag].concat();
    let is_verified = fault != Some(Fault::Unverified);
    let (ciphertext, crc32c) = outgoing(sealed, fault);
    Ok(ok(&json!({
        "name": format!("{name}/cryptoKeyVersions/{}", version + 1),
        "ciphertext": ciphertext, "ciphertextCrc32c": crc32c,
        "verifiedPlaintextCrc32c": is_verified,
        "verifiedAdditionalAuthenticatedDataCrc32c": is_verified,
        "protectionLevel": "SOFTWARE",
    })))
}

fn decrypt(
    versions: &[Option<[u8; 32]>],
    sealed: &[u8],
    data: &[u8],
    fault: Option<Fault>,
) -> Result<Answer, Refused> {
    let wrong = || invalid("Decryption failed: the ciphertext is invalid.");
    let (version, rest) = sealed.split_first().ok_or_else(wrong)?;
    let secret = versions.get(usize::from(*version)).ok_or_else(wrong)?;
    let secret = secret.ok_or_else(disabled)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_SIZE>().ok_or_else(wrong)?;
    let (text, tag) = rest.split_last_chunk::<TAG_SIZE>().ok_or_else(wrong)?;
    let mut text = text.to_vec();
    let opened = Cipher::new(&secret).open(*nonce, data, &mut text, tag);
    opened.map_err(|_| wrong())?;
    let (plaintext, crc32c) = outgoing(text, fault);
    Ok(ok(&json!({
        "plaintext": plaintext, "plaintextCrc32c": crc32c,
        "usedPrimary": usize::from(*version) == versions.len() - 1,
        "protectionLevel": "SOFTWARE",
    })))
}

fn disabled() -> Refused {
    refused(
        400,
        "FAILED_PRECONDITION",
        "CryptoKeyVersion is not enabled, current state is: DISABLED.",
    )
}

fn invalid(message: &str) -> Refused {
    refused(400, "INVALID_ARGUMENT", message)
}

fn refused(status: u16, code: &str, message: &str) -> Refused {
    Box::new(refuse(status, code, message))
}

/// Bytes as they go out, and the CRC32C of what they should be.
fn outgoing(mut bytes: Vec<u8>, fault: Option<Fault>) -> (String, String) {
    let crc32c = crc32c::crc32c(&bytes).to_string();
    if fault == Some(Fault::Damaged) {
        bytes[3] ^= 1;
    }
    (BASE64.encode(&bytes), crc32c)
}

fn ok(body: &Value) -> Answer {
    respond(200, body)
}

fn refuse(status: u16, code: &str, message: &str) -> Answer {
    respond(
        status,
        &json!({"error": {"code": status, "status": code, "message": message}}),
    )
}

fn respond(status: u16, body: &Value) -> Answer {
    Response::builder()
        .status(status)
        .header("content-type", "application/json; charset=UTF-8")
        .body(Full::from(body.to_string()))
        .unwrap()
}
