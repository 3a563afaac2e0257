//! gtide's engine: MySQL binary logs to object storage, in order, once, verified.
//!
//! Modules stand in tiers; a tier uses its own and lower ones only.
//!
//! | tier | modules | feature |
//! |---|---|---|
//! | 0 pure | [`gtid`] [`binlog`] [`archive`] [`manifest`] [`base_backup`] [`layout`] [`server_address`] [`digest`] [`retry`] [`exit`] [`finding`] | |
//! | 1 I/O edge | [`store`] [`keyring`] [`data_keys`] [`clock`] [`durable_fs`] [`cloud`] [`config`] [`terminal`] | |
//! | 2 state | `ledger` | `ledger` |
//! | 3 process | `watch` `queue` `spool` `pipeline` `reconcile` `rewrap` `rollup` `metrics` `mysql` `purge` `older_job` `daemon` `adopt` `check` `cli` `failpoint` | `daemon` |

#[cfg(feature = "daemon")]
pub mod adopt;
pub mod archive;
pub mod base_backup;
pub mod binlog;
#[cfg(feature = "daemon")]
pub mod check;
#[cfg(feature = "daemon")]
pub mod cli;
pub mod clock;
pub mod cloud;
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod data_keys;
pub mod digest;
pub mod durable_fs;
pub mod exit;
#[cfg(feature = "daemon")]
pub mod failpoint;
pub mod finding;
pub mod gtid;
pub mod keyring;
pub mod layout;
#[cfg(feature = "ledger")]
pub mod ledger;
#[cfg(feature = "daemon")]
mod lock_file;
pub mod manifest;
#[cfg(feature = "daemon")]
pub mod metrics;
#[cfg(feature = "daemon")]
pub mod mysql;
#[cfg(feature = "daemon")]
pub mod older_job;
#[cfg(feature = "ledger")]
pub mod parity;
#[cfg(feature = "daemon")]
pub mod pipeline;
#[cfg(feature = "daemon")]
pub mod purge;
#[cfg(feature = "daemon")]
pub mod queue;
#[cfg(feature = "daemon")]
pub mod reconcile;
pub mod retry;
#[cfg(feature = "daemon")]
pub mod rewrap;
#[cfg(feature = "daemon")]
pub mod rollup;
pub mod server_address;
#[cfg(feature = "daemon")]
pub mod spool;
pub mod store;
pub mod terminal;
#[cfg(test)]
mod tiers;
#[cfg(feature = "daemon")]
pub mod traces;
#[cfg(feature = "daemon")]
pub mod watch;

/// The documents that the code cites.
#[cfg(doc)]
pub mod _documentation {
    #[doc = include_str!("../ARCHITECTURE.md")]
    pub mod architecture {}
    #[doc = include_str!("../FORMAT.md")]
    pub mod format {}
}
