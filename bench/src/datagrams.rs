//! The two ends of the datagram generator, which run in the containers.
//!
//! The sender makes UDP datagrams of one flow as fast as it can: it gives the kernel runs of them, which cuts them right
//! before the device, where [`cut_runs`] says so. Each is a packet of its own from there on, and the sender takes less time
//! for one than who forwards it. The other end is a socket that nobody reads: its buffer is full at once, and from then on the kernel counts each datagram
//! that comes to it as dropped there. So every packet is carried to its socket, and no reader takes processor time from
//! who forwards. Neither end is tied to a core: the scheduler places them as it would a user's programs, on both sides.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::net::sockopt;
use serde::{Deserialize, Serialize};
use weft_host::datagram::Message;
use weft_host::udp::UdpSocket;
use weft_testkit::Place;

use crate::machine::Spent;

/// Before what counts: until then caches are warm, threads are placed, and the sink's buffer is full.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long the sender goes on after what counts, so that both ends measure under full load.
const SLACK: Duration = Duration::from_millis(500);
/// Datagrams that a socket takes at once.
const RUN: usize = 64;
/// Octets that a socket takes at once.
const RUN_OCTETS: usize = 65_000;
const ENOBUFS: i32 = 105;
/// Longest time until the first datagram arrives.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came to the sink.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// Datagrams.
    pub datagrams: f64,
    /// In this time.
    pub seconds: f64,
    /// What the machine spent meanwhile.
    pub spent: Spent,
}

/// Has the kernel cut runs of datagrams before the device that leads to `sink`, instead of giving them to it whole.
pub fn cut_runs(place: &Place<'_>, sink: IpAddr) -> Result<()> {
    let route = place.run(&format!("ip -o route get {sink}"))?.ok()?;
    let device = route.split_once(" dev ").and_then(|(_, rest)| rest.split_whitespace().next());
    let device = device.with_context(|| format!("no device leads to {sink}: {route}"))?;
    place.run(&format!("ethtool -K {device} tx-udp-segmentation off"))?.ok().map(|_| ())
}

/// Sends datagrams of `octets` for long enough that the sink can measure for `time`; gives how many a second, while the
/// sink measures.
pub fn send(sink: SocketAddr, octets: usize, time: Duration) -> Result<f64> {
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let socket = UdpSocket::bind(any).context("a socket to send from")?;
    let count = RUN.min(RUN_OCTETS / octets.max(1)).max(1);
    let payload = vec![0x5a; octets * count];
    let run = Message { destination: sink, segment: octets, octets: &payload, ..Message::NONE };
    let go_on = |time: Duration| -> Result<f64> {
        let (start, mut sent) = (Instant::now(), 0);
        while start.elapsed() < time {
            match socket.send_batch(&[run]) {
                Ok(runs) => sent += runs * count,
                // A queue on the way is full.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot send to {sink}")),
            }
        }
        Ok(sent as f64 / start.elapsed().as_secs_f64())
    };
    go_on(WARM_UP)?;
    let rate = go_on(time)?;
    go_on(SLACK)?;
    Ok(rate)
}

/// A bound socket that is not read.
#[derive(Debug)]
pub struct Sink {
    socket: std::net::UdpSocket,
    address: SocketAddrV4,
}

impl Sink {
    /// At this address.
    pub fn bind(address: SocketAddrV4) -> Result<Sink> {
        let socket = std::net::UdpSocket::bind(address).with_context(|| format!("cannot bind {address}"))?;
        // As small as the kernel allows, which is a few datagrams.
        sockopt::set_socket_recv_buffer_size(&socket, 1).context("the size of the receive buffer")?;
        let SocketAddr::V4(address) = socket.local_addr()? else { unreachable!("bound to IPv4") };
        Ok(Sink { socket, address })
    }

    /// Waits for the sender and measures for so long.
    pub fn count(&self, time: Duration) -> Result<Arrival> {
        let start = Instant::now();
        while self.dropped()? == 0 {
            ensure!(start.elapsed() < PATIENCE, "no datagrams came to {}", self.address);
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(WARM_UP);
        let (start, spent, before) = (Instant::now(), Spent::until_now()?, self.dropped()?);
        std::thread::sleep(time);
        let after = self.dropped()?;
        let (seconds, spent) = (start.elapsed().as_secs_f64(), spent.since_then()?);
        // The kernel's counter has 32 bits.
        let datagrams = f64::from(after.wrapping_sub(before));
        Ok(Arrival { datagrams, seconds, spent })
    }

    fn dropped(&self) -> Result<u32> {
        let table = fs::read_to_string("/proc/thread-self/net/udp").context("the list of sockets")?;
        dropped(&table, self.address).with_context(|| format!("{:?} is not in {table}", self.socket))
    }
}

/// Datagrams that came to a socket and were dropped there, from `/proc/net/udp` (proc_pid_net(5)): the last column. The
/// address before is hexadecimal, with its octets in the machine's order.
fn dropped(table: &str, socket: SocketAddrV4) -> Option<u32> {
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(socket.ip().octets()), socket.port());
    let row = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&local))?;
    row.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 writes it on a machine whose octets are in little-endian order.
    #[cfg(target_endian = "little")]
    const TABLE: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            \n\
        11696: 00000000:C904 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 23922641 2 00000000174ad672 0      \n\
        14589: 0100007F:1451 00000000:0000 07 00000000:00000680 00:00000000 00000000     0        0 23922640 2 0000000097f22c63 98     \n";

    #[test]
    #[cfg(target_endian = "little")]
    fn drops_are_those_of_the_socket() {
        assert_eq!(dropped(TABLE, "127.0.0.1:5201".parse().unwrap()), Some(98));
        assert_eq!(dropped(TABLE, "0.0.0.0:51460".parse().unwrap()), Some(0));
        assert_eq!(dropped(TABLE, "127.0.0.1:5202".parse().unwrap()), None);
    }

    #[test]
    fn what_arrives_at_a_socket_that_nobody_reads_is_counted() {
        let sink = Sink::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, time) = (sink.address.into(), Duration::from_millis(100));
        let sender = std::thread::spawn(move || send(address, 18, time));
        let arrival = sink.count(time).unwrap();
        let sent = sender.join().unwrap().unwrap();
        let rate = arrival.datagrams / arrival.seconds;
        // Nothing is lost on the way, so that both ends tell about the same; the machine may be busy.
        assert!(rate > sent / 4.0 && rate < sent * 4.0, "{rate} came of {sent}");
        assert!(arrival.spent.switches > 0.0);
    }
}
