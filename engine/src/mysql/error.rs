//! Why a server could not be asked, or refused.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::exit::{Diagnose, Exit};

/// `ER_ACCESS_DENIED_ERROR` (the server's error reference, as all numbers here).
const ACCESS_DENIED: u16 = 1045;
/// `ER_SPECIFIC_ACCESS_DENIED_ERROR`: a privilege is missing.
const PRIVILEGE_MISSING: u16 = 1227;
/// `ER_TABLEACCESS_DENIED_ERROR`.
const TABLE_DENIED: u16 = 1142;
/// `ER_HOST_NOT_PRIVILEGED`.
const HOST_DENIED: u16 = 1130;
/// `ER_ACCESS_DENIED_NO_PASSWORD_ERROR`.
const NO_PASSWORD: u16 = 1698;
/// `ER_MUST_CHANGE_PASSWORD` and its like for a login.
const PASSWORD_EXPIRED: [u16; 2] = [1820, 1862];
/// `ER_ACCOUNT_HAS_BEEN_LOCKED`.
const ACCOUNT_LOCKED: u16 = 3118;

/// What went wrong between gtide and a server.
#[derive(Debug, thiserror::Error)]
pub enum MysqlError {
    /// The password's file.
    #[error("read {}", path.display())]
    PasswordFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Every user of the machine may read the password.
    #[error("{} can be read by every user of this machine", path.display())]
    PasswordExposed {
        /// Its file.
        path: PathBuf,
    },
    /// The server says no.
    #[error("{address}: {doing}: {message} (error {number})")]
    Refused {
        /// Which server.
        address: String,
        /// What was being done.
        doing: &'static str,
        /// In the server's words.
        message: String,
        /// The server's number for it.
        number: u16,
    },
    /// The line to it.
    #[error("{address}: {doing}")]
    Network {
        /// Which server.
        address: String,
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Anything else on the way: TLS, another protocol.
    #[error("{address}: {doing}: {reason}")]
    Session {
        /// Which server.
        address: String,
        /// What was being done.
        doing: &'static str,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("{address}: {doing}: no answer within {}s", within.as_secs())]
    Silent {
        /// Which server.
        address: String,
        /// What was being done.
        doing: &'static str,
        /// The bound.
        within: Duration,
    },
    /// An answer that is not of the kind that was asked for.
    #[error("{address}: {what} is {found:?}")]
    Answer {
        /// Which server.
        address: String,
        /// What was asked for.
        what: &'static str,
        /// What came.
        found: String,
    },
    /// `performance_schema` is off: what is read of it is empty, whatever the server does.
    #[error(
        "{address}: performance_schema is off: which binary logs are being read cannot be seen"
    )]
    Unseen {
        /// Which server.
        address: String,
    },
    /// `MariaDB`, or something else that speaks the protocol.
    #[error("{address} is no MySQL server that is supported: its version is {version:?}")]
    Unsupported {
        /// Which server.
        address: String,
        /// What it says.
        version: String,
    },
}

impl MysqlError {
    /// What the driver says, in our words.
    pub(super) fn of(address: String, doing: &'static str, error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(source) => Self::Network {
                address,
                doing,
                source,
            },
            sqlx::Error::Database(error) => Self::of_server(address, doing, error.as_ref()),
            other => Self::Session {
                address,
                doing,
                reason: other.to_string(),
            },
        }
    }

    fn of_server(
        address: String,
        doing: &'static str,
        error: &dyn sqlx::error::DatabaseError,
    ) -> Self {
        match error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
            Some(refused) => Self::Refused {
                address,
                doing,
                message: refused.message().to_owned(),
                number: refused.number(),
            },
            None => Self::Session {
                address,
                doing,
                reason: error.to_string(),
            },
        }
    }

    /// Is it the account: what the server refuses now it will refuse again?
    fn is_about_the_account(&self) -> bool {
        let Self::Refused { number, .. } = self else {
            return false;
        };
        let account = [
            ACCESS_DENIED,
            PRIVILEGE_MISSING,
            TABLE_DENIED,
            HOST_DENIED,
            NO_PASSWORD,
            ACCOUNT_LOCKED,
        ];
        account.contains(number) || PASSWORD_EXPIRED.contains(number)
    }
}

impl Diagnose for MysqlError {
    fn exit(&self) -> Exit {
        match self {
            Self::PasswordFile { .. }
            | Self::PasswordExposed { .. }
            | Self::Unseen { .. }
            | Self::Unsupported { .. } => Exit::Usage,
            Self::Answer { .. } => Exit::Unexpected,
            Self::Refused { .. } if self.is_about_the_account() => Exit::Usage,
            Self::Refused { .. }
            | Self::Network { .. }
            | Self::Session { .. }
            | Self::Silent { .. } => Exit::Transient,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::PasswordFile { .. } => "check `password-file`, and that this user may read it",
            Self::PasswordExposed { .. } => "chmod 600, owned by the user that gtide runs as",
            Self::Refused {
                number: PRIVILEGE_MISSING | TABLE_DENIED,
                ..
            } => "`gtide check` lists the rights that are needed",
            Self::Refused { .. } if self.is_about_the_account() => {
                "check the user in `mysql` and the password in `password-file`; `gtide check` lists the rights that are needed"
            }
            Self::Refused { .. } => "see what the server says; archiving goes on without it",
            Self::Network { .. } => {
                "check that the server runs and that `mysql` names it; archiving goes on without it"
            }
            Self::Session { .. } => {
                "check `ssl-mode` and `ssl-ca` in `mysql`, and that it is a MySQL server; archiving goes on without it"
            }
            Self::Silent { .. } => "check whether the server hangs; archiving goes on without it",
            Self::Unseen { .. } => {
                "set performance_schema = ON in the server's option file and restart it; nothing is purged until then"
            }
            Self::Unsupported { .. } => {
                "MySQL 8.0, 8.4 and 9.x are supported, and their builds by others; MariaDB is not"
            }
            Self::Answer { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
