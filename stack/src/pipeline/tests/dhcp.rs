//! The DHCP server of a network: who gets which address, with what, and who may not play the server.

use std::net::Ipv4Addr;

use super::*;
use crate::MacAddr;
use crate::config::{DhcpSpec, PortSpec};
use crate::testing::{gateway_mac, mac};
use crate::wire::{ipv4, udp};

const GATEWAY: [u8; 4] = [198, 18, 1, 1];
const NOBODY: [u8; 4] = [0; 4];
const ALL: [u8; 4] = [255; 4];

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const ACKNOWLEDGE: u8 = 5;
const REFUSE: u8 = 6;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;

/// Network `a` serves DHCP; the ports have .10, .11 and .12.
fn serving() -> FabricSpec {
    let mut spec = testing::two_networks();
    spec.networks[0].dhcp = Some(DhcpSpec {
        lease: Duration::from_secs(3600),
        dns: vec![[198, 18, 0, 53].into(), [198, 18, 0, 54].into()],
        domain: Some("lab.example.org".into()),
    });
    spec
}

/// A client's message, put together here byte by byte.
struct Client {
    port: &'static str,
    source: [u8; 4],
    destination: [u8; 4],
    to: MacAddr,
    flags: u16,
    ciaddr: [u8; 4],
    giaddr: [u8; 4],
}

const A1: Client = Client {
    port: "a1",
    source: NOBODY,
    destination: ALL,
    to: MacAddr::BROADCAST,
    flags: 0,
    ciaddr: NOBODY,
    giaddr: NOBODY,
};

impl Client {
    fn frame(&self, kind: u8, options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 240];
        message[..3].copy_from_slice(&[1, 1, 6]);
        message[4..8].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        message[10..12].copy_from_slice(&self.flags.to_be_bytes());
        message[12..16].copy_from_slice(&self.ciaddr);
        message[24..28].copy_from_slice(&self.giaddr);
        message[28..34].copy_from_slice(&mac(self.port).0);
        message[236..].copy_from_slice(&[99, 130, 83, 99]);
        message.extend([53, 1, kind]);
        message.extend(options);
        message.push(255);
        datagram((mac(self.port), self.to), (self.source, self.destination), (68, 67), &message)
    }

    fn asks(&self, fabric: &mut Fabric, kind: u8, options: &[u8]) -> Vec<Sent> {
        fabric.receive_frame(self.port, &self.frame(kind, options))
    }
}

