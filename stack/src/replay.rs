//! Replay: verdicts that hold for all packets between two stations, so that somebody nearer to the devices, as the
//! kernel is, can carry them out without asking again.
//!
//! The stages look at no more of an ordinary TCP or UDP packet than its MAC and IP addresses, once they have found it to
//! be in order. So the key is these addresses and the port that the packet came from, and not the ports of TCP or UDP:
//! one entry serves all connections of a pair of hosts, the first packet of each included. A stage that begins to look at
//! more must widen the key, or not let [`note`] have its verdicts.
//!
//! Who replays checks what the stages check in each packet, and gives to the stack what does not pass: see
//! [`Replay::mtu`] for lengths. All else that a verdict rests on is the picture, neighbours
//! ([`Config::neighbor_changes`](crate::config::Config::neighbor_changes)) and time ([`Replay::until`]).

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;
use std::vec::Drain;

use foldhash::fast::FixedState;

use crate::MacAddr;
use crate::config::{Port, PortId, PortVlans};
use crate::limit::SharedBucket;
use crate::pipeline::Context;
use crate::stage::{Frame, Layer3};
use crate::time::Instant;
use crate::verdict::{Rewrite, Verdict};
use crate::wire::ipv4::{self, TCP, UDP};
use crate::wire::ipv6;
use crate::wire::vlan::Tci;

/// How many are kept until somebody takes them: more flows begin in later rounds.
const MOST: usize = 64;

/// What becomes of untagged TCP and UDP packets without IPv4 options, extension headers or fragments, of one port,
/// between two pairs of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// Where they come from.
    pub from: PortId,
    /// Their Ethernet destination.
    pub destination: MacAddr,
    /// Their Ethernet source.
    pub source: MacAddr,
    /// Their IP source and destination, of one family.
    pub addresses: (IpAddr, IpAddr),
    /// Where they go, without a VLAN tag.
    pub to: PortId,
    /// How they are changed before. Those whose TTL would be used up, or whose IPv4 checksum is wrong, are not among them
    /// then.
    pub rewrite: Option<Rewrite>,
    /// Octets of the largest IP packet among them; of super-packets, of each of their segments.
    pub mtu: usize,
    /// When to ask again; `None`: not for time's sake.
    pub until: Option<Instant>,
}

/// How many that were noted are known.
const NOTED: usize = 1024;

/// How long a verdict that was noted is not noted again: whoever replays may have forgotten it by then.
const LATELY: Duration = Duration::from_millis(100);

/// How many new pairs of stations a port may have replayed a second, and at once: whoever replays has room for so many,
/// which the ports share.
const NEW_A_SECOND: u32 = 1_000;

/// How much of what a port sends may become new verdicts to replay.
pub(crate) fn bucket() -> SharedBucket {
    SharedBucket::new(NEW_A_SECOND, NEW_A_SECOND)
}

/// Verdicts for somebody to take, and what was noted lately.
#[derive(Debug)]
pub(crate) struct Replays {
    waiting: Vec<Replay>,
    /// Packets that are for the stack all the same bring their verdict each time: each has one place, and gives way to the
    /// next that belongs there.
    lately: Box<[Option<(Replay, Instant)>]>,
    hash: FixedState,
}

impl Default for Replays {
    fn default() -> Self {
        let lately = vec![None; NOTED].into();
        Replays { waiting: Vec::with_capacity(MOST), lately, hash: FixedState::default() }
    }
}

impl Replays {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn take(&mut self) -> Drain<'_, Replay> {
        self.waiting.drain(..)
    }

    pub fn forget(&mut self, which: impl Fn(&Replay) -> bool) {
        self.waiting.retain(|replay| !which(replay));
        for place in &mut self.lately {
            *place = place.filter(|(replay, _)| !which(replay));
        }
    }

    /// Takes in a verdict that is not known, if `may` says so.
    fn note(&mut self, now: Instant, replay: Replay, may: impl FnOnce() -> bool) {
        let place = self.hash.hash_one((replay.from.slot(), replay.addresses)) as usize % self.lately.len();
        let known = self.lately[place].is_some_and(|(last, at)| last == replay && now.since(at) < LATELY);
        if !known && self.waiting.len() < MOST && may() {
            self.lately[place] = Some((replay, now));
            self.waiting.push(replay);
        }
    }
}

/// Keeps the verdict about a packet if it can be replayed.
pub(crate) fn note(cx: &mut Context, frame: &Frame, from: &Port, verdict: &Verdict) {
    let (Some(replay), Some(bucket)) = (of(cx, frame, from, verdict), &from.replays) else { return };
    cx.state.replays.note(cx.now, replay, || bucket.allow(cx.now, 1));
}

fn of(cx: &Context, frame: &Frame, from: &Port, verdict: &Verdict) -> Option<Replay> {
    let Verdict::Forwarded { port, tag: None, rewrite } = *verdict else { return None };
    let to = cx.config.port(port)?;
    let ethernet = frame.ethernet;
    // What was learned moves, and has to be seen to stay.
    let own = ethernet.source == from.mac && frame.tag == Tci::default();
    if !own || !is_plain(from) || !is_plain(to) || !is_ordinary(&frame.network) {
        return None;
    }
    let addresses = frame.addresses()?;
    let mtu = from.mtu.min(to.mtu);
    let (mtu, until) = match rewrite {
        None => {
            let network = &cx.config.networks[from.network];
            let known = network.stations.get(&(frame.vlan, ethernet.destination));
            (known == Some(&to.id)).then_some((mtu, None))?
        }
        Some(rewrite) => {
            let router = cx.config.interface(from.network, frame.vlan)?.router;
            let way = cx.state.shortcuts.find(router, addresses.1)?;
            let out = &cx.config.interfaces[way.interface];
            let same = way.port == to.id && way.mac == rewrite.destination && rewrite.decrement_ttl;
            let holds = way.epoch == out.neighbors.epoch() && cx.now < way.until;
            (same && holds).then_some((mtu.min(out.mtu), Some(way.until)))?
        }
    };
    let (destination, source) = (ethernet.destination, ethernet.source);
    Some(Replay { from: from.id, destination, source, addresses, to: to.id, rewrite, mtu, until })
}

/// Whether frames pass a port as they are, whoever carries them: none of them is counted against a rate, copied or tagged.
fn is_plain(port: &Port) -> bool {
    let limited = port.ingress_rate.is_some() || port.egress_rate.is_some();
    let watched = port.mirror.is_some() || port.is_mirror;
    port.replays.is_some() && !limited && !watched && matches!(port.vlans, PortVlans::Access(_))
}

/// Whether a packet is one of those that [`Replay`] is about.
fn is_ordinary(network: &Layer3) -> bool {
    match network {
        Layer3::Ipv4(ip) => {
            ip.header_length == ipv4::HEADER_LENGTH && !ip.is_fragment() && matches!(ip.protocol, TCP | UDP)
        }
        Layer3::Ipv6(ip) => ip.payload_offset == ipv6::HEADER_LENGTH && matches!(ip.protocol, TCP | UDP),
        Layer3::Arp(_) | Layer3::Other => false,
    }
}
