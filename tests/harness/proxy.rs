//! An HTTP/1.1 proxy that does one thing wrong, when told to.
//!
//! Rules look at the head of a request. Each request has a connection of its own to the server, and
//! ends the client's too (`Connection: close`), so that a broken one breaks nothing else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const MAX_HEAD: usize = 64 * 1024;

/// What to do to a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Passes the head and this many bytes of the body, then resets the connection.
    ResetAfter(u64),
    /// Passes all of the request, reads all of the answer, and resets the connection.
    LoseResponse,
    /// Takes the head and this many bytes of the body, and then nothing, for ever.
    HangAfter(u64),
    /// Takes all of the request and answers this, without the server.
    Respond(&'static str),
    /// Passes the answer's head and this many bytes of its body, then closes the connection.
    CutResponse(u64),
    /// Passes the answer's head and this many bytes of its body, and then nothing, for ever.
    HangResponse(u64),
    /// Waits this long, then passes everything.
    Delay(Duration),
}

/// Which requests, and what to do to them.
#[derive(Debug, Clone)]
pub struct Rule {
    contains: Vec<String>,
    skip: usize,
    times: usize,
    act: Act,
}

impl Rule {
    /// For every request whose head contains `text`, such as `"PUT "` or `"partNumber=2"`.
    pub fn on(text: &str, act: Act) -> Self {
        Self {
            contains: vec![text.to_owned()],
            skip: 0,
            times: usize::MAX,
            act,
        }
    }

    /// And `text` too.
    pub fn and(mut self, text: &str) -> Self {
        self.contains.push(text.to_owned());
        self
    }

