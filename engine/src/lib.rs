//! gtide's engine: MySQL binary logs to object storage, in order, once, verified.
//!
//! Modules stand in tiers; a tier uses lower tiers only.
//!
//! | tier | modules | feature |
//! |---|---|---|
//! | 0 pure | [`gtid`] [`binlog`] [`archive`] [`manifest`] [`layout`] [`digest`] [`retry`] [`exit`] | |
//! | 1 I/O edge | [`store`] [`keyring`] [`clock`] [`durable_fs`] [`config`] | |
//! | 2 state | `ledger` | `ledger` |
//! | 3 process | `watch` `queue` `pipeline` `reconcile` `daemon` `cli` | `daemon` |

pub mod archive;
pub mod binlog;
pub mod clock;
pub mod digest;
pub mod durable_fs;
pub mod exit;
pub mod gtid;
pub mod keyring;
pub mod layout;
#[cfg(feature = "ledger")]
pub mod ledger;
pub mod manifest;
#[cfg(feature = "daemon")]
pub mod queue;
pub mod retry;
pub mod store;
