//! The server that writes the binary logs: what it says of itself, and the little that it is asked to do.
//!
//! # Owns
//! Every statement that gtide sends to a source's server ([`Server`]), the differences between its versions
//! ([`Version`]), and what its answers mean: its settings ([`settings`]), its account's rights ([`grants`]), the archive against its GTIDs ([`standing`]),
//! when it will expire a file ([`expiry`]), when it should close the active one
//! ([`rotation`]). All but [`Server`] is pure.
//!
//! # Invariants
//! - Archiving never depends on it: whoever asks goes on without an answer.
//! - `SHOW BINARY LOGS` and `SHOW BINARY LOG STATUS` are never sent (TRAPS 13): the index file says which files there
//!   are, `@@gtid_executed` what is in them.
//! - No password is in a message, a log or a `Debug` output.
//!
//! # Limits
//! One session for each source, [`CONNECT_TIMEOUT`], [`STATEMENT_TIMEOUT`].

mod answers;
mod error;
pub mod expiry;
pub mod grants;
pub mod rotation;
mod server;
pub mod settings;
pub mod standing;
mod version;

pub use self::answers::{Answers, Channel, DumpThread};
pub use self::error::MysqlError;
pub use self::server::{CONNECT_TIMEOUT, STATEMENT_TIMEOUT, Server};
pub use self::version::Version;
