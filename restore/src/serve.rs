//! `serve`: the archive as a source of replication, for stock replicas and stock `mysqlbinlog`.
//!
//! # How
//! A client connects as to any source: it is greeted, proves the password (`greeting`), asks what replicas ask
//! (`statement`, `answers`), and wants events from a place or of what it lacks (`request`). A `dump` sends
//! them as they were archived, from where they begin to be wanted (`begin`) to the offer's end.
//!
//! # Invariants
//! - It reads the archive and writes nothing, anywhere.
//! - No client gets anything but refusals before it has proved that it knows the password; none from another machine
//!   without TLS.
//! - What a replica lacks and cannot get is error 1236 with the GTIDs' names, and never silence.
//!
//! # Decision
//! The packets are our own: of the crates that know the protocol `opensrv-mysql` has no dump, and `mysql_common`
//! brings all of a client's types for the fifteen fields that are needed here.
//!
//! # Limits
//! [`listener::MAX_CONNECTIONS`], and for each connection what a `dump` holds.

mod answer;
mod answers;
mod begin;
mod dump;
mod events;
mod greeting;
pub mod listener;
pub mod offer;
mod packet;
mod payload;
pub mod report;
mod request;
mod session;
mod statement;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use data_encoding::BASE32_NOPAD;
use engine::exit::{Diagnose, Exit};
use zeroize::Zeroizing;

/// Any port of this machine that is free, for its own programs.
pub const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Random bytes of a password that is made.
const PASSWORD_LEN: usize = 20;

/// `server_id`, unless another one is named: few number their servers from the end.
pub const SERVER_ID: u32 = u32::MAX - 1;

/// The user that clients log in as, unless another one is named.
pub const USER: &str = "gtide";

/// Why nobody can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address.
    #[error("listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The certificate could not be made.
    #[error("make a certificate")]
    Certificate(#[source] rcgen::Error),
    /// The certificate is not one that TLS takes.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
    /// The system has no random bytes.
    #[error("make a password: {0}")]
    Random(#[from] getrandom::Error),
}

impl Diagnose for ServeError {
    fn exit(&self) -> Exit {
        match self {
            Self::Bind { .. } => Exit::Usage,
            Self::Certificate(_) | Self::Tls(_) | Self::Random(_) => Exit::Unexpected,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Bind { .. } => {
                Some("name an address of this machine and a port that is free: --listen".to_owned())
            }
            Self::Certificate(_) | Self::Tls(_) | Self::Random(_) => None,
        }
    }
}

/// Who may connect.
pub struct Access {
    /// The user.
    pub user: String,
    /// What it proves that it knows.
    pub password: Zeroizing<String>,
}

impl Access {
    /// A user with a password that nobody ever had.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn made(user: &str) -> Result<Self, getrandom::Error> {
        let mut random = Zeroizing::new([0; PASSWORD_LEN]);
        getrandom::fill(random.as_mut())?;
        Ok(Self {
            user: user.to_owned(),
            password: Zeroizing::new(BASE32_NOPAD.encode(random.as_ref())),
        })
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
