//! Accounts at cloud providers: where credentials come from, and how they stay fresh. Stores and key services alike
//! use them.
//!
//! # Invariants
//! - No secret stands in the configuration, is logged, or is shown: files, profiles and the providers' own default
//!   chains are named, never their content.
//! - Credentials are renewed ahead of their expiry, by one task at a time; the old ones serve as long as they are
//!   valid and new ones cannot be had.

pub(crate) mod aws;
pub(crate) mod google;
mod renewed;

use jiff::Timestamp;
use url::Url;

/// How long credentials last, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// There are none, or none were needed yet.
    None,
    /// They do not say that they end.
    Unending,
    /// They have an end.
    Until {
        /// When they end.
        expires: Timestamp,
        /// From when on new ones are asked for.
        renewed_from: Timestamp,
    },
    /// They are renewed by their provider's library, which does not tell when they end.
    Untold,
}

/// A setting that names an account or a service cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SettingsError {
    /// What is wrong. Never quotes what may be a secret.
    pub what: String,
    /// What to write instead.
    pub hint: String,
}

impl SettingsError {
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: hint.into(),
        }
    }
}

/// The address of a service that is not the provider's own.
pub(crate) fn check_endpoint(endpoint: &str) -> Result<(), SettingsError> {
    let is_plain = Url::parse(endpoint).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if is_plain {
        return Ok(());
    }
    Err(SettingsError::new(
        // Not repeated: there may be a password in it.
        "`endpoint` is not the plain http(s) URL of a service",
        "write https://host:port; credentials go into `credentials`",
    ))
}