fn datagram(
    macs: (MacAddr, MacAddr),
    addresses: ([u8; 4], [u8; 4]),
    ports: (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![0; 42];
    ethernet::Header { destination: macs.1, source: macs.0, ethertype: ethernet::IPV4 }.emit(&mut frame);
    frame.extend(payload);
    let header = ipv4::Header {
        header_length: 20,
        total_length: 28 + payload.len(),
        tos: 0,
        id: 0,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol: ipv4::UDP,
        source: addresses.0.into(),
        destination: addresses.1.into(),
    };
    header.emit(&mut frame[14..]);
    let header = udp::Header { source: ports.0, destination: ports.1, length: 8 + payload.len() };
    let (source, destination) = (Ipv4Addr::from(addresses.0), Ipv4Addr::from(addresses.1));
    header.emit(source.into(), destination.into(), &mut frame[34..]);
    frame
}

/// An answer, taken apart here byte by byte.
#[derive(Debug)]
struct Answer {
    port: String,
    to: MacAddr,
    destination: Ipv4Addr,
    yours: Ipv4Addr,
    client: Ipv4Addr,
    options: Vec<(u8, Vec<u8>)>,
}

impl Answer {
    fn of(sent: &[Sent]) -> Answer {
        let [(port, packet)] = sent else { panic!("one answer expected: {:?}", told(sent)) };
        let frame = packet.frame();
        let header = ipv4::Header::parse(&frame[14..]).unwrap();
        assert!(ipv4::checksum_is_valid(&frame[14..34]));
        assert!(udp::checksum_is_valid(header.source.into(), header.destination.into(), &frame[34..]));
        assert_eq!((header.source, header.protocol), (GATEWAY.into(), 17));
        assert_eq!(frame[34..38], [0, 67, 0, 68]);
        assert_eq!(ethernet_of(packet).source, gateway_mac("a"));
        let message = &frame[42..];
        assert!(message.len() >= 300);
        assert_eq!(message[..8], [2, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(message[236..240], [99, 130, 83, 99]);
        let address =
            |at: usize| Ipv4Addr::new(message[at], message[at + 1], message[at + 2], message[at + 3]);
        let mut options = Vec::new();
        let mut rest = &message[240..];
        while rest[0] != 255 {
            let (option, behind) = rest.split_at(2 + usize::from(rest[1]));
            options.push((option[0], option[2..].to_vec()));
            rest = behind;
        }
        Answer {
            port: port.clone(),
            to: ethernet_of(packet).destination,
            destination: header.destination,
            yours: address(16),
            client: address(12),
            options,
        }
    }

    fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(own, _)| *own == code).map(|(_, value)| &value[..])
    }

    fn kind(&self) -> u8 {
        self.option(53).unwrap()[0]
    }

    fn codes(&self) -> Vec<u8> {
        self.options.iter().map(|(code, _)| *code).collect()
    }
}

#[test]
fn who_asks_is_offered_the_address_of_its_port() {
    let mut fabric = Fabric::new(&serving());
    for (port, last) in [("a1", 10), ("a2", 11), ("a3", 12)] {
        let answer = Answer::of(&Client { port, ..A1 }.asks(&mut fabric, DISCOVER, &[]));
        assert_eq!((answer.kind(), answer.port.as_str()), (OFFER, port));
        assert_eq!(
            (answer.yours, answer.destination),
            ([198, 18, 1, last].into(), [198, 18, 1, last].into())
        );
        assert_eq!(answer.to, mac(port));
        assert_eq!(answer.option(54), Some(&GATEWAY[..]));
        assert_eq!(answer.option(51), Some(&3600u32.to_be_bytes()[..]));
        assert_eq!(answer.option(58), Some(&1800u32.to_be_bytes()[..]));
        assert_eq!(answer.option(59), Some(&3150u32.to_be_bytes()[..]));
        assert_eq!(answer.option(1), Some(&[255, 255, 255, 0][..]));
        assert_eq!(answer.option(3), Some(&GATEWAY[..]));
        assert_eq!(answer.option(6), Some(&[198, 18, 0, 53, 198, 18, 0, 54][..]));
        assert_eq!(answer.option(15), Some(&b"lab.example.org"[..]));
        assert_eq!(answer.option(28), Some(&[198, 18, 1, 255][..]));
        assert_eq!(answer.option(26), Some(&1500u16.to_be_bytes()[..]));
    }
}

#[test]
fn what_the_client_wants_comes_in_its_order_behind_the_mask() {
    let mut fabric = Fabric::new(&serving());
    let list = [55, 5, 28, 3, 12, 1, 3, 61, 3, 0, 7, 7];
    let answer = Answer::of(&A1.asks(&mut fabric, DISCOVER, &list));
    assert_eq!(answer.codes(), [53, 54, 61, 51, 58, 59, 1, 28, 3]);
    assert_eq!(answer.option(61), Some(&[0, 7, 7][..]));
}

#[test]
fn a_client_that_cannot_take_unicast_is_answered_by_broadcast() {
    let mut fabric = Fabric::new(&serving());
    let answer = Answer::of(&Client { flags: 0x8000, ..A1 }.asks(&mut fabric, DISCOVER, &[]));
    assert_eq!((answer.destination, answer.to), (ALL.into(), MacAddr::BROADCAST));
    assert_eq!(answer.port, "a1", "no other port hears it");
}

const SERVER: [u8; 6] = [54, 4, 198, 18, 1, 1];
const OWN: [u8; 6] = [50, 4, 198, 18, 1, 10];
const FOREIGN: [u8; 6] = [50, 4, 198, 18, 1, 77];

#[test]
fn selecting_and_rebooting_clients_get_their_own_address_and_no_other() {
    let mut fabric = Fabric::new(&serving());
    for options in [[SERVER, OWN].concat(), OWN.to_vec()] {
        let answer = Answer::of(&A1.asks(&mut fabric, REQUEST, &options));
        assert_eq!((answer.kind(), answer.yours), (ACKNOWLEDGE, [198, 18, 1, 10].into()));
        assert!(answer.option(51).is_some());
    }
    for options in [[SERVER, FOREIGN].concat(), FOREIGN.to_vec(), Vec::new()] {
        let answer = Answer::of(&A1.asks(&mut fabric, REQUEST, &options));
        assert_eq!((answer.kind(), answer.yours), (REFUSE, NOBODY.into()));
        assert_eq!((answer.destination, answer.to), (ALL.into(), MacAddr::BROADCAST));
        assert_eq!(answer.codes(), [53, 54]);
    }
}

#[test]
fn renewing_and_rebinding_clients_keep_their_address_while_it_is_theirs() {
    let mut spec = serving();
    let mut fabric = Fabric::new(&spec);
    let own = [198, 18, 1, 10];
    let rebinding = Client { source: own, ciaddr: own, ..A1 };
    let renewing = Client { destination: GATEWAY, to: gateway_mac("a"), ..rebinding };
    for client in [&rebinding, &renewing] {
        let answer = Answer::of(&client.asks(&mut fabric, REQUEST, &[]));
        assert_eq!((answer.kind(), answer.yours, answer.client), (ACKNOWLEDGE, own.into(), own.into()));
        assert_eq!((answer.destination, answer.to), (own.into(), mac("a1")));
    }
    spec.ports[0].addresses = vec![[198, 18, 1, 99].into()];
    spec.ports[0].source_check = false;
    fabric.reconfigure(&spec);
    let answer = Answer::of(&renewing.asks(&mut fabric, REQUEST, &[]));
    assert_eq!((answer.kind(), answer.destination), (REFUSE, ALL.into()));
    assert_eq!(Answer::of(&A1.asks(&mut fabric, DISCOVER, &OWN)).yours, Ipv4Addr::new(198, 18, 1, 99));
}

#[test]
fn a_client_that_chose_another_server_is_left_alone() {
    let mut fabric = Fabric::new(&serving());
    let sent = A1.asks(&mut fabric, REQUEST, &[&[54, 4, 198, 18, 1, 2], &OWN[..]].concat());
    assert!(sent.is_empty());
}

#[test]
fn who_has_an_address_is_told_the_rest_without_a_lease() {
    let mut fabric = Fabric::new(&serving());
    let own = [198, 18, 1, 10];
    let client = Client { source: own, ciaddr: own, ..A1 };
    let answer = Answer::of(&client.asks(&mut fabric, INFORM, &[]));
    assert_eq!((answer.kind(), answer.yours, answer.destination), (ACKNOWLEDGE, NOBODY.into(), own.into()));
    assert_eq!(answer.codes(), [53, 54, 1, 3, 6, 15, 28, 26]);
}

#[test]
fn declines_are_counted_and_releases_taken_in() {
    let mut fabric = Fabric::new(&serving());
    assert!(A1.asks(&mut fabric, DECLINE, &[SERVER, OWN].concat()).is_empty());
    let own = [198, 18, 1, 10];
    let client = Client { source: own, ciaddr: own, destination: GATEWAY, to: gateway_mac("a"), ..A1 };
    assert!(client.asks(&mut fabric, RELEASE, &SERVER).is_empty());
    assert_eq!(fabric.stack.config().stack_counters()[0].dhcp_declines.get(), 1);
}

#[test]
fn of_several_addresses_the_wanted_one_is_given() {
    let mut spec = serving();
    spec.ports[0].addresses.push([198, 18, 1, 20].into());
    let mut fabric = Fabric::new(&spec);
    assert_eq!(Answer::of(&A1.asks(&mut fabric, DISCOVER, &[])).yours, Ipv4Addr::new(198, 18, 1, 10));
    let wanted = [50, 4, 198, 18, 1, 20];
    assert_eq!(Answer::of(&A1.asks(&mut fabric, DISCOVER, &wanted)).yours, Ipv4Addr::new(198, 18, 1, 20));
    assert_eq!(Answer::of(&A1.asks(&mut fabric, REQUEST, &wanted)).kind(), ACKNOWLEDGE);
}

#[test]
fn a_port_without_an_address_gets_none_and_is_counted() {
    let mut spec = serving();
    spec.ports[0].addresses.retain(|address| address.is_ipv6());
    let mut fabric = Fabric::new(&spec);
    assert!(A1.asks(&mut fabric, DISCOVER, &[]).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::DhcpNoAddress), 1);
}

