//! Clocks that are wrong, and step.

use super::*;

const YEAR: Duration = Duration::from_secs(31_557_600);

/// Whether a new handshake of node 0 succeeds now, with the clock that its wall has.
fn renews(net: &mut Net) -> bool {
    // Sessions are over by then, and keys wiped.
    net.seconds(700);
    let before = net.status(0).handshakes;
    net.passes(0, 1) && net.status(0).handshakes > before
}

#[test]
fn a_clock_that_steps_back_does_not_shut_its_own_node_out() {
    let mut net = Net::pair();
    assert!(renews(&mut net));
    net.nodes[0].wall = |time| time - 10 * YEAR;
    assert!(renews(&mut net) && renews(&mut net));
    net.nodes[0].wall = |_| Duration::ZERO;
    assert!(renews(&mut net) && renews(&mut net));
    net.nodes[0].wall = |time| time;
    assert!(renews(&mut net));
    assert_eq!(net.nodes[1].refusals, []);
}

/// A bug that others had: a TAI64N from the future that burns a key (CVE-2021-46873).
#[test]
fn a_node_whose_clock_was_in_the_future_once_is_let_in_after_it_is_set_right() {
    let mut net = Net::pair();
    net.nodes[0].wall = |time| time + 70 * YEAR;
    assert!(renews(&mut net));
    let recorded = net.sent[0].1.clone();
    // It starts anew, and knows nothing of the timestamps that it has sent.
    net.nodes[0].device = Device::new(net.now, &spec(1, vec![peer(2, 1)]), MTU);
    net.nodes[0].wall = |time| time;
    assert!(renews(&mut net) && renews(&mut net));
    assert_eq!(net.nodes[1].refusals, []);
    net.carry(recorded);
    net.seconds(1);
    assert_eq!(net.nodes[1].refusals, [Refusal::HandshakeReplayed], "what it sent then is no use to anybody");
}

#[test]
fn a_node_whose_own_clock_is_wrong_lets_others_in() {
    let mut net = Net::pair();
    net.nodes[1].wall = |_| Duration::from_secs(1);
    assert!(renews(&mut net) && renews(&mut net));
    net.nodes[1].wall = |time| time + 70 * YEAR;
    assert!(renews(&mut net) && renews(&mut net));
    net.nodes[1].wall = |time| time;
    assert!(renews(&mut net) && renews(&mut net));
}
