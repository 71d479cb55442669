//! Rates of ports: what waits, for how long, in which order, and what becomes of it when the picture changes.

use proptest::prelude::*;

use super::*;
use crate::config::{BandwidthSpec, MirrorSpec, PortVlans, RateSpec, VlanSet};
use crate::packet::{Gso, GsoKind, PartialChecksum};
use crate::testing::{mac, tcp_frame};

/// A thousand octets a millisecond, 10,000 at once, and 25,000 wait.
const RATE: RateSpec =
    RateSpec { bits_per_second: 8_000_000, burst_bits: 80_000, queue: Duration::from_millis(25) };

const MILLISECOND: Duration = Duration::from_millis(1);

fn shaped(port: usize, bandwidth: BandwidthSpec) -> FabricSpec {
    let mut spec = testing::two_networks();
    spec.ports[port].bandwidth = bandwidth;
    spec
}

fn sender() -> FabricSpec {
    shaped(0, BandwidthSpec { egress: Some(RATE), ingress: None })
}

fn receiver() -> FabricSpec {
    shaped(1, BandwidthSpec { ingress: Some(RATE), egress: None })
}

/// A frame of a thousand octets from a1 to a2 with a number in it.
fn numbered(number: usize) -> Vec<u8> {
    let mut frame = tcp_frame(1000 - 54);
    frame[100..102].copy_from_slice(&(number as u16).to_be_bytes());
    frame
}

fn number(packet: &Packet) -> usize {
    usize::from(u16::from_be_bytes([packet.frame()[100], packet.frame()[101]]))
}

fn numbers(sent: &[Sent]) -> Vec<usize> {
    sent.iter().map(|(_, packet)| number(packet)).collect()
}

/// Sends so many numbered frames at one moment; those that got through at once.
fn send(fabric: &mut Fabric, range: std::ops::Range<usize>) -> Vec<usize> {
    range.flat_map(|number| numbers(&fabric.receive_frame("a1", &numbered(number)))).collect()
}

/// Goes through time by what the stack says of when it has something to do.
fn run_until(fabric: &mut Fabric, end: Instant) -> Vec<(Duration, Sent)> {
    let (start, mut all) = (fabric.now, Vec::new());
    while let Some(due) = fabric.stack.poll_at().filter(|due| *due <= end) {
        let wait = due.since(fabric.now);
        let sent = fabric.advance(wait);
        all.extend(sent.into_iter().map(|sent| (fabric.now.since(start), sent)));
    }
    fabric.now = end;
    all
}

