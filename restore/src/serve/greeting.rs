//! How a connection begins: the server's greeting, the client's answer, and the proof that it knows the password.
//!
//! MySQL internals manual, "Connection Phase"; `caching_sha2_password` after the server's
//! `sql/auth/sha2_password.cc`. The password is known here, so that the fast path of the method always does: the
//! client proves it by a scramble and never sends it. Pure.

use sha2::{Digest, Sha256};

use super::payload::{Malformed, Payload};

/// The one authentication method.
const METHOD: &str = "caching_sha2_password";

/// Bytes of the nonce.
pub(super) const NONCE_LEN: usize = 20;

/// What follows the scramble when it was right (`fast_auth_success`).
pub(super) const PASSWORD_IS_RIGHT: [u8; 2] = [1, 3];

/// Capabilities (`include/mysql_com.h`).
mod capability {
    pub(super) const LONG_PASSWORD: u32 = 1;
    pub(super) const CONNECT_WITH_DB: u32 = 1 << 3;
    pub(super) const PROTOCOL_41: u32 = 1 << 9;
    pub(super) const SSL: u32 = 1 << 11;
    pub(super) const TRANSACTIONS: u32 = 1 << 13;
    pub(super) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(super) const PLUGIN_AUTH: u32 = 1 << 19;
    pub(super) const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
}

/// What is offered to clients.
const OFFERED: u32 = capability::LONG_PASSWORD
    | capability::CONNECT_WITH_DB
    | capability::PROTOCOL_41
    | capability::SSL
    | capability::TRANSACTIONS
    | capability::SECURE_CONNECTION
    | capability::PLUGIN_AUTH
    | capability::PLUGIN_AUTH_LENENC;

/// `utf8mb4_0900_ai_ci`.
const CHARACTER_SET: u8 = 255;

/// The random bytes that a client's proof is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nonce([u8; NONCE_LEN]);

impl Nonce {
    /// Of random bytes. Clients take it for text, so that none of it is zero.
    pub(super) fn of(random: [u8; NONCE_LEN]) -> Self {
        Self(random.map(|byte| byte % 127 + 1))
    }
}

/// The server's first packet.
pub(super) fn greeting(version: &str, connection: u32, nonce: &Nonce) -> Vec<u8> {
    let (first, second) = nonce.0.split_at(8);
    let [low, low_too, high, high_too] = OFFERED.to_le_bytes();
    let mut payload = vec![10];
    payload.extend(version.as_bytes());
    payload.push(0);
    payload.extend(connection.to_le_bytes());
    payload.extend(first);
    payload.extend([0, low, low_too, CHARACTER_SET, 2, 0, high, high_too]);
    payload.push(21);
    payload.extend([0; 10]);
    payload.extend(second);
    payload.push(0);
    payload.extend(METHOD.as_bytes());
    payload.push(0);
    payload
}

/// Asks the client to prove itself by the method that there is.
pub(super) fn switch_method(nonce: &Nonce) -> Vec<u8> {
    let mut payload = vec![0xFE];
    payload.extend(METHOD.as_bytes());
    payload.push(0);
    payload.extend(nonce.0);
    payload.push(0);
    payload
}

/// The client's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It goes on over TLS, and answers again there.
    Encrypt,
    /// Who it is.
    LogIn {
        /// The user.
        user: String,
        /// Made with the method's name.
        proof: Vec<u8>,
        /// Whether the proof is by the method that there is.
        is_by_method: bool,
    },
}

impl Answer {
    /// Reads the client's answer.
    ///
    /// # Errors
    /// When it is none, or of a client from before MySQL 4.1.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Payload(payload);
        let capabilities = fields.u32()?;
        if capabilities & capability::PROTOCOL_41 == 0 {
            return Err(Malformed);
        }
        let _longest_packet_and_character_set = fields.take(5)?;
        let _reserved = fields.take(23)?;
        if fields.is_empty() {
            let encrypts = capabilities & capability::SSL != 0;
            return if encrypts {
                Ok(Self::Encrypt)
            } else {
                Err(Malformed)
            };
        }
        let user = String::from_utf8_lossy(fields.until_zero()?).into_owned();
        let proof = if capabilities & capability::PLUGIN_AUTH_LENENC != 0 {
            fields.with_length()?
        } else {
            let length = fields.u8()?;
            fields.take(usize::from(length))?
        };
        if capabilities & capability::CONNECT_WITH_DB != 0 {
            fields.until_zero()?;
        }
        let is_by_method = if capabilities & capability::PLUGIN_AUTH != 0 {
            fields.until_zero()? == METHOD.as_bytes()
        } else {
            false
        };
        Ok(Self::LogIn {
            user,
            proof: proof.to_vec(),
            is_by_method,
        })
    }
}

/// Whether this proves that the client knows the password: `SHA256(password) XOR SHA256(SHA256(SHA256(password)),
/// nonce)`. Each nonce is used once, so that the time that a comparison takes tells nothing.
pub(super) fn proves(proof: &[u8], password: &str, nonce: &Nonce) -> bool {
    let once = Sha256::digest(password);
    let twice = Sha256::digest(once);
    let mask = Sha256::new().chain_update(twice).chain_update(nonce.0);
    let scramble = once.iter().zip(mask.finalize());
    let scramble: Vec<u8> = scramble.map(|(byte, mask)| byte ^ mask).collect();
    proof == scramble
}
