//! Packets, answers, time and changes of the fabric, one after the other: each `[operation][arguments]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use weft_stack::packet::Offload;
use weft_stack::trace::{PacketSpec, Protocol};

use crate::dress::{self, dress};
use crate::fabric;
use crate::input::Input;
use crate::site::{Site, spec};

/// Operations of one run.
const MOST: usize = 200;

/// Does what the bytes say, until they end.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut site = Site::new();
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let operation = input.byte();
        let worker = usize::from(operation >> 7);
        match operation % 8 {
            0 => raw(&mut site, worker, &mut input),
            1..=3 => described(&mut site, worker, &mut input),
            4 => site.answer(worker, usize::from(input.byte())),
            5 => site.pass(Duration::from_millis(1 << (input.byte() % 20))),
            6 => site.rebuild(input.word()),
            _ => site.introduce(),
        }
    }
    // Everything that waits comes to an end.
    site.pass(Duration::from_secs(3600));
}

/// `[port][dress][length][frame]`
fn raw(site: &mut Site, worker: usize, input: &mut Input) {
    let port = usize::from(input.byte());
    let mut what = Input(input.take(dress::OCTETS));
    let length = usize::from(input.byte());
    let frame = dress(port, &mut what, input.take(length).to_vec());
    site.feed(worker, port, &frame, Offload::default());
}

/// `[port][what][network][host][octets: 2 octets]`: a packet as the port's kernel would send it.
fn described(site: &mut Site, worker: usize, input: &mut Input) {
    let (port, what) = (usize::from(input.byte()), input.byte());
    let (network, host) = (input.byte() % 5, input.byte());
    let destination = match what & 1 {
        0 => IpAddr::V4(Ipv4Addr::new(198, 18, network, host)),
        _ => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, network.into(), 0, 0, 0, 0, host.into())),
    };
    let packet = PacketSpec {
        protocol: [Protocol::Icmp, Protocol::Udp, Protocol::Tcp, Protocol::Resolve]
            [usize::from(what >> 1 & 3)],
        ttl: if what & 8 == 0 { 64 } else { 1 },
        dont_fragment: what & 16 != 0,
        length: Some(input.word()).filter(|length| *length != 0),
        // A port without addresses speaks with the one it could have.
        source: Some(fabric::addresses(port)[usize::from(what & 1)]),
        ..spec(destination)
    };
    if let Some(frame) = site.synthesize(port, &packet) {
        site.feed(worker, port, &frame, Offload::default());
    }
}
