//! Frames at ports, datagrams at sockets, errors and time, one after the other: each `[operation][arguments]`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weft_stack::packet::Offload;
use weft_stack::trace::{PacketSpec, Protocol};
use weft_stack::tunnel::Underlay;
use weft_stack::wire::virtio_net;

use crate::crossing::{Crossing, Heard, written};
use crate::dress::{self, dress};
use crate::input::Input;
use crate::site::spec;
use crate::{fabric, overlay};

/// Operations of one run.
const MOST: usize = 120;

/// Octets of the longest thing that is heard.
const LONGEST: usize = 65_507;

/// Who described packets are for: ports, gateways, and what is behind each tunnel.
const DESTINATIONS: [&str; 12] = [
    "198.18.1.20",
    "198.18.1.1",
    "198.18.1.11",
    "198.18.2.20",
    "198.18.20.5",
    "198.18.41.2",
    "198.18.30.5",
    "198.18.30.2",
    "198.18.40.1",
    "2001:db8:20::5",
    "2001:db8:30::5",
    "2001:db8:1::20",
];

/// Does what the bytes say, until they end.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut crossing = Crossing::new();
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let operation = input.byte();
        let worker = usize::from(operation >> 7);
        match operation % 8 {
            0 => raw(&mut crossing, worker, &mut input),
            1 => described(&mut crossing, worker, &mut input),
            2 => device(&mut crossing, worker, &mut input),
            3 => heard(&mut crossing, worker, &mut input),
            4 => sealed(&mut crossing, &mut input),
            5 => error(&mut crossing, worker, &mut input),
            6 => crossing.pass(Duration::from_millis(1 << (input.byte() % 20))),
            _ => crossing.rebuild(input.byte()),
        }
    }
    // Everything that waits comes to an end.
    crossing.pass(Duration::from_secs(3600));
}

/// `[port][dress: 2 octets][octets][frame]`: a frame as if from the port, with what is to be right in it, and so many
/// zeros behind it.
fn frame(input: &mut Input, behind: usize) -> (usize, Vec<u8>) {
    let port = usize::from(input.byte());
    let mut what = Input(input.take(dress::OCTETS));
    let length = usize::from(input.byte());
    let mut frame = input.take(length).to_vec();
    frame.resize(frame.len() + behind, 0);
    (port, dress(port, &mut what, frame))
}

fn raw(crossing: &mut Crossing, worker: usize, input: &mut Input) {
    let (port, frame) = frame(input, 0);
    crossing.feed(worker, port, &frame, Offload::default());
}

/// `[port][what][destination][octets: 2]`: a packet as the port's kernel would send it.
fn described(crossing: &mut Crossing, worker: usize, input: &mut Input) {
    let (port, what) = (usize::from(input.byte()), input.byte());
    let destination = DESTINATIONS[usize::from(input.byte()) % DESTINATIONS.len()];
    let Ok(destination) = destination.parse::<IpAddr>() else { return };
    let protocols = [Protocol::Icmp, Protocol::Udp, Protocol::Tcp, Protocol::Resolve];
    let packet = PacketSpec {
        protocol: protocols[usize::from(what & 3)],
        ttl: if what & 4 == 0 { 64 } else { 1 },
        dont_fragment: what & 8 != 0,
        length: Some(input.word()).filter(|length| *length != 0),
        source: Some(fabric::addresses(port)[usize::from(destination.is_ipv6())]),
        destination_mac: (what & 16 != 0).then(overlay::station),
        ..spec(destination)
    };
    if let Some(frame) = crossing.synthesize(port, &packet) {
        crossing.feed(worker, port, &frame, Offload::default());
    }
}

/// `[virtio-net header][zeros behind the frame: 2 octets]` and a frame: what a device writes.
fn device(crossing: &mut Crossing, worker: usize, input: &mut Input) {
    let header = input.take(virtio_net::HEADER_LENGTH);
    let behind = usize::from(input.word());
    let (port, frame) = frame(input, behind);
    if let Some(packet) = written(&[header, &frame].concat()) {
        crossing.feed(worker, port, packet.frame(), packet.offload);
    }
}

/// `[kind][source][tos][how often][zeros behind: 2 octets]` and a frame. Kinds: 0 to 2 are what far ends send, others
/// any octets. Bits of how often: 0 to 5 the number of datagrams put together but one, 6 the last is cut short, 7 their
/// size is another.
fn heard(crossing: &mut Crossing, worker: usize, input: &mut Input) {
    let (kind, from) = (input.byte(), usize::from(input.byte()));
    let number = u32::from(kind / 6);
    let (tos, times) = (input.byte(), input.byte());
    let behind = usize::from(input.word()) % 10_000;
    let (_, frame) = frame(input, behind);
    let (underlay, datagram) = match kind % 6 {
        0 => (Underlay::Udp(overlay::VXLAN), overlay::in_vxlan(&frame)),
        kind @ (1 | 2) => (Underlay::Gre, overlay::in_gre(kind == 1, number, &frame)),
        3 => (Underlay::Udp(overlay::VXLAN), frame),
        4 => (Underlay::Gre, frame),
        _ => (Underlay::Udp(overlay::WIREGUARD), frame),
    };
    let count = usize::from(times & 63) + 1;
    let mut octets = datagram.repeat(count);
    let cut = if times & 64 != 0 { datagram.len() / 2 } else { 0 };
    octets.truncate((octets.len() - cut).min(LONGEST));
    let segment = match (times & 128 != 0, count) {
        (true, _) => behind,
        (false, 1) => 0,
        (false, _) => datagram.len(),
    };
    let port = if underlay == Underlay::Gre { 0 } else { 50_000 };
    let source = SocketAddr::new(overlay::source(from), port);
    crossing.hear(worker, &Heard { underlay, source, tos, segment, octets });
}

/// `[what]` and a frame: what WireGuard's far end seals. What: 0 the packet, 1 the frame in VXLAN, else any octets.
fn sealed(crossing: &mut Crossing, input: &mut Input) {
    let what = input.byte();
    let (_, frame) = frame(input, 0);
    match what % 3 {
        0 => crossing.hear_sealed(frame.get(14..).unwrap_or_default()),
        1 => crossing.hear_sealed(&overlay::in_carried_vxlan(&frame)),
        _ => crossing.hear_sealed(&frame),
    }
}

/// `[what][MTU: 2 octets]`, and where it is not the last datagram that is quoted `[octets][quote]`.
fn error(crossing: &mut Crossing, worker: usize, input: &mut Input) {
    let (what, mtu) = (input.byte(), u32::from(input.word()));
    let quote = (what & 1 != 0).then(|| {
        let length = usize::from(input.byte());
        input.take(length)
    });
    crossing.tell_error(worker, Some(mtu).filter(|_| what & 2 == 0), what & 4 != 0, quote);
}
