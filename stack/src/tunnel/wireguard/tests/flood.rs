//! Too many handshakes.

use super::*;

/// Sends the same initiation from many addresses, as who makes them up would.
fn spoofed(net: &mut Net, initiation: &[u8], count: u32) -> (usize, usize) {
    let (mut replies, mut others) = (0, 0);
    for number in 0..count {
        let source = SocketAddr::from((Ipv4Addr::from_bits(0xc612_0000 + number), 51820));
        let mut events = Vec::new();
        let result =
            net.nodes[1].device.handle(net.moment(1), source, address(1).ip(), initiation, &mut events);
        assert!(result.is_err());
        let cookies =
            events.iter().filter(|event| matches!(event, Event::Transmit(sent) if sent.octets.len() == 64));
        assert_eq!(
            cookies.count(),
            events.len(),
            "cookies are all that is sent, and shorter than what asks for them"
        );
        replies += events.len();
        others += usize::from(result != Err(Refusal::CookieWanted));
    }
    (replies, others)
}

/// A net in which an attacker has seen one initiation of node 0.
fn watched() -> (Net, Vec<u8>) {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    let initiation = net.sent[0].1.octets.clone();
    (net, initiation)
}

#[test]
fn a_flood_from_made_up_sources_is_answered_with_cookies_and_peers_get_through() {
    let (mut net, initiation) = watched();
    let (replies, others) = spoofed(&mut net, &initiation, 10_000);
    assert!((500..=513).contains(&others), "{others} were worth the work");
    assert_eq!(replies, 10_000 - others);
    assert_eq!(net.nodes[1].device.admitted_sources(), 0, "nobody has shown where they are: nothing is kept");
    assert_eq!(net.nodes[1].device.taken_indices(), 1, "the session that was there");
    assert!(net.passes(0, 1), "and it works on");

    // A peer comes back in the midst of it.
    net.nodes[0].device = Device::new(net.now, &spec(1, vec![peer(2, 1)]), MTU);
    spoofed(&mut net, &initiation, 1_000);
    net.send(0, &packet(0, 1, b"me too")).unwrap();
    for _ in 0..60 {
        spoofed(&mut net, &initiation, 100);
        net.run(Duration::from_millis(100));
    }
    assert_eq!(net.count(1, Kind::Cookie), 1);
    assert_eq!(net.payloads(1), [b"me too"]);
    assert_eq!(net.nodes[1].device.admitted_sources(), 1);
}

#[test]
fn a_flood_ends_with_the_flood() {
    let (mut net, initiation) = watched();
    spoofed(&mut net, &initiation, 2_000);
    net.seconds(3);
    let (replies, _) = spoofed(&mut net, &initiation, 10);
    assert_eq!(replies, 0);
}

#[test]
fn a_flood_of_responses_that_nobody_asked_for_costs_a_look() {
    let (net, _) = watched();
    let response = net.sent[1].1.octets.clone();
    let mut events = Vec::new();
    for number in 0..2_000u32 {
        let source = SocketAddr::from((Ipv4Addr::from_bits(0xc612_0000 + number), 51820));
        let result =
            net.nodes[0].device.handle(net.moment(0), source, address(0).ip(), &response, &mut events);
        assert_eq!(result, Err(Refusal::UnknownIndex));
    }
    assert_eq!(events, []);
}

#[test]
fn packets_that_wait_for_many_peers_are_bounded_in_octets() {
    let peers = (0..10).map(|n| peer(n + 10, n as usize + 1));
    let mut net = Net::new([spec(1, peers.collect())]);
    let mut refused = 0;
    for node in 1..11 {
        for _ in 0..128 {
            let result = net.send(0, &packet(0, node, &[0; 60_000]));
            refused += usize::from(result == Err(Refusal::StagingFull));
        }
    }
    assert_eq!(1280 - refused, (16 << 20) / 60_020);
    net.fate(|_| Some(Fate::Lost));
    net.seconds(100);
    net.send(0, &packet(0, 1, &[0; 60_000])).unwrap();
}
