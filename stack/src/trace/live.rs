//! Following real packets: which ones, and what is kept of them until somebody fetches it.

use std::net::IpAddr;

use super::Trace;
use crate::config::{Port, PortId};
use crate::stage::{Frame, Layer3, ingress};
use crate::time::Instant;
use crate::wire::{ipv4, ipv6};
use crate::{MacAddr, Prefix};

/// Which packets to follow; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveFilter {
    /// The port where they come in.
    pub port: Option<String>,
    /// Where they come from.
    pub source: Option<Prefix>,
    /// Where they go to.
    pub destination: Option<Prefix>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Only ARP and neighbour discovery.
    pub resolution: bool,
    /// Source port of TCP or UDP.
    pub source_port: Option<u16>,
    /// Destination port of TCP or UDP.
    pub destination_port: Option<u16>,
    /// Source or destination MAC address.
    pub mac: Option<MacAddr>,
    /// Of those that fit, one in so many; 0 and 1 are all.
    pub every: u32,
}

impl LiveFilter {
    /// Whether a frame that came in at `from` fits.
    fn fits(&self, from: &Port, bytes: &[u8]) -> bool {
        if self.port.as_ref().is_some_and(|name| **name != *from.name) {
            return false;
        }
        let Ok(frame) = ingress::parse(bytes) else {
            let whole = !self.resolution && self.mac.is_none();
            return whole && self.source.is_none() && self.destination.is_none() && self.protocol.is_none();
        };
        let macs = [frame.ethernet.source, frame.ethernet.destination];
        if self.mac.is_some_and(|mac| !macs.contains(&mac)) {
            return false;
        }
        let (addresses, protocol): (Option<[IpAddr; 2]>, _) = match &frame.network {
            Layer3::Ipv4(ip) => (Some([ip.source.into(), ip.destination.into()]), Some(ip.protocol)),
            Layer3::Ipv6(ip) => (Some([ip.source.into(), ip.destination.into()]), Some(ip.protocol)),
            Layer3::Arp(arp) => (Some([arp.sender.into(), arp.target.into()]), None),
            Layer3::Other => (None, None),
        };
        let inside = |prefix: &Option<Prefix>, at: usize| {
            prefix.is_none_or(|prefix| addresses.is_some_and(|both| prefix.contains(both[at])))
        };
        inside(&self.source, 0)
            && inside(&self.destination, 1)
            && (!self.resolution || is_resolution(&frame, bytes))
            && self.protocol.is_none_or(|wanted| protocol == Some(wanted))
            && self.ports_fit(protocol, frame.transport(bytes))
    }

    fn ports_fit(&self, protocol: Option<u8>, transport: &[u8]) -> bool {
        if self.source_port.is_none() && self.destination_port.is_none() {
            return true;
        }
        let (true, [a, b, c, d, ..]) = (matches!(protocol, Some(ipv4::TCP | ipv4::UDP)), transport) else {
            return false;
        };
        self.source_port.is_none_or(|port| port == u16::from_be_bytes([*a, *b]))
            && self.destination_port.is_none_or(|port| port == u16::from_be_bytes([*c, *d]))
    }
}

/// Whether a frame is ARP or neighbour discovery (RFC 4861 section 4).
fn is_resolution(frame: &Frame, bytes: &[u8]) -> bool {
    match &frame.network {
        Layer3::Arp(_) => true,
        Layer3::Ipv6(ip) => {
            ip.protocol == ipv6::ICMPV6 && matches!(frame.transport(bytes).first(), Some(133..=137))
        }
        Layer3::Ipv4(_) | Layer3::Other => false,
    }
}

/// A real packet that was followed.
#[derive(Debug, Clone)]
pub struct LiveTrace {
    /// Whose filters it fits, at least one.
    pub watchers: Vec<u64>,
    /// When it came in.
    pub at: Instant,
    /// Where it came in.
    pub port: PortId,
    /// The frame as it came, VLAN tag included.
    pub frame: Vec<u8>,
    /// What became of it.
    pub trace: Trace,
}

/// Somebody who wants to see packets.
#[derive(Debug)]
struct Watcher {
    id: u64,
    filter: LiveFilter,
    /// Packets that fitted since the last that was chosen.
    seen: u32,
    /// Chosen packets that were not followed since there were too many.
    missed: u64,
}

/// One worker's watchers and what it has for them.
#[derive(Debug, Default)]
pub(crate) struct Live {
    watchers: Vec<Watcher>,
    traces: Vec<LiveTrace>,
    /// How many packets more may be followed.
    allowed: usize,
}

