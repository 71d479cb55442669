//! Keys, preshared keys and peers that change while traffic goes on.

use super::*;
use crate::config::{WireGuardPeer, WireGuardSpec};

fn with_keys(mut peer: WireGuardPeer, seeds: &[u8]) -> WireGuardPeer {
    peer.keys = seeds.iter().map(|seed| private(*seed).public_key()).collect();
    peer
}

fn device_with_keys(seeds: &[u8], peers: Vec<WireGuardPeer>) -> WireGuardSpec {
    WireGuardSpec { keys: seeds.iter().map(|seed| private(*seed)).collect(), ..spec(seeds[0], peers) }
}

/// Packets in both directions for some time, all of which must arrive.
#[track_caller]
fn all_pass(net: &mut Net, seconds: u32) {
    for number in 0..seconds * 2 {
        for (from, to) in [(0, 1), (1, 0)] {
            net.send(from, &packet(from, to, &number.to_be_bytes())).unwrap();
        }
        net.run(Duration::from_millis(500));
    }
    for node in 0..2 {
        let expected: Vec<_> = (0..seconds * 2).map(|number| number.to_be_bytes().to_vec()).collect();
        assert!(net.payloads(node) == expected, "something was lost on the way to {node}");
    }
}

#[test]
fn a_node_gets_a_new_key_without_losing_a_packet() {
    let mut net = Net::pair();
    all_pass(&mut net, 10);
    // Node 1 speaks with key 5 and still lets in who knows it by key 2. Node 0 does not know it yet.
    net.configure(1, &device_with_keys(&[5, 2], vec![peer(1, 0)]));
    all_pass(&mut net, 300);
    assert_eq!(net.status(1).local_key, Some(private(2).public_key()));
    // Node 0 is told.
    net.configure(0, &spec(1, vec![with_keys(peer(2, 1), &[2, 5])]));
    all_pass(&mut net, 300);
    assert_eq!(net.status(1).local_key, Some(private(5).public_key()), "all have moved");
    // The old key goes on both sides.
    net.configure(1, &device_with_keys(&[5], vec![peer(1, 0)]));
    all_pass(&mut net, 10);
    net.configure(0, &spec(1, vec![peer(5, 1)]));
    all_pass(&mut net, 300);
}

#[test]
fn who_began_may_get_a_new_key_without_losing_a_packet() {
    let mut net = Net::pair();
    all_pass(&mut net, 10);
    net.configure(0, &device_with_keys(&[6, 1], vec![peer(2, 1)]));
    all_pass(&mut net, 300);
    assert_eq!(
        net.status(1).remote_key,
        Some(private(1).public_key()),
        "the new key was refused, the old one not"
    );
    net.configure(1, &spec(2, vec![with_keys(peer(1, 0), &[1, 6])]));
    all_pass(&mut net, 300);
    assert_eq!(net.status(1).remote_key, Some(private(6).public_key()));
    net.configure(0, &device_with_keys(&[6], vec![peer(2, 1)]));
    net.configure(1, &spec(2, vec![peer(6, 0)]));
    all_pass(&mut net, 300);
}

#[test]
fn a_key_that_is_taken_away_before_peers_have_moved_serves_until_the_next_session() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    net.configure(1, &device_with_keys(&[5, 2], vec![peer(1, 0)]));
    net.configure(0, &spec(1, vec![with_keys(peer(2, 1), &[2, 5])]));
    all_pass(&mut net, 5);
    assert_eq!(net.status(1).local_key, Some(private(2).public_key()));
    net.seconds(6);
    net.configure(1, &device_with_keys(&[5], vec![peer(1, 0)]));
    all_pass(&mut net, 5);
    assert_eq!(net.status(1).local_key, Some(private(5).public_key()));
}

#[test]
fn older_keys_are_tried_when_the_newest_are_not_answered() {
    let mut net = Net::new([
        device_with_keys(&[6, 1], vec![with_keys(peer(2, 1), &[2, 5])]),
        spec(2, vec![peer(1, 0)]),
    ]);
    net.send(0, &packet(0, 1, b"hello")).unwrap();
    net.seconds(21);
    assert_eq!(net.payloads(1), [b"hello"]);
    assert_eq!(net.count(0, Kind::Initiation), 4, "all pairs of keys");
    // From then on it knows which to try second.
    net.seconds(700);
    net.send(0, &packet(0, 1, b"again")).unwrap();
    net.seconds(6);
    assert_eq!(net.payloads(1), [b"again"]);
}

