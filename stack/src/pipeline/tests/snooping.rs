//! IGMP and MLD snooping: who gets which group, and who asks.

use std::net::Ipv4Addr;

use super::*;
use crate::config::PortVlans;
use crate::testing::{mac, tcp_frame};
use crate::wire::{icmpv6, igmp, ipv4, mld};

// What Linux sends when a socket joins 239.1.2.3 and leaves it, and when one joins ff05::1:3 and leaves it; and the
// query of a bridge. From captures.
const JOIN_V3: &str = "01005e0000162e0f3d337653080046c000280000400001023de6c6120001e0000016940400002200e8f9000000010400\
    0000ef010203";
const LEAVE_V3: &str = "01005e0000162e0f3d337653080046c000280000400001023de6c6120001e0000016940400002200e9f900000001030\
    00000ef010203";
const JOIN_V2: &str =
    "01005e0102032e0f3d337653080046c000200000400001022d00c6120001ef010203940400001600f8faef010203";
const LEAVE_V2: &str =
    "01005e0000022e0f3d337653080046c000200000400001023e02c6120001e0000002940400001700f7faef010203";
const JOIN_MLD2: &str = "3333000000162e0f3d33765386dd6000000000240001fe800000000000002c0f3dfffe337653ff020000000000000000\
    0000000000163a000502000001008f00916e0000000104000000ff050000000000000000000000010003";
const LEAVE_MLD2: &str = "3333000000162e0f3d33765386dd6000000000240001fe800000000000002c0f3dfffe337653ff02000000000000000\
    00000000000163a000502000001008f00926e0000000103000000ff050000000000000000000000010003";
const JOIN_MLD1: &str = "3333000100032e0f3d33765386dd6000000000200001fe800000000000002c0f3dfffe337653ff0500000000000000000\
    000000100033a000502000001008300a18200000000ff050000000000000000000000010003";
const DONE_MLD1: &str = "3333000000022e0f3d33765386dd6000000000200001fe800000000000002c0f3dfffe337653ff0200000000000000000\
    000000000023a000502000001008400a08700000000ff050000000000000000000000010003";
const START_MLD2: &str = "3333000000162e0f3d33765386dd60000000002400010000000000000000000000000000000\
    0ff0200000000000000000000000000163a000502000001008f00f9030000000104000000ff0200000000000000000001ff337653";
const BRIDGES_QUERY: &str =
    "01005e0000012e0f3d337653080046c00024000040000102041300000000e0000001940400001164ec1e00000000027d0000";

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

fn bytes(text: &str) -> Vec<u8> {
    let octet = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(octet).collect()
}

/// A captured frame as a port sends it.
fn from(port: &str, text: &str) -> Vec<u8> {
    let mut frame = bytes(text);
    frame[6..12].copy_from_slice(&mac(port).0);
    frame
}

/// Data for a group.
fn data(port: &str, group: Ipv4Addr) -> Vec<u8> {
    let mut frame = addressed(tcp_frame(10), MacAddr::ipv4_multicast(group), mac(port));
    frame[30..34].copy_from_slice(&group.octets());
    ipv4::fill_checksum(&mut frame[14..34]);
    frame
}

fn data_v6(port: &str, group: &str) -> Vec<u8> {
    let mut frame = vec![0; 54 + 8];
    let group = group.parse().unwrap();
    let header = ethernet::Header {
        destination: MacAddr::ipv6_multicast(group),
        source: mac(port),
        ethertype: 0x86dd,
    };
    header.emit(&mut frame);
    let fields = crate::wire::ipv6::Fields {
        payload_length: 8,
        next_header: 17,
        hop_limit: 8,
        source: "fe80::1".parse().unwrap(),
        destination: group,
    };
    fields.emit(&mut frame[14..]);
    frame
}

fn query(port: &str, source: [u8; 4], group: Ipv4Addr) -> Vec<u8> {
    let to = if group.is_unspecified() { igmp::ALL_SYSTEMS } else { group };
    let mut frame = vec![0; 14 + igmp::QUERY_PACKET];
    let header =
        ethernet::Header { destination: MacAddr::ipv4_multicast(to), source: mac(port), ethertype: 0x0800 };
    header.emit(&mut frame);
    let wait = Duration::from_secs(if group.is_unspecified() { 10 } else { 1 });
    igmp::emit_query(source.into(), group, wait, 2, Duration::from_secs(125), &mut frame[14..]);
    frame
}

