//! Scapy as an independent eye: it reads what the stack sends, and the stack's parsers read what it makes; both
//! must see the same fields, and compute the same checksums.

// The oracle's fabric and cases make the stack send; not all of what they offer is needed for that.
#[allow(dead_code)]
#[path = "oracle"]
mod oracle {
    pub mod captured;
    pub mod case;
    pub mod dissect;
    pub mod fabric;
    pub mod generate;
    pub mod packet;
    pub mod random;
    pub mod subject;
    pub mod topology;
}
#[path = "scapy"]
mod scapy {
    pub mod announcements;
    pub mod eye;
    pub mod fields;
    pub mod leases;
}

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use oracle::case::question;
use oracle::dissect::Dissection;
use oracle::subject::Subject;
use oracle::topology::Net;
use oracle::{fabric, generate};
use scapy::fields::{Fields, disagreements};
use scapy::{eye, fields};
use weft_stack::config::Config;
use weft_stack::trace::{PacketSpec, Protocol};
use weft_stack::{MacAddr, Stack};

/// Cases of the oracle that the stack is given; enough that it sends every format.
const CASES: u64 = 1_200;
/// Frames that scapy makes up.
const MADE_UP: u32 = 1_000;
const SEED: u64 = 0x0005_ca97;

/// Whether the gateway itself made this frame, checksums and all.
fn is_gateways_own(frame: &[u8]) -> bool {
    is_from_gateway(frame) && (Dissection::of(frame).has("arp.sender") || bears_gateways_address(frame))
}

fn is_from_gateway(frame: &[u8]) -> bool {
    Net::ALL.into_iter().any(|net| frame[6..12] == net.segment().gateway_mac)
}

fn bears_gateways_address(frame: &[u8]) -> bool {
    let read = Dissection::of(frame);
    let source = format!("{}{}", read.get("ip.source"), read.get("ip6.source"));
    let addresses = |net: Net| {
        let segment = net.segment();
        [segment.gateway4.to_string(), segment.gateway6.to_string(), net.gateway_link_local().to_string()]
    };
    Net::ALL.into_iter().any(|net| addresses(net).contains(&source))
}

/// What sort of thing the gateway said, where it must be seen at least once.
fn format_of(frame: &[u8]) -> Option<String> {
    let read = Dissection::of(frame);
    let sort = |names: &[&str]| names.iter().map(|name| read.get(name)).collect::<Vec<_>>().join(" ");
    if read.has("arp.operation") {
        return Some(format!("arp {}", read.get("arp.operation")));
    }
    if read.is("ip.mf", "true") {
        return Some("a fragment".into());
    }
    let kind = sort(&["ip.protocol", "ip6.protocol", "icmp.type", "icmp.code"]);
    (is_gateways_own(frame) || question(frame).is_some()).then_some(kind.trim().to_owned())
}

/// All formats that the stack sends of its own accord: ARP, ICMP and ICMPv6 by type and code, resets.
const FORMATS: [&str; 24] = [
    "arp 1",
    "arp 2",
    "a fragment",
    "1  0 0",
    "1  3 0",
    "1  3 1",
    "1  3 2",
    "1  3 3",
    "1  3 4",
    "1  11 0",
    "1  12 0",
    "6",
    "58 1 0",
    "58 1 2",
    "58 1 3",
    "58 1 4",
    "58 2 0",
    "58 3 0",
    "58 4 0",
    "58 4 1",
    "58 4 2",
    "58 129 0",
    "58 135 0",
    "58 136 0",
];

#[test]
fn scapy_reads_what_the_stack_sends_as_the_stack_does() {
    let sent = sent_by_the_stack().unwrap();
    let seen: BTreeSet<String> = sent.iter().filter_map(|frame| format_of(frame)).collect();
    let missing: Vec<_> = FORMATS.iter().filter(|format| !seen.contains(**format)).collect();
    assert!(missing.is_empty(), "the cases do not make the stack send {missing:?}, but {seen:?}");
    let read = eye::dissect(&sent).unwrap();
    agree(&sent, &read).unwrap();
    for (frame, read) in sent.iter().zip(&read) {
        let wrong: Vec<_> =
            read.iter().filter(|(name, value)| name.starts_with("sum.") && *value == "wrong").collect();
        assert!(wrong.is_empty() || !is_gateways_own(frame), "{wrong:?}:\n{}", Dissection::of(frame));
    }
}

