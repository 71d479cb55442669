//! Router advertisements: when, to whom, and with what.

use std::net::Ipv6Addr;

use super::*;
use crate::MacAddr;
use crate::config::{AdvertisementSpec, PortSpec, SubnetSpec, UNTAGGED};
use crate::testing::{gateway_mac, mac};
use crate::wire::router_advertisement::Advertisement;
use crate::wire::{icmpv6, ipv6};

/// A router solicitation of Linux, as it left a veth device with the address 02:00:00:00:01:0a.
const SOLICITATION: [u8; 70] = [
    0x33, 0x33, 0, 0, 0, 2, 2, 0, 0, 0, 1, 0x0a, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0x10, 0x3a, 0xff, 0xfe, 0x80,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 1, 0x0a, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
    0x85, 0, 0x79, 0x1a, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 0x0a,
];
const LINUX: MacAddr = MacAddr([2, 0, 0, 0, 1, 0x0a]);

/// Network `a` advertises; port a1 is the Linux of [`SOLICITATION`].
fn advertising() -> FabricSpec {
    let mut spec = testing::two_networks();
    spec.networks[0].advertisements = Some(AdvertisementSpec {
        router_lifetime: 1800,
        autonomous: true,
        dns: vec!["2001:db8::53".parse().unwrap()],
        search: vec!["lab.example.org".into()],
    });
    spec.ports[0] = PortSpec { mac: LINUX, addresses: Vec::new(), ..spec.ports[0].clone() };
    spec
}

/// The advertisements among what was sent, with the port.
fn advertisements(sent: &[Sent]) -> Vec<(&str, Advertisement)> {
    let read = |packet: &Packet| {
        let frame = packet.frame();
        let header = ipv6::Header::parse(frame.get(14..)?).ok()?;
        let message = &frame[14 + header.payload_offset..14 + header.total_length];
        if ethernet_of(packet).ethertype != ethernet::IPV6 || message[0] != icmpv6::ROUTER_ADVERTISEMENT {
            return None;
        }
        assert_eq!(icmpv6::check(header.source, header.destination, message), Ok(134));
        assert_eq!((header.hop_limit, header.source), (255, gateway_mac("a").link_local()));
        Some(Advertisement::parse(message).unwrap())
    };
    sent.iter().filter_map(|(port, packet)| Some((port.as_str(), read(packet)?))).collect()
}

/// Goes on to `until` and tells when advertisements to all came out at a2, in milliseconds.
fn times(fabric: &mut Fabric, until: Duration) -> Vec<u64> {
    let end = fabric.now + until;
    let mut times = Vec::new();
    while let Some(at) = fabric.stack.poll_at().filter(|at| *at <= end) {
        let sent = fabric.advance(at.since(fabric.now));
        if advertisements(&sent).iter().any(|(port, _)| *port == "a2") {
            times.push(fabric.now.as_nanos() / 1_000_000);
        }
    }
    fabric.now = end;
    times
}

/// A fabric whose gateway has long begun to advertise.
fn settled() -> Fabric {
    let mut fabric = Fabric::beginning(&advertising());
    assert_eq!(times(&mut fabric, Duration::from_secs(100)).len(), 3);
    fabric
}

#[test]
fn an_advertisement_tells_of_router_prefixes_mtu_and_name_servers() {
    let mut spec = advertising();
    spec.networks[0].subnets.push(SubnetSpec {
        prefix: "2001:db8:1:1::/80".parse().unwrap(),
        gateway: None,
        vlan: UNTAGGED,
    });
    let sent = Fabric::beginning(&spec).advance(Duration::ZERO);
    let found = advertisements(&sent);
    assert_eq!(found.iter().map(|(port, _)| *port).collect::<Vec<_>>(), ["a1", "a2", "a3"]);
    let advertisement = &found[0].1;
    assert_eq!((advertisement.hop_limit, advertisement.router_lifetime), (64, 1800));
    assert!(!advertisement.managed && !advertisement.other);
    assert_eq!((advertisement.link_layer, advertisement.mtu), (Some(gateway_mac("a")), Some(1500)));
    let prefixes: Vec<_> = advertisement
        .prefixes
        .iter()
        .map(|found| {
            (found.prefix.to_string(), found.on_link, found.autonomous, found.valid, found.preferred)
        })
        .collect();
    let (valid, preferred) = (2_592_000, 604_800);
    assert_eq!(
        prefixes,
        [
            ("2001:db8:1::/64".into(), true, true, valid, preferred),
            ("2001:db8:1:1::/80".into(), true, false, valid, preferred)
        ]
    );
    assert_eq!(advertisement.dns, Some((1800, vec!["2001:db8::53".parse().unwrap()])));
    assert_eq!(advertisement.search, Some((1800, vec!["lab.example.org".into()])));
    let to_all = sent.iter().find(|(_, packet)| packet.frame().get(54) == Some(&134)).unwrap();
    assert_eq!(ethernet_of(&to_all.1).destination, MacAddr::ipv6_multicast(ipv6::ALL_NODES));
}

