//! What the stack is given to do: which frames, of how many flows, with how many routes.

/// What the frames are, and so which way they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// UDP over IPv4, bridged to another port of the same network.
    Bridged,
    /// UDP over IPv4, routed to the other network.
    V4,
    /// UDP over IPv6, routed to the other network.
    V6,
    /// TCP over IPv4 as a super-packet with a partial checksum, routed to the other network.
    Gso,
}

impl Frames {
    /// Whether they pass the router.
    pub fn are_routed(self) -> bool {
        self != Frames::Bridged
    }
}

/// The static routes of the router, beside those of its two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routes {
    /// How many there are.
    pub count: usize,
    /// Whether the flows lead to destinations behind them; otherwise to hosts of the other network.
    pub used: bool,
}

/// One load. Each source is a container on a port of its own, and sends to all destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Its name in the report.
    pub name: &'static str,
    /// What is sent.
    pub frames: Frames,
    /// Octets of a frame, from the Ethernet header on, without the check sequence.
    pub octets: usize,
    /// Containers that send.
    pub sources: usize,
    /// Addresses that they send to: a flow is a pair of the two.
    pub destinations: usize,
    /// What the router knows.
    pub routes: Routes,
}

/// Ten routes in all: those of the two networks, and eight that nobody uses.
pub const FEW_ROUTES: Routes = Routes { count: 8, used: false };

impl Load {
    /// This many octets of these frames, as 1,000 flows, with ten routes.
    pub const fn new(frames: Frames, octets: usize) -> Load {
        Load { name: "1,000 flows", frames, octets, sources: 10, destinations: 100, routes: FEW_ROUTES }
    }

    /// The same as one flow.
    pub const fn one_flow(self) -> Load {
        Load { name: "1 flow", sources: 1, destinations: 1, ..self }
    }

    /// The same as 100,000 flows.
    pub const fn many_flows(self) -> Load {
        Load { name: "100,000 flows", sources: 100, destinations: 1000, ..self }
    }

    /// The same to destinations behind this many static routes.
    pub const fn behind(self, name: &'static str, count: usize) -> Load {
        Load { name, routes: Routes { count, used: true }, ..self }
    }
}
