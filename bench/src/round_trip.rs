//! The two ends of the round-trip generator: small messages back to back on one TCP connection without delay.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::statistics::median;

/// Octets of a message.
const MESSAGE: usize = 64;
/// Round trips before the first that counts.
const WARM_UP: usize = 200;

/// Serves one connection: sends every message back, until the other end closes.
pub fn respond(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let (mut stream, _) = listener.accept().context("accept")?;
    echo(&mut stream)
}

fn echo(stream: &mut TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE];
    loop {
        match stream.read_exact(&mut message) {
            Ok(()) => stream.write_all(&message)?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends messages for `time`, each after the answer to the one before, and gives the median round trip in
/// microseconds.
pub fn request(address: SocketAddr, time: Duration) -> Result<f64> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    for _ in 0..WARM_UP {
        exchange(&mut stream)?;
    }
    let mut trips = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        let sent = Instant::now();
        exchange(&mut stream)?;
        trips.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    median(&trips).context("no round trip was made")
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    let request = [0x5a; MESSAGE];
    let mut reply = [0; MESSAGE];
    stream.write_all(&request)?;
    stream.read_exact(&mut reply)?;
    if reply == request { Ok(()) } else { bail!("the answer differs from what was sent") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_measured_and_the_responder_ends_with_its_client() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let responder = std::thread::spawn(move || echo(&mut listener.accept().unwrap().0));
        let trip = request(address, Duration::from_millis(20)).unwrap();
        assert!(trip > 0.0);
        responder.join().unwrap().unwrap();
    }
}
