//! Many peers.

use std::collections::HashMap;

use super::*;
use crate::Prefix;
use crate::config::{WireGuardPeer, WireGuardSpec};

const PEERS: u32 = 10_000;
/// Those of them that are to stay reachable: every tenth.
const REACHABLE: u32 = PEERS / 10;

fn key(number: u32) -> PrivateKey {
    let mut octets = [0x40; 32];
    // Not in the first octet: Curve25519 ignores bits of that.
    octets[8..12].copy_from_slice(&number.to_le_bytes());
    PrivateKey::new(octets)
}

fn place(number: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(0xc613_0000 + number), 51820))
}

fn inside(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xc612_0000 + number)
}

fn peers() -> Vec<WireGuardPeer> {
    let peers = (1..=PEERS).map(|number| WireGuardPeer {
        keys: vec![key(number).public_key()],
        preshared_key: None,
        endpoint: Some(place(number)),
        allowed: vec![Prefix::new(inside(number).into(), 32).unwrap()],
        keepalive: if number % 10 == 0 { 25 } else { 0 },
    });
    peers.collect()
}

#[test]
fn ten_thousand_peers_get_their_sessions_a_few_at_a_time() {
    let mut now = Instant::from_nanos(1_000_000_000);
    let moment = |now| Moment { now, wall: Duration::from_secs(1_800_000_000) };
    let described = WireGuardSpec { listen_port: 51820, keys: vec![key(0)], peers: peers() };
    let device = Device::new(now, &described, MTU);
    for number in [1, 77, PEERS] {
        let peer = device.peer_for(inside(number).into()).unwrap();
        assert_eq!(peer.endpoint().map(|endpoint| endpoint.remote), Some(place(number)));
    }
    // Those that are to stay reachable are spoken to; of 200 of them there is somebody to answer.
    let there: HashMap<_, _> = (1..=200).map(|number| (place(number * 50), number * 50)).collect();
    let (mut polls, mut initiations, mut events) = (0, 0, Vec::new());
    while device.poll_at().is_some_and(|at| at <= now) {
        device.poll(moment(now), &mut events);
        assert!(events.len() <= 16, "a bounded amount of work each time");
        polls += 1;
        for event in std::mem::take(&mut events) {
            let Event::Transmit(sent) = event else { panic!("{event:?}") };
            initiations += u32::from(Kind::of(&sent.octets) == Some(Kind::Initiation));
            if let Some(number) = there.get(&sent.destination) {
                answer(&device, moment(now), *number, &sent);
            }
        }
    }
    assert_eq!(initiations, REACHABLE);
    assert!(polls >= REACHABLE / 16);
    assert_eq!(device.status().iter().filter(|peer| peer.handshakes == 1).count(), there.len());
    // The description changes: all but one go on.
    let fewer = WireGuardSpec { peers: described.peers[..PEERS as usize - 1].to_vec(), ..described };
    now = now + Duration::from_secs(1);
    device.configure(now, &fewer, MTU);
    assert_eq!(device.status().iter().filter(|peer| peer.handshakes == 1).count(), there.len() - 1);
    assert_eq!(device.taken_indices(), REACHABLE as usize - 1);
    assert!(device.peer_for(inside(PEERS).into()).is_none());
    device.configure(now, &WireGuardSpec { peers: Vec::new(), ..fewer }, MTU);
    assert_eq!((device.taken_indices(), device.poll_at()), (0, None));
}

/// The peer of this number answers an initiation.
fn answer(device: &Device, moment: Moment, number: u32, initiation: &Transmit) {
    let hub = WireGuardPeer {
        keys: vec![key(0).public_key()],
        preshared_key: None,
        endpoint: None,
        allowed: Vec::new(),
        keepalive: 0,
    };
    let spec = WireGuardSpec { listen_port: 51820, keys: vec![key(number)], peers: vec![hub] };
    let other = Device::new(moment.now, &spec, MTU);
    let (mut replies, hub) = (Vec::new(), address(0));
    other.handle(moment, hub, place(number).ip(), &initiation.octets, &mut replies).unwrap();
    let Some(Event::Transmit(response)) = replies.pop() else { panic!("no response") };
    device.handle(moment, place(number), hub.ip(), &response.octets, &mut replies).unwrap();
    assert_eq!(replies.len(), 1, "the keepalive that shows it the keys");
}
