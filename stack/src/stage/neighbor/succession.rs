//! Says unasked whose an address is that a port has from another (RFC 5227 section 3, RFC 4861 section 7.2.6): a new
//! container with the address of one that is gone, whose MAC address others still send to.
//!
//! A port with an address that nobody had before needs no such word: whoever wants it has to ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::announce::{INTERVAL, ROUNDS};
use super::{arp, discovery};
use crate::MacAddr;
use crate::config::{Config, Port, PortId};
use crate::pipeline::{Context, Timer};
use crate::stage::egress::Delivery;

/// Addresses that are remembered. What is forgotten neighbours find out by themselves, within a minute.
const MOST: usize = 16_384;

/// Whose the addresses were that no port has now, by network and address.
#[derive(Debug, Default)]
pub(crate) struct Succession(HashMap<(Arc<str>, IpAddr), MacAddr, RandomState>);

impl Succession {
    /// Notes what ports of `previous` gave up, and gives those that have an address of another since.
    pub fn heirs(&mut self, config: &Config, previous: &Config) -> Vec<PortId> {
        let same = |port: &Port, there: &Config| {
            let other = there.port(port.id);
            other.is_some_and(|other| (other.mac, &other.addresses) == (port.mac, &port.addresses))
        };
        for old in previous.ports().filter(|old| !same(old, config)) {
            if self.0.len() >= MOST {
                self.0.clear();
            }
            let network = &previous.networks[old.network].name;
            self.0.extend(old.addresses.iter().map(|address| ((network.clone(), *address), old.mac)));
        }
        let mut heirs = Vec::new();
        for port in config.ports().filter(|port| !same(port, previous)) {
            let network = &config.networks[port.network].name;
            let former = port.addresses.iter().filter_map(|it| self.0.remove(&(network.clone(), *it)));
            // All of them are taken out, also behind the first that differs.
            if former.filter(|mac| *mac != port.mac).count() > 0 {
                heirs.push(port.id);
            }
        }
        heirs
    }
}

/// Says for a port whose its addresses are, for the `round`th time, from 0, and sets the timer for the next.
pub(crate) fn announce(cx: &mut Context, port: &Port, round: u8) {
    let Some(vlan) = port.vlans.own() else { return };
    let delivery = Delivery { from: Some(port), ..Delivery::on(&cx.config.networks[port.network], vlan) };
    for address in &port.addresses {
        match address {
            IpAddr::V4(address) if round.is_multiple_of(2) => {
                arp::announce(cx, port.mac, *address, &delivery)
            }
            IpAddr::V4(_) => {}
            IpAddr::V6(address) => discovery::announce(cx, port.mac, false, *address, &delivery),
        }
    }
    if round + 1 < ROUNDS {
        cx.state.set_timer(cx.now + INTERVAL, Timer::Succeed { port: port.id, round: round + 1 });
    }
}
