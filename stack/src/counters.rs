//! Counters. Each worker writes its own set; readers add the sets up.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::verdict::DropReason;

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Only the owning worker may call this: it is a plain load and store, so that
    /// counting costs no locked instruction.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One worker's counters of one port, on cache lines of their own. `rx` is what came from the device.
#[derive(Debug)]
#[repr(align(128))]
pub struct PortCounters {
    /// Frames read from the device; a super-packet counts as one.
    pub rx_packets: Counter,
    /// Octets of those frames, Ethernet header included.
    pub rx_bytes: Counter,
    /// Frames written to the device.
    pub tx_packets: Counter,
    /// Octets of those frames.
    pub tx_bytes: Counter,
    drops: [Counter; DropReason::COUNT],
}

impl Default for PortCounters {
    fn default() -> Self {
        PortCounters {
            rx_packets: Counter::default(),
            rx_bytes: Counter::default(),
            tx_packets: Counter::default(),
            tx_bytes: Counter::default(),
            drops: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl PortCounters {
    /// Counts a dropped frame.
    pub fn drop(&self, reason: DropReason) {
        self.drops[reason.index()].add(1);
    }

    /// How many frames were dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason.index()].get()
    }
}

/// A stage, as counters name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Reads and checks the headers.
    Ingress,
    /// Checks that the sender uses its own addresses.
    Source,
    /// Switches.
    Bridge,
    /// Speaks ARP and neighbour discovery for gateways.
    Neighbor,
    /// Routes.
    Route,
    /// Answers for gateways.
    Local,
    /// Hands frames to ports.
    Egress,
    /// Keeps ports to their rates.
    Shape,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Stage; 8] = [
        Stage::Ingress,
        Stage::Source,
        Stage::Bridge,
        Stage::Neighbor,
        Stage::Route,
        Stage::Local,
        Stage::Egress,
        Stage::Shape,
    ];

    /// The name as counters and traces show it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Ingress => "ingress",
            Stage::Source => "source",
            Stage::Bridge => "bridge",
            Stage::Neighbor => "neighbor",
            Stage::Route => "route",
            Stage::Local => "local",
            Stage::Egress => "egress",
            Stage::Shape => "shape",
        }
    }
}

/// What went through one stage.
#[derive(Debug, Default)]
pub struct StageCounters {
    /// Frames that came to it.
    pub packets: Counter,
    /// Frames that it dropped.
    pub drops: Counter,
}

macro_rules! stack_counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What one worker's stack did by itself.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct StackCounters {
            $($(#[doc = $doc])+ pub $name: Counter,)+
            /// By [`Stage`].
            pub stages: [StageCounters; Stage::ALL.len()],
        }

        impl StackCounters {
            /// Names and values.
            pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($name), self.$name.get()),)+].into_iter()
            }
        }
    };
}

stack_counters! {
    /// ARP replies sent for a gateway address.
    arp_replies,
    /// ARP requests sent to find a neighbour.
    arp_requests,
    /// Neighbour advertisements sent for a gateway address.
    neighbor_advertisements,
    /// ARP replies and neighbour advertisements among these that were for addresses elsewhere.
    proxy_answers,
    /// Neighbour solicitations sent.
    neighbor_solicitations,
    /// Router advertisements sent.
    router_advertisements,
    /// DHCP offers sent.
    dhcp_offers,
    /// DHCP acknowledgements sent.
    dhcp_acknowledgements,
    /// DHCP refusals sent: somebody wants an address that is not its port's.
    dhcp_refusals,
    /// DHCP clients that found their address taken.
    dhcp_declines,
    /// Echo requests to a gateway that were answered.
    echo_replies,
    /// ICMP and ICMPv6 errors sent.
    icmp_errors,
    /// ICMP and ICMPv6 errors that the rate limit held back.
    icmp_errors_limited,
    /// TCP resets sent for a gateway address.
    tcp_resets,
    /// Fragments made of packets that were too large for the next network.
    fragments_made,
    /// Segments cut from super-packets for devices that do not take these.
    segments_made,
    /// Received segments that were put to the one before.
    segments_coalesced,
    /// Fragments that came for a gateway.
    fragments_received,
    /// Datagrams that were put together of fragments for a gateway.
    datagrams_reassembled,
    /// ICMP and ICMPv6 errors about packets that a gateway had sent.
    icmp_errors_received,
    /// MAC addresses that moved from one port to another.
    mac_moves,
    /// MAC addresses that were held on their port since they moved too often.
    macs_damped,
    /// Uplinks that were blocked since they lead to where another one leads.
    loops_blocked,
    /// MAC addresses that were not learned since the FDB was full.
    fdb_full,
    /// Hosts that left a multicast group of which nobody was asked at once, since too many left.
    leaves_limited,
    /// Packets that waited for their next hop's MAC address.
    packets_queued,
    /// Frames that waited for their turn at a port's rate.
    packets_shaped,
    /// Neighbour entries given up early since the table was full.
    neighbor_evictions,
    /// Neighbours that did not answer.
    neighbor_failures,
    /// ARP and neighbour discovery messages that claim an address which by configuration is somebody else's.
    address_conflicts,
    /// Copies for mirrors that were not made, for want of a buffer or since the destination is gone.
    mirror_lost,
    /// IGMP and MLD reports taken in.
    group_reports,
    /// IGMP and MLD queries sent.
    group_queries,
    /// Multicast groups that were not taken in since the network, or the port, had too many.
    groups_full,
    /// Questions for neighbours behind tunnels that were answered in their place.
    questions_suppressed,
    /// ICMP errors about datagrams of tunnels.
    tunnel_errors,
    /// Datagrams from nobody that a tunnel here knows.
    tunnel_strangers,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_counted_by_reason() {
        let counters = PortCounters::default();
        counters.drop(DropReason::NoRoute);
        counters.drop(DropReason::NoRoute);
        assert_eq!(counters.dropped(DropReason::NoRoute), 2);
        assert_eq!(counters.dropped(DropReason::TtlExpired), 0);
    }
}
