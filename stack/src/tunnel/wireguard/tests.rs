//! Devices that speak with each other over a simulated network, in virtual time.

mod clocks;
mod flood;
mod hostile;
mod link;
mod rotation;
mod scale;
mod sessions;
mod silence;
mod workers;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use self::link::{
    Datagram, Fate, MTU, Net, address, inner, packet, packet_between, peer, prefix, private, spec,
};
use super::*;
