//! The same super-packets cut by the stack and by the Linux kernel: the segments must be equal, octet for octet.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use weft_stack::batch::{Batch, Output};
use weft_stack::config::{
    BandwidthSpec, Config, FabricSpec, MulticastSpec, NetworkSpec, Offloads, PortSpec, PortVlans,
    StormLimits, UNTAGGED,
};
use weft_stack::time::Instant;
use weft_stack::{MacAddr, Stack};
use weft_testkit::Lab;
use weft_testkit::frame::checksum;

/// Lets the kernel cut what it reads.
const KERNEL: &str = include_str!("segmentation.py");

const CASES: u64 = 300;
const SENDER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0a]);
const RECEIVER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0b]);

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Numbers that look random and are the same in every run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// A super-packet behind its virtio-net header.
fn super_packet(numbers: &mut Numbers) -> Vec<u8> {
    let (v4, tcp) = (numbers.below(2) == 0, numbers.below(3) != 0);
    let size = 8 + numbers.below(1360) as usize;
    let length = size + 1 + numbers.below(30 * size as u64) as usize;
    let protocol = if tcp { TCP } else { UDP };
    let transport = if tcp { tcp_header(numbers) } else { vec![0x9c, 0x40, 0, 53, 0, 0, 0, 0] };
    let octets = transport.len() + length;
    let (network, pseudo) =
        if v4 { ipv4_header(numbers, protocol, octets) } else { ipv6_header(numbers, protocol, octets) };
    let mut frame = [&RECEIVER.0[..], &SENDER.0, if v4 { &[8, 0] } else { &[0x86, 0xdd] }].concat();
    frame.extend(network);
    let start = frame.len();
    frame.extend(transport);
    let headers = frame.len();
    frame.extend(numbers.octets(length));
    if !tcp {
        frame[start + 4..start + 6].copy_from_slice(&(octets as u16).to_be_bytes());
    }
    let offset = if tcp { 16 } else { 6 };
    // The field holds the pseudo-header's sum, not inverted.
    frame[start + offset..start + offset + 2].copy_from_slice(&(!checksum(&pseudo)).to_be_bytes());
    let cwr = tcp && frame[start + 13] & 0x80 != 0;
    let kind = match (tcp, v4) {
        (true, true) => 1,
        (true, false) => 4,
        (false, _) => 5,
    } | if cwr { 0x80 } else { 0 };
    let fields = [headers, size, start, offset].map(|field| (field as u16).to_ne_bytes());
    [&[1, kind][..], fields.as_flattened(), &frame].concat()
}

fn tcp_header(numbers: &mut Numbers) -> Vec<u8> {
    let options = numbers.below(11) as u8;
    // ACK with PSH, FIN, ECE and CWR now and then.
    let flags = 0x10 | numbers.octets(1)[0] & 0xc9;
    let mut header = vec![0x9c, 0x40, 0, 80];
    header.extend(numbers.octets(8));
    header.extend([(5 + options) << 4, flags, 1, 0, 0, 0, 0, 0]);
    header.resize(20 + usize::from(options) * 4, 1);
    header
}

/// A header, sometimes with options, and the pseudo-header that goes with it.
fn ipv4_header(numbers: &mut Numbers, protocol: u8, octets: usize) -> (Vec<u8>, Vec<u8>) {
    let options = if numbers.below(4) == 0 { 4 * (1 + numbers.below(10) as usize) } else { 0 };
    let dont_fragment = if numbers.below(2) == 0 { 0x40 } else { 0 };
    // Zero is left alone by us where DF is set, and counted up by the kernel: both are right (RFC 6864).
    let id = (1 + numbers.below(65_535)) as u16;
    let mut header = vec![0x45 + (options / 4) as u8, numbers.below(256) as u8];
    header.extend(((20 + options + octets) as u16).to_be_bytes());
    header.extend(id.to_be_bytes());
    header.extend([dont_fragment, 0, 64, protocol, 0, 0, 198, 18, 1, 10, 198, 18, 1, 11]);
    header.resize(20 + options, 1);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = [&header[12..20], &[0, protocol], &(octets as u16).to_be_bytes()].concat();
    (header, pseudo)
}