fn general(port: &str) -> Vec<u8> {
    query(port, [198, 18, 1, 9], Ipv4Addr::UNSPECIFIED)
}

fn spec(querier: bool) -> FabricSpec {
    let mut spec = testing::two_networks();
    spec.networks[0].multicast = crate::config::MulticastSpec { snooping: true, querier };
    spec.ports.push(testing::port("a4", "a", 1, 13));
    spec.ports.iter_mut().for_each(|port| port.source_check = false);
    spec
}

/// Lets the seconds pass one by one; gives what left meanwhile.
fn wait(fabric: &mut Fabric, seconds: u64) -> Vec<Sent> {
    (0..seconds).flat_map(|_| fabric.advance(Duration::from_secs(1))).collect()
}

/// Ports a1 to a4; a router behind a4 has asked, and hosts had the time to answer.
fn with_router() -> Fabric {
    let mut fabric = Fabric::new(&spec(false));
    assert_eq!(ports(&fabric.receive_frame("a4", &general("a4"))), ["a1", "a2", "a3"]);
    wait(&mut fabric, 11);
    fabric
}

/// The stack itself asks.
fn with_own_querier() -> Fabric {
    let mut fabric = Fabric::new(&spec(true));
    wait(&mut fabric, 12);
    fabric
}

#[test]
fn without_a_querier_everything_is_flooded() {
    let mut fabric = Fabric::new(&spec(false));
    assert_eq!(ports(&fabric.receive_frame("a1", &from("a1", JOIN_V3))), ["a2", "a3", "a4"]);
    wait(&mut fabric, 20);
    assert_eq!(ports(&fabric.receive_frame("a2", &data("a2", GROUP))), ["a1", "a3", "a4"]);
    assert_eq!(fabric.stack.config().groups("a"), Some(1), "known all the same");
}

#[test]
fn a_network_without_snooping_floods_and_has_no_timer() {
    let mut fabric = Fabric::two_networks();
    assert_eq!(ports(&fabric.receive_frame("a1", &data("a1", GROUP))), ["a2", "a3"]);
    assert_eq!(fabric.stack.poll_at(), None);
}

#[test]
fn reports_wake_nobody_but_routers_also_where_nobody_listens_in() {
    let mut quiet = testing::two_networks();
    quiet.ports.push(testing::port("a4", "a", 1, 13));
    for (name, reports) in [
        ("a1", [JOIN_V3, LEAVE_V3, JOIN_V2, LEAVE_V2]),
        ("a2", [JOIN_MLD2, START_MLD2, JOIN_MLD1, DONE_MLD1]),
    ] {
        for snooping in [false, true] {
            quiet.networks[0].multicast.snooping = snooping;
            quiet
                .ports
                .iter_mut()
                .for_each(|port| port.source_check = port.name != name && port.name != "a4");
            let mut fabric = Fabric::new(&quiet);
            for report in reports {
                let sent = fabric.receive_frame(name, &from(name, report));
                assert_eq!(ports(&sent), ["a4"], "{report}");
            }
        }
    }
}

#[test]
fn a_group_goes_to_its_listeners_and_to_the_router() {
    let mut fabric = with_router();
    for (join, leave) in [(JOIN_V3, LEAVE_V3), (JOIN_V2, LEAVE_V2)] {
        assert_eq!(ports(&fabric.receive_frame("a2", &data("a2", GROUP))), ["a4"]);
        assert_eq!(ports(&fabric.receive_frame("a1", &from("a1", join))), ["a4"], "hosts do not hear it");
        assert_eq!(ports(&fabric.receive_frame("a2", &data("a2", GROUP))), ["a1", "a4"]);
        assert_eq!(ports(&fabric.receive_frame("a1", &data("a1", GROUP))), ["a4"], "not back to itself");
        assert_eq!(ports(&fabric.receive_frame("a1", &from("a1", leave))), ["a4"]);
        assert_eq!(
            ports(&fabric.receive_frame("a2", &data("a2", GROUP))),
            ["a1", "a4"],
            "perhaps not the last"
        );
        let of_group = query("a4", [198, 18, 1, 9], GROUP);
        assert_eq!(ports(&fabric.receive_frame("a4", &of_group)), ["a1", "a2", "a3"]);
        wait(&mut fabric, 2);
    }
    let from_router = fabric.receive_frame("a4", &data("a4", GROUP));
    assert!(from_router.is_empty());
    assert_eq!(fabric.dropped("a4", DropReason::NoMember), 1);
}

