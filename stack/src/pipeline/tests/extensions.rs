//! IPv6 extension headers and IPv4 options: what is obeyed, told of, and passed on untouched.

use super::*;
use crate::testing::{gateway_mac, mac};
use crate::wire::ipv4;

const GATEWAY: &str = "2001:db8:1::1";
const BEYOND: &str = "2001:db8:2::a";

/// An echo request from a1 with these extension headers, the first of type `next`; their last octets
/// already name what follows.
fn with_extensions(fabric: &Fabric, destination: &str, next: u8, extensions: &[u8]) -> Vec<u8> {
    let echo = fabric.echo("a1", destination);
    let mut frame = [&echo[..54], extensions, &echo[54..]].concat();
    let payload = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&payload.to_be_bytes());
    frame[20] = next;
    frame
}

/// Type, code and pointer of the one ICMPv6 error that was sent to a1.
fn told_of(sent: &[Sent]) -> (u8, u8, u32) {
    assert_eq!(ports(sent), ["a1"]);
    let message = &sent[0].1.frame()[54..];
    (message[0], message[1], u32::from_be_bytes([message[4], message[5], message[6], message[7]]))
}

fn fabric() -> Fabric {
    let mut fabric = Fabric::two_networks();
    fabric.introduce("b1", ["198.18.2.1", "2001:db8:2::1"]);
    fabric
}

#[test]
fn a_reply_has_none_of_the_requests_extension_headers() {
    let mut fabric = fabric();
    let headers = [60, 0, 5, 2, 0, 0, 0, 0, 43, 0, 1, 4, 0, 0, 0, 0, 58, 0, 0, 0, 0, 0, 0, 0];
    let frame = with_extensions(&fabric, GATEWAY, 0, &headers);
    let sent = fabric.receive_frame("a1", &frame);
    assert!(told(&sent)[0].1.ends_with("echo reply, 62 octets"), "{:?}", told(&sent));
    assert_eq!(sent[0].1.frame()[18..21], [0, 8, 58]);
}

#[test]
fn unknown_options_are_told_of_where_they_ask_for_it_at_the_gateway_and_on_the_way() {
    for destination in [GATEWAY, BEYOND] {
        for (kind, answered) in [(0x1e, None), (0x5e, None), (0x9e, Some(44)), (0xde, Some(44))] {
            let mut fabric = fabric();
            let frame = with_extensions(&fabric, destination, 0, &[58, 0, 1, 0, kind, 2, 0, 0]);
            let sent = fabric.receive_frame("a1", &frame);
            match answered {
                Some(pointer) => assert_eq!(told_of(&sent), (4, 2, pointer), "{kind:#x}"),
                None => assert_eq!(sent.len(), usize::from(kind == 0x1e), "{kind:#x}"),
            }
            let refused = fabric.dropped("a1", DropReason::Ipv6ExtensionRefused);
            assert_eq!(refused, u64::from(kind != 0x1e));
        }
    }
}

#[test]
fn destination_options_and_routing_headers_are_not_looked_at_on_the_way() {
    let mut fabric = fabric();
    for (next, extension) in [(60, [58, 0, 0xde, 4, 0, 0, 0, 0]), (43, [58, 0, 0, 1, 0, 0, 0, 0])] {
        let frame = with_extensions(&fabric, BEYOND, next, &extension);
        let sent = fabric.receive_frame("a1", &frame);
        assert_eq!(ports(&sent), ["b1"]);
        assert_eq!(sent[0].1.frame()[22..], frame[22..]);
        let to_gateway = with_extensions(&fabric, GATEWAY, next, &extension);
        let pointer = 42;
        let code = if next == 60 { 2 } else { 0 };
        assert_eq!(told_of(&fabric.receive_frame("a1", &to_gateway)), (4, code, pointer));
    }
}