#[test]
fn three_come_quickly_and_then_one_every_200_to_600_seconds() {
    let mut fabric = Fabric::beginning(&advertising());
    let times = times(&mut fabric, Duration::from_secs(6000));
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps[..2], [16_000, 16_000]);
    assert!(gaps[2..].iter().all(|gap| (200_000..=600_000).contains(gap)), "{gaps:?}");
    assert!(gaps.len() >= 10 && gaps[2..].windows(2).any(|pair| pair[0] != pair[1]), "{gaps:?}");
}

#[test]
fn a_short_lifetime_is_renewed_in_time() {
    let mut spec = advertising();
    spec.networks[0].advertisements.as_mut().unwrap().router_lifetime = 90;
    let times = times(&mut Fabric::beginning(&spec), Duration::from_secs(900));
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 30_000), "{times:?}");
}

#[test]
fn who_asks_is_answered_alone_within_half_a_second() {
    let mut fabric = Fabric::new(&advertising());
    let passed_on = fabric.receive_frame("a1", &SOLICITATION);
    assert_eq!(ports(&passed_on), ["a2", "a3"], "there may be other routers");
    let at = fabric.stack.poll_at().unwrap().since(fabric.now);
    assert!(at <= Duration::from_millis(500), "{at:?}");
    let sent = fabric.advance(at);
    assert_eq!(advertisements(&sent).len(), 1);
    assert_eq!((sent[0].0.as_str(), ethernet_of(&sent[0].1).destination), ("a1", LINUX));
    let header = ipv6::Header::parse(&sent[0].1.frame()[14..]).unwrap();
    assert_eq!(header.destination, LINUX.link_local());
    assert_eq!(fabric.stack.poll_at(), None);
}

/// The solicitation of somebody without an address.
fn anonymous() -> Vec<u8> {
    let mut frame = SOLICITATION[..62].to_vec();
    frame[19] = 8;
    frame[22..38].fill(0);
    icmpv6::fill_checksum(Ipv6Addr::UNSPECIFIED, "ff02::2".parse().unwrap(), &mut frame[54..]);
    frame
}

#[test]
fn who_asks_without_an_address_is_answered_to_all_and_not_within_three_seconds_again() {
    let mut fabric = settled();
    fabric.receive_frame("a1", &anonymous());
    let first = times(&mut fabric, Duration::from_secs(1));
    assert_eq!(first.len(), 1);
    (0..10).for_each(|_| drop(fabric.receive_frame("a1", &anonymous())));
    let second = times(&mut fabric, Duration::from_secs(10));
    assert_eq!(second.len(), 1, "{second:?}");
    assert_eq!(second[0] - first[0], 3000);
}

#[test]
fn a_storm_of_solicitations_is_answered_to_all_at_once() {
    let mut fabric = settled();
    let before = fabric.stack.state.timers.len();
    (0..1000).for_each(|_| drop(fabric.receive_frame("a1", &SOLICITATION)));
    assert_eq!(fabric.stack.state.timers.len() - before, 50 + 1);
    assert_eq!(times(&mut fabric, Duration::from_secs(3)).len(), 1);
}

#[test]
fn solicitations_that_break_the_rules_are_not_answered() {
    let change = |at: usize, value: u8| {
        let mut frame = SOLICITATION.to_vec();
        frame[at] = value;
        frame
    };
    let mut with_option = SOLICITATION.to_vec();
    with_option[22..38].fill(0);
    icmpv6::fill_checksum(Ipv6Addr::UNSPECIFIED, "ff02::2".parse().unwrap(), &mut with_option[54..]);
    let wrong = [change(21, 254), change(55, 1), change(57, 0), change(63, 0), with_option];
    for frame in wrong {
        let mut spec = advertising();
        spec.ports[0].source_check = false;
        let mut fabric = Fabric::new(&spec);
        fabric.receive_frame("a1", &frame);
        assert_eq!(fabric.stack.poll_at(), None, "{frame:02x?}");
    }
}

