//! Real servers for tests, and a proxy that breaks connections on purpose.
//!
//! A suite takes it in with `#[path = "../harness/mod.rs"] mod harness;` and needs `tempfile` and
//! `tokio` (feature `net`) among its dev-dependencies. Servers come from the lab that
//! `tests/lab/install` builds. Each listens on free loopback ports or a private socket, lives in a
//! temporary directory, is ended by its process id when its value is dropped, and ends by itself when
//! the test process dies without dropping anything.
//!
//! A test that needs the lab is `#[ignore = "needs the lab: tests/lab/install"]`. Where the lab is
//! missing it fails; it never passes silently.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    reason = "shared by suites that each use a part of it; a harness panics when it cannot serve"
)]

mod gcs;
mod gcs_emulator;
mod lab;
mod moto;
mod mysqld;
mod pgbouncer;
mod port;
mod postgres;
mod process;
mod prometheus;
mod proxy;
mod seaweedfs;
mod tcp;

pub use gcs::{Gcs, GcsUpload};
pub use gcs_emulator::GcsEmulator;
pub use lab::lab_program;
pub use moto::Moto;
pub use mysqld::Mysqld;
pub use pgbouncer::PgBouncer;
pub use port::free_port;
pub use postgres::Postgres;
pub use process::{Process, tail, wait_until};
pub use prometheus::Prometheus;
pub use proxy::{Act, Proxy, Rule, Seen};
pub use seaweedfs::SeaweedFs;
pub use tcp::{Line, TcpProxy};
