//! What others send who are not the peer, or not where they should be.

use proptest::prelude::*;

use super::*;

fn last(net: &Net, node: usize, kind: Kind) -> Datagram {
    let from = net.nodes[node].address;
    let found = net.sent.iter().rev().find(|(_, datagram)| datagram.from == from && datagram.kind() == kind);
    found.unwrap().1.clone()
}

const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200)), 4444);

#[test]
fn a_packet_comes_through_once() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    let again = last(&net, 0, Kind::Data);
    net.carry(again.clone());
    net.carry(again);
    net.seconds(1);
    assert_eq!(net.nodes[1].refusals, [Refusal::Replayed; 2]);
    assert_eq!(net.payloads(1), [] as [Vec<u8>; 0]);
}

#[test]
fn a_replayed_initiation_moves_nothing() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    let old = Datagram { from: ELSEWHERE, ..last(&net, 0, Kind::Initiation) };
    net.carry(old);
    net.seconds(1);
    assert_eq!(net.nodes[1].refusals, [Refusal::HandshakeReplayed]);
    assert_eq!(net.count(1, Kind::Response), 1);
    assert_eq!(net.status(1).endpoint, Some(address(0)));
    assert!(net.passes(1, 0));
}

#[test]
fn a_replayed_response_is_nobodys() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    let old = last(&net, 1, Kind::Response);
    net.carry(old);
    net.seconds(1);
    assert_eq!(net.nodes[0].refusals, [Refusal::UnknownIndex]);
    assert!(net.passes(0, 1));
}

/// A bug that others had: a forged response that cleared the pending handshake.
#[test]
fn a_forged_response_does_not_disturb_the_handshake() {
    let mut net = Net::pair();
    net.fate(|datagram| {
        (datagram.kind() == Kind::Response && datagram.from == address(1))
            .then_some(Fate::Late(Duration::from_secs(1)))
    });
    net.send(0, &packet(0, 1, b"hello")).unwrap();
    net.run(Duration::from_millis(500));
    let mut forged = Datagram { from: ELSEWHERE, ..last(&net, 1, Kind::Response) };
    forged.octets[20] ^= 1;
    let macs = super::super::mac::MacKeys::new(&private(1).public_key());
    super::super::cookie::Jar::default().seal(net.now, &macs, &mut forged.octets);
    net.carry(forged);
    net.run(Duration::from_millis(100));
    assert_eq!(net.nodes[0].refusals, [Refusal::AuthenticationFailed]);
    net.run(Duration::from_millis(600));
    assert_eq!(net.payloads(1), [b"hello"]);
    assert_eq!(net.status(0).endpoint, Some(address(1)));
}

#[test]
fn a_peer_that_moves_is_followed_and_who_pretends_is_not() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    net.nodes[0].address = ELSEWHERE;
    assert!(net.passes(0, 1) && net.passes(1, 0));
    assert_eq!(net.status(1).endpoint, Some(ELSEWHERE));
    let mut forged = Datagram { from: address(7), ..last(&net, 0, Kind::Data) };
    net.carry(forged.clone());
    forged.octets[8] ^= 0x40;
    net.carry(forged);
    net.seconds(1);
    assert_eq!(net.nodes[1].refusals, [Refusal::Replayed, Refusal::AuthenticationFailed]);
    assert_eq!(net.status(1).endpoint, Some(ELSEWHERE));
}

#[test]
fn a_peer_is_spoken_to_from_the_address_that_it_knows() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    let endpoint = |net: &Net| net.nodes[1].device.peer_for(inner(0).into()).unwrap().endpoint().unwrap();
    assert_eq!(endpoint(&net).local, Some(address(1).ip()));
    // When it does not answer, that address may be what is wrong.
    net.fate(|_| Some(Fate::Lost));
    net.send(1, &packet(1, 0, b"hello?")).unwrap();
    net.seconds(16);
    assert_eq!(endpoint(&net), Endpoint { remote: address(0), local: None });
}

/// A bug that others had: an allowed prefix bypassed through a shorter one.
#[test]
fn a_peer_with_a_shorter_prefix_may_not_speak_for_one_with_a_longer() {
    let mut wide = peer(1, 0);
    wide.allowed = vec!["198.18.0.0/16".parse().unwrap(), "0.0.0.0/0".parse().unwrap()];
    let mut narrow = peer(3, 2);
    narrow.allowed = vec!["198.18.77.0/24".parse().unwrap()];
    let mut net = Net::new([spec(1, vec![peer(2, 1)]), spec(2, vec![wide, narrow])]);
    let victim = Ipv4Addr::new(198, 18, 77, 7);
    net.send(0, &packet_between(victim, inner(1), b"not mine")).unwrap();
    net.send(0, &packet_between(Ipv4Addr::new(198, 18, 78, 7), inner(1), b"mine")).unwrap();
    net.seconds(1);
    assert_eq!(net.nodes[1].refusals, [Refusal::SourceNotAllowed]);
    assert_eq!(net.payloads(1), [b"mine"]);
    let owner = |address: Ipv4Addr| net.nodes[1].device.peer_for(address.into()).unwrap().endpoint().unwrap();
    assert_eq!((owner(victim).remote, owner(inner(5)).remote), (address(2), address(0)));
    assert!(net.nodes[1].device.peer_for("2001:db8::1".parse().unwrap()).is_none());
}

