//! The fabric that both sides are: three networks on one router, and who is where.
//!
//! ```text
//! a .10  b .11  c .12      d .10  e .11          f .1
//!   |      |      |          |      |             |
//! front 198.18.1.0/24    back 198.18.2.0/24    link 198.18.3.0/31
//! MTU 1500, gateway .1   MTU 1280, gateway .1  MTU 1500, gateway .0
//! ```
//! IPv6 likewise, in 2001:db8:1::/64, 2001:db8:2::/64 and 2001:db8:3::/127. 198.19.0.0/16 and
//! 2001:db8:f::/48 are behind d, their upper halves behind f.
//!
//! Two more networks carry VLAN tags, which a kernel bridge passes unread: `tunnel` (198.18.4.0/24, g and h),
//! whose ports do so too, and `trunk` (198.18.5.0/24, i and j), whose ports read them. On `apart` (198.18.6.0/24; k, l
//! and m) k and l are isolated from each other. On `snooped` (198.18.7.0/24; n, o, p and q) groups go to their members;
//! n is a multicast router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_testkit::frame::Mac;

/// A container's device: where frames enter and leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wire {
    A,
    B,
    C,
    D,
    E,
    F,
    G,
    H,
    I,
    J,
    K,
    L,
    M,
    N,
    O,
    P,
    Q,
}

/// A network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Net {
    Front,
    Back,
    Link,
    Tunnel,
    Trunk,
    Apart,
    Snooped,
}

/// What there is to know about a network.
#[derive(Debug)]
pub struct Segment {
    pub name: &'static str,
    pub mtu: u32,
    pub gateway_mac: Mac,
    pub prefix4: (Ipv4Addr, u8),
    pub gateway4: Ipv4Addr,
    pub prefix6: (Ipv6Addr, u8),
    pub gateway6: Ipv6Addr,
    pub wires: &'static [Wire],
}

/// The VLANs of the trunks.
pub const TRUNK_VLANS: [u16; 3] = [5, 7, 4094];

/// What becomes of packets to a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They go on by this host.
    Via(Wire),
    /// They are dropped in silence.
    Blackhole,
    /// They are dropped, and the sender is told that there is no way.
    Unreachable,
    /// They are dropped, and the sender is told that it is not allowed.
    Prohibit,
}

/// The routes beside the connected ones.
pub const ROUTES: [(&str, Way); 10] = [
    ("198.19.0.0/16", Way::Via(Wire::D)),
    ("198.19.128.0/17", Way::Via(Wire::F)),
    ("2001:db8:f::/48", Way::Via(Wire::D)),
    ("2001:db8:f:8000::/49", Way::Via(Wire::F)),
    ("198.18.64.0/24", Way::Blackhole),
    ("198.18.65.0/24", Way::Unreachable),
    ("198.18.66.0/24", Way::Prohibit),
    ("2001:db8:64::/48", Way::Blackhole),
    ("2001:db8:65::/48", Way::Unreachable),
    ("2001:db8:66::/48", Way::Prohibit),
];

/// Packets from these sources all go by f, wherever they are for.
pub const ASIDE: [&str; 2] = ["198.19.64.0/20", "2001:db8:f:4000::/52"];

const fn doc6(net: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host)
}

static FRONT: Segment = Segment {
    name: "front",
    mtu: 1500,
    gateway_mac: [0x02, 0x00, 0x5e, 0x01, 0x00, 0x01],
    prefix4: (Ipv4Addr::new(198, 18, 1, 0), 24),
    gateway4: Ipv4Addr::new(198, 18, 1, 1),
    prefix6: (doc6(1, 0), 64),
    gateway6: doc6(1, 1),
    wires: &[Wire::A, Wire::B, Wire::C],
};

static BACK: Segment = Segment {
    name: "back",
    mtu: 1280,
    gateway_mac: [0x02, 0x00, 0x5e, 0x02, 0x00, 0x01],
    prefix4: (Ipv4Addr::new(198, 18, 2, 0), 24),
    gateway4: Ipv4Addr::new(198, 18, 2, 1),
    prefix6: (doc6(2, 0), 64),
    gateway6: doc6(2, 1),
    wires: &[Wire::D, Wire::E],
};

static LINK: Segment = Segment {
    name: "link",
    mtu: 1500,
    gateway_mac: [0x02, 0x00, 0x5e, 0x03, 0x00, 0x01],
    prefix4: (Ipv4Addr::new(198, 18, 3, 0), 31),
    gateway4: Ipv4Addr::new(198, 18, 3, 0),
    prefix6: (doc6(3, 0), 127),
    gateway6: doc6(3, 1),
    wires: &[Wire::F],
};

static TUNNEL: Segment = Segment {
    name: "tunnel",
    mtu: 1500,
    gateway_mac: [0x02, 0x00, 0x5e, 0x04, 0x00, 0x01],
    prefix4: (Ipv4Addr::new(198, 18, 4, 0), 24),
    gateway4: Ipv4Addr::new(198, 18, 4, 1),
    prefix6: (doc6(4, 0), 64),
    gateway6: doc6(4, 1),
    wires: &[Wire::G, Wire::H],
};

