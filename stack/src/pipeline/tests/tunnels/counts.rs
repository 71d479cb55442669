//! What counts as sent: frames and packets of others, once their datagrams are on their way.

use super::*;

/// What the ports of a tunnel's far ends have sent by themselves.
fn sent_by(node: &Node, port: &str) -> u64 {
    let port = node.fabric.stack.config().port_by_name(port).unwrap().clone();
    port.all_counters().iter().map(|counters| counters.tx_packets.get()).sum()
}

#[test]
fn a_packet_that_waits_for_a_session_counts_when_it_goes() {
    let (mut a, mut b) = secured();
    let ping = a.fabric.echo("a1", "198.18.20.10");
    a.receive("a1", Packet::from_frame(&ping));
    let initiation = a.poll();
    assert_eq!(initiation[0].0.load, Load::default(), "nobody's but the tunnel's");
    let (_, answer) = b.hear(&a, &initiation, None);
    assert_eq!(answer[0].0.load, Load::default());
    let (_, sent) = a.hear(&b, &answer, None);
    assert_eq!(sent[0].0.load, Load { frames: 1, octets: ping.len() as u64 });
    assert_eq!(sent_by(&a, "far"), 0, "whoever sends it counts it");
}

#[test]
fn a_run_carries_all_frames_of_a_super_packet() {
    let (mut a, _) = stretched(vxlan(42, &[B]), vxlan(42, &[A]));
    let (_, sent) = a.receive("a1", super_packet(50_000, 1300));
    assert_eq!(sent[0].0.load, Load { frames: 39, octets: 50_000 + 39 * 54 });
    assert_eq!(sent_by(&a, &format!("far/{B}")), 0);
}

#[test]
fn what_a_router_carries_counts_as_sent_when_it_is() {
    let mut a = carried();
    let frame = frame_to_b1(&a);
    let (_, sent) = a.receive("a1", Packet::from_frame(&frame));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent_by(&a, "over/198.18.9.2"), 1);
}