fn both() -> [(FabricSpec, &'static str, DropReason); 2] {
    [(sender(), "a1", DropReason::ShaperEgressFull), (receiver(), "a2", DropReason::ShaperIngressFull)]
}

#[test]
fn a_burst_goes_at_once_the_rest_at_its_time_and_in_order() {
    for (spec, port, reason) in both() {
        let mut fabric = Fabric::new(&spec);
        assert_eq!(send(&mut fabric, 0..100), (0..10).collect::<Vec<_>>());
        let end = fabric.now + Duration::from_secs(1);
        let later = run_until(&mut fabric, end);
        let told: Vec<_> = later.iter().map(|(at, (_, packet))| (*at, number(packet))).collect();
        let expected: Vec<_> = (0..26).map(|n| (MILLISECOND * (n as u32 + 1), n + 10)).collect();
        assert_eq!(told, expected, "{port}");
        assert_eq!(fabric.dropped(port, reason), 100 - 36);
        assert_eq!(fabric.counted("packets_shaped"), 26);
        assert_eq!(fabric.stack.poll_at(), None);
        assert_eq!(fabric.stack.state.waiting.octets(), 0);
        assert_eq!(later[0].1.1.frame(), numbered(10));
    }
}

#[test]
fn the_other_direction_and_other_ports_are_free() {
    let mut fabric = Fabric::new(&shaped(1, BandwidthSpec { ingress: None, egress: Some(RATE) }));
    assert_eq!(send(&mut fabric, 0..100).len(), 100);
    let mut fabric = Fabric::new(&shaped(0, BandwidthSpec { ingress: Some(RATE), egress: None }));
    assert_eq!(send(&mut fabric, 0..100).len(), 100);
}

#[test]
fn a_frame_never_overtakes_those_that_wait_though_they_are_overdue() {
    for (spec, port, _) in both() {
        let mut fabric = Fabric::new(&spec);
        assert_eq!(send(&mut fabric, 0..15).len(), 10);
        // The worker is late: all of them could go, but it has not looked.
        fabric.now = fabric.now + Duration::from_millis(100);
        assert_eq!(send(&mut fabric, 15..17), Vec::<usize>::new(), "{port}");
        assert_eq!(numbers(&fabric.advance(Duration::ZERO)), [10, 11, 12, 13, 14, 15, 16]);
    }
}

#[test]
fn a_super_packet_goes_whole_and_counts_as_the_frames_that_it_stands_for() {
    for (spec, port, reason) in both() {
        let mut fabric = Fabric::new(&spec);
        let super_packet = || {
            let mut packet = Packet::from_frame(&tcp_frame(60_000));
            packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
            packet.offload.gso =
                Some(Gso { kind: GsoKind::TcpV4, size: 1000, header_length: 54, ecn: false });
            packet
        };
        assert_eq!(fabric.receive("a1", super_packet()).len(), 1, "the bucket is full");
        // 60 frames of 1,054 octets take 63,240 microseconds; ten milliseconds of these were there.
        fabric.now = fabric.now + Duration::from_micros(63_240 - 10_000 - 25_000 - 1);
        assert!(fabric.receive("a1", super_packet()).is_empty());
        assert_eq!(fabric.dropped(port, reason), 1);
        fabric.now = fabric.now + Duration::from_micros(1);
        assert!(fabric.receive("a1", super_packet()).is_empty());
        let due = fabric.now + Duration::from_millis(25 + 10);
        assert_eq!(fabric.stack.poll_at(), Some(due));
        let wait = due.since(fabric.now);
        let sent = fabric.advance(wait);
        assert_eq!(sent[0].1.frame(), super_packet().frame());
        assert_eq!(sent[0].1.offload, super_packet().offload);
    }
}

#[test]
fn a_device_that_lies_about_headers_gets_no_more_for_it() {
    for (spec, port, _) in both() {
        let mut fabric = Fabric::new(&spec);
        let mut packet = Packet::from_frame(&tcp_frame(9_000));
        packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
        packet.offload.gso = Some(Gso { kind: GsoKind::TcpV4, size: 90, header_length: 0, ecn: false });
        assert_eq!(fabric.receive("a1", packet).len(), 1);
        // A hundred frames of 144 octets, of which ten thousand are the burst.
        assert_eq!(send(&mut fabric, 0..1).len(), 0);
        let due = Duration::from_micros(14_400 - 10_000 + 1000);
        assert_eq!(fabric.stack.poll_at(), Some(fabric.now + due), "{port}");
    }
}

#[test]
fn what_waits_in_large_buffers_leaves_the_batch_its_own() {
    for (spec, port, _) in both() {
        let mut fabric = Fabric::new(&spec);
        fabric.receive_frame("a1", &numbered(0));
        let id = fabric.stack.config().port_by_name("a1").unwrap().id;
        let (mut batch, mut output) = (Batch::new(), Output::new());
        for (length, count) in [(1400, 30), (60_000, 3)] {
            for _ in 0..count {
                let mut packet = Packet::from_frame(&tcp_frame(length));
                packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
                let gso = Gso { kind: GsoKind::TcpV4, size: 1400, header_length: 54, ecn: false };
                packet.offload.gso = (length > 1400).then_some(gso);
                *batch.vacant() = packet;
                batch.commit(1);
            }
        }
        fabric.stack.process(fabric.now, id, &mut batch, &mut output);
        assert!(fabric.stack.state.waiting.octets() > 0, "{port}");
        assert!(batch.packets().iter().all(|packet| packet.size() == Some(2)), "{port}");
    }
}

#[test]
fn a_flooded_frame_waits_for_one_port_and_reaches_the_others_at_once() {
    let mut fabric = Fabric::new(&receiver());
    let broadcast = addressed(numbered(0), MacAddr::BROADCAST, mac("a1"));
    for _ in 0..10 {
        assert_eq!(ports(&fabric.receive_frame("a1", &broadcast)), ["a2", "a3"]);
    }
    assert_eq!(ports(&fabric.receive_frame("a1", &broadcast)), ["a3"]);
    let sent = fabric.advance(MILLISECOND);
    assert_eq!(ports(&sent), ["a2"]);
    assert_eq!(sent[0].1.frame(), broadcast);
}

#[test]
fn what_the_gateway_says_waits_as_well() {
    let mut fabric = Fabric::new(&shaped(0, BandwidthSpec { ingress: Some(RATE), egress: None }));
    fabric.introduce("a1", ["198.18.1.1", "2001:db8:1::1"]);
    let ping = fabric.frame("a1", |spec| {
        spec.destination = "198.18.1.1".parse().unwrap();
        spec.length = Some(1000 - 14);
    });
    let answers = (0..20).filter(|_| !fabric.receive_frame("a1", &ping).is_empty()).count();
    assert_eq!(answers, 9, "the answer about the MAC address was first");
    let end = fabric.now + Duration::from_secs(1);
    assert_eq!(run_until(&mut fabric, end).len(), 11);
}

#[test]
fn a_tag_counts_and_comes_with_the_frame_that_waited() {
    let mut spec = receiver();
    let trunk = PortVlans::Trunk { native: None, allowed: Box::new([7u16].into_iter().collect::<VlanSet>()) };
    spec.ports[0].vlans = PortVlans::Access(7);
    spec.ports[1].vlans = trunk;
    spec.ports[1].addresses.clear();
    let mut fabric = Fabric::new(&spec);
    let frame = addressed(numbered(0), mac("a2"), mac("a1"));
    fabric.receive_frame("a2", &frame);
    let sent: Vec<_> = (0..11).flat_map(|_| fabric.receive_frame("a1", &frame)).collect();
    assert!(sent.len() < 11 && sent.iter().all(|(_, packet)| packet.frame().len() == 1004), "{}", sent.len());
    let due = fabric.stack.poll_at().unwrap();
    // Nine and a part fit the burst: what is short of ten and eleven takes its time.
    let waited = fabric.advance(due.since(fabric.now));
    assert_eq!(waited[0].1.frame()[12..16], [0x81, 0, 0, 7]);
}

#[test]
fn both_rates_hold_for_who_sends_to_a_port_of_a_lower_one() {
    let mut spec = sender();
    let half = RateSpec { bits_per_second: 4_000_000, burst_bits: 12_000, queue: Duration::from_millis(100) };
    spec.ports[1].bandwidth.ingress = Some(half);
    let mut fabric = Fabric::new(&spec);
    let start = fabric.now;
    let (mut got, mut last) = (0, 0);
    for step in 0..1000 {
        fabric.now = start + MILLISECOND * step;
        let first = send(&mut fabric, step as usize..step as usize + 1);
        let end = start + MILLISECOND * (step + 1);
        let rest: Vec<_> =
            run_until(&mut fabric, end).iter().map(|(_, (_, packet))| number(packet)).collect();
        for number in first.into_iter().chain(rest) {
            assert!(number >= last, "{number} after {last}");
            (got, last) = (got + 1, number);
        }
    }
    assert!((495..=502).contains(&got), "{got}");
}

#[test]
fn a_mirror_gets_its_copies_before_frames_wait_and_has_a_rate_of_its_own() {
    let mut spec = sender();
    spec.ports[0].mirror = Some(MirrorSpec { to: "a3".into(), received: true, sent: false });
    let mut fabric = Fabric::new(&spec);
    let sent: Vec<_> = (0..30).flat_map(|n| fabric.receive_frame("a1", &numbered(n))).collect();
    assert_eq!(sent.iter().filter(|(port, _)| port == "a3").count(), 30);
    assert_eq!(sent.iter().filter(|(port, _)| port == "a2").count(), 10);
    let end = fabric.now + Duration::from_secs(1);
    assert!(run_until(&mut fabric, end).iter().all(|(_, (port, _))| port == "a2"), "no second copy");
    spec.ports[0].bandwidth.egress = None;
    spec.ports[2].bandwidth.ingress = Some(RATE);
    let mut fabric = Fabric::new(&spec);
    let sent: Vec<_> = (0..30).flat_map(|n| fabric.receive_frame("a1", &numbered(n))).collect();
    assert_eq!(sent.iter().filter(|(port, _)| port == "a3").count(), 10);
    assert_eq!(sent.iter().filter(|(port, _)| port == "a2").count(), 30);
}

#[test]
fn a_rate_that_stays_gives_no_fresh_burst_when_the_picture_changes() {
    for (spec, port, _) in both() {
        let mut fabric = Fabric::new(&spec);
        assert_eq!(send(&mut fabric, 0..12).len(), 10);
        let mut other = spec.clone();
        other.ports[2].mtu = 1400;
        fabric.reconfigure(&other);
        assert_eq!(send(&mut fabric, 12..13).len(), 0, "{port}");
        assert_eq!(numbers(&fabric.advance(MILLISECOND)), [10]);
        let end = fabric.now + Duration::from_secs(1);
        assert_eq!(run_until(&mut fabric, end).len(), 2);
    }
}

#[test]
fn another_rate_holds_at_once_and_nothing_that_waits_is_lost() {
    let change = |spec: &FabricSpec, change: fn(RateSpec) -> Option<RateSpec>| {
        let mut spec = spec.clone();
        for port in &mut spec.ports {
            port.bandwidth.ingress = port.bandwidth.ingress.and_then(change);
            port.bandwidth.egress = port.bandwidth.egress.and_then(change);
        }
        spec
    };
    for (spec, port, _) in both() {
        let faster = change(&spec, |rate| Some(RateSpec { bits_per_second: 80_000_000, ..rate }));
        let mut fabric = Fabric::new(&spec);
        assert_eq!(send(&mut fabric, 0..36).len(), 10);
        fabric.reconfigure(&faster);
        let end = fabric.now + Duration::from_micros(1600);
        let told: Vec<_> =
            run_until(&mut fabric, end).iter().map(|(_, (_, packet))| number(packet)).collect();
        assert_eq!(told, (10..36).collect::<Vec<_>>(), "{port}: the burst, and 16 at ten a millisecond");

        let slower =
            change(&spec, |rate| Some(RateSpec { bits_per_second: 80_000, burst_bits: 12_000, ..rate }));
        let mut fabric = Fabric::new(&spec);
        assert_eq!(send(&mut fabric, 0..36).len(), 10);
        fabric.reconfigure(&slower);
        let end = fabric.now + Duration::from_millis(26);
        assert_eq!(run_until(&mut fabric, end).len(), 26, "{port}: no later than they were to go");
        let end = fabric.now + Duration::from_secs(1);
        assert!(send(&mut fabric, 36..136).len() <= 1, "{port}");
        assert!(run_until(&mut fabric, end).len() <= 2, "{port}: ten frames a second");

        let mut fabric = Fabric::new(&spec);
        assert_eq!(send(&mut fabric, 0..36).len(), 10);
        fabric.reconfigure(&change(&spec, |_| None));
        // What comes next does not overtake what waits.
        assert_eq!(send(&mut fabric, 36..38), (10..38).collect::<Vec<_>>(), "{port}");
        assert_eq!(fabric.stack.poll_at(), None);
    }
}

#[test]
fn what_waits_for_a_port_that_goes_is_counted_and_let_go() {
    for (spec, port, _) in both() {
        let mut fabric = Fabric::new(&spec);
        assert_eq!(send(&mut fabric, 0..15).len(), 10);
        let before = fabric.stack.config().clone();
        let mut fewer = spec.clone();
        fewer.ports.retain(|other| other.name != port);
        fabric.reconfigure(&fewer);
        let gone = before.port_by_name(port).unwrap();
        assert_eq!(gone.counters(0).dropped(DropReason::PortDown), 5);
        assert_eq!(fabric.stack.state.waiting.octets(), 0);
        assert!(fabric.stack.poll_at().is_none_or(|due| due > fabric.now + Duration::from_secs(60)));
        // Another port of the same name begins anew.
        fabric.reconfigure(&spec);
        assert_eq!(send(&mut fabric, 0..15).len(), 10);
    }
}

#[test]
fn workers_share_a_ports_rate() {
    for (spec, port, _) in both() {
        let config = Arc::new(Config::build(&spec, None, 2).unwrap());
        let now = Instant::from_nanos(1_000_000_000);
        let mut fabrics = [0, 1].map(|worker| Fabric { now, stack: Stack::new(worker, config.clone()) });
        fabrics[0].stack.state.timers.clear();
        let (mut got, end) = (0, now + Duration::from_secs(1));
        for step in 0..1000 {
            for fabric in &mut fabrics {
                fabric.now = now + MILLISECOND * step;
                got += send(fabric, 0..2).len()
                    + run_until(fabric, end.min(now + MILLISECOND * (step + 1))).len();
            }
        }
        assert!((990..=1010).contains(&got), "{port}: {got}");
    }
}

#[test]
fn what_waits_has_a_bound_in_octets() {
    let rate =
        RateSpec { bits_per_second: 1_000_000_000_000, burst_bits: 12_000, queue: Duration::from_secs(1) };
    let mut fabric = Fabric::new(&shaped(0, BandwidthSpec { egress: Some(rate), ingress: None }));
    let id = fabric.stack.config().port_by_name("a1").unwrap().id;
    let (mut batch, mut output) = (Batch::new(), Output::new());
    for _ in 0..300 {
        batch.clear();
        for _ in 0..BATCH {
            batch.vacant().set_frame(&numbered(0));
            batch.commit(1);
        }
        fabric.stack.process(fabric.now, id, &mut batch, &mut output);
        output.clear();
    }
    let most = 64 * 1024 * 1024 / 2;
    let held = fabric.stack.state.waiting.octets();
    assert!(held <= most && held > most - 4096, "{held}");
    assert!(fabric.dropped("a1", DropReason::ShaperBuffersExhausted) > 1000);
}

#[test]
fn a_trace_tells_of_the_rate_and_takes_nothing_from_it() {
    for (spec, port, reason) in both() {
        let mut fabric = Fabric::new(&spec);
        let id = fabric.stack.config().port_by_name("a1").unwrap().id;
        let trace = |fabric: &mut Fabric| {
            let mut packet = Packet::from_frame(&numbered(0));
            let trace = fabric.stack.trace(fabric.now, id, &mut packet).unwrap();
            let said = trace.steps.iter().find(|step| step.stage == "shape").unwrap().message.clone();
            (said, trace.verdict, trace.outputs.len())
        };
        let verb = if port == "a1" { "sends" } else { "gets" };
        for _ in 0..20 {
            let (said, verdict, outputs) = trace(&mut fabric);
            assert_eq!(said, format!("port {port} {verb} it at once: within 8 Mbit/s"));
            assert!(matches!(verdict, Verdict::Forwarded { .. }) && outputs == 1);
        }
        send(&mut fabric, 0..12);
        let (said, verdict, _) = trace(&mut fabric);
        assert_eq!(said, format!("port {port} {verb} it in 3ms: above 8 Mbit/s"));
        assert!(matches!(verdict, Verdict::Forwarded { .. }));
        send(&mut fabric, 12..100);
        let (said, verdict, outputs) = trace(&mut fabric);
        assert_eq!(said, format!("port {port} has too much waiting for 8 Mbit/s"));
        assert_eq!((verdict, outputs), (Verdict::Dropped(reason), 0));
    }
}

#[test]
fn who_follows_a_frame_sees_it_wait_and_go_on() {
    let mut fabric = Fabric::new(&sender());
    fabric.stack.watch([(1, crate::trace::LiveFilter::default())]);
    fabric.stack.allow_live(100);
    send(&mut fabric, 0..11);
    fabric.advance(MILLISECOND);
    let (traces, _) = fabric.stack.take_live();
    let verdicts: Vec<_> = traces.iter().map(|seen| seen.trace.verdict).collect();
    assert_eq!(verdicts.len(), 12);
    assert_eq!(verdicts[10], Verdict::Queued);
    assert!(matches!(verdicts[11], Verdict::Forwarded { .. }));
}

/// What happens to a fabric.
#[derive(Debug, Clone)]
enum Event {
    /// So many frames come.
    Send(usize),
    /// So many microseconds pass; the worker looks when it is told to, or only at the end.
    Pass(u64, bool),
    /// Other rates, in kilobits a second, for what a1 sends and a2 gets; 0: none.
    Change(u64, u64),
}

fn event() -> impl Strategy<Value = Event> {
    let rate = || prop_oneof![Just(0), 100u64..10_000_000];
    prop_oneof![
        4 => (1usize..60).prop_map(Event::Send),
        4 => (0u64..30_000, any::<bool>()).prop_map(|(time, punctual)| Event::Pass(time, punctual)),
        1 => (rate(), rate()).prop_map(|(egress, ingress)| Event::Change(egress, ingress)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn frames_keep_their_order_and_each_arrives_or_is_counted(
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let mut spec = sender();
        let mut fabric = Fabric::new(&spec);
        let (mut offered, mut got) = (0, Vec::new());
        let numbered = |sent: Vec<(Duration, Sent)>| sent.into_iter().map(|(_, (_, packet))| number(&packet));
        for event in events {
            match event {
                Event::Send(count) => {
                    got.extend(send(&mut fabric, offered..offered + count));
                    offered += count;
                }
                Event::Pass(time, true) => {
                    let end = fabric.now + Duration::from_micros(time);
                    got.extend(numbered(run_until(&mut fabric, end)));
                }
                Event::Pass(time, false) => fabric.now = fabric.now + Duration::from_micros(time),
                Event::Change(egress, ingress) => {
                    let rate = |kilobits: u64| {
                        (kilobits > 0).then_some(RateSpec { bits_per_second: kilobits * 1000, ..RATE })
                    };
                    spec.ports[0].bandwidth.egress = rate(egress);
                    spec.ports[1].bandwidth.ingress = rate(ingress);
                    fabric.reconfigure(&spec);
                }
            }
        }
        let end = fabric.now + Duration::from_secs(10);
        got.extend(numbered(run_until(&mut fabric, end)));
        prop_assert!(got.is_sorted(), "{:?}", got);
        let lost: u64 = ["a1", "a2"].iter().flat_map(|port| DropReason::ALL.iter().map(|reason| {
            fabric.dropped(port, *reason)
        })).sum();
        prop_assert_eq!(got.len() + lost as usize, offered);
        prop_assert_eq!(fabric.stack.state.waiting.octets(), 0);
    }
}
