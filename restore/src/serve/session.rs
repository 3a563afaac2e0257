//! One connection: who it is, what it asks, what it gets.
//!
//! # Limits
//! A greeting takes [`GREETING_WITHIN`]; a client that asks nothing is let go after [`IDLE`].

use std::time::Duration;

use engine::binlog::ChecksumAlgorithm;
use engine::exit::{Diagnose, Exit, chain};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::answer::{OK, Refusal, Rows};
use super::dump::{Dump, DumpError, Wishes};
use super::greeting::{self, Answer, NONCE_LEN, Nonce, PASSWORD_IS_RIGHT};
use super::offer::Offer;
use super::packet::{PacketError, Packets};
use super::payload::Malformed;
use super::request::{ByGtid, FromPosition, LONGEST_REQUEST, Request};
use super::statement::{Setting, Statement};
use super::{Access, answers};

/// How long a client may take to say who it is (`connect_timeout`).
pub(super) const GREETING_WITHIN: Duration = Duration::from_secs(10);

/// How long a client may ask nothing (`wait_timeout` is 8 hours: a replica comes again by itself).
pub(super) const IDLE: Duration = Duration::from_hours(8);

/// Bytes of a client's answer to the greeting at most; the names of its programs and hosts are among them.
const LONGEST_ANSWER: usize = 128 * 1024;

/// Why a connection ended before the client left.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// What came, or did not.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// What came is no packet of the protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A dump.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// The client did not prove who it is.
    #[error("{0}")]
    Denied(String),
    /// The client took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
    /// No random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

impl From<std::io::Error> for SessionError {
    fn from(error: std::io::Error) -> Self {
        Self::Packet(error.into())
    }
}

/// A client that has proved who it is.
pub(super) struct Session<'a> {
    offer: &'a Offer,
    packets: Packets,
    checksum: Option<ChecksumAlgorithm>,
    heartbeat: Option<Duration>,
}

impl<'a> Session<'a> {
    /// Greets a client.
    pub(super) async fn begin(
        stream: TcpStream,
        offer: &'a Offer,
        access: &Access,
        tls: &TlsAcceptor,
        connection: u32,
    ) -> Result<Self, SessionError> {
        let packets = timeout(
            GREETING_WITHIN,
            greet(stream, offer, access, tls, connection),
        );
        let packets = packets
            .await
            .map_err(|_| SessionError::Slow(GREETING_WITHIN))??;
        Ok(Self {
            offer,
            packets,
            checksum: None,
            heartbeat: None,
        })
    }

    /// Answers until the client leaves.
    pub(super) async fn run(mut self) -> Result<(), SessionError> {
        loop {
            self.packets.begin();
            let request = timeout(IDLE, self.packets.read(LONGEST_REQUEST)).await;
            let request = request.map_err(|_| SessionError::Slow(IDLE))??;
            let Some(request) = request else {
                return Ok(());
            };
            match Request::parse(&request) {
                Ok(Request::Quit) => return Ok(()),
                Ok(Request::Ping | Request::RegisterReplica) => self.packets.write(&OK).await?,
                Ok(Request::Query(text)) => self.query(&text).await?,
                Ok(Request::Dump(asked)) => return self.dump(&asked).await,
                Ok(Request::DumpGtid(asked)) => return self.dump_gtid(&asked).await,
                Ok(Request::Other(_)) => {
                    let unknown = Refusal::new(1047, "08S01", "Unknown command");
                    self.packets.write(&unknown.payload()).await?;
                }
                Err(Malformed) => {
                    let malformed = Refusal::new(1835, "HY000", "Malformed communication packet.");
                    self.packets.write(&malformed.payload()).await?;
                    self.packets.flush().await?;
                    return Err(Malformed.into());
                }
            }
            self.packets.flush().await?;
        }
    }

    async fn query(&mut self, text: &str) -> Result<(), SessionError> {
        let answer = match Statement::parse(text) {
            Statement::Set(settings) => {
                for setting in settings {
                    self.set(setting);
                }
                return Ok(self.packets.write(&OK).await?);
            }
            Statement::Select(selected) => answers::select(self.offer, self.checksum, &selected),
            Statement::Variable(name) => Ok(answers::variable(self.offer, &name)),
            Statement::BinaryLogs => Ok(answers::binary_logs(self.offer)),
            Statement::BinaryLogStatus => Ok(answers::binary_log_status(self.offer)),
            Statement::Other => Err(answers::not_here()),
        };
        match answer {
            Ok(rows) => self.rows(&rows).await,
            Err(refusal) => Ok(self.packets.write(&refusal.payload()).await?),
        }
    }

