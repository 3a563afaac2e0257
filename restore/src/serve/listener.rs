//! Takes connections, each in a task of its own.
//!
//! # Invariants
//! - Nothing that a client sends ends more than its own connection.
//! - When the listener is dropped, so are its connections.
//!
//! # Limits
//! [`MAX_CONNECTIONS`] at once; one more is told so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::exit::chain;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer::Refusal;
use super::offer::Offer;
use super::packet::Packets;
use super::session::{Session, SessionError};
use super::{Access, ServeError};

/// Connections at once, those that have not said yet who they are included.
pub const MAX_CONNECTIONS: usize = 64;

/// How long nobody is taken after the system had no room for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A certificate of its own, made for as long as the program runs.
pub struct Certificate {
    acceptor: TlsAcceptor,
    /// Its SHA-256, in hexadecimal.
    pub fingerprint: String,
}

impl Certificate {
    /// Makes one for a host.
    ///
    /// # Errors
    /// When the host is no name that a certificate can have.
    pub fn made(host: &str) -> Result<Self, ServeError> {
        use sha2::Digest as _;

        let made = rcgen::generate_simple_self_signed([host.to_owned()]);
        let made = made.map_err(ServeError::Certificate)?;
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let fingerprint = sha2::Sha256::digest(&certificate);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ServeError::Tls)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .map_err(ServeError::Tls)?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            fingerprint: data_encoding::HEXLOWER.encode(&fingerprint),
        })
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Certificate")
            .field(&self.fingerprint)
            .finish()
    }
}

/// Serves an offer.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// Where it is.
    pub address: SocketAddr,
    offer: Arc<Offer>,
    access: Arc<Access>,
    certificate: Arc<Certificate>,
}

impl Listener {
    /// Binds to an address; port 0 is any that is free.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn bind(
        address: SocketAddr,
        offer: Arc<Offer>,
        access: Arc<Access>,
        certificate: Certificate,
    ) -> Result<Self, ServeError> {
        let error = |source| ServeError::Bind { address, source };
        let socket = TcpListener::bind(address).await.map_err(error)?;
        let address = socket.local_addr().map_err(error)?;
        Ok(Self {
            socket,
            address,
            offer,
            access,
            certificate: Arc::new(certificate),
        })
    }

    /// SHA-256 of the certificate, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.certificate.fingerprint
    }

    /// Takes connections until it is dropped.
    pub async fn run(&self) -> std::convert::Infallible {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut number: u32 = 0;
        loop {
            while connections.try_join_next().is_some() {}
            let stream = match self.socket.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!("accept: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                connections.spawn(async move { turn_away(stream).await });
                continue;
            };
            number = number.wrapping_add(1);
            let (offer, access) = (Arc::clone(&self.offer), Arc::clone(&self.access));
            let certificate = Arc::clone(&self.certificate);
            connections.spawn(async move {
                serve(stream, &offer, &access, &certificate.acceptor, number).await;
                drop(permit);
            });
        }
    }
}

async fn serve(stream: TcpStream, offer: &Offer, access: &Access, tls: &TlsAcceptor, number: u32) {
    let peer = stream
        .peer_addr()
        .map_or_else(|_| "a client".to_owned(), |peer| peer.to_string());
    let outcome = match Session::begin(stream, offer, access, tls, number).await {
        Ok(session) => {
            tracing::info!("{peer}: connected");
            session.run().await
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => tracing::info!("{peer}: left"),
        Err(error @ SessionError::Dump(super::dump::DumpError::Connection(_))) => {
            tracing::info!("{peer}: {}", chain(&error));
        }
        Err(error) => tracing::warn!("{peer}: {}", chain(&error)),
    }
}

/// Tells a client that there is no room. It has said nothing yet, and need not be waited for.
async fn turn_away(stream: TcpStream) {
    let refusal = Refusal::new(1040, "08004", "Too many connections");
    let mut packets = Packets::new(Box::new(stream));
    let told = async {
        packets.write(&refusal.payload()).await?;
        packets.flush().await
    };
    let _ = tokio::time::timeout(PAUSE, told).await;
}