#[test]
fn groups_of_ipv6_are_snooped_in_both_versions() {
    let mut fabric = with_own_querier();
    for (join, leave) in [(JOIN_MLD2, LEAVE_MLD2), (JOIN_MLD1, DONE_MLD1)] {
        assert!(fabric.receive_frame("a1", &from("a1", join)).is_empty(), "taken in");
        assert_eq!(ports(&fabric.receive_frame("a2", &data_v6("a2", "ff05::1:3"))), ["a1"]);
        let asked = fabric.receive_frame("a1", &from("a1", leave));
        assert_eq!(ports(&asked), ["a1"]);
        assert_eq!(asked[0].1.frame()[38..54], "ff05::1:3".parse::<std::net::Ipv6Addr>().unwrap().octets());
        assert_eq!(ports(&wait(&mut fabric, 1)), ["a1"], "asked once more");
        wait(&mut fabric, 1);
        assert!(fabric.receive_frame("a2", &data_v6("a2", "ff05::1:3")).is_empty());
    }
    assert_eq!(fabric.dropped("a2", DropReason::NoMember), 2);
    assert_eq!(fabric.counted("group_reports"), 4);
}

#[test]
fn neighbour_discovery_reaches_who_reported_its_group() {
    let mut fabric = with_own_querier();
    fabric.receive_frame("a1", &from("a1", START_MLD2));
    assert_eq!(ports(&fabric.receive_frame("a2", &data_v6("a2", "ff02::1:ff33:7653"))), ["a1"]);
    assert_eq!(ports(&fabric.receive_frame("a2", &data_v6("a2", "ff02::1"))), ["a1", "a3", "a4"]);
}

#[test]
fn what_hosts_do_not_report_goes_to_all() {
    let mut fabric = with_router();
    for group in [[224, 0, 0, 1], [224, 0, 0, 251], [224, 0, 0, 5]] {
        assert_eq!(ports(&fabric.receive_frame("a1", &data("a1", group.into()))), ["a2", "a3", "a4"]);
    }
    assert_eq!(ports(&fabric.receive_frame("a1", &data("a1", [224, 0, 1, 1].into()))), ["a4"]);
    let mut other = data("a1", GROUP);
    other[12..14].copy_from_slice(&[0x88, 0xb5]);
    assert_eq!(ports(&fabric.receive_frame("a1", &other)), ["a2", "a3", "a4"], "a group, and not IP");
}

#[test]
fn the_stacks_queries_are_what_hosts_expect() {
    let mut fabric = Fabric::new(&spec(true));
    assert_eq!(fabric.stack.poll_at(), Some(Instant::default()));
    let sent = fabric.advance(Duration::ZERO);
    let mut expected = ["a1", "a2", "a3", "a4"].repeat(2);
    expected.sort_unstable();
    assert_eq!(ports(&sent), expected);
    let v4 = &sent.iter().find(|(_, packet)| packet.frame()[12] == 0x08).unwrap().1;
    assert_eq!(ethernet_of(v4).destination.to_string(), "01:00:5e:00:00:01");
    assert_eq!(ethernet_of(v4).source, testing::gateway_mac("a"));
    let header = ipv4::Header::parse(&v4.frame()[14..]).unwrap();
    assert_eq!((header.source, header.ttl), ([198, 18, 1, 1].into(), 1));
    let v6 = &sent.iter().find(|(_, packet)| packet.frame()[12] == 0x86).unwrap().1;
    let header = crate::wire::ipv6::Header::parse(&v6.frame()[14..]).unwrap();
    assert_eq!((header.source, header.hop_limit), (testing::gateway_mac("a").link_local(), 1));
    assert_eq!(icmpv6::check(header.source, mld::ALL_NODES, &v6.frame()[14 + 48..]), Ok(130));
    assert_eq!(wait(&mut fabric, 125).len(), 8, "the second of the startup");
    assert_eq!(fabric.counted("group_queries"), 4);
}

#[test]
fn a_network_without_an_address_asks_from_none() {
    let mut spec = spec(true);
    spec.networks[0].router = None;
    let mut fabric = Fabric::new(&spec);
    let sent = fabric.advance(Duration::ZERO);
    let v4 = &sent.iter().find(|(_, packet)| packet.frame()[12] == 0x08).unwrap().1;
    let mut expected = from("a1", BRIDGES_QUERY);
    expected[6..12].copy_from_slice(&testing::gateway_mac("a").0);
    expected[20] = 0x40; // Linux leaves DF clear.
    ipv4::fill_checksum(&mut expected[14..38]);
    assert_eq!(v4.frame(), expected);
}

