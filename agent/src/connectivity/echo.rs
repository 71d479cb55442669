//! What the probe of a node answers, and how others ask it: datagrams and streams that come back.
//!
//! A question and its answer differ, so that two probes never answer each other for ever, and none sends more than it
//! got.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

/// The probe's port, UDP and TCP.
pub const PORT: u16 = 9812;

/// Octets of a question over TCP, and the fewest over UDP.
pub const SHORTEST: usize = 24;

/// How a question begins.
const QUESTION: &[u8; 16] = b"weft-probe: ask\n";
/// How an answer begins.
const ANSWER: &[u8; 16] = b"weft-probe: yes\n";

/// Streams that are answered at a time.
const STREAMS: usize = 64;
/// How long a stream may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time after which a datagram is sent again: the first one may have been lost to a handshake.
const AGAIN: Duration = Duration::from_millis(250);

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// What was sent.
    Answer,
    /// The far end's kernel says that nobody listens: it was reached.
    Refusal,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    /// Nothing came in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// Somewhere on the way packets must be smaller.
    #[error("the way takes no packets of that size")]
    TooLarge,
    /// The system says why.
    #[error("{0}")]
    Failed(#[from] io::Error),
}

/// Answers datagrams and streams until a socket fails.
pub async fn serve() -> io::Result<()> {
    let (udp, tcp) = match bind(Ipv6Addr::UNSPECIFIED.into()).await {
        Ok(sockets) => sockets,
        // A node without IPv6.
        Err(_) => bind(Ipv4Addr::UNSPECIFIED.into()).await?,
    };
    tokio::try_join!(answer_datagrams(udp), answer_streams(tcp)).map(drop)
}

async fn bind(address: std::net::IpAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind((address, PORT)).await?;
    forbid_fragments(&udp, address.is_ipv6())?;
    Ok((udp, TcpListener::bind((address, PORT)).await?))
}

/// What is too large for the way is told, and not cut.
fn forbid_fragments(socket: &UdpSocket, v6: bool) -> io::Result<()> {
    // A socket of IPv6 may send IPv4, too.
    set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DO)?;
    if v6 {
        set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DO)?;
    }
    Ok(())
}

async fn answer_datagrams(socket: UdpSocket) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        let datagram = &mut buffer[..length];
        if let Some(begin) = datagram.first_chunk_mut().filter(|begin| *begin == QUESTION) {
            *begin = *ANSWER;
            // Who asks notices that it did not come.
            let _ = socket.send_to(datagram, from).await;
        }
    }
}

async fn answer_streams(listener: TcpListener) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(STREAMS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // Who asks notices that it failed.
            let _ = timeout(PATIENCE, answer_stream(stream)).await;
            drop(permit);
        });
    }
}

async fn answer_stream(mut stream: TcpStream) -> io::Result<()> {
    let mut question = [0; SHORTEST];
    stream.read_exact(&mut question).await?;
    if let Some(begin) = question.first_chunk_mut().filter(|begin| *begin == QUESTION) {
        *begin = *ANSWER;
        stream.write_all(&question).await?;
    }
    Ok(())
}

/// Asks by one datagram with `length` octets of payload, at least [`SHORTEST`], sent again and again until `within`
/// is over. It is never cut to pieces on its way.
pub async fn ask_by_datagram(to: SocketAddr, length: usize, within: Duration) -> Result<Heard, Silence> {
    let deadline = Instant::now() + within;
    let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    forbid_fragments(&socket, to.is_ipv6())?;
    socket.connect(to).await?;
    let mut question = vec![0; length.max(SHORTEST)];
    question[..QUESTION.len()].copy_from_slice(QUESTION);
    let mut answer = vec![0; question.len() + 1];
    while Instant::now() < deadline {
        if let Err(error) = socket.send(&question).await {
            return judge(error);
        }
        let until = deadline.min(Instant::now() + AGAIN);
        match timeout_at(until, socket.recv(&mut answer)).await {
            Ok(Ok(length)) if length == question.len() && answer.starts_with(ANSWER) => {
                return Ok(Heard::Answer);
            }
            Ok(Err(error)) => return judge(error),
            // Something else, or nothing yet.
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    Err(Silence::Timeout(within))
}

/// Asks by a stream.
pub async fn ask_by_stream(to: SocketAddr, within: Duration) -> Result<Heard, Silence> {
    let mut question = [0; SHORTEST];
    question[..QUESTION.len()].copy_from_slice(QUESTION);
    let asked = timeout(within, async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(&question).await?;
        let mut answer = [0; SHORTEST];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    });
    match asked.await {
        Ok(Ok(answer)) if answer.starts_with(ANSWER) => Ok(Heard::Answer),
        Ok(Ok(_)) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        Ok(Err(error)) => judge(error),
        Err(_) => Err(Silence::Timeout(within)),
    }
}

/// Connects, and says nothing.
pub async fn connect(to: SocketAddr, within: Duration) -> Result<Heard, Silence> {
    match timeout(within, TcpStream::connect(to)).await {
        Ok(Ok(_)) => Ok(Heard::Answer),
        Ok(Err(error)) => judge(error),
        Err(_) => Err(Silence::Timeout(within)),
    }
}

fn judge(error: io::Error) -> Result<Heard, Silence> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Ok(Heard::Refusal),
        _ if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
            Err(Silence::TooLarge)
        }
        _ => Err(error.into()),
    }
}