#[test]
fn a_gateway_that_does_not_advertise_is_silent() {
    let mut spec = advertising();
    spec.networks[0].advertisements = None;
    let mut fabric = Fabric::beginning(&spec);
    fabric.receive_frame("a1", &SOLICITATION);
    assert!(times(&mut fabric, Duration::from_secs(1000)).is_empty());
}

#[test]
fn a_trace_of_a_solicitation_sets_no_timer() {
    let mut fabric = Fabric::new(&advertising());
    let port = fabric.stack.config().port_by_name("a1").unwrap().id;
    let trace = fabric.stack.trace(fabric.now, port, &mut Packet::from_frame(&SOLICITATION)).unwrap();
    assert!(trace.steps.iter().any(|step| step.message.contains("router solicitation")), "{:?}", trace.steps);
    assert_eq!(fabric.stack.poll_at(), None);
}

#[test]
fn when_it_ends_hosts_are_told_to_use_the_router_no_longer() {
    let mut spec = advertising();
    let mut fabric = Fabric::new(&spec);
    spec.networks[0].advertisements = None;
    fabric.reconfigure(&spec);
    let sent = fabric.advance(Duration::ZERO);
    let found = advertisements(&sent);
    assert_eq!(found.len(), 3);
    assert_eq!((found[0].1.router_lifetime, found[0].1.prefixes[0].preferred), (0, 0));
    assert_eq!(fabric.stack.poll_at(), None);
    // And so when the router goes away altogether.
    let mut fabric = Fabric::new(&advertising());
    spec.networks[0].router = None;
    fabric.reconfigure(&spec);
    assert_eq!(advertisements(&fabric.advance(Duration::ZERO)).len(), 3);
}

#[test]
fn a_prefix_that_the_link_loses_is_withdrawn_a_few_times() {
    let mut spec = advertising();
    let lost: SubnetSpec = SubnetSpec {
        prefix: "2001:db8:1:2::/64".parse().unwrap(),
        gateway: Some("2001:db8:1:2::1".parse().unwrap()),
        vlan: UNTAGGED,
    };
    spec.networks[0].subnets.push(lost.clone());
    let mut fabric = Fabric::new(&spec);
    spec.networks[0].subnets.pop();
    fabric.reconfigure(&spec);
    fabric.now = fabric.now + Duration::from_secs(60);
    let mut told = Vec::new();
    for _ in 0..20 {
        let Some(at) = fabric.stack.poll_at() else { break };
        let sent = fabric.advance(at.since(fabric.now));
        let found = advertisements(&sent);
        let Some((_, advertisement)) = found.first() else { continue };
        let lost = advertisement.prefixes.iter().find(|found| found.prefix == lost.prefix);
        told.push(lost.map(|found| (found.valid, found.preferred)));
    }
    assert_eq!(told[..4], [Some((0, 0)), Some((0, 0)), Some((0, 0)), None]);
}

#[test]
fn other_routers_are_kept_out_but_from_ports_that_are_not_checked() {
    let mut spec = advertising();
    let source = mac("a2");
    let rogue = |spec: &FabricSpec| {
        let message = Advertisement { router_lifetime: 9000, ..Advertisement::default() };
        let message = message.emit(source.link_local(), ipv6::ALL_NODES, 1280);
        let mut frame = vec![0; 54];
        let destination = MacAddr::ipv6_multicast(ipv6::ALL_NODES);
        ethernet::Header { destination, source, ethertype: ethernet::IPV6 }.emit(&mut frame);
        let fields = ipv6::Fields {
            payload_length: message.len(),
            next_header: ipv6::ICMPV6,
            hop_limit: 255,
            source: source.link_local(),
            destination: ipv6::ALL_NODES,
        };
        fields.emit(&mut frame[14..]);
        frame.extend(message);
        let mut fabric = Fabric::new(spec);
        let sent = fabric.receive_frame("a2", &frame).len();
        (sent, fabric.dropped("a2", DropReason::RouterMessageSpoofed))
    };
    assert_eq!(rogue(&spec), (0, 1));
    spec.ports[1].source_check = false;
    assert_eq!(rogue(&spec), (2, 0));
}
