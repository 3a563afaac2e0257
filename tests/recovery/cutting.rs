//! A proxy that ends each connection after so many bytes of the server's.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The proxy; it ends with the test's process.
pub struct Cutting {
    port: u16,
    cuts: Arc<AtomicUsize>,
}

impl Cutting {
    /// Before a server; the nth connection ends after the nth of these numbers of bytes, those behind them never.
    pub fn before(upstream: &str, limits: Vec<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuts = Arc::new(AtomicUsize::new(0));
        let (upstream, count) = (upstream.to_owned(), Arc::clone(&cuts));
        thread::spawn(move || {
            let mut limits = limits.into_iter();
            for client in listener.incoming() {
                let (client, limit) = (client.unwrap(), limits.next());
                let (upstream, count) = (upstream.clone(), Arc::clone(&count));
                thread::spawn(move || pass(&client, &upstream, limit, &count));
            }
        });
        Self { port, cuts }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections that were ended.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

fn pass(client: &TcpStream, upstream: &str, limit: Option<usize>, cuts: &AtomicUsize) {
    // While it is killed, nobody is there.
    let Ok(server) = TcpStream::connect(upstream) else {
        return;
    };
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut left = limit.unwrap_or(usize::MAX);
    let (mut from, mut to) = (&server, client);
    let mut bytes = vec![0; 16 * 1024];
    while left > 0 {
        let most = left.min(bytes.len());
        match from.read(&mut bytes[..most]) {
            Ok(read) if read > 0 && to.write_all(&bytes[..read]).is_ok() => left -= read,
            _ => break,
        }
    }
    if left == 0 {
        cuts.fetch_add(1, Ordering::Relaxed);
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
