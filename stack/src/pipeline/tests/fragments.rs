//! Fragments: cut on the way, put together at the gateway.

use proptest::prelude::*;

use super::*;
use crate::config::PortVlans;
use crate::table::reassembly::{Fragment, Key, Outcome, Reassembly};
use crate::wire::{icmpv4, icmpv6, ipv4};

const V4: &str = "198.18.1.1";
const V6: &str = "2001:db8:1::1";

/// The frames of a packet that `port` sends to `destination` in pieces of `size` octets. The cutting is
/// done here anew: the stack shall not be measured by itself.
fn pieces(fabric: &Fabric, port: &str, destination: &str, length: u16, size: usize) -> Vec<Vec<u8>> {
    let frame = fabric.frame(port, |spec| {
        spec.destination = destination.parse().unwrap();
        spec.length = Some(length);
    });
    if destination.contains(':') { cut_v6(&frame, size, 0xa1b2_c3d4) } else { cut_v4(&frame, size) }
}

fn cut_v4(frame: &[u8], size: usize) -> Vec<Vec<u8>> {
    let last = (frame.len() - 34).div_ceil(size) - 1;
    let cut = frame[34..].chunks(size).enumerate().map(|(index, payload)| {
        let mut piece = [&frame[..34], payload].concat();
        piece[16..18].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
        let flags = (index * size / 8) as u16 | if index < last { 0x2000 } else { 0 };
        piece[20..22].copy_from_slice(&flags.to_be_bytes());
        ipv4::fill_checksum(&mut piece[14..34]);
        piece
    });
    cut.collect()
}

fn cut_v6(frame: &[u8], size: usize, id: u32) -> Vec<Vec<u8>> {
    let last = (frame.len() - 54).div_ceil(size) - 1;
    let cut = frame[54..].chunks(size).enumerate().map(|(index, payload)| {
        let flags = (index * size) as u16 | u16::from(index < last);
        let header = [&[frame[20], 0], &flags.to_be_bytes()[..], &id.to_be_bytes()].concat();
        let mut piece = [&frame[..54], &header, payload].concat();
        piece[18..20].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
        piece[20] = 44;
        piece
    });
    cut.collect()
}

/// What the fragments in these frames make, and checks that they fit together.
fn joined(sent: &[Sent]) -> Vec<u8> {
    let mut whole = Vec::new();
    for (index, (_, packet)) in sent.iter().enumerate() {
        let ip = &packet.frame()[14..];
        let (offset, more, start) = match ip[0] >> 4 {
            4 => {
                assert!(ipv4::checksum_is_valid(&ip[..20]));
                let header = ipv4::Header::parse(ip).unwrap();
                (header.fragment_offset, header.more_fragments, 20)
            }
            _ => {
                let flags = u16::from_be_bytes([ip[42], ip[43]]);
                (usize::from(flags & !7), flags & 1 != 0, 48)
            }
        };
        assert_eq!((offset, more), (whole.len(), index + 1 < sent.len()));
        whole.extend_from_slice(&ip[start..]);
    }
    whole
}

fn receive_all(fabric: &mut Fabric, port: &str, frames: &[Vec<u8>]) -> Vec<Sent> {
    frames.iter().flat_map(|frame| fabric.receive_frame(port, frame)).collect()
}

fn counter(fabric: &Fabric, name: &str) -> u64 {
    let config = fabric.stack.config();
    let found = config.stack_counters()[0].values().find(|(known, _)| *known == name);
    found.unwrap().1
}

