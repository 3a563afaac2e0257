//! A proxy for any protocol over TCP that can freeze, cut and refuse.
//!
//! It knows nothing of what it passes, so it serves a database as well as a store. What a firewall that drops
//! packets does, [`Line::Frozen`] does: connections are there, and nothing moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The state of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Everything is passed on.
    Open,
    /// Connections are kept and accepted, and no byte moves.
    Frozen,
    /// Every connection is reset, and so is each new one.
    Refused,
}

/// A proxy; it ends, and so do its connections, when it is dropped.
#[derive(Debug)]
pub struct TcpProxy {
    port: u16,
    line: watch::Sender<(Line, u64)>,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl TcpProxy {
    /// A proxy before the server at `upstream` (`host:port`).
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (line, watched) = watch::channel((Line::Open, 0));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (upstream, count) = (upstream.to_owned(), Arc::clone(&accepted));
        let accepting = tokio::spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                serving.spawn(serve(client, upstream.clone(), watched.clone()));
                while serving.try_join_next().is_some() {}
            }
        });
        Self {
            port,
            line,
            accepted,
            accepting,
        }
    }

    /// Its port at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the line's state.
    pub fn set(&self, line: Line) {
        self.line.send_modify(|state| state.0 = line);
    }

    /// Resets all connections; new ones are served.
    pub fn cut(&self) {
        self.line.send_modify(|state| state.1 += 1);
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(client: TcpStream, upstream: String, mut line: watch::Receiver<(Line, u64)>) {
    let generation = line.borrow().1;
    // Dropped with a reset, whatever ends it.
    client.set_zero_linger().unwrap();
    let broken = {
        let mut line = line.clone();
        async move {
            let is_broken = |state: &(Line, u64)| state.0 == Line::Refused || state.1 != generation;
            let _ = line.wait_for(is_broken).await;
        }
    };
    let pass = async {
        // A frozen line does not even say that nobody is behind it.
        open(&mut line).await?;
        let server = TcpStream::connect(upstream).await.ok()?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(
            pump(from_client, to_server, line.clone()),
            pump(from_server, to_client, line),
        );
        Some(())
    };
    tokio::select! {
        () = broken => {}
        _ = pass => {}
    }
}

async fn open(line: &mut watch::Receiver<(Line, u64)>) -> Option<()> {
    line.wait_for(|state| state.0 == Line::Open).await.ok()?;
    Some(())
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<(Line, u64)>,
) -> Option<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut bytes).await.ok()?;
        // What was read before the line froze is held until it is open again.
        open(&mut line).await?;
        if read == 0 {
            return to.shutdown().await.ok();
        }
        to.write_all(&bytes[..read]).await.ok()?;
    }
}