#[test]
fn what_came_by_a_relay_or_is_damaged_is_dropped() {
    let mut fabric = Fabric::new(&serving());
    assert!(Client { giaddr: [198, 18, 1, 11], ..A1 }.asks(&mut fabric, DISCOVER, &[]).is_empty());
    let mut damaged = A1.frame(DISCOVER, &[]);
    damaged[60] ^= 1;
    assert!(fabric.receive_frame("a1", &damaged).is_empty());
    let mut cut = A1.frame(DISCOVER, &[55, 200, 1]);
    cut[40..42].fill(0);
    assert!(fabric.receive_frame("a1", &cut).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::DhcpMalformed), 3);
}

#[test]
fn nobody_plays_the_server_where_the_gateway_is_one() {
    let mut spec = serving();
    let offer = datagram((mac("a2"), mac("a1")), ([198, 18, 1, 11], [198, 18, 1, 10]), (67, 68), &[2; 300]);
    let mut first_fragment = offer.clone();
    first_fragment[20] = 0x20;
    ipv4::fill_checksum(&mut first_fragment[14..34]);
    let mut fabric = Fabric::new(&spec);
    for frame in [&offer, &first_fragment] {
        assert!(fabric.receive_frame("a2", frame).is_empty());
    }
    assert_eq!(fabric.dropped("a2", DropReason::DhcpSpoofed), 2);
    spec.ports[1].source_check = false;
    assert_eq!(ports(&Fabric::new(&spec).receive_frame("a2", &offer)), ["a1"]);
}