#[test]
fn a_ping_larger_than_the_mtu_is_answered_in_fragments() {
    for (destination, length, headers) in [(V4, 8028, 20), (V6, 8048, 40), (V4, 65_535, 20), (V6, 65_535, 40)]
    {
        let mut fabric = Fabric::two_networks();
        let request = fabric.frame("a1", |spec| {
            spec.destination = destination.parse().unwrap();
            spec.length = Some(length);
        });
        let mut sent = Vec::new();
        for piece in pieces(&fabric, "a1", destination, length, 1448) {
            assert!(sent.is_empty());
            sent = fabric.receive_frame("a1", &piece);
        }
        assert!(sent.iter().all(|(port, packet)| port == "a1" && packet.len() <= 1514));
        let reply = joined(&sent);
        let message = &request[14 + headers..];
        assert_eq!(reply[8..], message[8..], "{destination}");
        let checked = if headers == 20 {
            icmpv4::check(&reply)
        } else {
            icmpv6::check(V6.parse().unwrap(), "2001:db8:1::a".parse().unwrap(), &reply)
        };
        assert_eq!(checked, Ok(if headers == 20 { icmpv4::ECHO_REPLY } else { icmpv6::ECHO_REPLY }));
        assert_eq!(counter(&fabric, "datagrams_reassembled"), 1);
        assert_eq!(
            counter(&fabric, "fragments_received"),
            (usize::from(length) - headers).div_ceil(1448) as u64
        );
        assert_eq!(fabric.stack.config().reassembly.size(), (0, 0));
    }
}

#[test]
fn a_reply_that_fits_goes_out_whole_though_the_request_came_in_pieces() {
    let mut fabric = Fabric::two_networks();
    for (destination, length) in [(V4, 600), (V6, 600)] {
        let pieces = pieces(&fabric, "a1", destination, length, 80);
        let sent = receive_all(&mut fabric, "a1", &pieces);
        assert_eq!(sent.len(), 1);
        assert!(told(&sent)[0].1.contains("echo reply, 614 octets"), "{:?}", told(&sent));
    }
}

#[test]
fn the_pieces_of_one_datagram_may_come_to_different_workers() {
    let config = Arc::new(Config::build(&testing::two_networks(), None, 2).unwrap());
    let mut workers = [Stack::new(0, config.clone()), Stack::new(1, config.clone())];
    let now = Instant::from_nanos(1_000_000_000);
    let fabric = Fabric::two_networks();
    let port = config.port_by_name("a1").unwrap().id;
    let mut answers = 0;
    for (index, piece) in pieces(&fabric, "a1", V4, 4000, 1480).iter().enumerate() {
        let mut batch = Batch::new();
        batch.vacant().set_frame(piece);
        batch.commit(1);
        let mut output = Output::new();
        workers[index % 2].process(now, port, &mut batch, &mut output);
        answers += output.sends().len();
    }
    assert_eq!(answers, 3);
}

#[test]
fn what_waits_lives_through_a_new_picture() {
    let mut fabric = Fabric::two_networks();
    let pieces = pieces(&fabric, "a1", V4, 2000, 1480);
    fabric.receive_frame("a1", &pieces[0]);
    fabric.reconfigure(&testing::two_networks());
    assert_eq!(fabric.receive_frame("a1", &pieces[1]).len(), 2);
}

#[test]
fn fragments_on_a_vlan_are_answered_and_told_of_with_its_tag() {
    let mut spec = testing::two_networks();
    spec.networks[0].subnets.iter_mut().for_each(|subnet| subnet.vlan = 10);
    let allowed = [10u16].into_iter().collect();
    spec.ports[0].vlans = PortVlans::Trunk { native: None, allowed: Box::new(allowed) };
    for (destination, seconds) in [(V4, 30), (V6, 60)] {
        let mut fabric = Fabric::new(&spec);
        let mut pieces = pieces(&Fabric::two_networks(), "a1", destination, 2000, 1200);
        for piece in &mut pieces {
            piece.splice(12..12, [0x81, 0, 0, 10]);
        }
        let sent = receive_all(&mut fabric, "a1", &pieces);
        assert_eq!(sent.len(), 2);
        fabric.receive_frame("a1", &pieces[0]);
        let told = fabric.advance(Duration::from_secs(seconds));
        assert_eq!(told.len(), 1);
        for (port, packet) in sent.iter().chain(&told) {
            assert_eq!((port.as_str(), &packet.frame()[12..16]), ("a1", &[0x81, 0, 0, 10][..]));
        }
    }
}