/// A bug that others had: a changed PSK ignored.
#[test]
fn a_preshared_key_that_changes_counts_from_the_next_handshake_and_tears_nothing_down() {
    let with_psk = |mut peer: WireGuardPeer, seed: u8| {
        peer.preshared_key = Some(PresharedKey::new([seed; 32]));
        peer
    };
    let mut net = Net::new([spec(1, vec![with_psk(peer(2, 1), 8)]), spec(2, vec![with_psk(peer(1, 0), 8)])]);
    all_pass(&mut net, 10);
    net.configure(0, &spec(1, vec![with_psk(peer(2, 1), 9)]));
    net.configure(1, &spec(2, vec![with_psk(peer(1, 0), 9)]));
    all_pass(&mut net, 300);
    assert_eq!(net.count(0, Kind::Initiation), 3);
    // Only one side changes it: the session serves while it lasts, and then there is none.
    net.configure(1, &spec(2, vec![with_psk(peer(1, 0), 10)]));
    all_pass(&mut net, 40);
    net.seconds(200);
    assert!(!net.passes(0, 1));
    assert!(net.nodes[0].refusals.contains(&Refusal::AuthenticationFailed));
    net.configure(0, &spec(1, vec![with_psk(peer(2, 1), 10)]));
    net.seconds(6);
    assert!(net.passes(0, 1));
}

#[test]
fn a_preshared_key_that_changes_during_a_handshake_counts_in_it() {
    let mut net = Net::pair();
    net.send(0, &packet(0, 1, b"hello")).unwrap();
    let mut changed = (peer(2, 1), peer(1, 0));
    changed.0.preshared_key = Some(PresharedKey::new([9; 32]));
    changed.1.preshared_key = Some(PresharedKey::new([9; 32]));
    net.configure(0, &spec(1, vec![changed.0]));
    net.configure(1, &spec(2, vec![changed.1]));
    net.seconds(1);
    assert_eq!(net.payloads(1), [b"hello"]);
}

#[test]
fn a_peer_that_is_removed_is_gone_at_once_and_may_come_back() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    let (old, session) = {
        let device = &net.nodes[1].device;
        let peer = device.peer_for(inner(0).into()).unwrap();
        let reservation = peer.reserve(net.now, 1).unwrap();
        (peer, reservation.session)
    };
    net.configure(1, &spec(2, vec![]));
    assert_eq!(net.nodes[1].device.taken_indices(), 0);
    assert_eq!(net.send(1, &packet(1, 0, b"")), Err(Refusal::NoPeer));
    assert!(old.reserve(net.now, 1).is_none(), "also for who still has it in hand");
    assert_eq!(old.stage(net.now, b""), Err(Refusal::PeerRemoved));
    drop(session);
    assert!(!net.passes(0, 1));
    assert_eq!(net.nodes[1].refusals, [Refusal::UnknownIndex]);
    net.seconds(20);
    assert!(net.nodes[1].refusals.contains(&Refusal::UnknownPeer));
    net.configure(1, &spec(2, vec![peer(1, 0)]));
    net.seconds(6);
    assert!(net.passes(0, 1) && net.passes(1, 0));
}

#[test]
fn a_key_taken_from_a_peer_ends_what_it_opened() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    net.configure(1, &spec(2, vec![with_keys(peer(1, 0), &[1, 6])]));
    assert!(net.passes(0, 1), "another key does no harm");
    net.configure(1, &spec(2, vec![with_keys(peer(1, 0), &[6])]));
    assert!(!net.passes(0, 1));
    assert_eq!(net.nodes[1].device.taken_indices(), 0);
    assert_eq!(net.status(1).handshakes, 1, "it is the same peer");
}

#[test]
fn being_told_the_same_again_changes_nothing() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    net.nodes[0].address = address(9);
    assert!(net.passes(0, 1));
    let before = (net.status(0), net.status(1));
    assert_eq!(net.configure(0, &spec(1, vec![peer(2, 1)])), 0);
    assert_eq!(net.configure(1, &spec(2, vec![peer(1, 0)])), 0);
    assert_eq!(
        (net.status(0), net.status(1)),
        before,
        "where it was heard last counts, not where it was said to be"
    );
    let mut moved = peer(1, 0);
    moved.endpoint = Some(address(5));
    moved.allowed.push("198.18.200.0/24".parse().unwrap());
    net.configure(1, &spec(2, vec![moved]));
    assert_eq!(net.status(1).endpoint, Some(address(5)), "unless something else is said");
    assert_eq!(net.status(1).allowed, [prefix(0), "198.18.200.0/24".parse().unwrap()]);
    assert!(net.nodes[1].device.peer_for([198, 18, 200, 1].into()).is_some());
}

#[test]
fn secrets_are_not_shown() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    let device = &net.nodes[0].device;
    let peer = device.peer_for(inner(1).into()).unwrap();
    let reservation = peer.reserve(net.now, 1).unwrap();
    let shown = format!("{device:?} {peer:?} {reservation:?} {:?}", net.status(0));
    let secret = private(1).to_base64();
    assert!(!shown.contains(&secret) && !shown.contains("[1, 1, 1"), "{shown}");
}
