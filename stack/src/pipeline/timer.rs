//! What a worker comes back to when its time has come.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::Context;
use crate::MacAddr;
use crate::config::{Config, PortId};
use crate::stage::neighbor::{announce, succession};
use crate::stage::{advertise, local, loops, multicast, neighbor};

/// What a worker is to come back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A neighbour is to be asked, or has not answered yet.
    Neighbor {
        /// The id of the interface that asked.
        interface: u32,
        address: IpAddr,
    },
    /// The time of a fragmented datagram for a gateway is over.
    Reassembly,
    /// A gateway says once more whose its addresses are.
    Announce {
        interface: u32,
        /// How often it has said so.
        round: u8,
    },
    /// A port says once more that addresses of another are its own now.
    Succeed {
        port: PortId,
        /// How often it has said so.
        round: u8,
    },
    /// A gateway advertises itself to all hosts.
    Advertise { interface: u32 },
    /// A gateway advertises itself to a host that asked: its addresses, and the port where it is.
    AdvertiseTo { interface: u32, asker: (Ipv6Addr, MacAddr, PortId) },
    /// Gateways that no longer advertise say so.
    Farewell,
    /// Neighbours that nobody needs are forgotten.
    Sweep {
        /// Position of the interface whose table is next.
        interface: usize,
        /// Places of that table which were looked at.
        done: usize,
    },
    /// Somebody may have been the last listener of a group.
    Membership,
    /// What the first worker does every second where it is needed.
    Upkeep,
}

/// From one [`Timer::Upkeep`] to the next.
const UPKEEP: Duration = Duration::from_secs(1);

/// Does what a timer that ran out is for. What is of an interface is over when that is gone.
pub(super) fn expire(cx: &mut Context, timer: Timer) {
    let interface = |id| cx.config.interface_by_id(id);
    match timer {
        Timer::Neighbor { interface: id, address } => {
            interface(id).into_iter().for_each(|interface| neighbor::expire(cx, interface, address));
        }
        Timer::Reassembly => local::fragments::expire(cx),
        Timer::Announce { interface: id, round } => {
            interface(id).into_iter().for_each(|interface| announce::announce(cx, interface, round));
        }
        Timer::Succeed { port, round } => {
            cx.config.port(port).into_iter().for_each(|port| succession::announce(cx, port, round));
        }
        Timer::Advertise { interface: id } => {
            interface(id).into_iter().for_each(|interface| advertise::expire(cx, interface));
        }
        Timer::AdvertiseTo { interface: id, asker } => {
            interface(id).into_iter().for_each(|interface| advertise::answer(cx, interface, asker));
        }
        Timer::Farewell => advertise::say_farewell(cx),
        Timer::Sweep { interface, done } => neighbor::sweep(cx, interface, done),
        Timer::Membership => multicast::tick(cx),
        Timer::Upkeep => upkeep(cx),
    }
}

fn upkeep(cx: &mut Context) {
    cx.state.upkeep = needs_upkeep(cx.config);
    if cx.state.upkeep {
        multicast::tick(cx);
        loops::tick(cx);
        cx.state.set_timer(cx.now + UPKEEP, Timer::Upkeep);
    }
}

/// Whether there is something for the first worker to do every second.
pub(super) fn needs_upkeep(config: &Config) -> bool {
    multicast::is_needed(&config.networks) || loops::is_needed(&config.networks)
}
