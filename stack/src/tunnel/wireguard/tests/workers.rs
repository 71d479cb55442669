//! Workers that share devices, in threads.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::super::session::{OVERHEAD, padded};
use super::*;

const PACKET: &[u8] = &[0x45; 100];

/// Time that one thread moves on and all of them see.
struct Clock(AtomicU64);

impl Clock {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Acquire))
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.now(),
            wall: Duration::from_secs(1_800_000_000) + Duration::from_nanos(self.0.load(Acquire)),
        }
    }
}

/// Opens a data message. A session may have ended since the message was sealed, by the time of this test; nothing else
/// may be wrong.
fn open(now: Instant, from: usize, to: (usize, &Device), octets: &mut [u8]) -> bool {
    let receiver = u32::from_le_bytes(octets[4..8].try_into().unwrap());
    let opened = to.1.session(receiver).and_then(|(peer, session)| {
        let data = !session.open(now, octets)?.is_empty();
        let (source, local) = (address(from), address(to.0).ip());
        peer.received(
            now,
            &session,
            Received { source, local, octets: octets.len() as u64, packets: u64::from(data) },
        );
        Ok(())
    });
    assert!(matches!(opened, Ok(()) | Err(Refusal::KeyExpired | Refusal::UnknownIndex)), "{opened:?}");
    opened.is_ok()
}

/// Sends runs of packets from one device to the other, and counts those that arrive. Each takes some time.
fn send(clock: &Clock, from: &Device, to: &Device, rounds: usize) -> usize {
    let mut slot = vec![0; OVERHEAD + padded(PACKET.len(), MTU as usize)];
    let (mut arrived, mut round) = (0, 0);
    while round < rounds {
        let now = clock.now();
        let peer = from.peer_for(inner(1).into()).unwrap();
        let Some(reservation) = peer.reserve(now, 4) else {
            peer.stage(now, PACKET).unwrap();
            std::thread::yield_now();
            continue;
        };
        for counter in reservation.first_counter..reservation.first_counter + 4 {
            slot[16..16 + PACKET.len()].copy_from_slice(PACKET);
            reservation.session.seal(counter, &mut slot, PACKET.len()).unwrap();
            arrived += usize::from(open(now, 0, (1, to), &mut slot));
        }
        peer.sent(now, 4 * 144, 4);
        clock.0.fetch_add(50_000_000, Release);
        round += 1;
    }
    arrived
}

/// Carries the messages of handshakes between both as long as somebody sends.
fn carry(clock: &Clock, devices: [&Device; 2], done: &AtomicBool) {
    let mut underway = Vec::new();
    while !done.load(Acquire) {
        let moment = clock.moment();
        for (node, device) in devices.iter().enumerate() {
            let mut events = Vec::new();
            device.poll(moment, &mut events);
            underway.extend(events.into_iter().map(|event| (node, event)));
        }
        while let Some((from, event)) = underway.pop() {
            let Event::Transmit(mut sent) = event else { continue };
            let (to, mut events) = (1 - from, Vec::new());
            if Kind::of(&sent.octets) == Some(Kind::Data) {
                open(moment.now, from, (to, devices[to]), &mut sent.octets);
            } else {
                // Some are refused, as when both have begun at the same time.
                let _ =
                    devices[to].handle(moment, address(from), address(to).ip(), &sent.octets, &mut events);
            }
            underway.extend(events.into_iter().map(|event| (to, event)));
        }
        std::thread::yield_now();
    }
}

/// Tells both devices, again and again, what is so already, and of peers that come and go.
fn configure(clock: &Clock, a: &Device, b: &Device, done: &AtomicBool) -> u32 {
    let mut rounds = 0;
    while !done.load(Acquire) {
        rounds += 1;
        let other = peer(10 + (rounds % 50) as u8, 2);
        b.configure(clock.now(), &spec(2, vec![peer(1, 0), other]), MTU);
        a.configure(clock.now(), &spec(1, vec![peer(2, 1)]), MTU);
        std::thread::yield_now();
    }
    rounds
}

#[test]
fn workers_send_receive_and_renew_while_the_device_is_told_anew() {
    let mut net = Net::pair();
    assert!(net.passes(0, 1));
    let clock = Clock(AtomicU64::new(net.now.as_nanos()));
    let [a, b] = &net.nodes[..] else { panic!() };
    let (a, b) = (&a.device, &b.device);
    let (clock, done) = (&clock, &AtomicBool::new(false));
    let (arrived, configured) = std::thread::scope(|scope| {
        let workers = [0, 1].map(|_| scope.spawn(|| send(clock, a, b, 4_000)));
        scope.spawn(|| carry(clock, [a, b], done));
        let configured = scope.spawn(|| configure(clock, a, b, done));
        let arrived = workers.map(|worker| worker.join());
        done.store(true, Release);
        let arrived: usize = arrived.into_iter().map(|arrived| arrived.unwrap()).sum();
        (arrived, configured.join().unwrap())
    });
    assert!(arrived > 24_000, "{arrived} of 32,000 arrived");
    assert!(configured > 10 && a.status()[0].handshakes >= 3);
}
