//! Free loopback ports for servers that keep their port while they are down.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range (32768 and up) from which the kernel gives ports to outgoing connections: there, a client
/// that keeps trying could meet itself. SeaweedFS takes 11,000 and up.
const FIRST: u16 = 6_000;
const PORTS: u16 = 5_000;

/// A port of 127.0.0.1 where nobody listens, another with each call.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side begin at different places.
    let start = u16::try_from(u64::from(std::process::id()) * 37 % u64::from(PORTS)).unwrap();
    std::iter::repeat_with(|| {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        FIRST + start.wrapping_add(step) % PORTS
    })
    .take(usize::from(PORTS))
    .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
    .expect("a free port")
}