/// A header, sometimes with destination options, and the pseudo-header that goes with it.
fn ipv6_header(numbers: &mut Numbers, protocol: u8, octets: usize) -> (Vec<u8>, Vec<u8>) {
    let options = if numbers.below(4) == 0 { 8 * (1 + numbers.below(4) as usize) } else { 0 };
    let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last).octets();
    let addresses = [address(10), address(11)];
    let mut header = vec![0x60, numbers.below(16) as u8];
    header.extend(numbers.octets(2));
    header.extend(((options + octets) as u16).to_be_bytes());
    header.extend([if options == 0 { protocol } else { 60 }, 64]);
    header.extend(addresses.as_flattened());
    if options != 0 {
        header.extend([protocol, (options / 8 - 1) as u8, 1, (options - 4) as u8]);
        header.resize(40 + options, 0);
    }
    let pseudo = [addresses.as_flattened(), &(octets as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat();
    (header, pseudo)
}

fn port(name: &str, mac: MacAddr, last: u8, offloads: Offloads) -> PortSpec {
    PortSpec {
        name: name.into(),
        network: "one".into(),
        mac,
        addresses: vec![
            IpAddr::from([198, 18, 1, last]),
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(last)).into(),
        ],
        vlans: PortVlans::Access(UNTAGGED),
        mtu: 1500,
        source_check: true,
        offloads,
        uplink: false,
        max_macs: None,
        isolated: false,
        storm: StormLimits::default(),
        mirror: None,
        watches: false,
        coalesce: false,
        replay: false,
        bandwidth: BandwidthSpec::default(),
    }
}

/// A stack with a sender and a receiver whose device takes nothing.
fn stack() -> Stack {
    let network = NetworkSpec {
        name: "one".into(),
        router: None,
        subnets: Vec::new(),
        mtu: 1500,
        gateway_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        ageing: Duration::from_secs(300),
        max_macs: 16,
        max_neighbors: 16,
        static_macs: Vec::new(),
        static_neighbors: Default::default(),
        multicast: MulticastSpec::default(),
        advertisements: None,
        proxy_neighbors: false,
        dhcp: None,
    };
    let all = Offloads { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: true };
    let ports = vec![port("a", SENDER, 10, all), port("b", RECEIVER, 11, Offloads::default())];
    let spec = FabricSpec { networks: vec![network], ports, ..FabricSpec::default() };
    Stack::new(0, Arc::new(Config::build(&spec, None, 1).unwrap()))
}

/// What the stack makes of a super-packet.
fn cut(stack: &mut Stack, bytes: &[u8]) -> Vec<String> {
    let from = stack.config().port_by_name("a").unwrap().id;
    let (mut batch, mut output) = (Batch::new(), Output::new());
    let packet = batch.vacant();
    packet.receive_area()[..bytes.len()].copy_from_slice(bytes);
    packet.received(bytes.len()).unwrap();
    batch.commit(1);
    stack.process(Instant::from_nanos(1_000_000_000), from, &mut batch, &mut output);
    output.sends().iter().map(|send| hex(output.packet(&batch, send).frame())).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn segments_are_those_of_the_kernel() -> Result<()> {
    let mut numbers = Numbers(0x5eed_5eed_5eed_5eed);
    let cases: Vec<Vec<u8>> = (0..CASES).map(|_| super_packet(&mut numbers)).collect();
    let lab = Lab::empty()?;
    let input: String = cases.iter().map(|case| hex(case) + "\n").collect();
    let kernel = lab.node().spawn_with_input(&["python3", "-c", KERNEL], Some(&input))?.wait()?.ok()?;
    let kernel: Vec<Vec<&str>> =
        kernel.split_terminator("\n\n").map(|frames| frames.lines().collect()).collect();
    assert_eq!(kernel.len(), cases.len());
    let mut stack = stack();
    for (number, (case, expected)) in cases.iter().zip(&kernel).enumerate() {
        let made = cut(&mut stack, case);
        assert!(expected.len() > 1, "case {number}: the kernel made {} segments", expected.len());
        assert_eq!(made, *expected, "case {number}: {}", hex(&case[..case.len().min(120)]));
    }
    Ok(())
}