#[test]
fn an_overlap_loses_the_datagram_in_silence() {
    for (destination, headers) in [(V4, 34), (V6, 62)] {
        let mut fabric = Fabric::two_networks();
        let pieces = pieces(&fabric, "a1", destination, 2000, 800);
        let mut overlap = pieces[1].clone();
        overlap[headers] ^= 1;
        fabric.receive_frame("a1", &pieces[0]);
        fabric.receive_frame("a1", &pieces[1]);
        fabric.receive_frame("a1", &pieces[1]);
        assert_eq!(fabric.dropped("a1", DropReason::FragmentOverlap), 0, "a duplicate is none");
        fabric.receive_frame("a1", &overlap);
        assert_eq!(fabric.dropped("a1", DropReason::FragmentOverlap), 3);
        assert!(fabric.receive_frame("a1", &pieces[2]).is_empty());
        assert_eq!(fabric.dropped("a1", DropReason::FragmentOverlap), 4);
        assert!(fabric.advance(Duration::from_secs(60)).is_empty());
        assert_eq!(fabric.dropped("a1", DropReason::ReassemblyTimeout), 0);
        assert_eq!(fabric.stack.poll_at(), None);
        assert_eq!(receive_all(&mut fabric, "a1", &pieces).len(), 2);
    }
}

#[test]
fn when_time_is_over_the_sender_is_told_with_the_first_fragment() {
    for (destination, seconds, message, text) in [
        (V4, 30, 34, "ICMP fragment reassembly time exceeded"),
        (V6, 60, 54, "ICMPv6 fragment reassembly time exceeded"),
    ] {
        let mut fabric = Fabric::two_networks();
        let pieces = pieces(&fabric, "a1", destination, 4000, 1200);
        fabric.receive_frame("a1", &pieces[2]);
        fabric.receive_frame("a1", &pieces[0]);
        assert_eq!(fabric.stack.poll_at(), Some(fabric.now + Duration::from_secs(seconds)));
        assert!(fabric.advance(Duration::from_secs(seconds - 1)).is_empty());
        let sent = fabric.advance(Duration::from_secs(1));
        assert_eq!(ports(&sent), ["a1"]);
        assert!(told(&sent)[0].1.contains(text), "{:?}", told(&sent));
        let quote = &sent[0].1.frame()[message + 8..];
        assert_eq!(quote, &pieces[0][14..14 + quote.len()]);
        assert_eq!(fabric.dropped("a1", DropReason::ReassemblyTimeout), 2);
        assert_eq!(fabric.stack.poll_at(), None);

        fabric.receive_frame("a1", &pieces[1]);
        assert!(fabric.advance(Duration::from_secs(seconds)).is_empty(), "the first did not come");
        assert_eq!(fabric.dropped("a1", DropReason::ReassemblyTimeout), 3);
    }
}

#[test]
fn a_flood_of_fragments_from_one_port_costs_the_others_nothing() {
    let mut fabric = Fabric::two_networks();
    let pieces = pieces(&fabric, "a1", V4, 8000, 1480);
    fabric.receive_frame("a1", &pieces[0]);
    let mut flood = self::pieces(&fabric, "a2", V4, 3000, 1480).remove(0);
    for id in 0..5000u16 {
        flood[18..20].copy_from_slice(&id.to_be_bytes());
        ipv4::fill_checksum(&mut flood[14..34]);
        fabric.receive_frame("a2", &flood);
    }
    let (octets, datagrams) = fabric.stack.config().reassembly.size();
    assert!(octets < 2 << 20 && datagrams <= 257, "{octets} octets, {datagrams} datagrams");
    assert_eq!(fabric.dropped("a2", DropReason::ReassemblyFull), 5000 - (datagrams as u64 - 1));
    assert!(fabric.stack.poll_at().is_some());
    assert_eq!(receive_all(&mut fabric, "a1", &pieces[1..]).len(), 6);
    assert_eq!(fabric.dropped("a1", DropReason::ReassemblyFull), 0);
}