static TRUNK: Segment = Segment {
    name: "trunk",
    mtu: 1500,
    gateway_mac: [0x02, 0x00, 0x5e, 0x05, 0x00, 0x01],
    prefix4: (Ipv4Addr::new(198, 18, 5, 0), 24),
    gateway4: Ipv4Addr::new(198, 18, 5, 1),
    prefix6: (doc6(5, 0), 64),
    gateway6: doc6(5, 1),
    wires: &[Wire::I, Wire::J],
};

static APART: Segment = Segment {
    name: "apart",
    mtu: 1500,
    gateway_mac: [0x02, 0x00, 0x5e, 0x06, 0x00, 0x01],
    prefix4: (Ipv4Addr::new(198, 18, 6, 0), 24),
    gateway4: Ipv4Addr::new(198, 18, 6, 1),
    prefix6: (doc6(6, 0), 64),
    gateway6: doc6(6, 1),
    wires: &[Wire::K, Wire::L, Wire::M],
};

static SNOOPED: Segment = Segment {
    name: "snooped",
    mtu: 1500,
    gateway_mac: [0x02, 0x00, 0x5e, 0x07, 0x00, 0x01],
    prefix4: (Ipv4Addr::new(198, 18, 7, 0), 24),
    gateway4: Ipv4Addr::new(198, 18, 7, 1),
    prefix6: (doc6(7, 0), 64),
    gateway6: doc6(7, 1),
    wires: &[Wire::N, Wire::O, Wire::P, Wire::Q],
};

impl Net {
    pub const ALL: [Net; 7] =
        [Net::Front, Net::Back, Net::Link, Net::Tunnel, Net::Trunk, Net::Apart, Net::Snooped];

    pub fn segment(self) -> &'static Segment {
        match self {
            Net::Front => &FRONT,
            Net::Back => &BACK,
            Net::Link => &LINK,
            Net::Tunnel => &TUNNEL,
            Net::Trunk => &TRUNK,
            Net::Apart => &APART,
            Net::Snooped => &SNOOPED,
        }
    }

    /// The gateway's link-local address.
    pub fn gateway_link_local(self) -> Ipv6Addr {
        link_local(self.segment().gateway_mac)
    }
}

impl Wire {
    /// All of them.
    pub const ALL: [Wire; 17] = [
        Wire::A,
        Wire::B,
        Wire::C,
        Wire::D,
        Wire::E,
        Wire::F,
        Wire::G,
        Wire::H,
        Wire::I,
        Wire::J,
        Wire::K,
        Wire::L,
        Wire::M,
        Wire::N,
        Wire::O,
        Wire::P,
        Wire::Q,
    ];
    /// Those on networks without snooping.
    pub const PLAIN: [Wire; 13] = [
        Wire::A,
        Wire::B,
        Wire::C,
        Wire::D,
        Wire::E,
        Wire::F,
        Wire::G,
        Wire::H,
        Wire::I,
        Wire::J,
        Wire::K,
        Wire::L,
        Wire::M,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Wire::A => "a",
            Wire::B => "b",
            Wire::C => "c",
            Wire::D => "d",
            Wire::E => "e",
            Wire::F => "f",
            Wire::G => "g",
            Wire::H => "h",
            Wire::I => "i",
            Wire::J => "j",
            Wire::K => "k",
            Wire::L => "l",
            Wire::M => "m",
            Wire::N => "n",
            Wire::O => "o",
            Wire::P => "p",
            Wire::Q => "q",
        }
    }

    pub fn net(self) -> Net {
        match self {
            Wire::A | Wire::B | Wire::C => Net::Front,
            Wire::D | Wire::E => Net::Back,
            Wire::F => Net::Link,
            Wire::G | Wire::H => Net::Tunnel,
            Wire::I | Wire::J => Net::Trunk,
            Wire::K | Wire::L | Wire::M => Net::Apart,
            Wire::N | Wire::O | Wire::P | Wire::Q => Net::Snooped,
        }
    }

    pub fn mac(self) -> Mac {
        [0x02, 0, 0, 0, 0, 0x0a + self as u8]
    }

    pub fn v4(self) -> Ipv4Addr {
        let [p, q, r, _] = self.net().segment().prefix4.0.octets();
        Ipv4Addr::new(p, q, r, self.host() as u8)
    }

    pub fn v6(self) -> Ipv6Addr {
        let host = if self == Wire::F { 0 } else { self.host() };
        Ipv6Addr::from(self.net().segment().prefix6.0.to_bits() | u128::from(host))
    }

    pub fn link_local(self) -> Ipv6Addr {
        link_local(self.mac())
    }

    /// Isolated ports exchange no frames with each other.
    pub fn is_isolated(self) -> bool {
        matches!(self, Wire::K | Wire::L)
    }

    /// All addresses of the host.
    pub fn addresses(self) -> [IpAddr; 3] {
        [self.v4().into(), self.v6().into(), self.link_local().into()]
    }

    fn host(self) -> u16 {
        match self {
            Wire::A | Wire::D | Wire::G | Wire::I | Wire::K | Wire::N => 10,
            Wire::B | Wire::E | Wire::H | Wire::J | Wire::L | Wire::O => 11,
            Wire::C | Wire::M | Wire::P => 12,
            Wire::Q => 13,
            Wire::F => 1,
        }
    }
}

/// The link-local address of a device with this MAC address (RFC 4291 appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}