impl Live {
    pub fn set(&mut self, watchers: impl IntoIterator<Item = (u64, LiveFilter)>) {
        let watcher = |(id, filter)| Watcher { id, filter, seen: 0, missed: 0 };
        self.watchers = watchers.into_iter().map(watcher).collect();
    }

    pub fn allow(&mut self, packets: usize) {
        self.allowed = packets;
    }

    pub fn is_watched(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// Who wants to see this frame; empty is the usual case, and costs no allocation.
    pub fn watchers(&mut self, from: &Port, bytes: &[u8]) -> Vec<u64> {
        let mut chosen = Vec::new();
        for watcher in &mut self.watchers {
            if !watcher.filter.fits(from, bytes) {
                continue;
            }
            let every = watcher.filter.every.max(1);
            watcher.seen = (watcher.seen + 1) % every;
            if watcher.seen != 1 % every {
                continue;
            }
            if self.allowed > 0 {
                chosen.push(watcher.id);
            } else {
                watcher.missed += 1;
            }
        }
        self.allowed -= usize::from(!chosen.is_empty());
        chosen
    }

    pub fn keep(&mut self, trace: LiveTrace) {
        self.traces.push(trace);
    }

    pub fn has_traces(&self) -> bool {
        !self.traces.is_empty()
    }

    pub fn take(&mut self) -> (Vec<LiveTrace>, Vec<(u64, u64)>) {
        let missed =
            self.watchers.iter_mut().map(|watcher| (watcher.id, std::mem::take(&mut watcher.missed)));
        (std::mem::take(&mut self.traces), missed.filter(|(_, missed)| *missed > 0).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::testing;

    fn port() -> Arc<Port> {
        let config = Config::build(&testing::two_networks(), None, 1).unwrap();
        config.port_by_name("a1").unwrap().clone()
    }

    #[test]
    fn a_filter_looks_at_every_field_that_it_names() {
        let frame = testing::tcp_frame(0);
        let fits = |filter: LiveFilter| filter.fits(&port(), &frame);
        let prefix = |text: &str| Some(text.parse().unwrap());
        assert!(fits(LiveFilter::default()));
        assert!(fits(LiveFilter { source: prefix("198.18.1.0/24"), ..Default::default() }));
        assert!(!fits(LiveFilter { destination: prefix("198.18.2.0/24"), ..Default::default() }));
        assert!(fits(LiveFilter { destination_port: Some(80), protocol: Some(6), ..Default::default() }));
        assert!(!fits(LiveFilter { source_port: Some(80), ..Default::default() }));
        assert!(!fits(LiveFilter { port: Some("a2".into()), ..Default::default() }));
        assert!(!fits(LiveFilter { mac: Some(testing::mac("b1")), ..Default::default() }));
    }

    #[test]
    fn a_sample_takes_one_in_so_many() {
        let mut live = Live::default();
        live.set([(7, LiveFilter { every: 3, ..Default::default() })]);
        live.allow(100);
        let (port, frame) = (port(), testing::tcp_frame(0));
        let chosen: Vec<_> = (0..7).map(|_| !live.watchers(&port, &frame).is_empty()).collect();
        assert_eq!(chosen, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn packets_beyond_what_is_allowed_are_counted_for_each_watcher() {
        let mut live = Live::default();
        live.set([(7, LiveFilter::default()), (8, LiveFilter { every: 2, ..Default::default() })]);
        live.allow(2);
        let (port, frame) = (port(), testing::tcp_frame(0));
        let chosen: Vec<_> = (0..4).map(|_| live.watchers(&port, &frame)).collect();
        assert_eq!(chosen, [vec![7, 8], vec![7], vec![], vec![]]);
        let (_, missed) = live.take();
        assert_eq!(missed, [(7, 2), (8, 1)]);
        live.allow(1);
        assert_eq!((live.watchers(&port, &frame), live.take().1), (vec![7, 8], vec![]));
    }

    #[test]
    fn only_resolution_fits_a_filter_for_it() {
        let filter = LiveFilter { resolution: true, ..Default::default() };
        assert!(!filter.fits(&port(), &testing::tcp_frame(0)));
        let mut request = vec![0xff; 6];
        request.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
        request.extend([2, 0, 0, 0, 0, 1, 198, 18, 1, 2, 0, 0, 0, 0, 0, 0, 198, 18, 1, 1]);
        assert!(filter.fits(&port(), &request));
    }
}