#[test]
fn without_dhcp_requests_go_to_all_and_whoever_serves_may_answer() {
    let mut fabric = Fabric::two_networks();
    assert_eq!(ports(&A1.asks(&mut fabric, DISCOVER, &[])), ["a2", "a3"]);
    let offer = datagram((mac("a2"), mac("a1")), ([198, 18, 1, 11], [198, 18, 1, 10]), (67, 68), &[2; 300]);
    assert_eq!(ports(&fabric.receive_frame("a2", &offer)), ["a1"]);
}

#[test]
fn only_what_asks_for_an_address_may_come_from_nobody() {
    let mut fabric = Fabric::new(&serving());
    let frame = |ports, destination| {
        datagram((mac("a1"), MacAddr::BROADCAST), (NOBODY, destination), ports, &[0; 300])
    };
    for frame in [frame((69, 67), ALL), frame((68, 69), ALL), frame((68, 67), [198, 18, 1, 255])] {
        assert!(fabric.receive_frame("a1", &frame).is_empty());
    }
    assert_eq!(fabric.dropped("a1", DropReason::SourceAddressSpoofed), 3);
}

#[test]
fn a_request_to_the_gateway_of_a_network_without_dhcp_finds_no_server() {
    let mut fabric = Fabric::two_networks();
    let own = [198, 18, 1, 10];
    let client = Client { source: own, ciaddr: own, destination: GATEWAY, to: gateway_mac("a"), ..A1 };
    let sent = client.asks(&mut fabric, REQUEST, &[]);
    assert!(told(&sent)[0].1.contains("port unreachable"));
}

#[test]
fn busybox_is_served() {
    let mut spec = serving();
    let own = MacAddr([2, 0, 0, 0, 1, 0x0a]);
    spec.ports[0] = PortSpec { mac: own, ..spec.ports[0].clone() };
    // What udhcpc 1.35 sent, headers and all.
    let mut frame = vec![0; 342];
    frame[..42].copy_from_slice(&[
        255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 1, 0x0a, 8, 0, 0x45, 0, 1, 0x48, 0, 0, 0, 0, 0x40, 0x11,
        0x79, 0xa6, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0x44, 0, 0x43, 1, 0x34, 0xc5, 0xfe,
    ]);
    frame[42..50].copy_from_slice(&[1, 1, 6, 0, 0x32, 0xa1, 0x33, 0x2a]);
    frame[70..76].copy_from_slice(&own.0);
    frame[278..282].copy_from_slice(&[99, 130, 83, 99]);
    frame[282..298].copy_from_slice(&[53, 1, 1, 57, 2, 2, 0x40, 55, 7, 1, 3, 6, 12, 15, 28, 42]);
    frame[298..312].copy_from_slice(b"\x3c\x0cudhcp 1.35.0");
    frame[312..322].copy_from_slice(&[61, 7, 1, 2, 0, 0, 0, 1, 0x0a, 255]);
    let mut fabric = Fabric::new(&spec);
    let sent = fabric.receive_frame("a1", &frame);
    assert_eq!(ports(&sent), ["a1"]);
    assert!(told(&sent)[0].1.contains("198.18.1.1 > 198.18.1.10"), "{:?}", told(&sent));
}
