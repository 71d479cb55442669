//! Who speaks when there is nothing to say, and for how long nobody is asked in vain.

use super::*;

#[test]
fn who_only_receives_says_so_after_ten_seconds() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    net.seconds(30);
    let before = net.sent.len();
    net.send(0, &packet(0, 1, b"anybody there?")).unwrap();
    net.seconds(60);
    let kinds: Vec<_> = net.sent[before..].iter().map(|(_, datagram)| datagram.octets.len()).collect();
    assert_eq!(kinds, [16 + 48 + 16, 32], "a packet, and a keepalive in return");
    assert_eq!(net.count(0, Kind::Initiation), 1, "so there was no doubt about the session");
}

/// A bug that others had: two idle peers keeping each other awake.
#[test]
fn two_idle_peers_let_each_other_sleep() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1) && net.passes(1, 0) && net.passes(0, 1));
    net.seconds(30);
    let before = net.sent.len();
    net.seconds(3_600);
    assert_eq!(net.sent.len(), before);
}

#[test]
fn who_sends_all_the_time_is_answered_now_and_then_only() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    let before = net.count(1, Kind::Data);
    for _ in 0..100 {
        net.send(0, &packet(0, 1, b"data")).unwrap();
        net.seconds(1);
    }
    let keepalives = net.count(1, Kind::Data) - before;
    assert!((9..=10).contains(&keepalives), "{keepalives} in 100 seconds");
}

#[test]
fn a_peer_that_wants_to_stay_reachable_speaks_every_interval() {
    let mut quiet = peer(2, 1);
    quiet.keepalive = 25;
    let mut net = Net::new([spec(1, vec![quiet]), spec(2, vec![peer(1, 0)])]);
    net.seconds(1);
    assert_eq!(net.status(0).handshakes, 1, "it begins by itself");
    let before = net.count(0, Kind::Data);
    net.seconds(100);
    assert_eq!(net.count(0, Kind::Data) - before, 4);
    net.seconds(1_000);
    assert!(net.passes(1, 0), "and it can be reached");
    assert_eq!(net.count(1, Kind::Initiation), 0);
    net.configure(0, &spec(1, vec![peer(2, 1)]));
    net.seconds(30);
    let before = net.sent.len();
    net.seconds(1_000);
    assert_eq!(net.sent.len(), before, "until it is told not to any more");
}

#[test]
fn a_peer_that_could_not_be_reached_for_long_is_found_if_it_is_to_stay_reachable() {
    let mut quiet = peer(2, 1);
    quiet.keepalive = 25;
    let mut net = Net::new([spec(1, vec![quiet]), spec(2, vec![peer(1, 0)])]);
    net.fate(|_| Some(Fate::Lost));
    net.seconds(7_200);
    net.calm();
    net.seconds(60);
    assert!(net.passes(1, 0));
}

#[test]
fn a_peer_that_does_not_answer_is_given_up_after_ninety_seconds() {
    let mut net = Net::pair();
    net.fate(|_| Some(Fate::Lost));
    net.send(0, &packet(0, 1, b"one")).unwrap();
    net.send(0, &packet(0, 1, b"two")).unwrap();
    net.seconds(90);
    assert_eq!(net.nodes[0].refusals, []);
    net.seconds(10);
    assert_eq!(net.nodes[0].refusals, [Refusal::Unanswered; 2]);
    assert_eq!(net.count(0, Kind::Initiation), 19);
    let times: Vec<_> = net.sent.iter().map(|(at, _)| *at).collect();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    let (least, most) = (Duration::from_secs(5), Duration::from_millis(5_333));
    assert!(pauses.iter().all(|pause| (least..=most).contains(pause)), "{pauses:?}");
    assert!(pauses.iter().any(|pause| *pause != pauses[0]), "with jitter");
    net.seconds(3_600);
    assert_eq!(net.count(0, Kind::Initiation), 19, "and nobody asks any more");
    net.calm();
    assert!(net.passes(0, 1), "until there is something to send");
}

#[test]
fn packets_do_not_hurry_a_handshake() {
    let mut net = Net::pair();
    net.fate(|_| Some(Fate::Lost));
    for _ in 0..600 {
        net.send(0, &packet(0, 1, b"now!")).unwrap();
        net.run(Duration::from_millis(100));
    }
    assert!((11..=12).contains(&net.count(0, Kind::Initiation)));
}

#[test]
fn a_peer_without_an_endpoint_waits_to_be_spoken_to() {
    let mut unknown = peer(1, 0);
    unknown.endpoint = None;
    let mut net = Net::new([spec(1, vec![peer(2, 1)]), spec(2, vec![unknown])]);
    assert_eq!(net.send(1, &packet(1, 0, b"where?")), Err(Refusal::NoEndpoint));
    assert!(net.passes(0, 1) && net.passes(1, 0));
    assert_eq!(net.send(1, &packet_between(inner(1), inner(7), b"")), Err(Refusal::NoPeer));
}