#[test]
fn a_datagram_for_a_closed_port_is_refused_as_a_whole() {
    for (destination, text) in [(V4, "ICMP port unreachable"), (V6, "ICMPv6 port unreachable")] {
        let mut fabric = Fabric::two_networks();
        let frame = fabric.frame("a1", |spec| {
            spec.destination = destination.parse().unwrap();
            spec.protocol = Protocol::Udp;
            spec.length = Some(3000);
        });
        let pieces = if destination == V4 { cut_v4(&frame, 1480) } else { cut_v6(&frame, 1448, 9) };
        let sent = receive_all(&mut fabric, "a1", &pieces);
        assert!(told(&sent)[0].1.contains(text), "{:?}", told(&sent));
        let quote = &sent[0].1.frame()[if destination == V4 { 42 } else { 62 }..];
        assert_eq!(quote, &frame[14..14 + quote.len()]);
        assert_eq!(fabric.dropped("a1", DropReason::GatewayPortClosed), 1);
    }
}

#[test]
fn fragments_that_no_sender_makes_are_refused() {
    let mut fabric = Fabric::two_networks();
    let whole = fabric.echo("a1", V4);
    let mut fragment = |protocol: u8, flags: u16, payload: usize| {
        let mut frame = whole[..34].to_vec();
        frame.resize(34 + payload, 0);
        frame[16..18].copy_from_slice(&((20 + payload) as u16).to_be_bytes());
        frame[20..22].copy_from_slice(&flags.to_be_bytes());
        frame[23] = protocol;
        ipv4::fill_checksum(&mut frame[14..34]);
        assert!(fabric.receive_frame("a1", &frame).is_empty());
        fabric.dropped("a1", DropReason::FragmentMalformed)
    };
    assert_eq!(fragment(1, 0x2000, 0), 1, "empty");
    assert_eq!(fragment(1, 0x2000, 9), 2, "not a multiple of eight");
    assert_eq!(fragment(6, 0x2000, 8), 3, "a TCP header without its flags (RFC 1858 section 3)");
    assert_eq!(fragment(6, 0x2001, 8), 4, "flags to be written anew (RFC 1858 section 4)");
    assert_eq!(fragment(6, 0x2000, 16), 4);
    assert_eq!(fragment(17, 0x2001, 8), 4);
    assert_eq!(fragment(1, 0x0009, 9), 4);
}

#[test]
fn a_datagram_keeps_the_congestion_mark_of_any_fragment() {
    let mut fabric = Fabric::two_networks();
    let mut pieces = pieces(&fabric, "a1", V4, 600, 200);
    for (piece, ecn) in pieces.iter_mut().zip([2, 3, 2]) {
        piece[15] = ecn;
        ipv4::fill_checksum(&mut piece[14..34]);
    }
    let sent = receive_all(&mut fabric, "a1", &pieces);
    assert_eq!(sent[0].1.frame()[15], 3);
    pieces[1][15] = 0;
    ipv4::fill_checksum(&mut pieces[1][14..34]);
    assert!(receive_all(&mut fabric, "a1", &pieces).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::FragmentMalformed), 3);
}

#[test]
fn an_atomic_fragment_is_answered_by_itself() {
    let mut fabric = Fabric::two_networks();
    let waiting = pieces(&fabric, "a1", V6, 2000, 1448);
    fabric.receive_frame("a1", &waiting[0]);
    let atomic = cut_v6(&fabric.echo("a1", V6), 1448, 0xa1b2_c3d4).remove(0);
    let sent = fabric.receive_frame("a1", &atomic);
    assert!(told(&sent)[0].1.ends_with("echo reply, 62 octets"), "{:?}", told(&sent));
    assert_eq!(receive_all(&mut fabric, "a1", &waiting[1..]).len(), 2, "RFC 6946: not mixed");
}

#[test]
fn a_fragment_in_a_reassembled_datagram_is_refused() {
    let mut fabric = Fabric::two_networks();
    let inner = pieces(&fabric, "a1", V6, 2000, 1448).remove(0);
    let outer = cut_v6(&inner, 1000, 77);
    assert!(receive_all(&mut fabric, "a1", &outer).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::FragmentMalformed), 1);
}

