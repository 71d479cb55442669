//! What the kernel has: the devices of every place that matters, as plain values.
//!
//! Reading them is in [`kernel`]; what shall be done about them is the plan's matter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use weft_host::netns::NetNsId;
use weft_stack::MacAddr;

use super::place::{Before, Place};
use crate::model::{InterfaceAddress, Name, PortRoute};

pub mod kernel;

/// Every place that was looked at.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// What was found there. A place that is not listed was not looked at.
    pub places: BTreeMap<Place, PlaceState>,
}

impl Observed {
    /// The devices at `place`, when it exists and may be used.
    pub fn view(&self, place: &Place) -> Option<&PlaceView> {
        match self.places.get(place) {
            Some(PlaceState::Present(view)) => Some(view),
            _ => None,
        }
    }

    /// The devices at `place`, to be kept up to date.
    pub fn view_mut(&mut self, place: &Place) -> Option<&mut PlaceView> {
        match self.places.get_mut(place) {
            Some(PlaceState::Present(view)) => Some(view),
            _ => None,
        }
    }

    /// Every name under which the namespace `id` was found: two paths may lead to one namespace.
    pub fn places_of(&self, id: NetNsId) -> impl Iterator<Item = &Place> {
        self.places.iter().filter_map(move |(place, state)| match state {
            PlaceState::Present(view) if view.id == id => Some(place),
            _ => None,
        })
    }
}

/// What stands at a place.
#[derive(Debug, Clone, PartialEq)]
pub enum PlaceState {
    /// Nothing.
    Absent,
    /// Something that the daemon must not use, or could not read.
    Unusable(Refusal),
    /// A namespace to work in.
    Present(PlaceView),
}

/// Why an object is not made real, for its Ready condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One CamelCase word.
    pub reason: &'static str,
    /// A sentence that says what to do.
    pub message: String,
}

/// A namespace and its devices.
#[derive(Debug, Clone, PartialEq)]
pub struct PlaceView {
    /// Which namespace it is.
    pub id: NetNsId,
    /// Its devices by interface index, the loopback left out.
    pub devices: BTreeMap<u32, Device>,
}

impl PlaceView {
    /// The device of this name.
    pub fn named(&self, name: &str) -> Option<&Device> {
        self.devices.values().find(|device| device.name == name)
    }

    /// The devices that carry the mark of `port`.
    pub fn owned_by<'a>(&'a self, port: &'a Name) -> impl Iterator<Item = &'a Device> {
        self.devices.values().filter(move |device| device.owner.as_ref() == Some(port))
    }
}

/// What a device is, as far as the daemon makes such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A TUN or TAP device.
    Tap,
    /// An end of a veth pair.
    Veth,
    /// Anything else.
    Other,
}

/// What the node uses a device for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// It has this address.
    Address(IpAddr),
    /// It is a port of the bridge or bond of this name.
    PortOf(String),
    /// The device of this name is on top of it.
    Below(String),
    /// It carries the mark of another daemon.
    AnotherDaemon,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Address(address) => write!(f, "it has the address {address}"),
            Use::PortOf(master) => write!(f, "it is a port of {master}"),
            Use::Below(upper) => write!(f, "{upper} is on top of it"),
            Use::AnotherDaemon => f.write_str("another weftd has it"),
        }
    }
}

/// A network device.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Interface index, unique within its namespace.
    pub index: u32,
    /// Its name there.
    pub name: String,
    /// The Port whose mark it carries; `None`: it is not this daemon's.
    pub owner: Option<Name>,
    /// It was this daemon's, and goes by itself.
    pub retired: bool,
    /// It is a network card that the daemon has taken, and was like this before.
    pub taken: Option<Before>,
    /// How many bytes longer its alias may be.
    pub alias_room: usize,
    /// What it is.
    pub kind: DeviceKind,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// Largest IP packet in octets.
    pub mtu: u32,
    /// Transmit queue length in packets.
    pub txqueuelen: u32,
    /// Octets of the longest super-packet that it is given; `None`: the kernel does not say.
    pub gso_max_size: Option<u32>,
    /// Administratively up.
    pub up: bool,
    /// Interface index of the other end of a veth pair, in that end's namespace.
    pub peer: Option<u32>,
    /// Connected to something that answers.
    pub carrier: bool,
    /// What the node itself uses it for; `None`: nothing that shows. Only known where `uplink` Ports are.
    pub used_for: Option<Use>,
    /// Permanent addresses of global scope.
    pub addresses: BTreeSet<InterfaceAddress>,
    /// Routes by this device that carry the daemon's protocol number.
    pub routes: BTreeSet<PortRoute>,
}