#[test]
fn the_stack_is_silent_while_a_lower_address_asks() {
    let mut fabric = with_own_querier();
    fabric.receive_frame("a4", &query("a4", [198, 18, 0, 9], Ipv4Addr::UNSPECIFIED));
    let v4 = |sent: Vec<Sent>| sent.iter().filter(|(_, packet)| packet.frame()[12] == 0x08).count();
    assert_eq!(v4(wait(&mut fabric, 254)), 0);
    assert_eq!(v4(wait(&mut fabric, 1)), 4, "and takes over when that one is gone");
}

#[test]
fn a_query_without_an_address_makes_a_router_of_an_uplink_only() {
    for (uplink, expected) in [(false, vec![]), (true, vec!["a4"])] {
        let mut spec = spec(true);
        spec.ports[4].uplink = uplink;
        let mut fabric = Fabric::new(&spec);
        wait(&mut fabric, 12);
        fabric.receive_frame("a4", &from("a4", BRIDGES_QUERY));
        assert_eq!(ports(&fabric.receive_frame("a1", &from("a1", JOIN_V3))), expected);
    }
}

#[test]
fn a_pim_router_is_heard() {
    let mut fabric = with_own_querier();
    let mut hello = data("a3", [224, 0, 0, 13].into());
    hello[23] = 103;
    hello[34] = 0x20;
    ipv4::fill_checksum(&mut hello[14..34]);
    assert_eq!(ports(&fabric.receive_frame("a3", &hello)), ["a1", "a2", "a4"]);
    assert_eq!(ports(&fabric.receive_frame("a1", &data("a1", GROUP))), ["a3"]);
}

#[test]
fn a_checked_port_cannot_make_itself_a_router() {
    let mut spec = spec(true);
    spec.ports[0].source_check = true;
    let mut fabric = Fabric::new(&spec);
    wait(&mut fabric, 12);
    assert!(fabric.receive_frame("a1", &query("a1", [198, 18, 1, 10], Ipv4Addr::UNSPECIFIED)).is_empty());
    let mut mld_query = from("a1", JOIN_MLD1);
    mld_query[62] = 130;
    mld_query[22..38].copy_from_slice(&mac("a1").link_local().octets());
    assert!(fabric.receive_frame("a1", &mld_query).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::RouterMessageSpoofed), 2);
    let mut hello = data("a1", [224, 0, 0, 13].into());
    hello[23] = 103;
    hello[34] = 0x20;
    ipv4::fill_checksum(&mut hello[14..34]);
    fabric.receive_frame("a1", &hello);
    assert!(fabric.receive_frame("a2", &data("a2", GROUP)).is_empty());
}

#[test]
fn a_checked_port_may_report_without_an_address() {
    let mut spec = spec(true);
    spec.ports[0].source_check = true;
    let mut fabric = Fabric::new(&spec);
    wait(&mut fabric, 12);
    let mut join = from("a1", JOIN_V3);
    assert!(fabric.receive_frame("a1", &join).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::SourceAddressSpoofed), 1, "from another's address");
    join[26..30].fill(0);
    ipv4::fill_checksum(&mut join[14..38]);
    fabric.receive_frame("a1", &join);
    assert_eq!(ports(&fabric.receive_frame("a2", &data("a2", GROUP))), ["a1"]);
}

#[test]
fn messages_that_break_their_protocol_are_dropped_and_counted() {
    let mut fabric = with_own_querier();
    let mut cases = Vec::new();
    for change in [
        (|frame: &mut Vec<u8>| frame[53] ^= 1) as fn(&mut Vec<u8>), // the group, and so the checksum
        |frame| frame[22] = 64,                                     // TTL
        |frame| frame[24] ^= 1,                                     // IP checksum
        |frame| frame[45] = 9,                                      // count of records
    ] {
        let mut frame = from("a1", JOIN_V3);
        change(&mut frame);
        cases.push(frame);
    }
    for change in [
        (|frame: &mut Vec<u8>| frame[89] ^= 1) as fn(&mut Vec<u8>),
        |frame| frame[21] = 64,
        |frame| frame[22..24].copy_from_slice(&[0x20, 0x01]), // a global source
        |frame| frame[69] = 9,
    ] {
        let mut frame = from("a1", JOIN_MLD2);
        change(&mut frame);
        cases.push(frame);
    }
    for (count, frame) in cases.iter().enumerate() {
        assert!(fabric.receive_frame("a1", frame).is_empty(), "case {count}");
        assert_eq!(fabric.dropped("a1", DropReason::MembershipMalformed), count as u64 + 1);
    }
    assert_eq!(fabric.stack.config().groups("a"), Some(0));
    let mut unknown = from("a1", JOIN_V2);
    unknown[38] = 0x14;
    assert!(fabric.receive_frame("a1", &unknown).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::NoMember), 1, "a type that is not known is data");
}

