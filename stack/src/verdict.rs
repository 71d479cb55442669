//! What became of a frame. Every drop has a name, and every name is a counter.

use crate::MacAddr;
use crate::config::PortId;
use crate::wire::vlan::Tci;

/// What the stages decided about one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Sent to one port, after these changes.
    Forwarded {
        /// Where to.
        port: PortId,
        /// The VLAN tag that it leaves with.
        tag: Option<Tci>,
        /// What else was changed on the way; `None`: nothing.
        rewrite: Option<Rewrite>,
    },
    /// Sent to every other port of the network that may have it.
    Flooded,
    /// The stack itself answered or took it in.
    Answered,
    /// It waits: for its next hop's MAC address, or for its turn at a port's rate.
    Queued,
    /// It went no further.
    Dropped(DropReason),
}

/// The changes that routing makes to a frame: all that is needed to replay a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    /// New Ethernet destination.
    pub destination: MacAddr,
    /// New Ethernet source.
    pub source: MacAddr,
    /// TTL or hop limit goes down by one.
    pub decrement_ttl: bool,
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why a frame was dropped. The counter of the same name says how often.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])+ $name,)+ }

        impl DropReason {
            /// Every reason, in counter order.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)+];

            /// The name as counters and traces show it.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$name => $text,)+ }
            }

            /// What it means, in words.
            pub fn description(self) -> &'static str {
                let sentence = match self { $(DropReason::$name => concat!($($doc),+),)+ };
                sentence.trim().trim_end_matches('.')
            }
        }
    };
}