    fn set(&mut self, setting: Setting) {
        match setting {
            Setting::Checksum(checksum) => self.checksum = Some(checksum),
            Setting::Heartbeat(period) => self.heartbeat = period,
            Setting::Other => {}
        }
    }

    async fn rows(&mut self, rows: &Rows) -> Result<(), SessionError> {
        for payload in rows.payloads() {
            self.packets.write(&payload).await?;
        }
        Ok(())
    }

    async fn dump(mut self, asked: &FromPosition) -> Result<(), SessionError> {
        let begin = self.offer.by_position(asked);
        match begin {
            Ok(begin) => {
                let wishes = self.wishes(asked);
                let dump = Dump::new(self.offer, &mut self.packets, wishes, begin);
                let outcome = dump.run().await;
                self.end(outcome).await
            }
            Err(refusal) => self.end(Err(DumpError::Refused(refusal))).await,
        }
    }

    async fn dump_gtid(mut self, asked: &ByGtid) -> Result<(), SessionError> {
        let begin = match self.offer.by_gtid(asked).await {
            Ok(Ok(begin)) => begin,
            Ok(Err(refusal)) => return self.end(Err(DumpError::Refused(refusal))).await,
            Err(error) if error.exit() == Exit::Transient => {
                return self.end(Err(DumpError::Broken(chain(&error)))).await;
            }
            Err(error) => {
                let refusal = Refusal::fatal(chain(&error));
                return self.end(Err(DumpError::Refused(refusal))).await;
            }
        };
        let wishes = self.wishes(&asked.from);
        let dump = Dump::new(self.offer, &mut self.packets, wishes, begin);
        let outcome = dump.run().await;
        self.end(outcome).await
    }

    fn wishes(&self, asked: &FromPosition) -> Wishes {
        Wishes {
            checksum: self.checksum,
            heartbeat: self.heartbeat,
            non_block: asked.non_block,
        }
    }

    /// After a dump, as at a real source, the connection is over; a refusal is told before.
    async fn end(mut self, outcome: Result<(), DumpError>) -> Result<(), SessionError> {
        if let Err(DumpError::Refused(refusal)) = &outcome {
            self.packets.write(&refusal.payload()).await?;
            self.packets.flush().await?;
        }
        Ok(outcome?)
    }
}

/// Who the client is; its packets, when it proved that.
async fn greet(
    stream: TcpStream,
    offer: &Offer,
    access: &Access,
    tls: &TlsAcceptor,
    connection: u32,
) -> Result<Packets, SessionError> {
    stream.set_nodelay(true)?;
    let is_here = stream.peer_addr()?.ip().to_canonical().is_loopback();
    let mut random = [0; NONCE_LEN];
    getrandom::fill(&mut random).map_err(SessionError::Random)?;
    let nonce = Nonce::of(random);
    let mut packets = Packets::new(Box::new(stream));
    let greeting = greeting::greeting(&offer.version(), connection, &nonce);
    packets.write(&greeting).await?;
    packets.flush().await?;
    let mut answer = read_answer(&mut packets).await?;
    let encrypts = answer == Answer::Encrypt;
    if encrypts {
        let (stream, sequence) = packets.into_stream().await?;
        packets = Packets::resume(Box::new(tls.accept(stream).await?), sequence);
        answer = read_answer(&mut packets).await?;
    }
    let Answer::LogIn {
        user,
        mut proof,
        is_by_method,
    } = answer
    else {
        return Err(Malformed.into());
    };
    if !encrypts && !is_here {
        let message =
            "Connections using insecure transport are prohibited: use TLS (SOURCE_SSL = 1).";
        return deny(packets, Refusal::new(3159, "HY000", message)).await;
    }
    if !is_by_method {
        packets.write(&greeting::switch_method(&nonce)).await?;
        packets.flush().await?;
        let switched = packets.read(LONGEST_ANSWER).await?;
        proof = switched.ok_or(Malformed)?;
    }
    if user != access.user || !greeting::proves(&proof, &access.password, &nonce) {
        let message = format!(
            "Access denied for user '{}' (using password: YES)",
            user.escape_debug()
        );
        return deny(packets, Refusal::new(1045, "28000", message)).await;
    }
    packets.write(&PASSWORD_IS_RIGHT).await?;
    packets.write(&OK).await?;
    packets.flush().await?;
    Ok(packets)
}

async fn read_answer(packets: &mut Packets) -> Result<Answer, SessionError> {
    let answer = packets.read(LONGEST_ANSWER).await?;
    Ok(Answer::parse(&answer.ok_or(Malformed)?)?)
}

async fn deny(mut packets: Packets, refusal: Refusal) -> Result<Packets, SessionError> {
    packets.write(&refusal.payload()).await?;
    packets.flush().await?;
    Err(SessionError::Denied(refusal.message))
}