#[test]
fn a_stranger_gets_no_answer() {
    let mut net = Net::new([spec(3, vec![peer(2, 1)]), spec(2, vec![peer(1, 0)])]);
    net.send(0, &packet(0, 1, b"let me in")).unwrap();
    net.seconds(1);
    assert_eq!(net.nodes[1].refusals, [Refusal::UnknownPeer]);
    assert_eq!(net.sent.len(), 1);
    let mut net = Net::new([spec(1, vec![peer(9, 1)]), spec(2, vec![peer(1, 0)])]);
    net.send(0, &packet(0, 1, b"is this you?")).unwrap();
    net.seconds(1);
    assert_eq!(net.nodes[1].refusals, [Refusal::MacInvalid]);
    assert_eq!(net.sent.len(), 1);
    assert_eq!(net.nodes[1].device.taken_indices(), 0);
}

#[test]
fn one_peer_cannot_begin_more_than_fifty_handshakes_a_second() {
    let mut net = Net::pair();
    let mut refused = Vec::new();
    for _ in 0..10 {
        // A new device each time, with a clock that goes on by more than timestamps are rounded to.
        let device = Device::new(net.now, &spec(1, vec![peer(2, 1)]), MTU);
        device.peer_for(inner(1).into()).unwrap().stage(net.now, &packet(0, 1, b"")).unwrap();
        let mut events = Vec::new();
        let step = refused.len() as u32 * Duration::from_millis(17);
        device.poll(Moment { wall: net.moment(0).wall + step, ..net.moment(0) }, &mut events);
        let Some(Event::Transmit(initiation)) = events.pop() else { panic!("no initiation") };
        let moment = net.moment(1);
        let (source, local) = (address(0), address(1).ip());
        refused.push(net.nodes[1].device.handle(moment, source, local, &initiation.octets, &mut events));
        net.now = net.now + Duration::from_millis(10);
    }
    let flood = refused.iter().filter(|result| **result == Err(Refusal::Flood)).count();
    assert_eq!((flood, refused[0]), (5, Ok(())));
}

/// A bug that others had: an oversized datagram that panics.
#[test]
fn the_longest_datagrams_do_no_harm() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    let known = last(&net, 0, Kind::Data).octets[4..8].to_vec();
    for kind in 0..=5 {
        let mut octets = vec![0xff; 65_535];
        octets[..8].copy_from_slice(&[kind, 0, 0, 0, known[0], known[1], known[2], known[3]]);
        let result =
            net.nodes[1].device.handle(net.moment(1), ELSEWHERE, address(1).ip(), &octets, &mut Vec::new());
        assert_eq!(result, Err(Refusal::Malformed));
        let index = u32::from_le_bytes(known[..].try_into().unwrap());
        let (_, session) = net.nodes[1].device.session(index).unwrap();
        assert!(session.open(net.now, &mut octets).is_err());
    }
    let peer = net.nodes[0].device.peer_for(inner(1).into()).unwrap();
    assert_eq!(peer.stage(net.now, &vec![0; 65_536]), Err(Refusal::Malformed));
    assert_eq!(peer.stage(net.now, &vec![0; 65_475]), Ok(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_octets_make_a_device_panic(
        messages in proptest::collection::vec(
            (0u8..6, prop_oneof![Just(148usize), Just(92), Just(64), 0usize..200], any::<[u8; 32]>()), 1..20),
    ) {
        let mut net = Net::pair();
        net.send(0, &packet(0, 1, b"hello")).unwrap();
        let macs = super::super::mac::MacKeys::new(&private(1).public_key());
        for (kind, length, noise) in messages {
            let mut octets: Vec<u8> = noise.iter().copied().cycle().take(length).collect();
            if let Some(start) = octets.first_chunk_mut::<4>() {
                *start = [kind, 0, 0, 0];
            }
            if length > 40 {
                super::super::cookie::Jar::default().seal(net.now, &macs, &mut octets);
            }
            let result =
                net.nodes[0].device.handle(net.moment(0), ELSEWHERE, address(0).ip(), &octets, &mut Vec::new());
            prop_assert!(result.is_err());
        }
        net.seconds(1);
        prop_assert_eq!(net.payloads(1), [b"hello"]);
    }
}