    /// Not for the first `count` of them.
    pub fn skip(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// For `count` of them only.
    pub fn times(mut self, count: usize) -> Self {
        self.times = count;
        self
    }

    /// Whether this request is meant; counts it.
    fn takes(&mut self, head: &str) -> bool {
        if self.times == 0 || !self.contains.iter().all(|text| head.contains(text)) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    heads: Vec<String>,
}

impl State {
    fn act_on(&mut self, head: &str) -> Option<Act> {
        self.heads.push(head.to_owned());
        let mut rules = self.rules.iter_mut();
        rules.find_map(|rule| rule.takes(head).then(|| rule.act.clone()))
    }
}

/// A proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server at `upstream` (`host:port`).
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let (upstream, shared) = (upstream.to_owned(), Arc::clone(&state));
        let accepting = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                serving.spawn(serve(client, upstream.clone(), Arc::clone(&shared)));
            }
        });
        Self {
            port,
            state,
            accepting,
        }
    }

    /// A proxy before no server: every request must be taken by a rule.
    pub async fn before_nothing() -> Self {
        Self::start("127.0.0.1:1").await
    }

    /// `http://127.0.0.1:port`
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a rule; the first that fits a request takes it.
    pub fn add(&self, rule: Rule) {
        self.state.lock().unwrap().rules.push(rule);
    }

    /// How many requests came whose head contains `text`.
    pub fn count(&self, text: &str) -> usize {
        let state = self.state.lock().unwrap();
        state
            .heads
            .iter()
            .filter(|head| head.contains(text))
            .count()
    }

    /// All heads that came, in order.
    pub fn heads(&self) -> Vec<String> {
        self.state.lock().unwrap().heads.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One request. `None` when either side went away, which is what is tested.
async fn serve(mut client: TcpStream, upstream: String, state: Arc<Mutex<State>>) -> Option<()> {
    let request = Request::read(&mut client).await?;
    let act = state.lock().unwrap().act_on(&request.head);
    match act {
        Some(Act::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            request.pass(&mut client, &upstream, u64::MAX).await?;
        }
        None => request.pass(&mut client, &upstream, u64::MAX).await?,
        Some(Act::CutResponse(bytes)) => request.pass(&mut client, &upstream, bytes).await?,
        Some(Act::HangResponse(bytes)) => {
            request.pass(&mut client, &upstream, bytes).await?;
            std::future::pending::<()>().await;
        }
        Some(Act::ResetAfter(bytes)) => {
            let mut server = request.connect(&upstream).await?;
            request.send_body(&mut client, &mut server, bytes).await?;
            reset(client);
        }
        Some(Act::LoseResponse) => {
            let mut server = request.connect(&upstream).await?;
            request
                .send_body(&mut client, &mut server, u64::MAX)
                .await?;
            server.read_to_end(&mut Vec::new()).await.ok()?;
            reset(client);
        }
        Some(Act::HangAfter(bytes)) => {
            request
                .send_body(&mut client, &mut tokio::io::sink(), bytes)
                .await?;
            std::future::pending::<()>().await;
        }
        Some(Act::Respond(answer)) => {
            request
                .send_body(&mut client, &mut tokio::io::sink(), u64::MAX)
                .await?;
            client.write_all(answer.as_bytes()).await.ok()?;
            client.shutdown().await.ok()?;
        }
    }
    Some(())
}

/// RST instead of FIN.
fn reset(client: TcpStream) {
    client.set_zero_linger().unwrap();
    drop(client);
}

struct Request {
    head: String,
    /// What came of the body together with the head.
    begun: Vec<u8>,
    body_size: u64,
}

impl Request {
    async fn read(client: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(
                bytes.len() < MAX_HEAD,
                "a request without an end to its head"
            );
            if client.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let begun = bytes.split_off(end);
        let head = String::from_utf8_lossy(&bytes).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().unwrap())
        });
        Some(Self {
            head,
            begun,
            body_size: length.unwrap_or(0),
        })
    }

    /// A connection to the server on which the head was sent.
    async fn connect(&self, upstream: &str) -> Option<TcpStream> {
        let mut server = TcpStream::connect(upstream).await.ok()?;
        // In front of the empty line; not a signed header.
        let head = self.head.trim_end();
        let head = format!("{head}\r\nConnection: close\r\n\r\n");
        server.write_all(head.as_bytes()).await.ok()?;
        Some(server)
    }

    /// Sends the body, or its first `limit` bytes.
    async fn send_body(
        &self,
        client: &mut (impl AsyncReadExt + Unpin),
        to: &mut (impl AsyncWriteExt + Unpin),
        limit: u64,
    ) -> Option<()> {
        let size = self.body_size.min(limit);
        let begun = self
            .begun
            .get(..usize::try_from(size).unwrap())
            .unwrap_or(&self.begun);
        to.write_all(begun).await.ok()?;
        let rest = size - begun.len() as u64;
        tokio::io::copy(&mut client.take(rest), to).await.ok()?;
        to.flush().await.ok()
    }

    /// Passes the request, and of the answer the head and `limit` bytes of the body.
    async fn pass(&self, client: &mut TcpStream, upstream: &str, limit: u64) -> Option<()> {
        let server = self.connect(upstream).await?;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.into_split();
        // Side by side: a server may answer before it has read the body.
        let (sent, passed) = tokio::join!(
            self.send_body(&mut from_client, &mut to_server, u64::MAX),
            pass_answer(&mut from_server, &mut to_client, limit),
        );
        sent.and(passed)
    }
}

async fn pass_answer(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    limit: u64,
) -> Option<()> {
    let mut begun = Vec::new();
    let head = loop {
        if let Some(end) = begun.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if from.read_buf(&mut begun).await.ok()? == 0 {
            return None;
        }
    };
    let allowed = usize::try_from(limit).unwrap().saturating_add(head);
    let now = begun.len().min(allowed);
    to.write_all(&begun[..now]).await.ok()?;
    let rest = u64::try_from(allowed - now).unwrap();
    tokio::io::copy(&mut from.take(rest), to).await.ok()?;
    to.flush().await.ok()
}
