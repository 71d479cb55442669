//! Following real packets: which ones, and what is kept of them until somebody fetches it.

use std::net::IpAddr;

use super::Trace;
use crate::config::{Port, PortId};
use crate::stage::{Layer3, ingress};
use crate::time::Instant;
use crate::wire::ipv4;
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
            return self.source.is_none() && self.destination.is_none() && self.protocol.is_none();
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

/// A real packet that was followed.
#[derive(Debug, Clone)]
pub struct LiveTrace {
    /// Whose filter it fits.
    pub watcher: u64,
    /// When it came in.
    pub at: Instant,
    /// Where it came in.
    pub port: PortId,
    /// The frame as it came, VLAN tag included.
    pub frame: Vec<u8>,
    /// What became of it.
    pub trace: Trace,
}

/// Traces that wait to be fetched; more are counted and let go.
const KEPT: usize = 256;

/// One worker's watchers and what it has for them.
#[derive(Debug, Default)]
pub(crate) struct Live {
    watchers: Vec<(u64, LiveFilter, u32)>,
    traces: Vec<LiveTrace>,
    missed: u64,
}

impl Live {
    pub fn set(&mut self, watchers: impl IntoIterator<Item = (u64, LiveFilter)>) {
        self.watchers = watchers.into_iter().map(|(id, filter)| (id, filter, 0)).collect();
    }

    pub fn is_watched(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// The first watcher whose turn it is with this frame.
    pub fn watcher(&mut self, from: &Port, bytes: &[u8]) -> Option<u64> {
        let mut chosen = None;
        for (id, filter, seen) in &mut self.watchers {
            if filter.fits(from, bytes) {
                *seen = (*seen + 1) % filter.every.max(1);
                if *seen == 1 % filter.every.max(1) && chosen.is_none() {
                    chosen = Some(*id);
                }
            }
        }
        chosen
    }

    pub fn keep(&mut self, trace: LiveTrace) {
        if self.traces.len() < KEPT { self.traces.push(trace) } else { self.missed += 1 }
    }

    pub fn take(&mut self) -> (Vec<LiveTrace>, u64) {
        (std::mem::take(&mut self.traces), std::mem::take(&mut self.missed))
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
        let (port, frame) = (port(), testing::tcp_frame(0));
        let chosen: Vec<_> = (0..7).map(|_| live.watcher(&port, &frame).is_some()).collect();
        assert_eq!(chosen, [true, false, false, true, false, false, true]);
    }
}
