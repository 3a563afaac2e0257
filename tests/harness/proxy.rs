//! An HTTP/1.1 proxy that does something wrong, when told to.
//!
//! Rules look at the head of a request; an outage takes every request that no rule takes. Each request has a
//! connection of its own to the server, and ends the client's too (`Connection: close`), so that a broken one
//! breaks nothing else. What came, and what the server answered, is kept for the test to look at.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

const MAX_HEAD: usize = 64 * 1024;

/// Bytes passed on at once.
const PIECE: usize = 64 * 1024;

/// For [`Proxy::quiet`].
const QUIET_WITHIN: Duration = Duration::from_mins(4);

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
    /// Passes everything, bodies at so many bytes per second.
    Slow(u64),
}

impl Act {
    /// What a store answers that wants fewer requests: come back in so many seconds.
    pub const SLOW_DOWN: Self = Self::Respond(
        "HTTP/1.1 503 Slow Down\r\nRetry-After: 2\r\nContent-Type: application/xml\r\n\
         Content-Length: 87\r\n\r\n\
         <Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    );

    /// What it answers to credentials that were good until now.
    pub const EXPIRED_TOKEN: Self = Self::Respond(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: 90\r\n\r\n\
         <Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>",
    );

    /// What it answers when it is broken itself.
    pub const INTERNAL_ERROR: Self = Self::Respond(
        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\nContent-Length: 92\r\n\r\n\
         <Error><Code>InternalError</Code><Message>We encountered an internal error</Message></Error>",
    );

    /// How a completion fails that took too long: the status was sent before (TRAPS 29).
    pub const OK_WITH_AN_ERROR: Self = Self::Respond(
        "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: 132\r\n\r\n\
         <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>",
    );
}

/// Which requests, and what to do to them.
#[derive(Debug)]
pub struct Rule {
    contains: Vec<String>,
    skip: usize,
    times: usize,
    /// Takes a request with this probability.
    chance: Option<(f64, StdRng)>,
    act: Act,
}

impl Rule {
    /// For every request whose head contains `text`, such as `"PUT "` or `"partNumber=2"`.
    pub fn on(text: &str, act: Act) -> Self {
        Self {
            contains: vec![text.to_owned()],
            skip: 0,
            times: usize::MAX,
            chance: None,
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

    /// For one in so many of them, at random.
    pub fn sometimes(mut self, probability: f64, seed: u64) -> Self {
        self.chance = Some((probability, StdRng::seed_from_u64(seed)));
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
        if let Some((probability, dice)) = &mut self.chance
            && !dice.random_bool(*probability)
        {
            return false;
        }
        self.times -= 1;
        true
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its head, as it came.
    pub head: String,
    /// When it came.
    pub at: Instant,
    /// Whether something was done to it.
    pub hit: bool,
    /// What the server answered, once it did: also when the client never heard of it.
    pub status: Option<u16>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    outage: Option<Act>,
    seen: Vec<Seen>,
    under_way: usize,
}

impl State {
    /// What to do to the request, and its place in the list.
    fn admit(&mut self, head: &str) -> (Option<Act>, usize) {
        let mut rules = self.rules.iter_mut();
        let rule = rules.find_map(|rule| rule.takes(head).then(|| rule.act.clone()));
        let act = rule.or_else(|| self.outage.clone());
        self.seen.push(Seen {
            head: head.to_owned(),
            at: Instant::now(),
            hit: act.is_some(),
            status: None,
        });
        (act, self.seen.len() - 1)
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
            let mut serving = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                serving.spawn(serve(client, upstream.clone(), Arc::clone(&shared)));
                while serving.try_join_next().is_some() {}
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

    /// Forgets all rules.
    pub fn clear(&self) {
        self.state.lock().unwrap().rules.clear();
    }

    /// From now on, does this to every request that no rule takes; `None`: nothing is wrong any more. A request
    /// that hangs already goes on hanging.
    pub fn outage(&self, act: Option<Act>) {
        self.state.lock().unwrap().outage = act;
    }

    /// How many requests came whose head contains `text`.
    pub fn count(&self, text: &str) -> usize {
        let state = self.state.lock().unwrap();
        let seen = state.seen.iter();
        seen.filter(|seen| seen.head.contains(text)).count()
    }

    /// All heads that came, in order.
    pub fn heads(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.head).collect()
    }

    /// All requests that came, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// Forgets the requests that came. Only while it is [`quiet`](Self::quiet).
    pub fn forget(&self) {
        let mut state = self.state.lock().unwrap();
        assert_eq!(state.under_way, 0, "requests are under way");
        state.seen.clear();
    }

    /// Waits until no request is under way: whatever a client that died has sent is with the server, or lost.
    pub async fn quiet(&self) {
        let quiet = async {
            while self.state.lock().unwrap().under_way > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(QUIET_WITHIN, quiet).await;
        waited.expect("a request does not end");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Counts a request as under way for as long as it lives.
struct UnderWay(Arc<Mutex<State>>);

impl UnderWay {
    fn new(state: &Arc<Mutex<State>>) -> Self {
        state.lock().unwrap().under_way += 1;
        Self(Arc::clone(state))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().unwrap().under_way -= 1;
    }
}

/// One request. `None` when either side went away, which is what is tested.
async fn serve(mut client: TcpStream, upstream: String, state: Arc<Mutex<State>>) -> Option<()> {
    let _under_way = UnderWay::new(&state);
    let request = Request::read(&mut client).await?;
    let (act, index) = state.lock().unwrap().admit(&request.head);
    let exchange = Exchange {
        request,
        upstream,
        state,
        index,
    };
    match act {
        Some(Act::Delay(delay)) => {
            sleep(delay).await;
            exchange.pass(&mut client, u64::MAX, None).await
        }
        None => exchange.pass(&mut client, u64::MAX, None).await,
        Some(Act::Slow(speed)) => exchange.pass(&mut client, u64::MAX, Some(speed)).await,
        Some(Act::CutResponse(bytes)) => exchange.pass(&mut client, bytes, None).await,
        Some(Act::HangResponse(bytes)) => {
            exchange.pass(&mut client, bytes, None).await?;
            closed(&mut client).await
        }
        Some(Act::ResetAfter(bytes)) => {
            let mut server = exchange.connect().await?;
            exchange.send_body(&mut client, &mut server, bytes).await?;
            reset(client)
        }
        Some(Act::LoseResponse) => {
            let mut server = exchange.connect().await?;
            let into = &mut tokio::io::sink();
            exchange
                .send_body(&mut client, &mut server, u64::MAX)
                .await?;
            exchange.answer(&mut server, into, u64::MAX, None).await?;
            reset(client)
        }
        Some(Act::HangAfter(bytes)) => {
            let into = &mut tokio::io::sink();
            exchange.send_body(&mut client, into, bytes).await?;
            closed(&mut client).await
        }
        Some(Act::Respond(answer)) => {
            let into = &mut tokio::io::sink();
            exchange.send_body(&mut client, into, u64::MAX).await?;
            client.write_all(answer.as_bytes()).await.ok()?;
            client.shutdown().await.ok()
        }
    }
}

/// RST instead of FIN.
#[allow(
    clippy::unnecessary_wraps,
    reason = "the shape of every other end of an exchange"
)]
fn reset(client: TcpStream) -> Option<()> {
    client.set_zero_linger().unwrap();
    drop(client);
    Some(())
}

/// Waits until the client has given up, without reading from it what would make room for more.
async fn closed(client: &mut TcpStream) -> Option<()> {
    loop {
        let ready = client.ready(Interest::READABLE).await.ok()?;
        if ready.is_read_closed() {
            return None;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

struct Request {
    head: String,
    /// What came of the body together with the head.
    begun: Vec<u8>,
    body: Body,
}

/// What is still to come of a request's body.
#[derive(Debug, Clone)]
enum Body {
    /// So many bytes.
    Sized(u64),
    /// Chunks, the last one empty (RFC 9112 §7.1), without a trailer.
    Chunked {
        /// The line with a chunk's size, as far as it came.
        line: Vec<u8>,
        /// Bytes of the chunk, and of the line end behind it.
        data: usize,
        is_last: bool,
    },
}

impl Body {
    /// How many bytes may be read at once; none when it is whole.
    fn most(&self) -> usize {
        match self {
            Self::Sized(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            Self::Chunked {
                data: 0,
                is_last: true,
                ..
            } => 0,
            Self::Chunked { .. } => usize::MAX,
        }
    }

    fn take(&mut self, mut piece: &[u8]) {
        match self {
            Self::Sized(left) => *left -= piece.len() as u64,
            Self::Chunked {
                line,
                data,
                is_last,
            } => {
                while let Some((first, rest)) = piece.split_first() {
                    if *data > 0 {
                        let taken = piece.len().min(*data);
                        *data -= taken;
                        piece = &piece[taken..];
                        continue;
                    }
                    piece = rest;
                    line.push(*first);
                    if let Some(size) = line.strip_suffix(b"\r\n") {
                        let size = std::str::from_utf8(size).unwrap();
                        let size = usize::from_str_radix(size, 16).unwrap();
                        (*data, *is_last) = (size + 2, size == 0);
                        line.clear();
                    }
                }
            }
        }
    }
}

impl Request {
    async fn read(client: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = end_of_head(&bytes) {
                break end;
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
        let field = |wanted: &str| {
            head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case(wanted).then(|| value.trim())
            })
        };
        let body = match field("transfer-encoding") {
            Some("chunked") => Body::Chunked {
                line: Vec::new(),
                data: 0,
                is_last: false,
            },
            _ => Body::Sized(field("content-length").map_or(0, |size| size.parse().unwrap())),
        };
        Some(Self { head, begun, body })
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

/// A request, and where its answer comes from.
struct Exchange {
    request: Request,
    upstream: String,
    state: Arc<Mutex<State>>,
    index: usize,
}

impl Exchange {
    /// A connection to the server on which the head was sent.
    async fn connect(&self) -> Option<TcpStream> {
        let mut server = TcpStream::connect(&self.upstream).await.ok()?;
        // In front of the empty line; not a signed header.
        let head = self.request.head.trim_end();
        let head = format!("{head}\r\nConnection: close\r\n\r\n");
        server.write_all(head.as_bytes()).await.ok()?;
        Some(server)
    }

    /// Sends the body, or its first `limit` bytes. `None` when the client went away before all had come; a server
    /// that does not want the rest is no reason to stop reading it.
    async fn send_body(
        &self,
        client: &mut (impl AsyncReadExt + Unpin),
        to: &mut (impl AsyncWriteExt + Unpin),
        limit: u64,
    ) -> Option<()> {
        self.send_body_at(client, to, limit, None).await
    }

    async fn send_body_at(
        &self,
        client: &mut (impl AsyncReadExt + Unpin),
        to: &mut (impl AsyncWriteExt + Unpin),
        limit: u64,
        speed: Option<u64>,
    ) -> Option<()> {
        let mut left = self.request.body.clone();
        let mut allowed = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut piece = self.request.begun.clone();
        let mut wanted = true;
        loop {
            piece.truncate(left.most().min(allowed));
            left.take(&piece);
            allowed -= piece.len();
            wanted = wanted && to.write_all(&piece).await.is_ok();
            pace(piece.len(), speed).await;
            let most = PIECE.min(left.most()).min(allowed);
            if most == 0 {
                break;
            }
            piece.resize(most, 0);
            let read = client.read(&mut piece).await.ok()?;
            if read == 0 {
                return None;
            }
            piece.truncate(read);
        }
        let _ = to.flush().await;
        Some(())
    }

    /// Passes the request, and of the answer the head and `limit` bytes of the body.
    async fn pass(&self, client: &mut TcpStream, limit: u64, speed: Option<u64>) -> Option<()> {
        let server = self.connect().await?;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.into_split();
        // Side by side: a server may answer before it has read the body.
        let send = self.send_body_at(&mut from_client, &mut to_server, u64::MAX, speed);
        let answer = self.answer(&mut from_server, &mut to_client, limit, speed);
        let send = async { send.await.ok_or(()) };
        let answer = async { answer.await.ok_or(()) };
        tokio::try_join!(send, answer).ok().map(|_| ())
    }

    /// Passes the answer's head and `limit` bytes of its body, and keeps the status.
    async fn answer(
        &self,
        from: &mut (impl AsyncReadExt + Unpin),
        to: &mut (impl AsyncWriteExt + Unpin),
        limit: u64,
        speed: Option<u64>,
    ) -> Option<()> {
        let mut begun = Vec::new();
        let head = loop {
            if let Some(end) = end_of_head(&begun) {
                break end;
            }
            if from.read_buf(&mut begun).await.ok()? == 0 {
                return None;
            }
        };
        self.note(&begun[..head]);
        let allowed = usize::try_from(limit).unwrap().saturating_add(head);
        let now = begun.len().min(allowed);
        to.write_all(&begun[..now]).await.ok()?;
        let mut rest = allowed - now;
        let mut piece = vec![0; PIECE];
        while rest > 0 {
            let read = from.read(&mut piece[..PIECE.min(rest)]).await.ok()?;
            if read == 0 {
                break;
            }
            rest -= read;
            to.write_all(&piece[..read]).await.ok()?;
            pace(read, speed).await;
        }
        to.flush().await.ok()
    }

    fn note(&self, head: &[u8]) {
        let head = String::from_utf8_lossy(head);
        let status = head.split_whitespace().nth(1);
        let status = status.and_then(|status| status.parse().ok());
        let mut state = self.state.lock().unwrap();
        if let Some(seen) = state.seen.get_mut(self.index) {
            seen.status = status;
        }
    }
}

async fn pace(bytes: usize, speed: Option<u64>) {
    if let Some(speed) = speed {
        let millis = bytes as u64 * 1_000 / speed;
        sleep(Duration::from_millis(millis)).await;
    }
}
