//! Two WireGuard devices in virtual time, with a network between them that does what it is told; checks after each
//! step what must always hold.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use weft_stack::Prefix;
use weft_stack::config::{WireGuardPeer, WireGuardSpec};
use weft_stack::time::Instant;
use weft_stack::tunnel::wireguard::wire::{DataHeader, HEADER_LENGTH};
use weft_stack::tunnel::wireguard::{
    Device, Event, Inner, Kind, Moment, OVERHEAD, Peer, PresharedKey, PrivateKey, PublicKey, Received,
    Refusal, padded,
};

/// Octets of the largest packet inside.
const MTU: usize = 1420;

/// Packets that may wait for one peer.
const STAGED: usize = 128;

/// Datagrams that the network holds; the oldest is lost then.
const UNDERWAY: usize = 256;

/// What is in every packet, and in no datagram.
const MARK: &[u8; 12] = b"plain, plain";

const HEADER: usize = 20;
const SHORTEST: usize = HEADER + MARK.len() + 4;

/// The keys: two for each end.
static KEYS: LazyLock<[[(PrivateKey, PublicKey); 2]; 2]> = LazyLock::new(|| {
    let key = |seed: u8| PrivateKey::new([seed; 32]);
    let pair = |seed: u8| (key(seed), key(seed).public_key());
    [[pair(1), pair(2)], [pair(3), pair(4)]]
});

struct End {
    device: Device,
    /// Packets that wait for a session, as they were counted here.
    waiting: usize,
}

/// A datagram on its way.
#[derive(Clone)]
struct Letter {
    /// The end that sent it.
    from: usize,
    octets: Vec<u8>,
    /// As the end made it.
    made: Vec<u8>,
}

/// The devices and what is between them.
pub struct Pair {
    now: Instant,
    ends: [End; 2],
    underway: Vec<Letter>,
    /// Of the next packet.
    number: u32,
    /// Packets that were sent and did not come out: by which end, and octets.
    inside: BTreeMap<u32, (usize, usize)>,
}

impl Pair {
    /// Two ends that know each other and have not spoken.
    pub fn new() -> Pair {
        let now = Instant::from_nanos(1_000_000_000_000);
        let end = |end| End { device: Device::new(now, &spec(end, 0), MTU as u32), waiting: 0 };
        Pair { now, ends: [end(0), end(1)], underway: Vec::new(), number: 0, inside: BTreeMap::new() }
    }

    fn moment(&self) -> Moment {
        let wall = Duration::from_secs(1_800_000_000) + Duration::from_nanos(self.now.as_nanos());
        Moment { now: self.now, wall }
    }

    /// What holds between two steps.
    pub fn check(&self) {
        for end in &self.ends {
            let waiting: usize = end.device.status().iter().map(|peer| peer.waiting).sum();
            assert!(waiting <= STAGED, "{waiting} packets wait");
            assert_eq!(waiting, end.waiting, "packets that wait are sent, told of, or still there");
        }
    }

    /// An end sends packets of one length into its tunnel, in one run.
    pub fn send(&mut self, end: usize, count: u8, length: u16) {
        let end = end % 2;
        let length = SHORTEST + usize::from(length) % (MTU - SHORTEST + 1);
        let numbers = self.number..self.number + u32::from(count);
        self.number = numbers.end;
        let packets: Vec<_> = numbers.map(|number| (number, packet(end, number, length))).collect();
        let sent = self.submit(end, packets.iter().map(|(_, packet)| &packet[..]));
        self.inside.extend(packets.iter().take(sent).map(|(number, _)| (*number, (end, length))));
        self.poll();
    }

    /// An end sends a packet whose source is not its own: it is not to come out.
    pub fn send_as_somebody_else(&mut self, end: usize) {
        let mut packet = packet(end % 2, u32::MAX, SHORTEST);
        packet[12..16].copy_from_slice(&[203, 0, 113, 1]);
        self.submit(end % 2, [&packet[..]]);
        self.poll();
    }