#[test]
fn a_trace_of_a_fragment_keeps_nothing() {
    let mut fabric = Fabric::two_networks();
    let id = fabric.stack.config().port_by_name("a1").unwrap().id;
    let piece = pieces(&fabric, "a1", V4, 2000, 1480).remove(0);
    let trace = fabric.stack.trace(fabric.now, id, &mut Packet::from_frame(&piece)).unwrap();
    assert_eq!(trace.verdict, Verdict::Answered);
    assert!(trace.steps.iter().any(|step| step.message.contains("1480 octets at 0")), "{:?}", trace.steps);
    assert_eq!(fabric.stack.config().reassembly.size(), (0, 0));
}

/// b1 is behind a link of `mtu` octets and known to the gateway; a1's takes 9,000.
fn narrow(mtu: u32) -> Fabric {
    let mut spec = testing::two_networks();
    spec.networks[0].mtu = 9000;
    spec.ports[0].mtu = 9000;
    spec.ports[3].mtu = mtu;
    let mut fabric = Fabric::new(&spec);
    let question = fabric.resolve("b1", "198.18.2.1");
    assert_eq!(fabric.receive_frame("b1", &question).len(), 1);
    fabric
}

#[test]
fn an_mtu_without_room_for_eight_octets_loses_the_packet_with_a_reason() {
    let mut spec = testing::two_networks();
    let mut fabric = narrow(1500);
    spec.ports[3].mtu = 27;
    fabric.reconfigure(&spec);
    let frame = fabric.echo("a1", "198.18.2.10");
    assert!(fabric.receive_frame("a1", &frame).is_empty());
    assert_eq!(fabric.dropped("b1", DropReason::FrameTooLong), 1);
    spec.ports[3].mtu = 28;
    fabric.reconfigure(&spec);
    assert_eq!(fabric.receive_frame("a1", &frame).len(), 1);
}

#[test]
fn pieces_of_a_piece_are_pieces_of_the_first() {
    let mut fabric = narrow(300);
    let frame = fabric.frame("a1", |spec| {
        spec.destination = "198.18.2.10".parse().unwrap();
        spec.length = Some(3000);
    });
    let pieces = cut_v4(&frame, 1480);
    let sent = receive_all(&mut fabric, "a1", &pieces);
    assert!(sent.len() > 10 && sent.iter().all(|(_, packet)| packet.len() <= 314));
    assert_eq!(joined(&sent), frame[34..]);
}

/// Options with and without the copied flag, none of which a router writes into.
fn any_options() -> impl Strategy<Value = Vec<u8>> {
    let options = vec![
        vec![1],
        vec![148, 4, 0, 0],
        vec![7, 7, 8, 198, 18, 3, 1],
        vec![0x9e, 3, 5],
        vec![0x9f, 8, 5, 5, 5, 5, 5, 5],
        vec![0x1e, 9, 6, 6, 6, 6, 6, 6, 6],
        vec![0x1f, 2],
    ];
    proptest::sample::subsequence(options, 0..7).prop_shuffle().prop_map(|options| {
        let mut bytes = options.concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    })
}