#[test]
fn membership_is_kept_by_vlan_and_goes_with_the_port() {
    let mut spec = spec(true);
    spec.ports[2].vlans = PortVlans::Access(7);
    spec.ports[3].vlans = PortVlans::Access(7);
    let mut fabric = Fabric::new(&spec);
    wait(&mut fabric, 12);
    fabric.receive_frame("a1", &from("a1", JOIN_V3));
    assert_eq!(ports(&fabric.receive_frame("a2", &data("a2", GROUP))), ["a1"]);
    assert!(fabric.receive_frame("a3", &data("a3", GROUP)).is_empty());
    let a1 = spec.ports.remove(0);
    fabric.reconfigure(&spec);
    assert_eq!(fabric.stack.config().groups("a"), Some(0));
    spec.ports.push(a1);
    fabric.reconfigure(&spec);
    assert!(fabric.receive_frame("a2", &data("a2", GROUP)).is_empty(), "it has to join again");
    fabric.receive_frame("a1", &from("a1", JOIN_V3));
    fabric.reconfigure(&spec);
    assert_eq!(ports(&fabric.receive_frame("a2", &data("a2", GROUP))), ["a1"], "and stays a member then");
}

#[test]
fn isolated_ports_do_not_share_a_group() {
    let mut spec = spec(true);
    spec.ports[0].isolated = true;
    spec.ports[1].isolated = true;
    let mut fabric = Fabric::new(&spec);
    wait(&mut fabric, 12);
    for port in ["a1", "a3"] {
        fabric.receive_frame(port, &from(port, JOIN_V3));
    }
    assert_eq!(ports(&fabric.receive_frame("a2", &data("a2", GROUP))), ["a3"]);
}

#[test]
fn a_network_that_begins_to_snoop_is_asked_at_once() {
    let mut before = spec(true);
    before.networks[0].multicast.snooping = false;
    let mut fabric = Fabric::new(&before);
    assert_eq!(fabric.stack.poll_at(), None);
    fabric.reconfigure(&spec(true));
    assert_eq!(fabric.advance(Duration::ZERO).len(), 8);
    fabric.reconfigure(&before);
    wait(&mut fabric, 2);
    assert_eq!(fabric.stack.poll_at(), None, "and nothing is left of it afterwards");
}

#[test]
fn a_trace_joins_nothing() {
    let mut fabric = with_own_querier();
    let id = fabric.stack.config().port_by_name("a1").unwrap().id;
    fabric.stack.trace(fabric.now, id, &mut Packet::from_frame(&from("a1", JOIN_V3))).unwrap();
    assert_eq!(fabric.stack.config().groups("a"), Some(0));
}

proptest::proptest! {
    #[test]
    fn no_report_makes_it_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 8..100), kind in 0usize..8,
    ) {
        let mut fabric = with_own_querier();
        let text = if kind < 4 { JOIN_V2 } else { JOIN_MLD1 };
        let mut frame = from("a1", text);
        let start = if kind < 4 { 38 } else { 62 };
        frame.truncate(start);
        frame.extend(&bytes);
        frame[start] = [0x11, 0x16, 0x17, 0x22, 130, 131, 132, 143][kind];
        let length = frame.len() as u16;
        if kind < 4 {
            frame[16..18].copy_from_slice(&(length - 14).to_be_bytes());
            ipv4::fill_checksum(&mut frame[14..38]);
            frame[start + 2..start + 4].fill(0);
            let sum = crate::wire::checksum::Sum::default().bytes(&frame[start..]).finish();
            frame[start + 2..start + 4].copy_from_slice(&sum.to_be_bytes());
        } else {
            frame[18..20].copy_from_slice(&(length - 54).to_be_bytes());
            let header = crate::wire::ipv6::Header::parse(&frame[14..]).unwrap();
            icmpv6::fill_checksum(header.source, header.destination, &mut frame[start..]);
        }
        fabric.receive_frame("a1", &frame);
        wait(&mut fabric, 2);
    }
}