drop_reasons! {
    /// Shorter than its Ethernet header, or its VLAN tag.
    FrameTruncated = "frame_truncated",
    /// Larger than the MTU of the port it came from or should leave by.
    FrameTooLong = "frame_too_long",
    /// The virtio-net header contradicts the frame.
    OffloadInvalid = "offload_invalid",
    /// More would be made of the packets of one round, segments for the most part, than there are buffers for.
    BuffersExhausted = "buffers_exhausted",
    /// The source MAC address is a group address or zero.
    SourceMacInvalid = "source_mac_invalid",
    /// The source MAC address is not this port's.
    SourceMacSpoofed = "source_mac_spoofed",
    /// The source IP address, or the address that an ARP or ND message claims, is not this port's.
    SourceAddressSpoofed = "source_address_spoofed",
    /// A router advertisement, a redirect, or a query for multicast listeners from a port that is no router.
    RouterMessageSpoofed = "router_message_spoofed",
    /// An ARP or ND message claims an address of the gateway for another MAC address.
    GatewayAddressClaimed = "gateway_address_claimed",
    /// A DHCP server's message from a port that is none, while the gateway serves DHCP.
    DhcpSpoofed = "dhcp_spoofed",
    /// A loop probe from a port that is no uplink.
    ProbeSpoofed = "probe_spoofed",
    /// A VLAN tag on a port that takes none, or not this one.
    VlanNotAllowed = "vlan_not_allowed",
    /// A frame without a VLAN tag on a trunk that has no native VLAN.
    UntaggedNotAllowed = "untagged_not_allowed",
    /// Sent to a reserved link-local group (IEEE 802.1D table 7-10), which bridges do not forward.
    ReservedMulticast = "reserved_multicast",
    /// The port gets copies of other ports' frames, and may not send.
    MirrorDestination = "mirror_destination",
    /// The port is an uplink that is blocked, since it leads to where another one leads.
    LoopBlocked = "loop_blocked",
    /// The port has as many MAC addresses as it may have, and this source is another one.
    MacLimit = "mac_limit",
    /// The source MAC address moved between ports too often: it is held on another port for a while.
    MacMoveDamped = "mac_move_damped",
    /// More broadcasts than the port may send.
    StormBroadcast = "storm_broadcast",
    /// More multicasts than the port may send.
    StormMulticast = "storm_multicast",
    /// More frames to unknown addresses than the port may send.
    StormUnknownUnicast = "storm_unknown_unicast",
    /// Both ports are isolated.
    PortIsolated = "port_isolated",
    /// An IGMP or MLD message that breaks its protocol: wrong checksum, length, source or TTL (RFC 4541 section 2.1.1).
    MembershipMalformed = "membership_malformed",
    /// Sent to a group that nobody on the VLAN listens to, and there is no multicast router.
    NoMember = "no_member",
    /// The destination is on the port that it came from.
    SamePort = "same_port",
    /// No other port may have it.
    NoOtherPort = "no_other_port",
    /// It came through a tunnel from one far end, and is for another, which that one reaches by itself.
    TunnelSplitHorizon = "tunnel_split_horizon",
    /// What came through a tunnel, or its header, is cut short or contradicts itself.
    TunnelMalformed = "tunnel_malformed",
    /// A far end sent with a VNI that it shares with no tunnel here.
    TunnelVniUnknown = "tunnel_vni_unknown",
    /// A far end sent with a GRE key that it shares with no tunnel here, or without one.
    TunnelKeyUnknown = "tunnel_key_unknown",
    /// The checksum of a GRE packet is wrong.
    TunnelChecksumBad = "tunnel_checksum_bad",
    /// A GRE packet that came later than one sent after it (RFC 2890 section 2.2).
    TunnelOutOfOrder = "tunnel_out_of_order",
    /// The tunnel does not carry what is inside: IP where Ethernet is expected, or the other way round.
    TunnelProtocolUnknown = "tunnel_protocol_unknown",
    /// There was congestion on the way through a tunnel, and the packet's sender does not know of ECN (RFC 6040).
    TunnelCongestion = "tunnel_congestion",
    /// The router that carries the tunnel has no address or no route to its far end.
    TunnelUnrouted = "tunnel_unrouted",
    /// A tunnel that is carried by itself.
    TunnelLoop = "tunnel_loop",
    /// No peer of the WireGuard tunnel has the destination among its allowed prefixes.
    WireguardNoPeer = "wireguard_no_peer",
    /// Nobody knows where the peer is: it has no endpoint by configuration, and has not been heard yet.
    WireguardNoEndpoint = "wireguard_no_endpoint",
    /// Too many packets wait for a session with the peer.
    WireguardQueueFull = "wireguard_queue_full",
    /// The peer did not answer the handshake in time.
    WireguardUnanswered = "wireguard_unanswered",
    /// A handshake by a key that is none of the peers', or for a key that is none of the tunnel's.
    WireguardPeerUnknown = "wireguard_peer_unknown",
    /// A message, or a handshake, that came before.
    WireguardReplayed = "wireguard_replayed",
    /// More handshakes than there may be: their senders got a cookie, or nothing.
    WireguardFlood = "wireguard_flood",
    /// A message for a session that is over or never was.
    WireguardSessionUnknown = "wireguard_session_unknown",
    /// A message that was not made by who has the keys.
    WireguardUnauthentic = "wireguard_unauthentic",
    /// A peer sent from an address that is not among its allowed prefixes.
    WireguardSourceNotAllowed = "wireguard_source_not_allowed",
    /// Too much waits already of what the port sends faster than it may.
    ShaperEgressFull = "shaper_egress_full",
    /// Too much waits already of what the port is sent faster than it may get.
    ShaperIngressFull = "shaper_ingress_full",
    /// The frame would have to wait for its turn at a port's rate, and there are no buffers left to keep it in.
    ShaperBuffersExhausted = "shaper_buffers_exhausted",
    /// The outgoing port has no device now.
    PortDown = "port_down",
    /// An ARP message that breaks RFC 826, or is not about IPv4 over Ethernet.
    ArpMalformed = "arp_malformed",
    /// Header lengths, version, options or fragment offset that cannot be true.
    Ipv4Malformed = "ipv4_malformed",
    /// The IPv4 header checksum is wrong.
    Ipv4ChecksumBad = "ipv4_checksum_bad",
    /// A source-route option (RFC 7126 section 4.3, 4.4).
    Ipv4SourceRoute = "ipv4_source_route",
    /// Header lengths, version or extension headers that contradict the frame.
    Ipv6Malformed = "ipv6_malformed",
    /// A packet for the gateway with a wrong ICMP or ICMPv6 checksum.
    IcmpChecksumBad = "icmp_checksum_bad",
    /// An ICMP or ICMPv6 message for the gateway that is cut short or of no use to it.
    IcmpUnhandled = "icmp_unhandled",
    /// A neighbour discovery message that fails the checks of RFC 4861 section 7.1.
    NdMalformed = "nd_malformed",
    /// TCP or UDP for the gateway with a wrong checksum, or lengths that cannot be true.
    TransportMalformed = "transport_malformed",
    /// Fragments for the gateway that overlap, or disagree on where their datagram ends (RFC 5722).
    FragmentOverlap = "fragment_overlap",
    /// A fragment for the gateway that breaks RFC 791 or RFC 8200, or is one that only attacks use.
    FragmentMalformed = "fragment_malformed",
    /// Too many fragments for gateways are waiting, from this port or over all.
    ReassemblyFull = "reassembly_full",
    /// The rest of a fragmented datagram for the gateway did not come in time.
    ReassemblyTimeout = "reassembly_timeout",
    /// A header or option in an IPv6 packet that forbids its receiver to pass over it.
    Ipv6ExtensionRefused = "ipv6_extension_refused",
    /// The source address can be nobody's: unspecified, loopback or multicast.
    SourceInvalid = "source_invalid",
    /// The destination cannot be routed (loopback, multicast, broadcast), or the gateway is asked for an address
    /// that it does not have.
    DestinationInvalid = "destination_invalid",
    /// A link-local address would leave its link.
    ScopeExceeded = "scope_exceeded",
    /// Sent to the gateway, and not IP: there is nothing to route it by.
    NoRouter = "no_router",
    /// The forwarding table has no route.
    NoRoute = "no_route",
    /// The route to the destination says to drop in silence.
    RouteBlackhole = "route_blackhole",
    /// The route to the destination says that it cannot be reached.
    RouteUnreachable = "route_unreachable",
    /// The route to the destination says that it may not be reached.
    RouteProhibited = "route_prohibited",
    /// TTL or hop limit used up.
    TtlExpired = "ttl_expired",
    /// Larger than the next MTU, and not to be fragmented.
    PacketTooBig = "packet_too_big",
    /// Nobody answered for the next hop's address.
    NeighborUnreachable = "neighbor_unreachable",
    /// Too many packets wait for this next hop, or for all of its network.
    NeighborQueueFull = "neighbor_queue_full",
    /// The next hop is unknown, and too many others are being asked for.
    NeighborTableFull = "neighbor_table_full",
    /// A DHCP request that cannot be read, or that came by a relay.
    DhcpMalformed = "dhcp_malformed",
    /// A DHCP request from a port that has no IPv4 address to give.
    DhcpNoAddress = "dhcp_no_address",
    /// The gateway has no such service.
    GatewayPortClosed = "gateway_port_closed",
    /// The outgoing device's queue is full.
    DeviceFull = "device_full",
    /// The outgoing device refused the frame.
    DeviceError = "device_error",
    /// The kernel threw a frame away, since the worker did not read in time.
    ReceiveOverflow = "receive_overflow",
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Position in [`DropReason::ALL`] and in counter arrays.
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_indices_follow_the_list() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
        assert!(DropReason::ALL.iter().enumerate().all(|(index, reason)| reason.index() == index));
    }
}