    /// Seals packets, or lets them wait. Says how many were taken.
    fn submit<'a>(&mut self, end: usize, packets: impl IntoIterator<Item = &'a [u8]>) -> usize {
        let packets: Vec<_> = packets.into_iter().collect();
        let device = &self.ends[end].device;
        let Some(peer) = device.peer_for(inner(1 - end).into()) else { return 0 };
        let Some(reservation) = peer.reserve(self.now, packets.len() as u32) else {
            let staged = packets.iter().map_while(|packet| peer.stage(self.now, packet).ok());
            let excess: Vec<usize> = staged.collect();
            self.ends[end].waiting += excess.len();
            self.ends[end].waiting -= excess.iter().sum::<usize>();
            return excess.len();
        };
        assert!(device.status().iter().any(|peer| peer.remote_key.is_some()), "sent without a session");
        for (counter, packet) in (reservation.first_counter..).zip(&packets) {
            let mut slot = vec![0; OVERHEAD + padded(packet.len(), MTU)];
            slot[HEADER_LENGTH..][..packet.len()].copy_from_slice(packet);
            let sealed = reservation.session.seal(counter, &mut slot, packet.len());
            assert_eq!(sealed, Ok(()), "a slot of the right size");
            peer.sent(self.now, slot.len() as u64, 1);
            post(&mut self.underway, end, slot);
        }
        packets.len()
    }

    fn take(&mut self, which: usize) -> Option<Letter> {
        let position = which.checked_rem(self.underway.len())?;
        Some(self.underway.remove(position))
    }

    fn letter(&mut self, which: usize) -> Option<&mut Letter> {
        let position = which.checked_rem(self.underway.len())?;
        self.underway.get_mut(position)
    }

    /// A datagram arrives, perhaps from elsewhere than before.
    pub fn deliver(&mut self, which: usize, elsewhere: Option<u16>) {
        if let Some(letter) = self.take(which) {
            let usual = address(letter.from);
            self.arrive(letter, elsewhere.map_or(usual, |port| SocketAddr::new(usual.ip(), port.max(1))));
            self.poll();
        }
    }

    /// A datagram arrives, and is still on its way.
    pub fn double(&mut self, which: usize) {
        if let Some(letter) = self.letter(which).cloned() {
            let source = address(letter.from);
            self.arrive(letter, source);
            self.poll();
        }
    }

    /// A datagram is lost.
    pub fn lose(&mut self, which: usize) {
        self.take(which);
    }

    /// Some bits of an octet of a datagram are not what they were.
    pub fn bend(&mut self, which: usize, at: u16, bits: u8) {
        let Some(letter) = self.letter(which).filter(|letter| !letter.octets.is_empty()) else { return };
        let at = usize::from(at) % letter.octets.len();
        letter.octets[at] ^= bits.max(1);
    }

    /// A datagram loses its end.
    pub fn cut(&mut self, which: usize, length: u16) {
        if let Some(letter) = self.letter(which).filter(|letter| usize::from(length) < letter.octets.len()) {
            letter.octets.truncate(length.into());
        }
    }

    /// Somebody else sends something to an end.
    pub fn forge(&mut self, to: usize, octets: &[u8]) {
        let letter = Letter { from: 1 - to % 2, octets: octets.into(), made: Vec::new() };
        self.arrive(letter, SocketAddr::from(([192, 0, 2, 200], 4444)));
        self.poll();
    }

    fn arrive(&mut self, letter: Letter, source: SocketAddr) {
        let Letter { from, mut octets, made } = letter;
        let bent = octets != made;
        let (to, moment) = (1 - from, self.moment());
        let local = address(to).ip();
        match Kind::of(&octets) {
            Some(Kind::Data) => {
                let opened = open(&self.ends[to].device, self.now, (source, local), &mut octets);
                assert!(!bent || opened.is_err(), "bent and let in");
                if let Ok(Some(packet)) = opened {
                    self.come_out(to, &packet);
                }
            }
            _ => {
                let mut events = Vec::new();
                // Refusing is as good as anything here.
                let _ = self.ends[to].device.handle(moment, source, local, &octets, &mut events);
                self.carry_out(to, events);
            }
        }
    }

    /// A packet came out of an end: the other one sent it, as it is, and it comes out once.
    fn come_out(&mut self, end: usize, octets: &[u8]) {
        let number = octets.get(SHORTEST - 4..SHORTEST).and_then(|number| number.try_into().ok());
        let number = u32::from_be_bytes(number.unwrap_or_default());
        let sent = self.inside.remove(&number);
        let Some((from, length)) = sent else { panic!("{octets:02x?} came out, and was not sent or twice") };
        assert_eq!(from, 1 - end, "sent by itself");
        assert_eq!(octets, packet(from, number, length), "not as it was sent");
    }

    fn carry_out(&mut self, end: usize, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Transmit(message) => {
                    let kind = Kind::of(&message.octets);
                    assert!(kind.is_some(), "not a message: {message:?}");
                    // One of a keepalive is empty.
                    if kind == Some(Kind::Data) && message.octets.len() > OVERHEAD {
                        let known = self.ends[end].device.status();
                        assert!(known.iter().any(|peer| peer.handshakes > 0), "sent without a session");
                        self.ends[end].waiting -= 1;
                    }
                    post(&mut self.underway, end, message.octets);
                }
                Event::Dropped { packets, .. } => self.ends[end].waiting -= packets,
            }
        }
    }

    /// Does what is due.
    fn poll(&mut self) {
        for end in 0..2 {
            let mut polls = 0;
            while self.ends[end].device.poll_at().is_some_and(|at| at <= self.now) {
                let mut events = Vec::new();
                self.ends[end].device.poll(self.moment(), &mut events);
                self.carry_out(end, events);
                polls += 1;
                assert!(polls < 1000, "a timer that is always due");
            }
        }
    }

    /// Lets time pass; what is due is done in time, or late and all at once.
    pub fn pass(&mut self, time: Duration, late: bool) {
        let end = self.now + time;
        if !late {
            while let Some(at) = self.poll_at().filter(|at| *at < end) {
                self.now = at.max(self.now);
                self.poll();
            }
        }
        self.now = end;
        self.poll();
    }

    fn poll_at(&self) -> Option<Instant> {
        self.ends.iter().filter_map(|end| end.device.poll_at()).min()
    }

    /// Tells an end something else about itself and the other one.
    pub fn configure(&mut self, end: usize, what: u8) {
        let end = end % 2;
        let gone = self.ends[end].device.configure(self.now, &spec(end, what), MTU as u32);
        self.ends[end].waiting -= gone;
        self.poll();
    }

    /// All that is on its way arrives, in order, and so do the answers.
    pub fn calm(&mut self) {
        for _ in 0..UNDERWAY {
            if self.underway.is_empty() {
                return;
            }
            self.deliver(0, None);
        }
    }

    /// Both ends are what they were at first, and the network is calm: after some time packets come through.
    pub fn recover(&mut self) {
        (0..2).for_each(|end| self.configure(end, 0));
        self.underway.clear();
        for _ in 0..20 {
            let first = self.number;
            (0..2).for_each(|end| self.send(end, 1, 0));
            for _ in 0..10 {
                self.calm();
                self.pass(Duration::from_secs(1), false);
            }
            self.check();
            if self.inside.range(first..).next().is_none() && self.number == first + 2 {
                return;
            }
        }
        panic!("nothing comes through any more");
    }
}