#[test]
fn hop_by_hop_options_elsewhere_are_an_unknown_header_to_the_gateway() {
    let mut fabric = fabric();
    let headers = [0, 0, 1, 4, 0, 0, 0, 0, 58, 0, 1, 4, 0, 0, 0, 0];
    let frame = with_extensions(&fabric, GATEWAY, 60, &headers);
    assert_eq!(told_of(&fabric.receive_frame("a1", &frame)), (4, 1, 40));
    let beyond = with_extensions(&fabric, BEYOND, 60, &headers);
    assert_eq!(ports(&fabric.receive_frame("a1", &beyond)), ["b1"]);
}

#[test]
fn a_chain_without_an_end_is_routed_but_not_bridged_nor_taken_in() {
    let mut fabric = fabric();
    let endless = |fabric: &Fabric, destination| {
        let mut frame = with_extensions(fabric, destination, 60, &[58, 200, 1, 4, 0, 0, 0, 0]);
        frame.truncate(70);
        frame
    };
    let frame = endless(&fabric, BEYOND);
    assert_eq!(ports(&fabric.receive_frame("a1", &frame)), ["b1"]);
    for destination in [GATEWAY, "2001:db8:1::b"] {
        let frame = endless(&fabric, destination);
        assert!(fabric.receive_frame("a1", &frame).is_empty());
    }
    assert_eq!(fabric.dropped("a1", DropReason::Ipv6Malformed), 2);
}

#[test]
fn fragments_that_break_the_rules_are_told_of_to_their_sender() {
    let mut fabric = fabric();
    let cases = [
        // More follow, but 9 octets are no multiple of 8: the payload length is at 4.
        (&[17, 0, 0, 1, 0, 0, 0, 1, 0][..], (4, 0, 4)),
        // Ends beyond 65,535: the fragment offset is at 42.
        (&[58, 0, 0xff, 0xf8, 0, 0, 0, 2], (4, 0, 42)),
        // Destination options that go on in the next fragment (RFC 7112).
        (&[60, 0, 0, 1, 0, 0, 0, 3, 58, 9, 1, 4, 0, 0, 0, 0], (4, 3, 0)),
    ];
    for (extensions, expected) in cases {
        let frame = with_extensions(&fabric, GATEWAY, 44, extensions);
        assert_eq!(told_of(&fabric.receive_frame("a1", &frame)), expected);
    }
    assert_eq!(fabric.stack.config().reassembly.size(), (0, 0));
}

#[test]
fn a_later_fragment_is_routed_untouched() {
    let mut fabric = fabric();
    let frame = with_extensions(&fabric, BEYOND, 44, &[6, 0, 0x05, 0xa9, 0, 0, 0, 7]);
    let sent = fabric.receive_frame("a1", &frame);
    assert_eq!(ports(&sent), ["b1"]);
    assert_eq!(sent[0].1.frame()[22..], frame[22..]);
    assert_eq!(ethernet_of(&sent[0].1).destination, mac("b1"));
}

#[test]
fn options_of_ipv4_that_cannot_be_are_pointed_at() {
    let mut fabric = fabric();
    let mut with_options = |options: [u8; 4]| {
        let echo = fabric.frame("a1", |spec| {
            spec.destination = "198.18.2.10".parse().unwrap();
            spec.destination_mac = Some(gateway_mac("a"));
        });
        let mut frame = [&echo[..34], &options, &echo[34..]].concat();
        frame[14] = 0x46;
        frame[17] += 4;
        ipv4::fill_checksum(&mut frame[14..38]);
        fabric.receive_frame("a1", &frame)
    };
    let sent = with_options([1, 7, 9, 4]);
    assert_eq!(ports(&sent), ["a1"]);
    assert_eq!(sent[0].1.frame()[34..42], [12, 0, sent[0].1.frame()[36], sent[0].1.frame()[37], 21, 0, 0, 0]);
    assert_eq!(ports(&with_options([148, 4, 0, 0])), ["b1"]);
    assert!(with_options([131, 3, 4, 0]).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::Ipv4Malformed), 1);
    assert_eq!(fabric.dropped("a1", DropReason::Ipv4SourceRoute), 1);
}