#[test]
fn the_stack_reads_what_scapy_sends_as_scapy_does() {
    let made = eye::build(SEED, MADE_UP).unwrap();
    let (frames, read): (Vec<_>, Vec<_>) = made.into_iter().unzip();
    agree(&frames, &read).unwrap();
}

#[test]
fn scapy_reads_the_packets_of_traces() {
    let config = std::sync::Arc::new(Config::build(&fabric::spec(), None, 1).unwrap());
    let port = config.port_by_name("a").unwrap().clone();
    let stack = Stack::new(0, config);
    let mut frames = Vec::new();
    for protocol in [Protocol::Resolve, Protocol::Icmp, Protocol::Tcp, Protocol::Udp] {
        for destination in ["198.18.2.10", "2001:db8:2::a"] {
            for vlan in [None, Some(7)] {
                let spec = PacketSpec {
                    source: None,
                    destination: destination.parse().unwrap(),
                    protocol,
                    source_port: 1234,
                    destination_port: 80,
                    length: (protocol != Protocol::Resolve).then_some(333),
                    ttl: 17,
                    dont_fragment: true,
                    source_mac: None,
                    destination_mac: Some(MacAddr([2, 0, 0, 1, 2, 3])),
                    vlan,
                };
                frames.push(stack.synthesize(&port, &spec).unwrap());
            }
        }
    }
    let read = eye::dissect(&frames).unwrap();
    agree(&frames, &read).unwrap();
    let right =
        |fields: &Fields| fields.iter().all(|(name, value)| !name.starts_with("sum.") || value == "right");
    assert!(read.iter().all(right), "{read:?}");
}

/// What the stack sends when the oracle's cases are put to it, each frame once.
fn sent_by_the_stack() -> Result<Vec<Vec<u8>>> {
    let mut subject = Subject::new()?;
    let mut sent = BTreeSet::new();
    for number in 0..CASES {
        let case = generate::case(SEED, number);
        // Hosts that pose as the gateway would pass for it here.
        if case.steps.iter().any(|step| bears_gateways_address(&step.frame)) {
            continue;
        }
        sent.extend(subject.run(&case).into_iter().map(|(_, frame)| frame));
    }
    // Of what is only bridged neither side need make sense.
    Ok(sent.into_iter().filter(|frame| is_from_gateway(frame) && !is_beyond(frame)).collect())
}

/// What the two need not agree on: scapy computes checksums behind a segment routing header for the last of its
/// addresses, and the stack follows no more than eight extension headers, and none that ends beyond the packet.
fn is_beyond(frame: &[u8]) -> bool {
    let read = Dissection::of(frame);
    let extensions = read.fields.iter().filter(|(name, _)| *name == "ip6.extension").collect::<Vec<_>>();
    let broken = matches!(read.get("ip6.protocol"), "0" | "43" | "60");
    broken || extensions.len() > 8 || extensions.iter().any(|(_, header)| header.starts_with("43 "))
}

/// Whether our parsers and scapy see the same in each frame.
fn agree(frames: &[Vec<u8>], scapy: &[Fields]) -> Result<()> {
    ensure!(frames.len() == scapy.len(), "{} frames, {} readings", frames.len(), scapy.len());
    for (frame, theirs) in frames.iter().zip(scapy) {
        let differing = disagreements(&fields::of(frame)?, theirs);
        ensure!(
            differing.is_empty(),
            "(field, the stack, scapy) {differing:?}\n{}\n{}",
            Dissection::of(frame),
            oracle::dissect::hex(frame)
        );
    }
    Ok(())
}