/// What an end is told: bits 0 and 1 of `what` choose its keys, 2 and 3 those that it knows of the other, 4 and 5 the
/// preshared key, 6 whether it keeps the other reachable, 7 whether it knows where that is.
fn spec(end: usize, what: u8) -> WireGuardSpec {
    let own: &[usize] = [&[0][..], &[1, 0], &[1], &[0, 1]][usize::from(what & 3)];
    let known: &[usize] = [&[0][..], &[0, 1], &[1], &[]][usize::from(what >> 2 & 3)];
    let preshared = what >> 4 & 3;
    let other = 1 - end;
    let peer = WireGuardPeer {
        keys: known.iter().map(|key| KEYS[other][*key].1).collect(),
        preshared_key: (preshared != 0).then(|| PresharedKey::new([preshared; 32])),
        endpoint: (what & 0x80 == 0).then(|| address(other)),
        allowed: Prefix::new(inner(other).into(), 24).into_iter().collect(),
        keepalive: if what & 0x40 == 0 { 0 } else { 5 },
    };
    WireGuardSpec {
        listen_port: address(end).port(),
        keys: own.iter().map(|key| KEYS[end][*key].0.clone()).collect(),
        peers: Some(peer).filter(|peer| !peer.keys.is_empty()).into_iter().collect(),
    }
}

fn address(end: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, end as u8 + 1], 51820))
}

/// The network inside that an end is on; its address is the first of it.
fn inner(end: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, end as u8, 0)
}

/// A packet from an end to the other.
fn packet(from: usize, number: u32, length: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    packet.extend(inner(from).octets());
    packet.extend(inner(1 - from).octets());
    packet.extend(MARK);
    packet.extend(number.to_be_bytes());
    packet.resize(length, number as u8);
    packet
}

fn post(underway: &mut Vec<Letter>, from: usize, octets: Vec<u8>) {
    assert!(!octets.windows(MARK.len()).any(|window| window == MARK), "plain text leaves");
    if underway.len() == UNDERWAY {
        underway.remove(0);
    }
    underway.push(Letter { from, made: octets.clone(), octets });
}

/// Opens a data message and says what was inside, nothing in one that keeps alive.
fn open(
    device: &Device,
    now: Instant,
    path: (SocketAddr, IpAddr),
    octets: &mut [u8],
) -> Result<Option<Vec<u8>>, Refusal> {
    let (peer, range) = unseal(device, now, path, octets)?;
    if range.is_empty() {
        return Ok(None);
    }
    let packet = &octets[range];
    let inner = Inner::parse(packet)?;
    if !device.allows(&peer, inner.source) {
        return Err(Refusal::SourceNotAllowed);
    }
    Ok(Some(packet[..inner.length].to_vec()))
}

/// Opens a data message from `source` to `local` where it lies: whose it is, and where in it the packet is.
pub fn unseal(
    device: &Device,
    now: Instant,
    (source, local): (SocketAddr, IpAddr),
    octets: &mut [u8],
) -> Result<(Arc<Peer>, Range<usize>), Refusal> {
    let (peer, session) = device.session(DataHeader::parse(octets)?.receiver)?;
    let range = session.open(now, octets)?;
    let packets = u64::from(!range.is_empty());
    peer.received(now, &session, Received { source, local, octets: octets.len() as u64, packets });
    Ok((peer, range))
}