proptest! {
    #[test]
    fn what_is_cut_on_the_way_is_put_together_at_the_end(
        payload in proptest::collection::vec(any::<u8>(), 1..6000),
        options in any_options(),
        mtu in 68u32..1500,
        order in any::<u64>(),
        duplicates in any::<u64>(),
    ) {
        let mut fabric = narrow(mtu);
        let mut frame = fabric.echo("a1", "198.18.2.10");
        let header_length = 20 + options.len();
        frame.truncate(34);
        frame.extend_from_slice(&options);
        frame.extend_from_slice(&payload);
        frame[14] = 0x40 | (header_length / 4) as u8;
        frame[16..18].copy_from_slice(&((header_length + payload.len()) as u16).to_be_bytes());
        frame[23] = 253; // for experiments (RFC 3692)
        ipv4::fill_checksum(&mut frame[14..14 + header_length]);

        let mut sent = fabric.receive_frame("a1", &frame);
        let count = sent.len();
        prop_assert!(count >= 1);
        // Any order, and some twice.
        sent.sort_by_cached_key(|(_, packet)| {
            let offset = u64::from(packet.frame()[20] & 0x1f) << 8 | u64::from(packet.frame()[21]);
            (offset + 1).wrapping_mul(order | 1).rotate_left(17)
        });
        let table = Reassembly::new(crate::table::reassembly::Bounds { pieces: 200, ..Default::default() });
        let mut whole = None;
        for (index, (_, packet)) in sent.iter().enumerate() {
            let ip = &packet.frame()[14..];
            prop_assert!(ip.len() <= mtu as usize);
            let header = ipv4::Header::parse(ip).unwrap();
            prop_assert!(ipv4::checksum_is_valid(&ip[..header.header_length]));
            prop_assert!(ipv4::option::check(&ip[20..header.header_length]).is_ok());
            if count == 1 {
                prop_assert!(!header.is_fragment());
                whole = Some(ip[header.header_length..].to_vec());
                break;
            }
            let key = Key { interface: 0, source: header.source.into(), destination: header.destination.into(), protocol: 253, id: header.id.into() };
            let fragment = Fragment {
                head: &ip[..header.header_length], header_length: header.header_length, offset: header.fragment_offset,
                payload: &ip[header.header_length..], more: header.more_fragments, ecn: 0,
            };
            let times = 1 + usize::from(duplicates >> (index % 64) & 1 != 0 && index + 1 < count);
            for _ in 0..times {
                let port = fabric.stack.config().port_by_name("b1").unwrap().id;
                match table.insert(fabric.now, key, port, &fragment).outcome {
                    Outcome::Held => {}
                    Outcome::Refused(reason) => prop_assert!(false, "{:?}", reason),
                    Outcome::Whole(found) => {
                        let mut bytes = vec![0; found.length()];
                        found.copy_to(&mut bytes);
                        prop_assert_eq!(&found.head[20..], &options[..], "the first has all options");
                        whole = Some(bytes);
                    }
                }
            }
        }
        prop_assert_eq!(whole, Some(payload));
    }

    #[test]
    fn no_fragment_for_the_gateway_makes_the_stack_panic(
        steps in proptest::collection::vec(
            (any::<bool>(), 0u16..4, any::<u16>(), 0usize..80, any::<[u8; 8]>(), 0u64..20), 1..40),
    ) {
        let mut fabric = Fabric::two_networks();
        for (v6, id, flags, length, bytes, seconds) in steps {
            let mut frame = fabric.echo("a1", if v6 { V6 } else { V4 });
            if v6 {
                frame.truncate(54);
                frame[20] = [44, 0, 43, 60][usize::from(id)];
                let next = [58, 44, 60, 6][usize::from(flags % 4)];
                frame.extend_from_slice(&[next, 0]);
                frame.extend_from_slice(&(flags & 0x80ff).to_be_bytes());
                frame.extend_from_slice(&[0, 0, 0, id as u8]);
            } else {
                frame.truncate(34);
                frame[18..20].copy_from_slice(&id.to_be_bytes());
                frame[20..22].copy_from_slice(&(flags & 0x301f).to_be_bytes());
            }
            frame.extend(bytes.iter().cycle().take(length));
            let total = frame.len() - 14;
            if v6 {
                frame[18..20].copy_from_slice(&((total - 40) as u16).to_be_bytes());
            } else {
                frame[16..18].copy_from_slice(&(total as u16).to_be_bytes());
                ipv4::fill_checksum(&mut frame[14..34]);
            }
            for (_, sent) in fabric.receive_frame("a1", &frame) {
                prop_assert!(crate::stage::ingress::parse(sent.frame()).is_ok());
            }
            fabric.advance(Duration::from_secs(seconds));
        }
        fabric.advance(Duration::from_secs(61));
        fabric.advance(Duration::from_secs(61));
        prop_assert_eq!(fabric.stack.config().reassembly.size(), (0, 0));
    }
}
