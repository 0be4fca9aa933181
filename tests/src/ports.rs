//! Free ports on loopback, for peers that cannot choose one themselves.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};

/// Below the range from which Linux takes the ports of outgoing connections (32768 and up), so that no connection of
/// another test takes a port between its being chosen and its being used.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// A loopback TCP port that is free at this moment, and is given out once in this process.
///
/// Anything that can listen on port 0 should do that instead.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side, with IDs that are neighbours, start this far apart.
    const STRIDE: u64 = 61;

    let start = u16::try_from(u64::from(std::process::id()) * STRIDE % u64::from(COUNT))?;
    (0..COUNT)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .context("no free port on loopback between 20000 and 29999")
}
