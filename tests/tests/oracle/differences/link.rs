//! Differences in bridging, ARP and neighbour discovery.

use super::{Difference, Dissection, is_icmp};
use crate::oracle::topology::{Net, Wire};

const SOLICITATION: &str = "135";
const ADVERTISEMENT: &str = "136";

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "bridge group address",
        reason: "Linux floods 01:80:c2:00:00:00 where it runs no STP; IEEE 802.1D-2004 clause 7.12.6 does not",
        accepts: |f| f.only_linux_bridges() && f.sent.is("eth.destination", "01:80:c2:00:00:00"),
    },
    Difference {
        name: "four octets over the MTU",
        reason: "Linux leaves room for a VLAN tag in any frame; an MTU is one here",
        accepts: |f| {
            let mtu = |wire: Wire| wire.net().segment().mtu as usize;
            let over = |octets: usize, wire: Wire| (mtu(wire) + 1..=mtu(wire) + 4).contains(&(octets - 14));
            f.only_linux(|_| f.case.steps.last().is_some_and(|step| over(step.frame.len(), step.from)))
        },
    },
    Difference {
        name: "tags on access ports",
        reason: "a port takes a VLAN tag only where it is configured to; a kernel bridge without VLAN filtering does not look",
        accepts: |f| {
            f.family("tagged")
                && matches!(f.mismatch.wire.net(), Net::Front | Net::Back)
                && f.only_linux_bridges()
        },
    },
    Difference {
        name: "tags that a trunk does not allow",
        reason: "a trunk carries the VLANs that it is configured for; a kernel bridge without VLAN filtering does not look",
        accepts: |f| {
            f.mismatch.wire.net() == Net::Trunk
                && ["VLAN 1 ", "VLAN 9 ", "VLAN 4095 "].iter().any(|vlan| f.about(vlan))
                && f.only_linux_bridges()
        },
    },
    Difference {
        name: "priority tags",
        reason: "a port that reads tags takes off one that names no VLAN, as IEEE 802.1Q-2022 clause 6.9 has it; a kernel \
                 bridge without VLAN filtering does not look",
        accepts: |f| {
            let tag = |word: &str| u16::from_str_radix(word.get(5..).unwrap_or("f"), 16).unwrap_or(0xfff);
            f.field("vlan.tag", |_| true) && tag(f.values().1) & 0xfff == 0
        },
    },
    Difference {
        name: "priority tags in a tunnel",
        reason: "tags in a tunnel are the user's own, also those that name no VLAN; Linux takes them off for its own stack",
        accepts: |f| f.mismatch.wire.net() == Net::Tunnel && f.about("VLAN 0 ") && f.only_linux_routes(),
    },
    Difference {
        name: "service tags that name no VLAN",
        reason: "only C-tags carry a priority alone (IEEE 802.1Q-2022 clause 6.9.1); Linux takes off S-tags of that sort too",
        accepts: |f| f.about("VLAN 0 by 88a8") && f.only_linux_routes(),
    },
    Difference {
        name: "a customer's bridge protocols in a tunnel",
        reason: "IEEE 802.1Q-2022 table 8-2: a provider bridge passes what is meant for the customer's own bridges",
        accepts: |f| {
            f.mismatch.wire.net() == Net::Tunnel
                && f.only_ours(|frame| frame.get("eth.destination").starts_with("01:80:c2:00:00:0"))
        },
    },
    Difference {
        name: "the gateway's address on another VLAN",
        reason: "the gateway is on the untagged segment; on a VLAN its MAC address is an unknown one, which is flooded",
        accepts: |f| {
            let gateway = Net::Trunk.segment().gateway_mac.map(|octet| format!("{octet:02x}")).join(":");
            f.mismatch.wire.net() == Net::Trunk && f.only_ours(|frame| frame.is("eth.destination", &gateway))
        },
    },
    Difference {
        name: "reports to all",
        reason: "RFC 4541 section 2.1.1: reports go to routers alone, so that no host holds its own back; Linux floods those \
                 that are for a link-local group",
        accepts: |f| {
            let is_report = |frame: &Dissection| {
                frame.is("ip.protocol", "2") || frame.has("ip6.extension") && frame.is("icmp.type", "143")
            };
            f.family("snooping") && f.mismatch.wire != Wire::N && f.only_linux(is_report)
        },
    },
    Difference {
        name: "malformed IP and ARP is not bridged",
        reason: "what a container sends is checked once, at ingress, so that no later stage meets a length that lies",
        accepts: |f| f.only_linux_bridges() && (f.family("runt") || f.family("arp malformed")),
    },
    Difference {
        name: "questions for the gateway are not flooded",
        reason: "the gateway answers for itself; nobody else needs to hear the question",
        accepts: |f| {
            f.only_linux(|frame| frame.is("arp.operation", "1") || is_icmp(frame, "58", SOLICITATION))
                && f.mismatch.wire.net() == f.case.steps[0].from.net()
                && (f.family("arp") || f.family("nd") || f.family("captured"))
                && !f.family("nd advertisement")
                && f.case.steps.iter().any(|step| asks_for_gateway(step.from, &Dissection::of(&step.frame)))
        },
    },
    Difference {
        name: "a claim of the gateway's address",
        reason: "the gateway defends its address (RFC 5227 section 2.4) and passes no claim on; Linux does neither",
        accepts: |f| {
            let from = f.case.steps[0].from;
            f.sent.is("arp.sender", &from.net().segment().gateway4.to_string())
                && f.mismatch.wire.net() == from.net()
        },
    },
    Difference {
        name: "a sender that lies about its MAC address",
        reason: "an ARP reply goes to where the request came from, also where the message names another MAC address",
        accepts: |f| {
            f.about("sender's MAC address")
                && (f.field("eth.destination", |frame| frame.is("arp.operation", "2"))
                    || f.only_linux(|frame| frame.is("arp.operation", "2"))
                    || f.only_ours(|frame| frame.is("arp.operation", "2")))
        },
    },
    Difference {
        name: "ARP of IEEE 802 networks",
        reason: "RFC 1122 section 2.3.3 is about encapsulations that nobody uses; Linux takes hardware type 6 too",
        accepts: |f| {
            f.about("hardware type")
                && f.only_linux(|frame| frame.has("arp.raw") || frame.is("arp.operation", "2"))
        },
    },
    Difference {
        name: "answers to probes go to the prober",
        reason: "who probes for the gateway's address must hear the advertisement (RFC 4862 section 5.4.4); all others know",
        accepts: |f| {
            f.about("a probe")
                && f.mismatch.wire != f.case.steps[0].from
                && f.only_linux(|frame| is_icmp(frame, "58", ADVERTISEMENT))
        },
    },
    Difference {
        name: "unicast solicitations",
        reason: "RFC 4861 section 7.2.4: the answer has the override flag, and may carry the MAC address; Linux leaves out both",
        accepts: |f| {
            let answer = |frame: &Dissection| is_icmp(frame, "58", ADVERTISEMENT);
            (f.about("unicast") || f.family("captured"))
                && (f.field("icmp.value", answer)
                    || f.field("icmp.data", answer)
                    || f.field("ip6.length", answer))
        },
    },
    Difference {
        name: "neighbour discovery is not routed",
        reason: "a solicitation for somebody else that is sent to the gateway goes no further; Linux forwards it",
        accepts: |f| {
            let routed_in_vain =
                |frame: &Dissection| is_icmp(frame, "58", SOLICITATION) || is_icmp(frame, "58", "1");
            f.family("nd solicitation") && f.about("unicast") && f.only_linux(routed_in_vain)
        },
    },
    Difference {
        name: "source of solicitations",
        reason: "Linux asks from its link-local address; RFC 4861 section 7.2.2 allows any address of the interface",
        accepts: |f| f.field("ip6.source", |frame| is_icmp(frame, "58", SOLICITATION)),
    },
];

/// Whether it is a broadcast question for the gateway of this network.
fn asks_for_gateway(from: Wire, sent: &Dissection) -> bool {
    let segment = from.net().segment();
    let v4 = sent.is("arp.operation", "1") && sent.is("arp.target", &segment.gateway4.to_string());
    let hex = |address: std::net::Ipv6Addr| super::super::dissect::hex(&address.octets());
    let target = sent.get("icmp.data");
    let v6 = is_icmp(sent, "58", SOLICITATION)
        && (target.starts_with(&hex(segment.gateway6))
            || target.starts_with(&hex(from.net().gateway_link_local())));
    v4 || v6
}
